"""The texts that stand for one item in an index: what is given, what was written of it, and what a template or its own
record would say."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from coldstart import prompts
from coldstart.attributes import Attribute
from coldstart.description import Description, sentence
from coldstart.evaluation.claims import named
from coldstart.evaluation.describe import Judged

if TYPE_CHECKING:
    from coldstart.checks import Sources

GIVEN, TEMPLATE, TRUTH = "given", "template", "truth"
"""What a cold item has; a sentence of the attributes that it states or shows; its own record, the upper bound."""
UNCHECKED = "unchecked"
_LONG = ("description", "transcript", "screen_text")


def texts(judged: Mapping[str, Sequence[Judged]], told: Sequence[Description], min_seen: float) -> dict[str, list[str]]:
    """Contender -> text of each item.

    `given` comes first, where any item has such text; then `template`, each writer after the checks and as it wrote
    (`NAME unchecked`), and `truth`, each alone and together with what is given (`given + NAME`).

    Args:
        judged: writer -> the same items in the same order, at least one writer.
        told: what a writer that knows the record would say of each.
        min_seen: probability from which on the template believes a picture.
    """
    first = next(iter(judged.values()))
    sources = [one.sources for one in first]
    said: dict[str, Sequence[Description]] = {
        TEMPLATE: [template(one.attributes, one.sources, min_seen) for one in first]
    }
    for name, own in judged.items():
        said[name] = [one.described("checked") for one in own]
        said[f"{name} {UNCHECKED}"] = [one.described("written") for one in own]
    said[TRUTH] = told
    prompt = prompts.load("described")
    alone = {name: [prompt.render(_values(one)) for one in own] for name, own in said.items()}
    given = [given_text(one) for one in sources]
    if not any(given):
        return alone
    both = {
        f"{GIVEN} + {name}": [given_text(one, text) for one, text in zip(sources, own, strict=True)]
        for name, own in alone.items()
    }
    return {GIVEN: given, **alone, **both}


def pairs(contenders: Sequence[str], writers: Sequence[str]) -> list[tuple[str, str]]:
    """Which contenders are compared: what is given, with it and a description; each writer with the one before it and
    with the template; and, together with what is given, with itself unchecked and with the truth."""
    found = [(GIVEN, f"{GIVEN} + {name}") for name in (TEMPLATE, *writers, TRUTH)]
    for mark in (f"{GIVEN} + ", ""):
        found += [(f"{mark}{before}", f"{mark}{after}") for before, after in itertools.pairwise(writers)]
        found += [(f"{mark}{TEMPLATE}", f"{mark}{name}") for name in writers]
    for mark in (f"{GIVEN} + ", "")[: 1 if GIVEN in contenders else 2]:
        found += [(f"{mark}{name} {UNCHECKED}", f"{mark}{name}") for name in writers]
        found += [(f"{mark}{name}", f"{mark}{TRUTH}") for name in writers]
    return [pair for pair in found if set(pair) <= set(contenders)]


def template(attributes: Mapping[str, Attribute], sources: Sources, min_seen: float) -> Description:
    """What can be said without a model: the value of each attribute that the shown record states, or else one that a
    shown text names, or else the likeliest one that the pictures are believed to show."""
    listed: dict[str, str] = {}
    for text in sources.texts.values():
        for claim in named(text, attributes):
            listed.setdefault(claim.name, claim.value)
    found = {}
    for name, attribute in attributes.items():
        fact, seen = sources.facts.get(name), sources.seen.get(name, {})
        stated = None if fact is None else attribute.canonical(str(fact))
        likeliest = max(seen, key=lambda value: seen[value], default=None)
        if stated is not None:
            found[name] = stated
        elif name in listed:
            found[name] = listed[name]
        elif likeliest is not None and seen[likeliest] >= min_seen:
            found[name] = likeliest
    return Description(sentence(found), found)


def given_text(sources: Sources, written: str = "") -> str:
    """What is shown of an item as one text, short fields first; a description stands before the long ones, so that it
    is read where an encoder reads the first words alone."""
    short = [text for name, text in sources.texts.items() if name not in _LONG]
    shown = {text.casefold() for text in short}
    short += [
        str(fact) for name, fact in sources.facts.items() if name != "price" and str(fact).casefold() not in shown
    ]
    long = [text for name, text in sources.texts.items() if name in _LONG]
    return "\n".join(text for text in ([". ".join(short), written, *long]) if text.strip())


def _values(description: Description) -> dict[str, object]:
    return {
        "summary": description.summary,
        "attributes": list(description.attributes.values()),
        "keywords": list(description.keywords),
        "queries": list(description.queries),
    }
