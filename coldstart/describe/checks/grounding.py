"""Index the evidence of one item, record, texts and predicted values, and find the support of claims in it.

Words are compared: a listed value by itself, an alias or its words in a sentence, a number with its unit, any other
value by its words. Irony is not understood, and of predicted values only likely ones are support.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from coldstart.core.attributes import Attribute
from coldstart.describe.checks.contract import TEXTS, Rules, Sources
from coldstart.describe.checks.form import evidence_text
from coldstart.describe.checks.words import Lexicon, Number, Tokens, is_negated, numbers, numbers_match, tokens
from coldstart.describe.english import plural
from coldstart.describe.sentences import spoken

Support = tuple[str, str]
"""Source (a field of `TEXTS`, `record` or `predicted`), and the words or the probability."""
ALL_SOURCES = frozenset((*TEXTS, "record"))

_PREFIX_LETTERS = 5  # shared first letters of two forms of one word


@dataclass(frozen=True)
class ListedValues:
    """Listed values of a category's attributes, as lexicons."""

    attributes: Mapping[str, Attribute]

    @cached_property
    def of(self) -> Mapping[str, Lexicon[str]]:
        """Lexicons by attribute: attribute -> its own values."""
        return {
            name: Lexicon(_phrases(name, one)) for name, one in self.attributes.items() if one.values or one.aliases
        }

    @cached_property
    def all(self) -> Lexicon[tuple[str, str]]:
        """Lexicon of all attributes: (attribute, value), as a phrase may be a value of several."""
        return Lexicon(
            (phrase, (name, value)) for name, one in self.attributes.items() for phrase, value in _phrases(name, one)
        )


def _phrases(name: str, attribute: Attribute) -> Iterator[tuple[str, str]]:
    for value in dict.fromkeys((*attribute.values, *attribute.aliases)):
        for phrase in value_phrases(name, value, attribute):
            yield phrase, value


def value_phrases(name: str, value: str, attribute: Attribute) -> list[str]:
    """List the phrases that state a value: itself, its aliases, and its words in a sentence, in number one and more."""
    role = attribute.role_as(name)
    said = spoken(value, role)
    others = [plural(said)] if role == "kind" else _BUYERS.get(said, ()) if role == "audience" else ()
    return list(dict.fromkeys([*attribute.words_of(value), said, *others]))


_BUYERS = {
    "men": ("man", "gents", "gentleman", "gentlemen"),
    "women": ("woman", "ladies", "lady"),
    "unisex": ("men and women", "women and men", "ladies and gentlemen"),
    "children": ("kids",),
    "kids": ("children",),
}
"""Buyers as `spoken` -> other words for them in prose."""


_cached_values: dict[int, ListedValues] = {}
_MAX_CACHED = 256


def listed_values(attributes: Mapping[str, Attribute]) -> ListedValues:
    """Return the lexicons of these attributes, built once for the same object."""
    found = _cached_values.get(id(attributes))
    if found is None or found.attributes is not attributes:
        if len(_cached_values) >= _MAX_CACHED:
            _cached_values.clear()
        found = _cached_values[id(attributes)] = ListedValues(attributes)
    return found


