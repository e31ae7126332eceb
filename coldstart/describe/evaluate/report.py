"""Writers of descriptions judged on the same items: how true, how found, and examples that a person can judge.

Reads plain records and a function that makes vectors of texts; knows nothing of tables.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from coldstart.core.description import Description, sentence
from coldstart.core.stage import Reject
from coldstart.describe.evaluate.retrieval_gain import Encode, Gallery, contender_pairs, index_texts, retrieval_gain
from coldstart.describe.evaluate.truth import STAGES, EvaluatedItem, Verdict, compare_writers, measure_writer

EXAMPLES = 20
QUERIES = ("title", "description", "attributes")
"""What asks for an item, the first of these that was hidden; `attributes` are those of its record as a sentence."""


@dataclass(frozen=True)
class Distractor:
    """An item that is not judged and may be found in the place of one that is.

    Attributes:
        text: what stands in the index for it, whoever wrote of the others.
        query, likeness: as those of the judged ones, so that an equal answer counts as right.
    """

    text: str
    query: str | None = None
    likeness: Hashable | None = None


@dataclass(frozen=True)
class DescribeReport:
    """Writers judged on one split.

    Attributes:
        split: its name; held_out: whether no fit has seen it; note: the same in words.
        caveat: what makes the figures look better than they are, in words, or empty.
        given: the fields that were shown, None for all; query: what asks for items in `gain`, empty where nothing can.
        counts: `items` judged, `groups` among them, `attributes` hidden in all, `distractors`.
        writers: name -> what it is, for a person.
        measures: writer -> as `coldstart.describe.evaluate.truth.measure_writer` gives it.
        differences: a list of `before`, `after` (writers) and `measures` as `compare` gives them.
        gain: as `coldstart.describe.evaluate.retrieval_gain.retrieval_gain` gives it, of the texts of `coldstart.describe.evaluate.retrieval_gain`.
        examples: items with what was given, written, kept and cut.
        items: item -> `title`, `uri` and `kind` of those in the examples; see `with_items`.
    """

    split: str
    held_out: bool
    note: str
    given: Sequence[str] | None
    query: str
    counts: Mapping[str, Any]
    writers: Mapping[str, str]
    measures: Mapping[str, Any]
    differences: Sequence[Mapping[str, Any]]
    gain: Mapping[str, Any]
    examples: Sequence[Mapping[str, Any]] = field(default_factory=list)
    items: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    caveat: str = ""

    def example_ids(self) -> list[str]:
        """Ids of the items in the examples."""
        return [one["item_id"] for one in self.examples]

    def with_items(self, items: Mapping[str, Mapping[str, Any]]) -> DescribeReport:
        """The same with titles, media and whatever else the page may show of items."""
        return replace(self, items=items)

    def to_dict(self) -> dict[str, Any]:
        """As JSON-serialisable values."""
        return asdict(self)


def evaluate_writers(
    judged: Mapping[str, Sequence[EvaluatedItem]],
    told: Sequence[Description],
    encode: Encode,
    encode_queries: Encode,
    *,
    writers: Mapping[str, str],
    split: str = "test",
    note: str = "",
    caveat: str = "",
    given: Sequence[str] | None = None,
    distractors: Sequence[Distractor] = (),
    min_seen: float = 0.5,
    seed: int = 0,
) -> DescribeReport:
    """Judge writers on the same items.

    Args:
        judged: writer -> its records, of the same items in the same order.
        told: what a writer that knows the record would say of each item.
        encode, encode_queries: texts as an index holds them, and as they ask, to unit vectors.
        given: the fields that were shown.
        distractors: further items of the index, which ask for nothing.
        min_seen: probability from which on a picture is the ground of a claim.
    """
    names, first = list(writers), next(iter(judged.values()))
    query = choose_query(first)
    contenders = index_texts(judged, told, min_seen)
    other = [one.text for one in distractors]
    gallery = Gallery(
        texts={name: [*own, *other] for name, own in contenders.items()},
        queries=[*(query_text(one, query) for one in first), *(one.query for one in distractors)],
        likeness=[*(likeness_key(one) for one in first), *(one.likeness for one in distractors)],
        groups=[*(one.group for one in first), *(-1 - place for place in range(len(other)))],
        asking=[True] * len(first) + [False] * len(other),
    )
    return DescribeReport(
        split=split,
        held_out=split == "test",
        note=note,
        caveat=caveat,
        given=None if given is None else list(given),
        query=query,
        counts={
            "items": len(first),
            "groups": len({one.group for one in first}),
            "attributes": sum(len(one.truth) for one in first),
            "distractors": len(distractors),
        },
        writers=dict(writers),
        measures={name: measure_writer(own, min_seen=min_seen, seed=seed) for name, own in judged.items()},
        differences=[
            {"before": a, "after": b, "measures": compare_writers(judged[a], judged[b], min_seen=min_seen, seed=seed)}
            for a, b in itertools.pairwise(names)
        ],
        gain=retrieval_gain(gallery, contender_pairs(list(contenders), names), encode, encode_queries, seed=seed),
        examples=_examples(judged, min_seen, seed),
    )


def choose_query(judged: Sequence[EvaluatedItem]) -> str:
    """The first of `QUERIES` that some item hid; empty where none did."""
    hidden = {name for one in judged for name, text in one.hidden.items() if text.strip()}
    stated = any(one.truth for one in judged)
    return next((name for name in QUERIES if name in hidden or (name == "attributes" and stated)), "")


def query_text(one: EvaluatedItem, query: str) -> str | None:
    """The text that asks for an item, None where it has none."""
    return (sentence(one.truth) if query == "attributes" else one.hidden.get(query)) or None


def likeness_key(one: EvaluatedItem) -> Hashable | None:
    """Items are alike where their hidden records state the same of all attributes; None where they state nothing."""
    return tuple(sorted(one.truth.items())) or None


def _examples(judged: Mapping[str, Sequence[EvaluatedItem]], min_seen: float, seed: int) -> list[dict[str, Any]]:
    """Items drawn at random, so that neither luck nor care has chosen them, in the order of the records."""
    first = next(iter(judged.values()))
    chosen = sorted(random.Random(seed).sample(range(len(first)), min(EXAMPLES, len(first))))
    return [
        {
            "item_id": first[place].item_id,
            "given": {**first[place].sources.texts, **{k: str(v) for k, v in first[place].sources.facts.items()}},
            "seen": {
                name: max(values.items(), key=lambda one: one[1])
                for name, values in first[place].sources.seen.items()
                if values
            },
            "truth": dict(first[place].truth),
            "hidden": dict(first[place].hidden),
            "writers": {name: _example(own[place], min_seen) for name, own in judged.items()},
        }
        for place in chosen
    ]


def _example(one: EvaluatedItem, min_seen: float) -> dict[str, Any]:
    found: dict[str, Any] = {
        "raw": one.written,
        "valid": one.is_valid,
        "status": "rejected" if isinstance(one.checked, Reject) else one.checked.status,
        "why": str(one.checked) if isinstance(one.checked, Reject) else "",
        "cut": [] if isinstance(one.checked, Reject) else [asdict(cut) for cut in one.checked.cut],
        "grounds": [] if isinstance(one.checked, Reject) else [asdict(ground) for ground in one.checked.grounds],
    }
    for stage in STAGES:
        description = one.description(stage)
        found[stage] = {
            "summary": description.summary,
            "attributes": dict(description.attributes),
            "keywords": list(description.keywords),
            "queries": list(description.queries),
            "claims": [_claim(verdict) for verdict in one.verdicts(stage, min_seen)],
        }
    return found


def _claim(verdict: Verdict) -> dict[str, Any]:
    return {
        "name": verdict.claim.name,
        "value": verdict.claim.value,
        "truth": verdict.truth,
        "ground": verdict.ground,
        "made_up": verdict.is_made_up,
    }
