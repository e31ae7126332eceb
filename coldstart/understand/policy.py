"""Read policy files, and find in texts what their rules do not allow.

A file is YAML, checked as a whole: every fault is reported at once. The packaged `policies/safety.yaml` shows how one
is written. A policy knows words and patterns, not what is meant by them.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import AfterValidator, Field, ValidationError, model_validator

from coldstart.core import settings
from coldstart.core.keys import digest
from coldstart.core.pipeline import Section
from coldstart.core.settings import suggestion
from coldstart.core.spelling import existing_path
from coldstart.core.yaml_text import parse_yaml
from coldstart.errors import ColdstartError
from coldstart.understand.safety import SOURCES, Finding
from coldstart.understand.text_patterns import Pattern, Phrases, PlainText, compile_pattern, phrase_forms, plain_text

_Some = TypeVar("_Some", bound=Sized)


_LISTED = ("words", "near", "unless")  # settings that may name one of the file's lists


class PolicyError(ColdstartError):
    """A policy file with faults; `faults` lists them all, one line each."""

    def __init__(self, path: Path, faults: Sequence[str]) -> None:
        self.faults = list(faults)
        count = f"{len(faults)} faults" if len(faults) > 1 else "1 fault"
        super().__init__(f"policy {path}: {count}: " + "; ".join(faults))


def _phrase(text: str) -> str:
    phrase_forms(text)
    return text


def _pattern(text: str) -> str:
    compile_pattern(text)
    return text


def _some(value: _Some) -> _Some:
    if not value:
        raise ValueError("give at least one")
    return value


Phrase = Annotated[str, AfterValidator(_phrase)]


Text = Annotated[str, Field(min_length=1)]


class Sign(Section):
    """Sign of a rule: words or a pattern, with a score."""

    words: tuple[Phrase, ...] = ()
    """Words and phrases, any of which counts; each different one that is found adds to the score."""
    pattern: Annotated[str, AfterValidator(_pattern)] | None = None
    """Regular expression over the plain text (see `coldstart.understand.text_patterns`), in place of words."""
    near: tuple[Phrase, ...] = ()
    """Phrases of which one must occur nearby."""
    within: int = Field(default=6, ge=0, le=100)
    """Words between a sign and the phrase near it, at most."""
    score: float = Field(gt=0, le=1)
    """Score of this sign alone, 0 to 1."""

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if bool(self.words) == (self.pattern is not None):
            raise ValueError("give either words or a pattern")
        return self


class Rule(Section):
    """Rule on texts: what is not allowed, by its signs."""

    about: str
    """Description for people."""
    signs: Annotated[tuple[Sign, ...], AfterValidator(_some)]
    unless: tuple[Phrase, ...] = ()
    """Phrases that excuse a sign which they overlap, or from which at most three words part them."""
    languages: tuple[str, ...] = ()
    """Languages of this rule: speech known to be in another one is skipped; all other texts are read."""


class PictureRule(Section):
    """Rule on pictures: what is not allowed, by prompts."""

    about: str
    """Description for people."""
    unsafe: Annotated[tuple[Text, ...], AfterValidator(_some)]
    """Captions of pictures that break the rule."""
    safe: Annotated[tuple[Text, ...], AfterValidator(_some)]
    """Captions of similar pictures that are allowed."""


class PictureClassifier(Section):
    """Rule on pictures: what is not allowed, by a classifier."""

    about: str
    """Description for people."""
    model: Literal["open_nsfw"]
    """Classifier whose score it is, 0 to 1."""
    threshold: float = Field(gt=0, le=1)
    """Score of the most unsafe picture or frame from which on an item is closed; one of 1 closes nothing."""


class PictureRules(Section):
    """Rules on pictures."""

    temperature: float = Field(default=0.01, gt=0)
    """Divisor of cosines before the softmax; 0.01 is where CLIP's training ends."""
    rules: dict[str, PictureRule] = Field(default_factory=dict)
    classifiers: dict[str, PictureClassifier] = Field(default_factory=dict)
    """Rules by classifiers, for `classifier` of the stage."""


class PolicyFile(Section):
    """Checked policy file, names of lists replaced by their words."""

    name: Text
    version: int = Field(ge=1)
    """Version of the file, for people."""
    about: str = ""
    rules: Annotated[dict[str, Rule], AfterValidator(_some)]
    pictures: PictureRules = PictureRules()


def load_file(name: str) -> PolicyFile:
    """Load a policy file by the name of a packaged one, or by path.

    Raises:
        ColdstartError: there is no such file, or it cannot be read.
        PolicyError: with every fault of the file.
    """
    return _parsed(*_read(name))


