"""Check claims of a description, attribute values and free text, against the evidence index of its item.

Free text claims listed values, numbers, prices, brands, categories and content words; each needs support, and none may
contradict the record. Words alone are compared; implications are not understood.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

from coldstart.core.attributes import Attribute
from coldstart.core.description import MAX_VALUE
from coldstart.describe.checks.contract import APPROVED, REJECTION, REVIEW, Cut, Ground, Rules
from coldstart.describe.checks.form import (
    Fault,
    injection_fault,
    length_fault,
    link_fault,
    loop_fault,
    markup_fault,
    policy_fault,
    refusal_fault,
)
from coldstart.describe.checks.grounding import EvidenceIndex, ListedValues, Support, value_phrases
from coldstart.describe.checks.words import UNITS, Lexicon, Number, Tokens, is_negated, numbers, prices_match, tokens


def form_fault(text: str, most: int) -> Fault | None:
    """Return a fault that the text shows by itself, or None."""
    words = tokens(text)
    if not words:
        return "empty", "it has no words"
    return (
        length_fault(text, most)
        or refusal_fault(text)
        or markup_fault(text)
        or link_fault(text)
        or injection_fault(text)
        or loop_fault(words)
    )


_BARE_WORDS = 8
"""Words from which a sentence of nothing but values is long enough to be one."""


class UngroundedClaim(Exception):  # noqa: N818  (a verdict on one text, not a fault of the program)
    """Claim without a ground; `fault`: reason and detail."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(reason, detail)
        self.fault: Fault = (reason, detail)


