"""Write the plain sentences of an item from its texts: they stand in where no prose is left, and have their ground.

Writing and checks call the same code, so that what was written by rules is known when it is checked.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from coldstart.core.attributes import Attribute
from coldstart.core.language import detect_language
from coldstart.describe.checks.form import evidence_lines, evidence_text
from coldstart.describe.sentences import plain_sentences


def sentences_of_texts(
    facts: Mapping[str, str],
    attributes: Mapping[str, Attribute],
    texts: Mapping[str, str],
    *,
    evidence: Mapping[str, Any],
    kind: str,
    templates: Mapping[str, str] | None,
) -> str:
    """Write the plain sentences of an item whose fields are texts, tags joined with commas; see `plain_sentences`.

    What follows an injected order in a text, or in a part of the evidence, is left out.
    """
    own = {name: evidence_text(text) for name, text in texts.items()}
    return plain_sentences(
        facts,
        attributes,
        title=own.get("title"),
        creator=own.get("creator"),
        description=own.get("description"),
        category=own.get("category"),
        tags=[tag for tag in (own.get("tags") or "").split(", ") if tag],
        evidence=_without_orders(evidence),
        kind=kind,
        language=detect_language(own.get("description") or own.get("title") or ""),
        templates=templates,
    )


def _without_orders(evidence: Mapping[str, Any]) -> dict[str, Any]:
    """Return transcript, screen text and timeline up to the first injected order of each text."""
    found = dict(evidence)
    for name in found.keys() & {"transcript", "screen_text"}:
        found[name] = evidence_lines(found[name] or "")
    for name in ("timeline", "lines"):
        if found.get(name) is not None:
            found[name] = [{**part, "text": evidence_lines(part.get("text") or "")} for part in found[name]]
    return found
