"""The judge that stands by default: a policy file of words and patterns. It knows words, not what is meant by them."""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache

from coldstart.keys import digest
from coldstart.perception import policy_file
from coldstart.perception.bounded_pattern import compiled
from coldstart.perception.plain_text import Phrases, Plain, read
from coldstart.perception.policy_file import PictureRule, Rule, Sign
from coldstart.perception.safety import SOURCES, Finding

_MARGIN = 3  # words that may part a sign from an exception that excuses it
_QUOTE = 80  # characters of a quote, at most


@dataclass(frozen=True)
class WordPolicy:
    """A policy file that was read; a `coldstart.perception.safety.Judge` of texts.

    Attributes:
        name: its name and version.
        digest: key of all in it that changes findings; notes for people do not.
        text_rules: name and rule, in the file's order.
        picture_rules: the same of pictures, for `coldstart.perception.zero_shot`.
        temperature: see `policy_file.PictureRules`.
    """

    name: str
    digest: str
    text_rules: tuple[tuple[str, Rule], ...]
    picture_rules: tuple[tuple[str, PictureRule], ...] = ()
    temperature: float = 0.01

    def __hash__(self) -> int:
        return hash(self.digest)  # quick: judges are looked up by it for every item

    @property
    def rules(self) -> tuple[str, ...]:
        return tuple(name for name, _ in self.text_rules)

    def judge(self, texts: Mapping[str, str], language: str | None = None) -> list[Finding]:
        """Of each sign the first place in each text; see `Judge`. The time is linear in the texts' length."""
        plain = {source: read(texts[source]) for source in SOURCES if texts.get(source)}
        return [
            finding
            for matcher in _matchers(self)
            for source, text in plain.items()
            if source != "transcript" or matcher.speaks(language)
            for finding in matcher.find(source, text)
        ]


def load(name: str) -> WordPolicy:
    """The judge of a policy file, named or by path.

    Raises:
        ColdstartError: see `policy_file.load`.
    """
    file = policy_file.load(name)
    said = file.model_dump(
        mode="json",
        exclude={"about": True, "rules": {"__all__": {"about"}}, "pictures": {"rules": {"__all__": {"about"}}}},
    )
    pictures = file.pictures
    return WordPolicy(
        f"{file.name} {file.version}",
        digest(said),
        tuple(file.rules.items()),
        tuple(pictures.rules.items()),
        pictures.temperature,
    )


@cache
def _matchers(policy: WordPolicy) -> list[_RuleMatcher]:
    return [_RuleMatcher(name, rule) for name, rule in policy.text_rules]


class _Spans:
    """Where any of some phrases stand in one text: numbers of their first and last words, in order."""

    def __init__(self, phrases: Phrases, text: Plain) -> None:
        found = [(first, last) for _, first, last in phrases.find(text)]
        self._firsts = [first for first, _ in found]
        self._lasts = [last for _, last in found]
        self._longest = max((last - first for first, last in found), default=0)

    def nearest(self, first: int, last: int, between: int) -> tuple[int, int] | None:
        """The one that fewest words part from the words `first` to `last`, at most `between`."""
        start = bisect_left(self._firsts, first - between - 1 - self._longest)
        end = bisect_right(self._firsts, last + between + 1)
        best = None
        for one in zip(self._firsts[start:end], self._lasts[start:end], strict=True):
            gap = max(one[0] - last - 1, first - one[1] - 1)
            if gap <= between:
                between, best = gap - 1, one
        return best


class _SignMatcher:
    """One sign, ready to be looked for."""

    def __init__(self, sign: Sign) -> None:
        self.sign = sign
        self._words = Phrases(sign.words)
        self._near = Phrases(sign.near)

    def find(self, text: Plain) -> Iterator[tuple[str, int, int]]:
        """The word that was found ("" for a pattern), and the first and last word by number, what is near included."""
        near = None
        for word, first, last in self._hits(text):
            if not self.sign.near:
                yield word, first, last
                continue
            near = near or _Spans(self._near, text)
            if other := near.nearest(first, last, self.sign.within):
                yield word, min(first, other[0]), max(last, other[1])

    def _hits(self, text: Plain) -> Iterable[tuple[str, int, int]]:
        if self.sign.pattern is None:
            return self._words.find(text)
        return self._matches(compiled(self.sign.pattern), text)

    def _matches(self, pattern: re.Pattern[str], text: Plain) -> Iterator[tuple[str, int, int]]:
        starts = [token.start for token in text.tokens]
        for match in pattern.finditer(text.text) if starts else ():
            first = max(bisect_right(starts, match.start()) - 1, 0)
            yield "", first, max(bisect_left(starts, match.end()) - 1, first)


class _RuleMatcher:
    """One rule, ready to be looked for."""

    def __init__(self, name: str, rule: Rule) -> None:
        self._name = name
        self._languages = rule.languages
        self._signs = [_SignMatcher(sign) for sign in rule.signs]
        self._unless = Phrases(rule.unless)

    def speaks(self, language: str | None) -> bool:
        """Whether speech in that language is judged."""
        return not language or not self._languages or language in self._languages

    def find(self, source: str, text: Plain) -> Iterator[Finding]:
        excuses = None
        for number, matcher in enumerate(self._signs, 1):
            seen: set[str] = set()
            for word, first, last in matcher.find(text):
                if word in seen:
                    continue
                excuses = excuses or _Spans(self._unless, text)
                if excuses.nearest(first, last, _MARGIN):
                    continue
                seen.add(word)
                start, quote = text.quote(text.tokens[first].start, text.tokens[last].end)
                yield Finding(
                    self._name,
                    matcher.sign.score,
                    source,
                    quote if len(quote) <= _QUOTE else quote[: _QUOTE - 1] + "…",
                    start,
                    sign=f"{number} {word}".strip(),
                )
