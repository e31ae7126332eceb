"""Attribute values: each is one that the category may have, and has a ground."""

from __future__ import annotations

from collections.abc import Mapping

from coldstart.attributes import Attribute
from coldstart.checks.contract import Cut, Ground, Rules
from coldstart.checks.form import link, markup, too_long, unsafe
from coldstart.checks.grounding import Grounds
from coldstart.description import MAX_VALUE


def attributes(
    claimed: Mapping[str, str], known: Mapping[str, Attribute], grounds: Grounds, rules: Rules
) -> tuple[list[Ground], list[Cut]]:
    """Why values stay, each as the list spells it and in the order of the category; and what goes."""
    verdicts = [_verdict(name, value, known, grounds, rules) for name, value in claimed.items()]
    order = {name: place for place, name in enumerate(known)}
    stay = sorted((one for one in verdicts if isinstance(one, Ground)), key=lambda one: order[one.claim])
    return stay, [one for one in verdicts if isinstance(one, Cut)]


def _verdict(name: str, value: str, known: Mapping[str, Attribute], grounds: Grounds, rules: Rules) -> Ground | Cut:
    if name not in known:
        return Cut(name, value, "unknown_attribute", f"this category has {', '.join(known) or 'none'}")
    canonical = known[name].canonical(value)
    if canonical is None:
        reason = "not_listed" if value.strip() else "empty"
        return Cut(name, value, reason, f"{len(known[name].values)} values are listed, and this is none of them")
    if fault := too_long(value, MAX_VALUE) or link(value) or markup(value) or unsafe(value, rules):
        return Cut(name, value, *fault)
    if denied := grounds.denies(name, canonical):
        return Cut(name, canonical, "other_value", f"the record says {denied!r}")
    if found := grounds.value(name, canonical):
        return Ground(name, canonical, *found)
    reason = "other_value" if grounds.titled(name) else "ungrounded"
    return Cut(name, canonical, reason, not_found(name, canonical, grounds, rules))


def not_found(name: str, value: str, grounds: Grounds, rules: Rules) -> str:
    """Why a value has no ground."""
    seen, titled = grounds.seen(name, value), grounds.titled(name)
    said = f"the title says {', '.join(map(repr, titled))}" if titled else "no text says it"
    return said if seen is None else f"{said}, and pictures agree with {seen:.2f} of the {rules.min_seen:g} it takes"
