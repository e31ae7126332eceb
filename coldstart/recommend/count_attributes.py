"""Find attributes that count interactions, and measure how much of a gain in recommending new items rests on them.

A number of ratings, a rank of sales or a tag `bestseller` says how often an item was met. A catalogue read at the end
of the log holds in it what an evaluation asks for; and a new item has none, or 0. An attribute is found by its name
(`coldstart.core.count_names`), or where its rank correlation with the users of an item in the training window is so
high that it can hardly be anything else. What rests on it is measured on items held out as new, by a kernel ridge that
is fitted with these attributes and without them.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from coldstart.core.count_names import counts_interactions, names_bestsellers
from coldstart.core.interactions import Interactions
from coldstart.errors import ColdstartError, NothingToLearn
from coldstart.metrics.intervals import FEWEST_COMPARED
from coldstart.metrics.ranking import measure_lists
from coldstart.metrics.two_way import Resampled, contributions_by_item, resample, shares_by_item
from coldstart.recommend import model
from coldstart.recommend.model import Mapper
from coldstart.recommend.model.fusion import LABELS, Content, Fusion
from coldstart.recommend.model.holdout import build_problem, folds
from coldstart.recommend.model.labels import Statements
from coldstart.recommend.model.scoring import top_k

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

Counts = NDArray[np.int64]
K = 20
CORRELATED = 0.6
"""Least absolute rank correlation, at the lower end of its 95 % interval, by which a number alone is a count."""
_OWN_FIELDS = frozenset(("kind", "creator", "category", "tag"))


@dataclass(frozen=True)
class CountAttribute:
    """Attribute that counts interactions.

    Attributes:
        name: `attributes.KEY`, `price`, `tags` or `category`; value: of a bestseller's tag or category, else empty.
        by_name: whether its name says so.
        correlation: Spearman's, with the users of an item in the training window; None where `items`, those that have
            it and a user, are too few, or all have the same.
    """

    name: str
    value: str
    by_name: bool
    correlation: float | None
    items: int


@dataclass(frozen=True)
class GainShare:
    """Recall@20 on items held out as new, with the attributes and without; value, low and high each.

    Attributes:
        users, items: number of lists, and of the held-out items that they rank.
        chance: of lists in random order; absent: fitted with the attributes, which the new items lack, as new ones do.
        difference: with less without; share: of the gain over chance that rests on the attributes, None where there is
            no gain.
    """

    users: int
    items: int
    chance: float
    with_them: Mapping[str, float]
    without: Mapping[str, float]
    absent: Mapping[str, float]
    difference: Mapping[str, float]
    share: Mapping[str, float] | None


def find_count_attributes(
    content: Content, users: Counts, weights: Mapping[str, float] | None = None
) -> list[CountAttribute]:
    """Find the attributes that count interactions, among those that a fit reads.

    Args:
        content: of the training items; users: of each in the training window, int64 [N].
        weights: of the blocks that a fit reads, such as `labels` or `labels.FIELD`; None: it reads all.
    """
    return [one for one in _find(content, users) if _is_read(one, weights)]


def _is_read(one: CountAttribute, weights: Mapping[str, float] | None) -> bool:
    field = "tag" if one.name == "tags" else one.name
    return weights is None or weights.get(LABELS, 0) > 0 or weights.get(f"{LABELS}.{field}", 0) > 0


def _find(content: Content, users: Counts) -> list[CountAttribute]:
    statements = content.statements
    found = []
    for name, (rows, numbers) in sorted(_numbers(statements).items()):
        met = users[rows] > 0
        correlation, low = _rank_correlation(numbers[met], users[rows][met])
        by_name = name.startswith("attributes.") and counts_interactions(name.partition(".")[2])
        if by_name or low >= CORRELATED:
            found.append(CountAttribute(name, "", by_name, correlation, int(met.sum())))
    known = {one.name for one in found}
    for place, word in enumerate(statements.words):
        name, _, value = word.partition("=")
        if name in known:
            continue
        last = value.rpartition("/")[2]
        is_flag = name.startswith("attributes.") and counts_interactions(name.partition(".")[2], is_number=False)
        if is_flag:
            known.add(name)
        if is_flag or (names_bestsellers(last) and (name in _OWN_FIELDS or name.startswith("attributes."))):
            rows = np.unique(statements.word_rows[statements.word_places == place])
            has = np.zeros(statements.count)
            has[rows] = 1
            correlation, _ = _rank_correlation(has[users > 0], users[users > 0])
            shown = "tags" if name == "tag" else name
            found.append(
                CountAttribute(shown, "" if is_flag else value, True, correlation, int((users[rows] > 0).sum()))
            )
    return found


def without_attributes(
    content: Content, found: Collection[CountAttribute], weights: Mapping[str, float] | None = None
) -> Content:
    """Remove the attributes from the records of items.

    Args:
        weights: of the blocks of a fit, see `find_count_attributes`.

    Raises:
        ColdstartError: a weight is of the block of a removed attribute.
    """
    names = {one.name for one in found if not one.value}
    for name in names:
        if (weights or {}).get(f"{LABELS}.{name}"):
            raise ColdstartError(
                f"weights has '{LABELS}.{name}', and {name} counts interactions, which fits leave out: drop the "
                "weight, or set count_attributes: true"
            )
    values = {(one.name, one.value) for one in found if one.value}
    return Content(
        content.item_ids, content.blocks, tuple(_without(record, names, values) for record in content.records)
    )


def gain_share(
    training: Interactions,
    content: Content,
    found: Sequence[CountAttribute],
    held: NDArray[np.intp],
    histories: csr_matrix,
    relevant: csr_matrix,
    *,
    min_weight: float | None = None,
    draws: int = 1000,
    seed: int = 0,
) -> GainShare | None:
    """Measure what rests on attributes; None where held-out items or likes are too few to judge.

    Args:
        training: rows over all items of the content, none of the held-out ones.
        held: places of the held-out items [H]; histories: csr [B, I]; relevant: csr [B, H].
    """
    if len(held) <= K or relevant.nnz < FEWEST_COMPARED:
        return None
    bare = without_attributes(content, found)

    def fit(own: Content) -> tuple[Fusion, Mapper]:
        problem, fusion = build_problem(training, own, min_weight=min_weight, weights=None, labels=True)
        return fusion, model.fit("kernel", problem, seed=seed)

    def ranked(fitted: tuple[Fusion, Mapper], own: Content) -> NDArray[np.int64]:
        fusion, mapper = fitted
        return top_k(mapper.users(histories), mapper.items(fusion.transform(own.take(held))), K)[0]

    try:
        with_them, without = fit(content), fit(bare)
    except NothingToLearn:
        return None
    return _measured(
        [ranked(with_them, content), ranked(without, bare), ranked(with_them, bare)], relevant, draws, seed
    )


def check_fit(
    interactions: Interactions,
    content: Content,
    *,
    min_weight: float | None,
    groups: NDArray[np.int64],
    share: float,
    weights: Mapping[str, float] | None = None,
    seed: int = 0,
    are_used: bool = False,
) -> dict[str, Any] | None:
    """Find such attributes in the training data of a fit, and measure what rests on them on one fold of its items.

    Args:
        interactions: rows over the items of the content; groups: of the items, int64 [I]; share: that is held out.
        weights: see `find_count_attributes`; are_used: see `describe_count_attributes`.

    Returns:
        See `to_dict`.
    """
    found = find_count_attributes(content, interactions.counts(), weights)
    if not found:
        return None
    liked = interactions.positive(min_weight)
    try:
        fold = next(folds(interactions, liked, groups, count=1, share=share, seed=seed))
    except NothingToLearn:
        return to_dict(found, None, are_used)
    histories = fold.train.positive(min_weight).matrix()[fold.users]
    gain = gain_share(fold.train, content, found, fold.held, histories, fold.relevant, min_weight=min_weight, seed=seed)
    return to_dict(found, gain, are_used)


def describe_count_attributes(
    found: Sequence[CountAttribute], gain: GainShare | None, are_used: bool = False
) -> list[str]:
    """Describe attributes and what rests on them, in sentences; [] where there are none.

    Args:
        are_used: whether fits learn from them all the same.
    """
    if not found:
        return []
    is_one = len(found) == 1
    count, it = ("an attribute counts", "it") if is_one else (f"{len(found)} attributes count", "them")
    it_is = "it is" if is_one else "they are"
    step = (
        f"leave {it} out of the table" if are_used else f"so {it_is} left out (`count_attributes: true` takes {it} in)"
    )
    lines = [
        f"{count} interactions: {'; '.join(_described(one) for one in found)}. A new item has none yet, and what the "
        f"catalogue says was counted after the fact: {step}"
    ]
    if gain is None:
        return [*lines, f"what rests on {it} cannot be measured: too few items or likes can be held out"]
    rests = "nothing but chance is left without"
    if gain.share is not None:
        low, high = gain.share["low"], gain.share["high"]
        rests = f"{gain.share['value']:.0%} of the gain over chance ({low:.0%} to {high:.0%})"
    return [
        *lines,
        f"recall@{K} of a kernel ridge is {_interval(gain.with_them)} with {it} and {_interval(gain.without)} without "
        f"({gain.users:,} users, {gain.items:,} items held out as new; chance {gain.chance:.3f}): "
        f"{_interval(gain.difference, '+')} rest on {it}, {rests}; where new items alone lack {it}, as they will, "
        f"it is {_interval(gain.absent)}",
    ]


def to_dict(found: Sequence[CountAttribute], gain: GainShare | None, are_used: bool = False) -> dict[str, Any] | None:
    """Convert to plain values; None where there are no such attributes."""
    if not found:
        return None
    return {
        "attributes": [asdict(one) for one in found],
        "gain": None if gain is None else asdict(gain),
        "lines": describe_count_attributes(found, gain, are_used),
    }


def _described(one: CountAttribute) -> str:
    shown = f"{one.name} {one.value!r}" if one.value else one.name
    rank = (
        "too few items to correlate"
        if one.correlation is None
        else f"rank correlation {one.correlation:+.2f} with their users in training, {one.items:,} items"
    )
    return f"{shown} ({'by its name; ' if one.by_name else ''}{rank})"


def _interval(found: Mapping[str, float], sign: str = "") -> str:
    return f"{found['value']:{sign}.3f} ({found['low']:{sign}.3f} to {found['high']:{sign}.3f})"


def _numbers(statements: Statements) -> dict[str, tuple[NDArray[np.int64], NDArray[np.float64]]]:
    """Collect numbers by name, with their records; also texts of which all are numbers, as CSV has them."""
    found = {}
    for place, name in enumerate(statements.names):
        own = statements.number_names == place
        found[name] = statements.number_rows[own], statements.numbers[own]
    texts: dict[str, dict[int, float | None]] = {}
    for place, word in enumerate(statements.words):
        name, _, value = word.partition("=")
        if name.startswith("attributes."):
            texts.setdefault(name, {})[place] = parsed_number(value)
    for name, values in texts.items():
        if name not in found and None not in values.values():
            own = np.isin(statements.word_places, list(values))
            numbers = np.array([values[place] for place in statements.word_places[own].tolist()], np.float64)
            found[name] = statements.word_rows[own], numbers
    return found


def parsed_number(text: str) -> float | None:
    """Parse a finite number as shops write counts, such as `1,204`; None for another text."""
    try:
        found = float(text.replace(",", "").replace(" ", "").rstrip("+%"))
    except ValueError:
        return None
    return found if np.isfinite(found) else None


def _rank_correlation(values: NDArray[np.float64], users: Counts) -> tuple[float | None, float]:
    """Compute Spearman's correlation, and the end of its 95 % interval that is nearer to 0, as an absolute value.

    The interval is by Fisher's transformation, with the variance of Bonett & Wright (Psychometrika 2000).
    """
    if len(values) < FEWEST_COMPARED or len(np.unique(values)) < 2 or len(np.unique(users)) < 2:
        return None, 0.0
    from scipy.stats import rankdata

    found = float(np.corrcoef(rankdata(values), rankdata(users))[0, 1])
    size = np.arctanh(min(abs(found), 1 - 1e-9)) - 1.96 * np.sqrt((1 + found**2 / 2) / (len(values) - 3))
    return found, max(0.0, float(np.tanh(size)))


def _without(
    record: Mapping[str, Any], names: Collection[str], values: Collection[tuple[str, str]]
) -> Mapping[str, Any]:
    found = dict(record)
    attributes = record.get("attributes")
    if isinstance(attributes, str):
        try:
            attributes = json.loads(attributes)
        except ValueError:
            attributes = None
    if isinstance(attributes, Mapping):
        found["attributes"] = {
            key: value
            for key, value in attributes.items()
            if (name := f"attributes.{_folded(key)}") not in names and (name, _folded(value)) not in values
        }
    if "price" in names:
        found["price"] = None
    tags = record.get("tags")
    if tags is not None and any(name == "tags" for name, _ in values):
        found["tags"] = [tag for tag in tags if ("tags", _folded(tag)) not in values]
    for name in ("category", "creator", "kind"):
        own = _folded(record.get(name) or "").replace(" > ", "/")
        if any(field == name and (own == value or own.startswith(f"{value}/")) for field, value in values):
            found[name] = None
    return found


def _folded(value: Any) -> str:
    return " ".join(str(value).casefold().split())


def _measured(lists: Sequence[NDArray[np.int64]], relevant: csr_matrix, draws: int, seed: int) -> GainShare:
    """Measure lists with the attributes, without, and where new items lack them; each int64 [B, K]."""
    measure = f"recall@{K}"
    kept = np.diff(relevant.indptr) > 0
    relevant = relevant[kept]
    wanted, count = np.diff(relevant.indptr), relevant.shape[1]
    chance = K / count / np.minimum(wanted, K)  # of each relevant item, to be within a random list
    by_item = np.bincount(relevant.indices, weights=np.repeat(chance, wanted), minlength=count)
    values = [*(measure_lists(own[kept], relevant, [K])[measure] for own in lists), chance * wanted]
    parts = [*(contributions_by_item(own[kept], relevant, K)[measure] for own in lists), by_item]
    drawn = resample(
        np.stack(values, axis=1), np.stack(parts, axis=1), shares_by_item(relevant), draws=draws, seed=seed
    )
    with_them, without, absent = (drawn.interval(column).to_dict() for column in range(3))
    return GainShare(
        len(wanted),
        count,
        float(drawn.value[3]),
        with_them,
        without,
        absent,
        drawn.difference(0, 1)[0].to_dict(),
        _share(drawn),
    )


def _share(drawn: Resampled) -> dict[str, float] | None:
    """Divide with less without by with less chance, with the wider of its intervals over users and over items."""
    gain = drawn.value[0] - drawn.value[3]
    if gain <= 0:
        return None
    ends = []
    for draws in (drawn.by_users, drawn.by_items):
        gains = draws[:, 0] - draws[:, 3]
        if not (gains > 0).all():
            return None
        ends.append(np.quantile((draws[:, 0] - draws[:, 1]) / gains, [0.025, 0.975]))
    low, high = max(ends, key=lambda own: own[1] - own[0])
    return {"value": float((drawn.value[0] - drawn.value[1]) / gain), "low": float(low), "high": float(high)}
