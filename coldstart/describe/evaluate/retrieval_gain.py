"""Measure the retrieval gain of descriptions: the same queries on indexes with different texts of the items.

Two questions. Text to item: a hidden text of an item is the query, every item of the same text is right. Item to item:
an item's own vector is the query, others of equal stated attributes are right, itself is left out. Contenders are the
given fields, descriptions of writers, a template and the record itself. Vectors come from a function that is passed in.
An item without a text is in no index and ranks last.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from coldstart.core import prompts
from coldstart.core.attributes import Attribute
from coldstart.core.description import Description, sentence
from coldstart.core.pipeline import Pipeline
from coldstart.describe.evaluate.truth import EvaluatedItem, named_values
from coldstart.encoders import Encoder
from coldstart.metrics import ranking
from coldstart.metrics.intervals import difference, share

if TYPE_CHECKING:
    from coldstart.describe.checks import Sources


KS = (1, 10)


Vectors = NDArray[np.float32]


Encode = Callable[[Sequence[str]], Vectors]
"""Texts -> unit vectors [N, D]."""


@dataclass(frozen=True)
class Gallery:
    """Items of an index, and their queries.

    Attributes:
        texts: contender -> text of each item, empty where it has none; all of one length and order.
        queries: text of each item's query; None where it has none (a distractor, or an item without hidden text).
        likeness: items of equal likeness are right for each other; None where it is not known.
        groups: of items that the bootstrap draws together.
        asking: True for items with queries; distractors have none.
    """

    texts: Mapping[str, Sequence[str]]
    queries: Sequence[str | None]
    likeness: Sequence[Hashable | None]
    groups: Sequence[Hashable]
    asking: Sequence[bool]


def retrieval_gain(
    gallery: Gallery, pairs: Sequence[tuple[str, str]], encode: Encode, encode_queries: Encode, *, seed: int = 0
) -> dict[str, Any]:
    """Measure recall of both questions for every contender, and differences of pairs of them.

    Args:
        pairs: contenders `(before, after)` to compare on the same queries.

    Returns:
        `text_to_item` and `item_to_item` -> None where there is no query, else `queries`, `gallery` (items to choose
        from), `contenders` (name -> `recall_at_1`, `recall_at_10`, each a measure with `chance`, `median_rank` and
        `indexed`, the number of items with a text) and `differences` (a list of `before`, `after`, `recall_at_1`,
        `recall_at_10`).
    """
    vectors = _encode_contenders(gallery.texts, encode)
    return {
        "text_to_item": _score_question(
            gallery, pairs, *_rank_by_text(gallery, vectors, encode_queries), len(gallery.queries), seed
        ),
        "item_to_item": _score_question(
            gallery, pairs, *_rank_by_item(gallery, vectors), len(gallery.queries) - 1, seed
        ),
    }


_Index = tuple[Vectors, NDArray[np.intp]]
"""Unit vectors of the items that have a text, and their places."""


def _encode_contenders(contenders: Mapping[str, Sequence[str]], encode: Encode) -> dict[str, _Index]:
    """Build the index of each contender; a text of several is encoded once."""
    once = list(dict.fromkeys(text for texts in contenders.values() for text in texts if text.strip()))
    if not once:
        return {name: (np.zeros((0, 1), np.float32), np.zeros(0, np.intp)) for name in contenders}
    vectors, number = encode(once), {text: row for row, text in enumerate(once)}
    return {
        name: (
            vectors[[number[text] for text in texts if text.strip()]],
            np.flatnonzero([bool(text.strip()) for text in texts]),
        )
        for name, texts in contenders.items()
    }


_Ranks = dict[str, NDArray[np.int64]]


_Ranking = tuple[NDArray[np.intp], list[NDArray[np.intp]], _Ranks, Mapping[str, int]]
"""Places of query items, right places of each, contender -> rank of each, contender -> number of indexed items."""


def _rank_by_text(gallery: Gallery, vectors: Mapping[str, _Index], encode_queries: Encode) -> _Ranking:
    folded = [None if text is None else " ".join(text.casefold().split()) for text in gallery.queries]
    asking = np.flatnonzero([bool(text) and asks for text, asks in zip(folded, gallery.asking, strict=True)])
    if not len(asking):
        return asking, [], {}, {}
    answers = [text or place for place, text in enumerate(folded)]
    right = ranking.right_places([answers[place] for place in asking], answers)
    queries = encode_queries([gallery.queries[place] or "" for place in asking.tolist()])
    found = {name: _ranks(queries, own, places, right, len(folded)) for name, (own, places) in vectors.items()}
    return asking, right, found, {name: len(places) for name, (_, places) in vectors.items()}


def _rank_by_item(gallery: Gallery, vectors: Mapping[str, _Index]) -> _Ranking:
    count = len(gallery.likeness)
    kinds = [place if kind is None else ("like", kind) for place, kind in enumerate(gallery.likeness)]
    every = ranking.right_places(kinds, kinds)
    others = [own[own != place] for place, own in enumerate(every)]
    asking = np.flatnonzero([len(own) > 0 and asks for own, asks in zip(others, gallery.asking, strict=True)])
    if not len(asking):
        return asking, [], {}, {}
    right = [others[place] for place in asking]
    found: _Ranks = {}
    for name, (own, places) in vectors.items():
        ranks = np.full(len(asking), count - 1, np.int64)
        row = dict(zip(places.tolist(), range(len(places)), strict=True))
        has = [place for place, item in enumerate(asking.tolist()) if item in row]
        if has:
            queries = own[[row[int(asking[place])] for place in has]]
            some = _ranks(queries, own, places, [right[place] for place in has], count)
            ranks[has] = np.clip(some - 1, 1, count - 1)  # the item itself always ranks first, and is no right answer
        found[name] = ranks
    return asking, right, found, {name: len(places) for name, (_, places) in vectors.items()}


def _ranks(
    queries: Vectors, own: Vectors, places: NDArray[np.intp], right: Sequence[NDArray[np.intp]], last: int
) -> NDArray[np.int64]:
    """Rank each query's best right item among indexed ones; `last` where none is indexed."""
    row = np.full(last, -1, np.intp)
    row[places] = np.arange(len(places))
    inside = [found[found >= 0] for found in (row[own_right] for own_right in right)]
    has = [place for place, found in enumerate(inside) if len(found)]
    ranks = np.full(len(right), last, np.int64)
    if has:
        ranks[has] = ranking.ranks(queries[has], own, [inside[place] for place in has])
    return ranks