@dataclass(frozen=True)
class TextClaims:
    """Checker of free text about one item.

    Attributes:
        stated: grounds of its attribute values that stay; their words need no other ground.
        removed: words of attribute values that were cut: in free text they count only where a source has them.
        denied: attribute values that were cut, (attribute, value): free text does not state them either.
    """

    values: ListedValues
    evidence: EvidenceIndex
    rules: Rules
    stated: Sequence[Ground]
    removed: frozenset[str] = frozenset()
    denied: frozenset[tuple[str, str]] = frozenset()

    def check(self, claim: str, text: str) -> list[Ground]:
        """Return the grounds of all claims of a text, those of listed values first.

        Args:
            claim: `summary`, `keyword` or `query`.

        Raises:
            Ungrounded: the first claim that has none.
        """
        words = tokens(text)
        meant = [*self.values.all.find(words), *self.evidence.unlisted.find(words)]
        found: dict[str, Support] = {}
        known = set(self._kept_words)
        makers = self.evidence.maker_places(words)
        for start, end, values in meant:
            if (
                makers.isdisjoint(range(start, end))
                and not is_negated(words, start, end)
                and (placed := self._value(words[start:end], values))
            ):
                found.setdefault(*placed)
                known.update(words[start:end])
        if made := self._made_by_value(
            words, {at for start, end, _ in meant for at in range(start, end)} - makers, makers
        ):
            raise UngroundedClaim("other_brand", f"it says by {made!r}, which is no maker")
        measured = list(numbers(words))
        if fault := price_fault(measured, self.evidence):
            raise UngroundedClaim(*fault)
        named, fault = named_by_catalog(
            words, self.evidence, self.rules, {at for start, end, _ in meant for at in range(start, end)}
        )
        if fault:
            raise UngroundedClaim(*fault)
        for value, place in (*self._measured(measured), *named.items()):
            found.setdefault(value, place)
        others = self._source_of_words(claim, words, known)
        return [Ground(claim, value, *place) for value, place in found.items()] or [Ground(claim, text, *others)]

    def lists_values(self, words: Tokens) -> bool:
        """Tell whether words are nothing but values, such as "Men Casual"."""
        meant = [*self.values.all.find(words), *self.evidence.unlisted.find(words)]
        values = {place for start, end, _ in meant for place in range(start, end)}
        known = self._kept_words | self.removed
        return len(words) < _BARE_WORDS and all(
            place in values or word in known or word == "and" for place, word in enumerate(words)
        )

    def _made_by_value(self, words: Tokens, meant: Container[int], makers: Container[int]) -> str | None:
        """Return what a text names as the maker that is none, such as "heels by Casual"; "worn by men" names none."""
        for place, word in enumerate(words):
            if word != "by" or place in makers:
                continue
            named = place + 1 + (words[place + 1 : place + 2] == ("the",))
            if named in meant and (not place or words[place - 1] not in _DONE_BY_BUYERS):
                return words[named]
            for handle in self.evidence.handles:
                own = words[named : named + len(handle)]
                if own[:1] == handle[:1] and own != handle:
                    return words[named]  # a part of the name
        return None

    def names_kind(self, grounds: Sequence[Ground]) -> bool:
        """Tell whether the grounds of a sentence say that it names what the item is."""
        kinds = (one for name, one in self.values.attributes.items() if one.role_as(name) == "kind")
        listed = {value for one in kinds for value in one.values}
        return any(one.value in listed for one in grounds)

    def _value(self, phrase: Tokens, values: Sequence[tuple[str, str]]) -> tuple[str, Support] | None:
        """Return the value of some words and its support; None where they are words of a value that stays."""
        if any(one in self.rules.rejected for one in values):
            raise UngroundedClaim(*REJECTION)
        for name, value in values:
            if place := self.evidence.find_value(name, value):
                return value, place
        name, value = values[0]
        if again := next((one for one in values if one in self.denied), None):
            raise UngroundedClaim("ungrounded_value", f"{again[0]} {again[1]!r} was cut")
        if place := self.evidence.find_part(phrase):
            return value, place
        if self._kept_words.issuperset(phrase):
            return None
        if denied := self.evidence.contradicting_value(name, value):
            raise UngroundedClaim("other_value", f"{name} {value!r}: the record says {denied!r}")
        detail = f"{name} {value!r}: {missing_ground(name, value, self.evidence, self.rules)}"
        raise UngroundedClaim("other_value" if self.evidence.title_values(name) else "ungrounded_value", detail)

    def _measured(self, measured: Sequence[Number]) -> Iterator[tuple[str, Support]]:
        for number in measured:
            place = self.evidence.find_number(number)
            if place is None and number.money and self.evidence.price is not None:
                place = "record", f"{self.evidence.price:g}"  # the same, but for its rounding
            if place is None:
                raise UngroundedClaim("ungrounded_number", f"{number.word!r} stands in no source")
            yield number.word, place

    def _source_of_words(self, claim: str, words: Tokens, known: Container[str]) -> Support:
        """Return the support of content words; a keyword needs all of them supported, a longer text a share.

        Args:
            known: words of supported values.
        """
        meant = content_words(words)
        if not meant and not any(word[0].isdigit() for word in words):
            raise UngroundedClaim("says_nothing", "none of its words carries meaning")
        missing = [word for word in meant if word not in known and self.evidence.find_word(word) is None]
        if again := [word for word in missing if word in self.removed]:
            raise UngroundedClaim("ungrounded_value", f"{', '.join(again)}: of an attribute that was cut")
        most = 0.0 if claim == "keyword" else self.rules.max_unsupported
        share = len(missing) / max(len(meant), 1)
        if share > most:
            shown = ", ".join(missing[:5]) + (" …" if len(missing) > 5 else "")
            if claim == "keyword":
                raise UngroundedClaim("ungrounded", f"no source has {shown}")
            raise UngroundedClaim(
                "unsupported", f"{share:.2f} of its words stand in no source, and {most:g} may: {shown}"
            )
        place = next(
            filter(None, map(self.evidence.find_word, meant)), self.stated[0].ground if self.stated else "record"
        )
        return place, f"{len(meant) - len(missing)} of {len(meant)} words"

    @cached_property
    def _kept_words(self) -> frozenset[str]:
        """Words of the attribute values that stay, aliases included."""
        known = self.values.attributes
        stated = (one for one in self.stated if one.claim in known)  # a person may approve one of another category
        phrases = (value_phrases(one.claim, one.value, known[one.claim]) for one in stated)
        return frozenset(word for words in phrases for phrase in words for word in tokens(phrase))


def check_attributes(
    claimed: Mapping[str, str], known: Mapping[str, Attribute], evidence: EvidenceIndex, rules: Rules
) -> tuple[list[Ground], list[Cut]]:
    """Check attribute values; return grounds of those that stay, canonical and in category order, and cuts."""
    verdicts = [_check_attribute(name, value, known, evidence, rules) for name, value in claimed.items()]
    order = {name: place for place, name in enumerate(known)}
    kept = (one for one in verdicts if isinstance(one, Ground))
    stay = sorted(kept, key=lambda one: order.get(one.claim, len(order)))
    return stay, [one for one in verdicts if isinstance(one, Cut)]


