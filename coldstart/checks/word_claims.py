"""What free words claim: listed values, numbers, prices, brands and the rest, each asked for its ground."""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass

from coldstart.checks.attribute_claims import not_found
from coldstart.checks.contract import Ground, Rules
from coldstart.checks.contradiction import brands_in, names, price
from coldstart.checks.form import Fault, link, loop, markup, refusal, too_long
from coldstart.checks.grounding import Grounds, Values
from coldstart.checks.measures import numbers
from coldstart.checks.support import carrying
from coldstart.checks.words import Tokens, negated, tokens


def form(text: str, most: int) -> Fault | None:
    """A fault that shows in the text by itself."""
    words = tokens(text)
    if not words:
        return "empty", "it has no words"
    return too_long(text, most) or refusal(text) or markup(text) or link(text) or loop(words)


@dataclass(frozen=True)
class WordClaims:
    """Judges free words about one item.

    Attributes:
        stated: why its attribute values stay; their words need no other ground.
    """

    values: Values
    grounds: Grounds
    rules: Rules
    stated: Sequence[Ground]

    def judge(self, claim: str, text: str) -> tuple[list[Ground], Fault | None]:
        """The grounds of all that a text claims, the strongest first; or the first thing in it that has none.

        Args:
            claim: `summary`, `keyword` or `query`.
        """
        words = tokens(text)
        found, fault = self._values_in(claim, words)
        fault = fault or price(words, self.grounds) or names(words, self.grounds, self.rules, self.values.all)
        if fault:
            return [], fault
        for number in numbers(words):
            place = self.grounds.number(number)
            if place is None and number.money and self.grounds.price is not None:
                place = "record", f"{self.grounds.price:g}"  # the same, but for its rounding
            if place is None:
                return [], ("ungrounded_number", f"{number.word!r} stands in no source")
            found.append(Ground(claim, number.word, *place))
        for name in brands_in(words, self.rules):
            if place := self.grounds.phrase(name):
                found.append(Ground(claim, name, *place))
        others, fault = self._others(claim, text, words)
        return ([], fault) if fault else (list(dict.fromkeys(found)) or others, None)

    def _values_in(self, claim: str, words: Tokens) -> tuple[list[Ground], Fault | None]:
        found = []
        own = self._own_words()
        for start, end, meant in self.values.all.find(words):
            if negated(words, start, end):
                continue
            places = [(name, value, self.grounds.value(name, value)) for name, value in meant]
            best = next(((value, place) for _, value, place in places if place), None)
            if best is None and (place := self.grounds.phrase(" ".join(words[start:end]))):
                best = places[0][1], place  # a part of a longer value: shoes, where casual shoes are meant
            if best is not None:
                found.append(Ground(claim, best[0], *best[1]))
                continue
            if all(word in own for word in words[start:end]):
                continue
            name, value, _ = places[0]
            if denied := self.grounds.denies(name, value):
                return [], ("other_value", f"it says {value!r}, and the record {denied!r} for {name}")
            return [], ("ungrounded_value", f"{name} {value!r}: {not_found(name, value, self.grounds, self.rules)}")
        return found, None

    def _others(self, claim: str, text: str, words: Tokens) -> tuple[list[Ground], Fault | None]:
        """What its other words stand on; a keyword may have none that stand nowhere, longer texts a share."""
        meant = carrying(words)
        if not meant:
            if any(word[0].isdigit() for word in words):
                return [], None
            return [], ("says_nothing", "none of its words carries meaning")
        own = self._own_words()
        missing = [word for word in meant if word not in own and self.grounds.word(word) is None]
        most = 0.0 if claim == "keyword" else self.rules.max_unsupported
        share = len(missing) / len(meant)
        if share > most:
            shown = ", ".join(missing[:5]) + (" …" if len(missing) > 5 else "")
            if claim == "keyword":
                return [], ("ungrounded", f"no source has {shown}")
            return [], ("unsupported", f"{share:.2f} of its words stand in no source, and {most:g} may: {shown}")
        for word in meant:
            if place := self.grounds.word(word):
                return [Ground(claim, text, place, f"{len(meant) - len(missing)} of {len(meant)} words")], None
        return [Ground(claim, text, self.stated[0].ground, "the attributes")] if self.stated else [], None

    def _own_words(self) -> Container[str]:
        """All words that stand for values which stay."""
        attributes = self.values.attributes
        return {
            word
            for one in self.stated
            for phrase in attributes[one.claim].words_of(one.value)
            for word in tokens(phrase)
        }
