"""Measure how true descriptions are, before and after the checks, by the hidden fields of their items' records.

Reads plain records; knows nothing of tables and models. Every share has a bootstrap interval over groups of items.
Definitions, each a share of all items' sums:

- `precision` of attributes: values written that the hidden record states, of all written; a value of an attribute that
  the record says nothing of counts as wrong. `recall`: of all that the hidden record states. `f1`: their harmonic
  mean. `accuracy`: right values, of those where both state one. Values are compared by `Attribute.canonical`, with
  its aliases. `stated`: items with a value written, of those whose hidden record has one. `coverage` is `recall`.
- `wrong`: claims of attributes that the hidden record states otherwise, of all claims.
- `true_cut`: of the claims as written that are true by the hidden record, those that the checks removed.
- `summary`: items with one; `sentences`: of a summary, a mean; `reads`: summaries whose sentences all begin with a
  capital or a digit, end with a full stop and have at least four words.
- `made_up`: claims (see `extract_claims`) that neither have a ground in the shown fields nor are true by the hidden
  record; near 0 after the checks by construction. `contradicted`: claims of attributes that the hidden record states
  otherwise, of those it states, whatever their ground.
- `valid`: texts that are JSON with the requested fields.
- `length`: words of the summary, a mean over items that have one. `copied`: words of summaries in runs of at least
  five of a shown text.

A claim is an attribute's value, a listed value that the summary names, or a number in any of its texts; equal claims
count once. Values are searched as whole words in order, by value and aliases, singular or plural; other inflections and
implications are not recognised.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from coldstart.core.attributes import Attribute
from coldstart.core.description import FIELDS, Description, parse, split_sentences
from coldstart.core.stage import Reject
from coldstart.metrics.intervals import difference, share
from coldstart.metrics.text import copied, distinct, words

if TYPE_CHECKING:
    from coldstart.describe.checks import Checked, Sources


STAGES = ("written", "checked")
"""Stages of a description: as generated, and after the checks."""


ALL = "all"
"""Name of all attributes together."""


_Columns = dict[tuple[str, ...], tuple[NDArray[np.float64], NDArray[np.float64]]]


@dataclass(frozen=True)
class EvaluatedItem:
    """One item with its description, sources and hidden truth.

    Attributes:
        attributes: those that it may state; truth: hidden ones, name -> canonical value of the record.
        hidden: field -> hidden text of the record, price included.
        sources: shown fields.
        written: the model's text; None where it wrote none, and `checked` has the reason.
        checked: result of the checks, or the reason why nothing is left.
        group: items of one group are drawn together by the bootstrap.
        output: requested fields.
    """

    item_id: str
    attributes: Mapping[str, Attribute]
    truth: Mapping[str, str]
    hidden: Mapping[str, str]
    sources: Sources
    written: str | None
    checked: Checked | Reject
    group: int = 0
    output: tuple[str, ...] = FIELDS

    def description(self, stage: str) -> Description:
        """Return the description at a stage of `STAGES`; an empty one where there is none."""
        if stage == "checked":
            return Description() if isinstance(self.checked, Reject) else self.checked.description
        try:
            return parse(self.written or "", self.output)
        except ValueError:
            return Description()

    @property
    def is_valid(self) -> bool:
        """True where the text is JSON with the requested fields."""
        try:
            parse(self.written or "", self.output)
        except ValueError:
            return False
        return True

    def verdicts(self, stage: str, min_seen: float) -> list[Verdict]:
        """Evaluate each claim of the description."""
        return [
            evaluate_claim(claim, self.attributes, self.truth, self.hidden.values(), self.sources, min_seen)
            for claim in extract_claims(self.description(stage), self.attributes)
        ]


def measure_writer(evaluated: Sequence[EvaluatedItem], *, min_seen: float = 0.5, seed: int = 0) -> dict[str, Any]:
    """Measure one writer, as JSON-serialisable values.

    Args:
        min_seen: least probability of a picture that supports a claim.

    Returns:
        `items`, `valid`, `true_cut`, `status` (word -> share of items, `rejected` among them), `cut` and `rejected`
        (reason -> share of items), and for each of `STAGES` `made_up`, `contradicted`, `wrong`, `summary`, `sentences`,
        `reads`, `length`, `copied`, `distinct_1`, `distinct_2`, `attributes` (name, or `all` -> `precision`, `recall`,
        `stated`, `f1`, `accuracy`) and `claims` (how many).
        A measure is `value`, `low`, `high` and `n`, or None where there is nothing to count.
    """
    groups = [one.group for one in evaluated]

    def of_items(is_so: Sequence[bool]) -> dict[str, Any] | None:
        return _plain(share(np.asarray(is_so, np.float64), groups=groups, seed=seed))

    states = [_state(one) for one in evaluated]
    cuts = [set() if isinstance(one.checked, Reject) else {cut.reason for cut in one.checked.cut} for one in evaluated]
    refused = [one.checked.reason if isinstance(one.checked, Reject) else "" for one in evaluated]
    found: dict[str, Any] = {
        "items": len(evaluated),
        "valid": of_items([one.is_valid for one in evaluated]),
        "true_cut": _plain(share(*_true_cut(evaluated, min_seen), groups=groups, seed=seed)),
        "status": {name: of_items([name == own for own in states]) for name in _STATES},
        "cut": {name: of_items([name in own for own in cuts]) for name in sorted(set().union(*cuts))},
        "rejected": {name: of_items([name == own for own in refused]) for name in sorted(set(refused) - {""})},
    }
    for stage in STAGES:
        columns = _columns(evaluated, stage, min_seen)
        own: dict[str, Any] = {"attributes": {}, "claims": int(columns[("made_up",)][1].sum())}
        for name, (parts, wholes) in columns.items():
            into = own["attributes"].setdefault(name[1], {}) if len(name) > 1 else own
            into[name[0]] = _plain(share(parts, wholes, groups=groups, seed=seed))
        texts = [one.description(stage).summary for one in evaluated]
        own |= {f"distinct_{n}": _plain(distinct(texts, n)) for n in (1, 2)}
        found[stage] = own
    return found


def compare_writers(
    before: Sequence[EvaluatedItem], after: Sequence[EvaluatedItem], *, min_seen: float = 0.5, seed: int = 0
) -> dict[str, Any]:
    """Compare two writers on the same items, after less before, paired: stage -> measures as in `measure_writer`.

    Raises:
        ValueError: the two did not write of the same items.
    """
    if [one.item_id for one in before] != [one.item_id for one in after]:
        raise ValueError("the two writers did not write of the same items in the same order")
    groups = [one.group for one in after]
    found: dict[str, Any] = {}
    for stage in STAGES:
        first, second = (_columns(items, stage, min_seen) for items in (before, after))
        own: dict[str, Any] = {"attributes": {}}
        for name in second:
            into = own["attributes"].setdefault(name[1], {}) if len(name) > 1 else own
            into[name[0]] = _plain(difference(first[name], second[name], groups=groups, seed=seed))
        found[stage] = own
    return found


_STATES = ("written", "cut", "fallback", "rejected")


def _state(one: EvaluatedItem) -> str:
    return "rejected" if isinstance(one.checked, Reject) else one.checked.status


def _columns(evaluated: Sequence[EvaluatedItem], stage: str, min_seen: float) -> _Columns:
    """Count parts and wholes of each item, float64 [N], by measure, and attribute where it is of one."""
    names = list(dict.fromkeys(name for one in evaluated for name in one.attributes))
    keys: list[tuple[str, ...]] = [(name,) for name in _OF_TEXTS]
    keys += [(measure, name) for name in (ALL, *names) for measure in _OF_ATTRIBUTES]
    columns: _Columns = {key: (np.zeros(len(evaluated)), np.zeros(len(evaluated))) for key in keys}

    def add(key: tuple[str, ...], place: int, part: float, whole: float) -> None:
        parts, wholes = columns[key]
        parts[place] += part
        wholes[place] += whole

    for place, one in enumerate(evaluated):
        description = one.description(stage)
        for name, attribute in one.attributes.items():
            stated = description.attributes.get(name)
            value = None if stated is None else attribute.canonical(stated) or stated
            known = one.truth.get(name)
            is_right = value is not None and value == known
            for own in (ALL, name):
                add(("precision", own), place, is_right, value is not None)
                add(("recall", own), place, is_right, known is not None)
                add(("stated", own), place, value is not None and known is not None, known is not None)
                add(("f1", own), place, 2 * is_right, (value is not None) + (known is not None))
                add(("accuracy", own), place, is_right, value is not None and known is not None)
        for verdict in one.verdicts(stage, min_seen):
            add(("made_up",), place, verdict.is_made_up, 1)
            add(("contradicted",), place, verdict.truth == "false", verdict.truth != "open" and not verdict.is_number)
            add(("wrong",), place, verdict.truth == "false", 1)
        add(("summary",), place, bool(description.summary), 1)
        if description.summary:
            add(("length",), place, len(words(description.summary)), 1)
            parts = split_sentences(description.summary)
            add(("sentences",), place, len(parts), 1)
            add(("reads",), place, all(map(_reads, parts)), 1)
            add(("copied",), place, *copied(description.summary, one.sources.texts.values()))
    return columns


_OF_TEXTS = ("made_up", "contradicted", "wrong", "summary", "sentences", "reads", "length", "copied")


_OF_ATTRIBUTES = ("precision", "recall", "stated", "f1", "accuracy")


_LEAST_WORDS = 4
"""Words of a sentence; fewer are a label, such as "Men Casual."."""


def _reads(sentence: str) -> bool:
    begins = sentence[:1].isupper() or sentence[:1].isdigit() or not sentence[:1].isascii()
    return begins and sentence.endswith((".", "!", "?", "…")) and len(words(sentence)) >= _LEAST_WORDS


def _true_cut(evaluated: Sequence[EvaluatedItem], min_seen: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Count of each item the true claims that the checks removed, and all true claims as written, float64 [N]."""
    true = [{one.claim for one in item.verdicts("written", min_seen) if one.truth == "true"} for item in evaluated]
    kept = [set(extract_claims(item.description("checked"), item.attributes)) for item in evaluated]
    removed = [float(len(own - left)) for own, left in zip(true, kept, strict=True)]
    return np.array(removed, np.float64), np.array([float(len(own)) for own in true], np.float64)


