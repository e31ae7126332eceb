"""Evaluate writers of descriptions on the same items: truth, retrieval gain, and examples for people.

Reads plain records and a function from texts to vectors; knows nothing of tables.
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
"""Possible queries, the first that was hidden is used; `attributes` are those of the record as a sentence."""


@dataclass(frozen=True)
class Distractor:
    """Further item of the index, which is not evaluated.

    Attributes:
        text: in the index, the same for every writer.
        query, likeness: as those of the evaluated items, so that an equal answer counts as right.
    """

    text: str
    query: str | None = None
    likeness: Hashable | None = None


@dataclass(frozen=True)
class DescribeReport:
    """Evaluation of writers on one split.

    Attributes:
        split: its name; held_out: True where no fit has seen it; note: the same in words.
        caveat: reason why the figures are too good, in words, or empty.
        given: shown fields, None for all; query: of `QUERIES`, empty where nothing is hidden.
        counts: evaluated `items`, `groups` among them, hidden `attributes` in all, `distractors`.
        writers: name -> its generator, for people; texts: name -> how many were `stored` in the workspace, and how
            many were `written` for the evaluation.
        measures: writer -> see `coldstart.describe.evaluate.truth.measure_writer`.
        differences: a list of `before`, `after` (writers) and `measures`, see `compare_writers`.
        gain: see `coldstart.describe.evaluate.retrieval_gain.retrieval_gain`.
        examples: items with given fields, texts, and claims that stayed and were cut.
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
    texts: Mapping[str, Mapping[str, int]] = field(default_factory=dict)

    def example_ids(self) -> list[str]:
        """Return the ids of the items in the examples."""
        return [one["item_id"] for one in self.examples]

    def with_items(self, items: Mapping[str, Mapping[str, Any]]) -> DescribeReport:
        """Return a copy with titles and media of items for the page."""
        return replace(self, items=items)

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON-serialisable values."""
        return asdict(self)


def evaluate_writers(
    evaluated: Mapping[str, Sequence[EvaluatedItem]],
    targets: Sequence[Description],
    encode: Encode,
    encode_queries: Encode,
    *,
    writers: Mapping[str, str],
    texts: Mapping[str, Mapping[str, int]] | None = None,
    split: str = "test",
    note: str = "",
    caveat: str = "",
    given: Sequence[str] | None = None,
    distractors: Sequence[Distractor] = (),
    min_seen: float = 0.5,
    seed: int = 0,
) -> DescribeReport:
    """Evaluate writers on the same items.

    Args:
        evaluated: writer -> its records, of the same items in the same order.
        targets: description of each item by its record.
        encode, encode_queries: documents and queries to unit vectors.
        texts: see `DescribeReport`; given: shown fields.
        distractors: further items of the index.
        min_seen: least probability of a picture that supports a claim.
    """
    names, first = list(writers), next(iter(evaluated.values()))
    query = choose_query(first)
    contenders = index_texts(evaluated, targets, min_seen)
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
        texts=dict(texts or {}),
        measures={name: measure_writer(own, min_seen=min_seen, seed=seed) for name, own in evaluated.items()},
        differences=[
            {
                "before": a,
                "after": b,
                "measures": compare_writers(evaluated[a], evaluated[b], min_seen=min_seen, seed=seed),
            }
            for a, b in itertools.pairwise(names)
        ],
        gain=retrieval_gain(gallery, contender_pairs(list(contenders), names), encode, encode_queries, seed=seed),
        examples=_examples(evaluated, min_seen, seed),
    )


def choose_query(evaluated: Sequence[EvaluatedItem]) -> str:
    """Choose the first of `QUERIES` that is hidden for some item; empty where none is."""
    hidden = {name for one in evaluated for name, text in one.hidden.items() if text.strip()}
    stated = any(one.truth for one in evaluated)
    return next((name for name in QUERIES if name in hidden or (name == "attributes" and stated)), "")


def query_text(one: EvaluatedItem, query: str) -> str | None:
    """Return the query text of an item, None where it has none."""
    return (sentence(one.truth) if query == "attributes" else one.hidden.get(query)) or None


def likeness_key(one: EvaluatedItem) -> Hashable | None:
    """Return the hidden attributes of an item as a key: items of one key are alike; None where nothing is hidden."""
    return tuple(sorted(one.truth.items())) or None


def _examples(evaluated: Mapping[str, Sequence[EvaluatedItem]], min_seen: float, seed: int) -> list[dict[str, Any]]:
    """Draw example items at random, in the order of the records."""
    first = next(iter(evaluated.values()))
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
            "writers": {name: _example(own[place], min_seen) for name, own in evaluated.items()},
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
