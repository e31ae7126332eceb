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
from coldstart.describe.sentences import plain_sentences, section_phrase, spoken


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


_FROM_MEDIA = (
    (re.compile("On screen: “"), "screen_text"),
    (re.compile("(?:It|The video) (?:says: “|mentions )"), "transcript"),
)
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
                quoted = _QUOTED.findall(sentence) or re.split(r", | and ", sentence[found.end() :].rstrip("."))
                placed = [_placed(one, field, sources.evidence) for one in quoted]
                return Ground("summary", sentence, field, ", ".join(placed))
    own = evidence_text(sources.texts.get("description") or "")
    if len(sentence.split()) > 1 and sentence.partition(" ")[2].casefold() in own.casefold():  # but for a pronoun
        return Ground("summary", sentence, "description", "a sentence of its own")
    folded, recorded, predicted = sentence.casefold(), [], []
    for name, value in facts.items():
        role = attributes[name].role_as(name)
        said = section_phrase(value) if role == "section" else spoken(value, role)
        if said.casefold() in folded or value.casefold() in folded:
            if name in sources.facts or value not in (likely := sources.seen.get(name) or {}):
                recorded.append(name)
            else:
                predicted.append(f"{name} {likely[value]:.2f}")
    fields = ("title", "category", "creator", *(("tags",) if sources.kind == "video" else ()))
    for name in fields:
        parts = sources.texts.get(name, "").split(", ") if name == "tags" else [sources.texts.get(name, "")]
        if name not in recorded and any(part and small_letters(part).casefold() in folded for part in parts):
            recorded.append(name)
    lists = [f"{word}: {', '.join(names)}" for word, names in (("record", recorded), ("predicted", predicted)) if names]
    return Ground("summary", sentence, "facts", "; ".join(lists))


def _placed(words: str, field: str, evidence: Mapping[str, Any]) -> str:
    """Return quoted words with the second at which they are first heard or read, where that is known."""
    source = "speech" if field == "transcript" else "screen"
    told = words.casefold()
    for part in evidence.get("timeline") or ():
        text = " ".join((part.get("text") or "").split()).casefold()
        known = part["source"] == source and part.get("start_s") is not None and text != ""
        if known and (told in text or text in told):
            return f"{words} at {part['start_s']:.0f} s"
    return words