def _plain(found: Any) -> dict[str, Any] | None:
    return None if found is None else asdict(found)


NUMBER = "number"
"""Name of claims that are numbers."""


Truth = Literal["true", "false", "open"]
"""Hidden record states the value (`true`), another (`false`), or none (`open`)."""


_DIGITS = re.compile(r"(?<![\w.,])\d+(?:[.,]\d+)*")


_ENDING = re.compile(r"['’]s$|(?:(?<=ss)|(?<=ch)|(?<=sh)|(?<=x))es$|(?<!s)s$")


@dataclass(frozen=True)
class Claim:
    """Claim of a description.

    Attributes:
        name: of the attribute, or `number`; value: canonical where the attribute knows it.
    """

    name: str
    value: str


@dataclass(frozen=True)
class Verdict:
    """Verdict on a claim.

    Attributes:
        truth: by the hidden record.
        ground: name of the shown text that has it, `record` for a shown fact, `picture` for a picture value of enough
            probability, or empty.
    """

    claim: Claim
    truth: Truth
    ground: str

    @property
    def is_made_up(self) -> bool:
        """True where it has no ground in the shown fields and is not true by the hidden record."""
        return not self.ground and self.truth != "true"

    @property
    def is_number(self) -> bool:
        """True where the claim is a number."""
        return self.claim.name == NUMBER