def _score_question(
    gallery: Gallery,
    pairs: Sequence[tuple[str, str]],
    asking: NDArray[np.intp],
    right: Sequence[NDArray[np.intp]],
    found: _Ranks,
    indexed: Mapping[str, int],
    size: int,
    seed: int,
) -> dict[str, Any] | None:
    if not len(asking):
        return None
    groups = [gallery.groups[place] for place in asking]
    counts = [len(own) for own in right]

    def hits(name: str, k: int) -> NDArray[np.float64]:
        return (found[name] <= k).astype(np.float64)

    def recall(name: str, k: int) -> dict[str, Any]:
        measured = share(hits(name, k), groups=groups, seed=seed)
        assert measured is not None
        return {**asdict(measured), "chance": ranking.chance_recall_at_k(counts, size, k)}

    return {
        "queries": len(asking),
        "gallery": size,
        "contenders": {
            name: {
                **{f"recall_at_{k}": recall(name, k) for k in KS},
                "median_rank": ranking.median_rank(ranks),
                "indexed": indexed[name],
            }
            for name, ranks in found.items()
        },
        "differences": [
            {
                "before": before,
                "after": after,
                **{f"recall_at_{k}": _difference(hits(before, k), hits(after, k), groups, seed) for k in KS},
            }
            for before, after in pairs
        ],
    }


def _difference(
    before: NDArray[np.float64], after: NDArray[np.float64], groups: Sequence[Hashable], seed: int
) -> dict[str, Any]:
    found = difference((before, None), (after, None), groups=groups, seed=seed)
    assert found is not None
    return asdict(found)