class EvidenceIndex:
    """Evidence of one item, indexed for the search of claims."""

    def __init__(self, sources: Sources, values: ListedValues, rules: Rules) -> None:
        self._facts = {name: value for name, value in sources.facts.items() if value not in (None, "")}
        self._seen, self._likely = sources.seen, sources.likely
        self._values = values
        self._rules = rules
        self.texts: dict[str, Tokens] = {}
        maker = (self._facts.get("brand"), self._facts.get("creator"), sources.texts.get("creator"))
        self._makers = Lexicon((str(name), True) for name in maker if name)
        self.handles = {tokens(str(name)) for name in maker if name and len(str(name).split()) == 1}
        """Words of makers that are written in one, such as `lina.cooks`."""
        for name in TEXTS:
            if words := tokens(evidence_text(sources.texts.get(name) or "")):
                self.texts[name] = words

    def find_value(self, name: str, value: str) -> Support | None:
        """Find the support of an attribute's value; of an unlisted one, by its words."""
        if self.states(name, value):
            return "record", _plain(self._facts[name])
        if (name, value) in self._in_texts:
            return self._in_texts[name, value]
        if not self._values.attributes[name].values and (found := self.find_phrase(value)):
            return found
        seen, likely = self._seen.get(name, {}).get(value, -1.0), self._likely.get(name, {}).get(value, -1.0)
        if (seen >= self._rules.min_seen or likely >= self._rules.min_claimed) and not self.title_values(name):
            return "predicted", f"{max(seen, likely):.2f}"
        return None

    def states(self, name: str, value: str) -> bool:
        """Tell whether the record states this value."""
        return name in self._facts and tokens(str(self._facts[name])) == tokens(value)

    def contradicting_value(self, name: str, value: str) -> str | None:
        """Return the record's other value of an attribute; None where it states none or the same."""
        return None if name not in self._facts or self.states(name, value) else str(self._facts[name])

    def probability(self, name: str, value: str) -> float | None:
        """Return the predicted probability of a value; None where it was not predicted."""
        return self._seen.get(name, {}).get(value, self._likely.get(name, {}).get(value))

    def is_likely(self, name: str, value: str) -> bool:
        """Tell whether a value was predicted, and is no fact."""
        return value in self._likely.get(name, {}) and value not in self._seen.get(name, {})

    def find_brand(self, name: str) -> Support | None:
        """Find where a brand is named: in title or record, and in other texts where the record states none."""
        return self.find_phrase(name, ("title", "record") if self._facts.keys() & {"brand", "creator"} else ALL_SOURCES)

    def maker_places(self, words: Tokens) -> set[int]:
        """Return the places of words that name the item's maker: Red Tape makes brown shoes."""
        return {place for start, end, _ in self._makers.find(words) for place in range(start, end)}

    def find_phrase(self, phrase: str, fields: Container[str] = ALL_SOURCES) -> Support | None:
        """Find words that stand side by side, or a number with its unit."""
        lexicon = Lexicon([(phrase, phrase)])
        for name, words in self._source_words:
            if name not in fields:
                continue
            for start, end, _ in lexicon.find(words):
                if not is_negated(words, start, end):
                    return name, " ".join(words[start:end])
        claimed = tokens(phrase)
        measured = list(numbers(claimed))
        if len(measured) == 1 and len(claimed) == len(measured[0].word.split()):
            return self.find_number(measured[0])
        return None

    def find_number(self, claimed: Number) -> Support | None:
        """Find the source that states a number."""
        return next((place for stated, place in self._numbers if numbers_match(claimed, stated)), None)

    def find_word(self, word: str) -> str | None:
        """Return the source that has a word or another form of it; None where none has."""
        if word in self._words:
            return self._words[word]
        others = self._starts.get(word[:_PREFIX_LETTERS], ()) if len(word) >= _PREFIX_LETTERS else ()
        return next((self._words[other] for other in others if _same_stem(word, other)), None)

    @property
    def price(self) -> float | None:
        """Price in the record; None where it states none."""
        price = self._facts.get("price")
        return float(price) if isinstance(price, int | float) and not isinstance(price, bool) else None

    @cached_property
    def _source_words(self) -> list[tuple[str, Tokens]]:
        """Words by source, the record's facts last."""
        return [*self.texts.items(), *(("record", tokens(_plain(value))) for value in self._facts.values())]

    def title_values(self, name: str) -> list[str]:
        """Return the listed values of an attribute that the title states."""
        return [value for (stated, value), (field, _) in self._in_texts.items() if stated == name and field == "title"]

    @cached_property
    def unlisted(self) -> Lexicon[tuple[str, str]]:
        """Lexicon of what is known of attributes without a list of values, in the record or by prediction: phrase ->
        (attribute, value)."""
        known = [(name, str(self._facts[name])) for name in self._values.attributes if name in self._facts]
        known += [(name, value) for own in (self._seen, self._likely) for name in own for value in own[name]]
        open_ = {name: one for name, one in self._values.attributes.items() if not one.values}
        return Lexicon(
            (phrase, (name, value))
            for name, value in known
            if name in open_
            for phrase in value_phrases(name, value, open_[name])
        )

    def find_part(self, words: Tokens) -> Support | None:
        """Find a supported value that some words are part of: shoes, where casual shoes are meant."""
        return next((place for place in self._in_texts.values() if set(words) <= set(place[1].split())), None)

    @cached_property
    def _in_texts(self) -> dict[tuple[str, str], Support]:
        """Support of listed values: (attribute, value) -> the first text that states it.

        Of an attribute that the title states, other texts count as silent: they also mention accessories of an item,
        and more people may write into them.
        """
        found: dict[tuple[str, str], Support] = {}
        for name, lexicon in self._values.of.items():
            for field, words in self._source_words:
                names = self.maker_places(words)
                for start, end, values in lexicon.find(words):
                    if not is_negated(words, start, end) and names.isdisjoint(range(start, end)):
                        for value in values:
                            found.setdefault((name, value), (field, " ".join(words[start:end])))
                if field == "title" and any(stated == name for stated, _ in found):
                    break
        return found

    @cached_property
    def _numbers(self) -> list[tuple[Number, Support]]:
        return [(number, (field, number.word)) for field, words in self._source_words for number in numbers(words)]

    @cached_property
    def _words(self) -> dict[str, str]:
        words: dict[str, str] = {}
        for field, own in self._source_words:
            for word in own:
                words.setdefault(word, field)
        return words

    @cached_property
    def _starts(self) -> dict[str, list[str]]:
        starts: dict[str, list[str]] = {}
        for word in self._words:
            if len(word) >= _PREFIX_LETTERS:
                starts.setdefault(word[:_PREFIX_LETTERS], []).append(word)
        return starts


def _same_stem(one: str, other: str) -> bool:
    """Tell whether two words may be forms of one: only endings differ (crispy and crispness; not aubertum and
    aubergine)."""
    shared = next((n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    return shared >= _PREFIX_LETTERS and min(len(one), len(other)) - shared <= 1 and abs(len(one) - len(other)) <= 4


def _plain(value: Any) -> str:
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