def _read(name: str) -> tuple[Path, str]:
    """Read the text of a policy file, named or by path."""
    packaged = settings.data_files("policies", "*.yaml")
    path = packaged.get(name) or existing_path(Path(name))
    if not path.is_file():
        raise ColdstartError(f"no policy {name!r}: give a path or one of {', '.join(packaged)}")
    try:
        return path, path.read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ColdstartError(f"policy {path} is not UTF-8 at byte {error.start}: save it as UTF-8") from error
    except OSError as error:
        raise ColdstartError(f"cannot read policy {path}: {error.strerror or error}") from error


@cache
def _parsed(path: Path, text: str) -> PolicyFile:
    """Check the text of a policy file; several stages read the same one."""
    try:
        raw = parse_yaml(text)
    except ValueError as error:
        raise PolicyError(path, [str(error)]) from error
    if not isinstance(raw, dict):
        raise PolicyError(path, ["it holds no settings: `rules:` is missing"])
    return _checked(path, raw)


def _checked(path: Path, raw: Mapping[Any, Any]) -> PolicyFile:
    faults: list[str] = []
    lists = raw.get("lists") or {}
    if not isinstance(lists, dict):
        faults.append("lists: give names, each with its words")
        lists = {}
    filled = _filled({key: value for key, value in raw.items() if key != "lists"}, lists, (), faults)
    try:
        file = PolicyFile.model_validate(filled)
    except ValidationError as error:
        raise PolicyError(path, faults + [_fault(entry) for entry in error.errors()]) from error
    faults += [
        f"pictures.{part}.{name}: another rule has this name: choose another"
        for part, names, taken in (
            ("rules", file.pictures.rules, file.rules),
            ("classifiers", file.pictures.classifiers, {**file.rules, **file.pictures.rules}),
        )
        for name in names
        if name in taken
    ]
    if faults:
        raise PolicyError(path, faults)
    return file


def _filled(value: Any, lists: Mapping[str, Any], place: tuple[Any, ...], faults: list[str]) -> Any:
    """Replace the name of a list by its words."""
    if isinstance(value, list):
        return [_filled(entry, lists, (*place, number), faults) for number, entry in enumerate(value)]
    if not isinstance(value, dict):
        return value
    filled = {}
    for key, given in value.items():
        if key in _LISTED and isinstance(given, str) and place[:1] == ("rules",):
            if given not in lists:
                faults.append(f"{_where((*place, key))}={given!r}: no such list{suggestion(given, lists)}")
            filled[key] = lists.get(given, [given])
        else:
            filled[key] = _filled(given, lists, (*place, key), faults)
    return filled


def _fault(entry: Any) -> str:
    loc, shown = entry["loc"], repr(entry["input"])
    where, shown = _where(loc), shown if len(shown) <= 60 else shown[:57] + "..."
    if entry["type"] == "extra_forbidden":
        return f"unknown setting {where}{suggestion(str(loc[-1]), _known(loc))}"
    if entry["type"] == "missing":
        return f"{where} is missing"
    if entry["type"] == "value_error" and isinstance(entry["input"], dict):
        return f"{where}: {entry['msg'].removeprefix('Value error, ')}"
    advice = _ADVICE.get(entry["type"], entry["msg"].removeprefix("Value error, "))
    return f"{where}={shown}: {advice}"


_ADVICE = {
    "tuple_type": "give a list, such as [a, b], or the name of one of `lists`",
    "dict_type": "give names, each with its settings",
    "model_type": "give settings",
    "string_type": "write it in quotes",
}
"""Advice for errors where pydantic speaks of Python, not of YAML."""


def _known(loc: Sequence[Any]) -> list[str]:
    """List the settings that are allowed in the place of an unknown one."""
    if len(loc) == 1:
        return [*PolicyFile.model_fields, "lists"]
    if loc[0] == "pictures":
        rule = PictureClassifier if loc[1] == "classifiers" else PictureRule
        return list((rule if len(loc) == 4 else PictureRules).model_fields)
    return list((Rule if len(loc) == 3 else Sign).model_fields)


def _where(loc: Sequence[Any]) -> str:
    """Write a place in the file, list entries counted from one: `rules.scam.signs[2].score`."""
    return "".join(f"[{part + 1}]" if isinstance(part, int) else f".{part}" for part in loc).lstrip(".")


_MARGIN = 3  # words that may part a sign from an exception that excuses it

_QUOTE = 80  # characters of a quote, at most