def _check_attribute(
    name: str, value: str, known: Mapping[str, Attribute], evidence: EvidenceIndex, rules: Rules
) -> Ground | Cut:
    if (name, value) in rules.approved:
        return Ground(name, value, REVIEW, APPROVED)
    if (name, value) in rules.rejected or (name in known and (name, known[name].canonical(value)) in rules.rejected):
        return Cut(name, value, *REJECTION)
    if name not in known:
        return Cut(name, value, "unknown_attribute", f"this category has {', '.join(known) or 'none'}")
    canonical = known[name].canonical(value)
    if canonical is None:
        reason = "not_listed" if value.strip() else "empty"
        return Cut(name, value, reason, f"{len(known[name].values)} values are listed, and this is none of them")
    if (
        fault := length_fault(value, MAX_VALUE)
        or link_fault(value)
        or markup_fault(value)
        or policy_fault(value, rules)
    ):
        return Cut(name, value, *fault)
    if denied := evidence.contradicting_value(name, canonical):
        return Cut(name, canonical, "other_value", f"the record says {denied!r}")
    if found := evidence.find_value(name, canonical):
        return Ground(name, canonical, *found)
    reason = "other_value" if evidence.title_values(name) else "ungrounded"
    return Cut(name, canonical, reason, missing_ground(name, canonical, evidence, rules))


def missing_ground(name: str, value: str, evidence: EvidenceIndex, rules: Rules) -> str:
    """Explain why a value has no ground."""
    seen, titled = evidence.probability(name, value), evidence.title_values(name)
    reason = f"the title says {', '.join(map(repr, titled))}" if titled else "no text says it"
    if seen is None or titled:
        return reason
    least = rules.min_claimed if evidence.is_likely(name, value) else rules.min_seen
    return f"{reason}, and its probability is {seen:.2f} of the {least:g} it takes"


_DONE_BY_BUYERS = frozenset(tokens("worn used loved liked preferred bought chosen enjoyed accompanied followed"))

_CACHED_CATALOGS = 8  # lexicons of brands and categories that stay in memory


def price_fault(stated: Iterable[Number], evidence: EvidenceIndex) -> Fault | None:
    """Return a fault where a stated price is not the record's."""
    if evidence.price is None:
        return None
    for number in stated:
        if number.money and not prices_match(number.value, evidence.price):
            return "other_price", f"it says {number.value:g}, and the record {evidence.price:g}"
    return None


def named_by_catalog(
    words: Tokens, evidence: EvidenceIndex, rules: Rules, meant: Container[int]
) -> tuple[dict[str, Support], Fault | None]:
    """Find brands and categories of the catalogue in a text, with the source of the item that names each; or a fault
    for the first that no source names.

    Args:
        meant: places of words that are attribute values: there they are no names.
    """
    named: dict[str, Support] = {}
    for start, end, found in _catalog_names(rules.brands, rules.categories).find(words):
        kind, name = found[0]
        places = (
            evidence.find_brand(other) if what == "brand" else evidence.find_phrase(other) for what, other in found
        )
        place = next(filter(None, places), None)
        if place is not None:
            named[name] = place
        elif not any(at in meant for at in range(start, end)):
            return named, (f"other_{kind}", f"it names {name!r}, and no source of the item does")
    return named, None


@lru_cache(maxsize=_CACHED_CATALOGS)
def _catalog_names(brands: frozenset[str], categories: frozenset[str]) -> Lexicon[tuple[str, str]]:
    ordered = [*(("brand", name) for name in sorted(brands)), *(("category", name) for name in sorted(categories))]
    return Lexicon((name, (kind, name)) for kind, name in ordered if not _COMMON_WORDS.issuperset(tokens(name)))


_COMMON_WORDS = frozenset(
    tokens(
        "a all and any at be best big by fit for free from good home in is it life max mini more most new next now of "
        "off on one only or other others out own plus small the to up with"
    )
)
"""Common words that are also names of brands."""


_STOP_WORDS = frozenset(
    tokens(
        """
        a about above after all also an and any are as at available be been being below between both but by
        can comes designed every everyday features featuring for from full great has have having here his her
        how i if ideal in including into is it item items its it's just kind like made make makes making may
        more most much my of off on one only or other others our out over pair part perfect piece pieces
        product products provides set short show showing shown shows so some somebody someone something style
        such suitable take takes than that the their them then there these they thing this those through to
        type under up use used using various very video videos view was watch way we well were what when where
        which while who will with you your clip footage film scene scenes picture photo look looks looking
        good nice classic simple designed comfortable color colour size brand category name people person
        appear appears see seen several near while offers offer add easy wear worn buy
        mean means meant suit suits suited fit belong belongs go goes come came keep keeps give gives given create
        created creation choose choice chosen pick picked find found call called stay stays stand stands fill bring
        brings turn need needs want work works complete completes round rounds ready right mind line range collection
        season day days time occasion occasions outing outings outfit outfits wardrobe detail details item option
        addition essential staple alike ever
        """
    )
)


def content_words(words: Tokens) -> list[str]:
    """Return the content words of a text, each once, in their order, without numbers and units."""
    return list(
        dict.fromkeys(word for word in words if word[0].isalpha() and word not in _STOP_WORDS and word not in UNITS)
    )
