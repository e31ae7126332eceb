"""Write the plain sentences of an item from its texts: they stand in where no prose is left, and have their ground.

Writing and checks call the same code, so that what was written by rules is known when it is checked.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from coldstart.core.attributes import Attribute
from coldstart.core.language import detect_language
from coldstart.describe.checks.contract import Ground, Sources
from coldstart.describe.checks.form import evidence_lines, evidence_text
from coldstart.describe.english import small_letters
from coldstart.describe.sentences import plain_sentences, spoken


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


_FROM_MEDIA = ((re.compile("On screen: “"), "screen_text"), (re.compile("(?:It|The video) (?:says: “|mentions )"), "transcript"))
_QUOTED = re.compile("“([^”]*)”")


def plain_ground(
    sentence: str, facts: Mapping[str, str], attributes: Mapping[str, Attribute], sources: Sources
) -> Ground:
    """Name what a plain sentence was made of: words of the media, the item's own description, or facts.

    Args:
        facts: attribute -> value, of which the sentence was made.
    """
    if sources.kind == "video":
        for begins, field in _FROM_MEDIA:
            if found := begins.match(sentence):
                quoted = ", ".join(_QUOTED.findall(sentence)) or sentence[found.end() :].rstrip(".")
                return Ground("summary", sentence, field, quoted)
    own = evidence_text(sources.texts.get("description") or "")
    if len(sentence.split()) > 1 and sentence.partition(" ")[2].casefold() in own.casefold():  # but for a pronoun
        return Ground("summary", sentence, "description", "a sentence of its own")
    folded, recorded, predicted = sentence.casefold(), [], []
    for name, value in facts.items():
        if spoken(value, attributes[name].role_as(name)).casefold() in folded or value.casefold() in folded:
            if name in sources.facts or value not in (likely := sources.seen.get(name) or {}):
                recorded.append(name)
            else:
                predicted.append(f"{name} {likely[value]:.2f}")
    for name in ("title", "category", "creator", "tags"):
        parts = sources.texts.get(name, "").split(", ") if name == "tags" else [sources.texts.get(name, "")]
        if name not in recorded and any(part and small_letters(part).casefold() in folded for part in parts):
            recorded.append(name)
    lists = [f"{word}: {', '.join(names)}" for word, names in (("record", recorded), ("predicted", predicted)) if names]
    return Ground("summary", sentence, "facts", "; ".join(lists))