@dataclass(frozen=True)
class WordPolicy:
    """Policy of a file; a `coldstart.understand.safety.TextPolicy`.

    Attributes:
        name: its name and version.
        digest: key of all in it that changes findings; notes for people do not.
        text_rules: name and rule, in the file's order.
        picture_rules: the same of pictures, for `coldstart.understand.safety`.
        temperature: see `PictureRules`.
        classifiers: the same of pictures by a classifier; no part of the digest, since all in them is a threshold.
    """

    name: str
    digest: str
    text_rules: tuple[tuple[str, Rule], ...]
    picture_rules: tuple[tuple[str, PictureRule], ...] = ()
    temperature: float = 0.01
    classifiers: tuple[tuple[str, PictureClassifier], ...] = ()

    def __hash__(self) -> int:
        return hash(self.digest)  # quick: matchers are looked up by it for every item

    @property
    def rules(self) -> tuple[str, ...]:
        return tuple(name for name, _ in self.text_rules)

    def find(self, texts: Mapping[str, str], language: str | None = None) -> list[Finding]:
        """Find the first place of each sign in each text; see `TextPolicy`. The time is linear in the texts' length."""
        plain = {source: plain_text(texts[source]) for source in SOURCES if texts.get(source)}
        return [
            finding
            for matcher in _matchers(self)
            for source, text in plain.items()
            if source != "transcript" or matcher.applies_to(language)
            for finding in matcher.find(source, text)
        ]


def load(name: str) -> WordPolicy:
    """Load the policy of a file, named or by path.

    Raises:
        ColdstartError: see `load_file`.
    """
    return _policy(*_read(name))


@cache
def _policy(path: Path, text: str) -> WordPolicy:
    file = _parsed(path, text)
    said = file.model_dump(
        mode="json",
        exclude={
            "about": True,
            "rules": {"__all__": {"about"}},
            "pictures": {"rules": {"__all__": {"about"}}, "classifiers": True},
        },
    )
    pictures = file.pictures
    return WordPolicy(
        f"{file.name} {file.version}",
        digest(said),
        tuple(file.rules.items()),
        tuple(pictures.rules.items()),
        pictures.temperature,
        tuple(pictures.classifiers.items()),
    )


@cache
def _matchers(policy: WordPolicy) -> list[_RuleMatcher]:
    return [_RuleMatcher(name, rule) for name, rule in policy.text_rules]


class _Spans:
    """Occurrences of some phrases in one text: numbers of their first and last words, in order."""

    def __init__(self, phrases: Phrases, text: PlainText) -> None:
        found = [(first, last) for _, first, last in phrases.find(text)]
        self._firsts = [first for first, _ in found]
        self._lasts = [last for _, last in found]
        self._longest = max((last - first for first, last in found), default=0)

    def nearest(self, first: int, last: int, between: int) -> tuple[int, int] | None:
        """Find the occurrence with fewest words between it and the words `first` to `last`, at most `between`."""
        start = bisect_left(self._firsts, first - between - 1 - self._longest)
        end = bisect_right(self._firsts, last + between + 1)
        best = None
        for one in zip(self._firsts[start:end], self._lasts[start:end], strict=True):
            gap = max(one[0] - last - 1, first - one[1] - 1)
            if gap <= between:
                between, best = gap - 1, one
        return best


class _SignMatcher:
    """Matcher of one sign."""

    def __init__(self, sign: Sign) -> None:
        self.sign = sign
        self._words = Phrases(sign.words)
        self._near = Phrases(sign.near)

    def find(self, text: PlainText) -> Iterator[tuple[str, int, int]]:
        """Yield the word that was found ("" for a pattern), and the first and last word by number, `near` included."""
        near = None
        for word, first, last in self._hits(text):
            if not self.sign.near:
                yield word, first, last
                continue
            near = near or _Spans(self._near, text)
            if other := near.nearest(first, last, self.sign.within):
                yield word, min(first, other[0]), max(last, other[1])

    def _hits(self, text: PlainText) -> Iterable[tuple[str, int, int]]:
        if self.sign.pattern is None:
            return self._words.find(text)
        return self._matches(compile_pattern(self.sign.pattern), text)

    def _matches(self, pattern: Pattern, text: PlainText) -> Iterator[tuple[str, int, int]]:
        starts = [token.start for token in text.tokens]
        for start, end in pattern.find(text.text) if starts else ():
            first = max(bisect_right(starts, start) - 1, 0)
            yield "", first, max(bisect_left(starts, end) - 1, first)


class _RuleMatcher:
    """Matcher of one rule."""

    def __init__(self, name: str, rule: Rule) -> None:
        self._name = name
        self._languages = rule.languages
        self._signs = [_SignMatcher(sign) for sign in rule.signs]
        self._unless = Phrases(rule.unless)

    def applies_to(self, language: str | None) -> bool:
        """Tell whether the rule applies to speech in that language."""
        return not language or not self._languages or language in self._languages

    def find(self, source: str, text: PlainText) -> Iterator[Finding]:
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