GIVEN, TEMPLATE, TRUTH = "given", "template", "truth"
"""Contenders: fields of a cold item; a sentence of attributes that it states or shows; its record, the upper bound."""


UNCHECKED = "unchecked"


_LONG = ("description", "transcript", "screen_text")


def index_texts(
    evaluated: Mapping[str, Sequence[EvaluatedItem]], targets: Sequence[Description], min_seen: float
) -> dict[str, list[str]]:
    """Build the texts of each contender: contender -> text of each item.

    `given` comes first, where any item has such text; then `template`, each writer after and before the checks
    (`NAME unchecked`), and `truth`, each alone and together with the given fields (`given + NAME`).

    Args:
        evaluated: writer -> the same items in the same order, at least one writer.
        targets: description of each item by its record.
        min_seen: least probability of a picture value in the template.
    """
    first = next(iter(evaluated.values()))
    sources = [one.sources for one in first]
    described: dict[str, Sequence[Description]] = {
        TEMPLATE: [template_description(one.attributes, one.sources, min_seen) for one in first]
    }
    for name, own in evaluated.items():
        described[name] = [one.description("checked") for one in own]
        described[f"{name} {UNCHECKED}"] = [one.description("written") for one in own]
    described[TRUTH] = targets
    prompt = prompts.load("described")
    alone = {name: [prompt.render(_values(one)) for one in own] for name, own in described.items()}
    given = [given_text(one) for one in sources]
    if not any(given):
        return alone
    both = {
        f"{GIVEN} + {name}": [given_text(one, text) for one, text in zip(sources, own, strict=True)]
        for name, own in alone.items()
    }
    return {GIVEN: given, **alone, **both}


def contender_pairs(contenders: Sequence[str], writers: Sequence[str]) -> list[tuple[str, str]]:
    """Return the pairs of contenders to compare: given fields without and with a description; each writer with the one
    before it and with the template; and, together with the given fields, with itself unchecked and with the truth."""
    found = [(GIVEN, f"{GIVEN} + {name}") for name in (TEMPLATE, *writers, TRUTH)]
    for mark in (f"{GIVEN} + ", ""):
        found += [(f"{mark}{before}", f"{mark}{after}") for before, after in itertools.pairwise(writers)]
        found += [(f"{mark}{TEMPLATE}", f"{mark}{name}") for name in writers]
    for mark in (f"{GIVEN} + ", "")[: 1 if GIVEN in contenders else 2]:
        found += [(f"{mark}{name} {UNCHECKED}", f"{mark}{name}") for name in writers]
        found += [(f"{mark}{name}", f"{mark}{TRUTH}") for name in writers]
    return [pair for pair in found if set(pair) <= set(contenders)]


def template_description(attributes: Mapping[str, Attribute], sources: Sources, min_seen: float) -> Description:
    """Describe an item without a model: of each attribute the value that the shown record states, else one that a shown
    text names, else the likeliest one of its pictures."""
    listed: dict[str, str] = {}
    for text in sources.texts.values():
        for claim in named_values(text, attributes):
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
    """Join the shown fields of an item into one text, short fields first; a description comes before the long ones, so
    that an encoder with a short context reads it."""
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


def evaluation_encoder(pipeline: Pipeline) -> tuple[Encoder, Mapping[str, int]]:
    """Load the encoder of the pipeline's first text space without a fit, and its budgets; else the starter's."""
    from coldstart import encoders

    spaces = [
        spec.settings
        for spec in pipeline.of_kind("embed")
        if spec.settings.input == "text" and not spec.settings.encoder.startswith("align:")
    ]
    encoder = encoders.load(
        spaces[0].encoder if spaces else "starter",
        device=pipeline.engine.device,
        dtype=pipeline.engine.dtype,
        allow_random_weights=bool(spaces) and spaces[0].allow_random_weights,
    )
    return encoder, spaces[0].budgets if spaces else {}