def extract_claims(description: Description, attributes: Mapping[str, Attribute]) -> list[Claim]:
    """Extract all claims, attributes first; the summary is searched for the longest values first."""
    found = [
        Claim(name, (attributes[name].canonical(value) if name in attributes else None) or value)
        for name, value in description.attributes.items()
    ]
    found += named_values(description.summary, attributes)
    texts = [description.summary, *description.keywords, *description.queries]
    found += [Claim(NUMBER, number) for text in texts for number in numbers(text)]
    return list(dict.fromkeys(found))


def numbers(text: str) -> list[str]:
    """Return the numbers in a text that follow no letter, without thousands commas and trailing zeros: `1,299.50` is
    `1299.5`, `7,5` is `7.5`, and `v2` has none."""
    return [_plain_number(digits) for digits in _DIGITS.findall(text)]


def _plain_number(digits: str) -> str:
    point = re.sub(r",(?=\d{3}(?!\d))", "", digits).replace(",", ".")
    return point.rstrip("0").rstrip(".") if point.count(".") == 1 else point


def evaluate_claim(
    claim: Claim,
    attributes: Mapping[str, Attribute],
    truth: Mapping[str, str],
    hidden: Iterable[str],
    sources: Sources,
    min_seen: float,
) -> Verdict:
    """Evaluate one claim by the hidden record and the shown sources.

    Args:
        truth: hidden attribute -> canonical value of the record.
        hidden: hidden texts of the record, numbers as text.
        min_seen: least probability of a picture that supports a claim.
    """
    if claim.name == NUMBER:
        stated: Truth = "true" if any(claim.value in numbers(text) for text in hidden) else "open"
        ground = next((name for name, text in sources.texts.items() if claim.value in numbers(text)), "")
        if not ground and any(claim.value in numbers(str(fact)) for fact in sources.facts.values()):
            ground = "record"
        return Verdict(claim, stated, ground)
    attribute = attributes.get(claim.name, Attribute())
    stated = "open" if claim.name not in truth else "true" if truth[claim.name] == claim.value else "false"
    return Verdict(claim, stated, find_ground(claim.name, claim.value, attribute, sources, min_seen))


def find_ground(name: str, value: str, attribute: Attribute, sources: Sources, min_seen: float) -> str:
    """Find the shown source that states an attribute's value: `record`, the name of a text, `picture`, or empty."""
    fact = sources.facts.get(name)
    if fact is not None and attribute.canonical(str(fact)) == value:
        return "record"
    named = [normalized_words(one) for one in attribute.words_of(value)]
    for where, text in sources.texts.items():
        own = normalized_words(text)
        if any(_phrase_start(own, one) >= 0 for one in named):
            return str(where)
    seen = sources.seen.get(name, {})
    return "predicted" if value in seen and seen[value] >= min_seen else ""


@lru_cache(maxsize=1 << 14)
def normalized_words(text: str) -> tuple[str, ...]:
    """Return the words of a text without endings of English plurals and possessives."""
    return tuple(_ENDING.sub("", one) or one for one in words(text))


def _phrase_start(text: Sequence[str], phrase: Sequence[str]) -> int:
    """Return the place of a phrase's first word in a text, -1 where it is absent."""
    start = -1
    while phrase and phrase[0] in text[start + 1 :]:
        start = text.index(phrase[0], start + 1)
        if tuple(text[start : start + len(phrase)]) == tuple(phrase):
            return start
    return -1


def named_values(text: str, attributes: Mapping[str, Attribute]) -> Iterator[Claim]:
    """Yield the listed values that a text names; of overlapping ones the longest."""
    listed = [
        (normalized_words(one), name, value)
        for name, attribute in attributes.items()
        for value in attribute.values
        for one in attribute.words_of(value)
    ]
    left = list(normalized_words(text))
    for phrase, name, value in sorted(listed, key=lambda one: -len(one[0])):
        start = _phrase_start(left, phrase)
        if start >= 0:
            left[start : start + len(phrase)] = [""] * len(phrase)
            yield Claim(name, value)
