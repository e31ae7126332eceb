"""Measure one fitted model: full rankings for every user and candidate set, and users' rankings for every new item.

Beside accuracy: coverage, concentration, diversity and novelty of the lists, the share of new items, and what each item
adds to the measures. Plain arrays.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from coldstart.core.interactions import Interactions
from coldstart.core.vectors import unit
from coldstart.metrics.ranking import measure_lists
from coldstart.metrics.two_way import contributions_by_item
from coldstart.recommend.evaluate.data import EvaluationData
from coldstart.recommend.evaluate.methods import Model
from coldstart.recommend.evaluate.page import SERVED
from coldstart.recommend.evaluate.robust import MOST_LIKED, most_liked, without_answers, without_items
from coldstart.recommend.evaluate.splits import PARTS
from coldstart.recommend.model import Vectors
from coldstart.recommend.model.scoring import top_k

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

    from coldstart.recommend.model.fitted import Behaviour

Floats = NDArray[np.float64]
SHOWN = 20
"""Length of the lists whose diversity, novelty, coverage and exposure are reported."""
_NUMBERS = 1 << 24  # scores in memory at a time: 64 MiB
Lists = NDArray[np.int64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Task:
    """Users, candidates and relevant items of an evaluation, the same for all models.

    Attributes:
        users: places of the users with lists, [B]; candidates: set -> bool [I].
        relevant, met: csr [B, I]; histories: csr [B, I].
        most_liked: set -> places of its items with the most relevant pairs, without which measures are repeated.
        space: float32 [I, F]: unit content vectors for diversity; counts: int64 [I]: training users of each item.
        audience: csr [C, V]: the early audience of each new item that has one, among all V users with a history;
            `audience_items`: places of those items, [C]; `audience_users`: places of those users, [V].
        audience_k: length of an item's list of users.
        ks: cuts of lists.
    """

    users: NDArray[np.intp]
    candidates: Mapping[str, NDArray[np.bool_]]
    relevant: csr_matrix
    met: csr_matrix
    histories: csr_matrix
    most_liked: Mapping[str, NDArray[np.intp]]
    space: Vectors
    counts: NDArray[np.int64]
    audience: csr_matrix
    audience_items: NDArray[np.intp]
    audience_users: NDArray[np.intp]
    audience_met: csr_matrix
    audience_histories: csr_matrix
    audience_k: int
    ks: tuple[int, ...]
    device: str

    def relevant_in(self, name: str) -> csr_matrix:
        """Restrict relevance to a candidate set, csr [B, I]; no entry elsewhere."""
        return without_answers(self.relevant, np.flatnonzero(~self.candidates[name]))

    def remaining_in(self, name: str) -> csr_matrix:
        """Restrict relevance to a candidate set without its most liked items, csr [B, I]."""
        return without_answers(self.relevant_in(name), self.most_liked[name])


@dataclass(frozen=True)
class MethodResult:
    """Measures of one method, means over seeds.

    Attributes:
        values: set -> `recall@20`, … -> float64 [B], NaN for users to whom nothing of the set is relevant.
        rest_values, rest_parts: the same without the most liked items of the set, as answers and as candidates.
        parts: set -> the same measures -> float64 [I], what each item adds; and `found@20`, users with the item in
            their list.
        lists: set -> `coverage`, `gini`, `diversity`, `novelty`; and of `all` the share of slots that are `cold`.
        audience: float64 [C]: recall of each new item's early audience.
        spread: set -> measure -> means of the seeds.
        fit_s: seconds of a fit, mean.
    """

    values: Mapping[str, Mapping[str, Floats]]
    parts: Mapping[str, Mapping[str, Floats]]
    rest_values: Mapping[str, Mapping[str, Floats]]
    rest_parts: Mapping[str, Mapping[str, Floats]]
    lists: Mapping[str, Mapping[str, float]]
    audience: Floats
    spread: Mapping[str, Mapping[str, Sequence[float]]]
    fit_s: float


@dataclass(frozen=True)
class ListInputs:
    """Inputs of methods that give lists: data and task; `chosen` returns the model that `finetune behaviour` would
    select, which it fits unless a row has."""

    data: EvaluationData
    task: Task
    chosen: Callable[[], Behaviour]


@dataclass(frozen=True)
class ListRow:
    """Method that gives lists in the place of scores; its row has no early audiences.

    Attributes:
        lists: set -> places, int64 [B, K], best first, -1 at the end; K is `list_depth` or more.
        fit_s: seconds of a fit.
    """

    name: str
    title: str
    lists: Mapping[str, Lists]
    fit_s: float
    role: str = SERVED
    is_seeded: bool = False


@dataclass(frozen=True)
class ListRows:
    """Rows of methods that give lists; `left_out`: name -> reason."""

    rows: Sequence[ListRow]
    left_out: Mapping[str, str] = field(default_factory=dict)
    notes: Sequence[str] = ()


def list_depth(task: Task) -> int:
    """Compute the length of the lists that are measured."""
    return max(*task.ks, SHOWN) + MOST_LIKED


def build_task(
    data: EvaluationData, space: Vectors, *, ks: tuple[int, ...], audience_k: int, early: int, device: str = "auto"
) -> Task:
    """Build the task of an evaluation.

    Args:
        space: float32 [I, F]; rows are scaled to length one.
        early: number of first users that are an item's early audience.
    """
    users = data.query_users()
    known = np.flatnonzero(np.diff(data.histories.indptr) > 0)
    rows = data.split.rows(PARTS[data.part]).positive(data.min_weight)
    cold = np.flatnonzero(data.cold)
    everyone = early_audience(rows, cold, early)[:, known]
    met = data.met[known][:, cold].T.tocsr()
    audience = (everyone - everyone.multiply(met)).tocsr()
    audience.eliminate_zeros()
    kept = np.flatnonzero(np.diff(audience.indptr) > 0)
    candidates, relevant = data.candidates(), data.relevant[users]
    return Task(
        users,
        candidates,
        relevant,
        data.met[users],
        data.histories[users],
        {name: most_liked(without_answers(relevant, np.flatnonzero(~mask))) for name, mask in candidates.items()},
        unit(space),
        data.training.counts(),
        audience[kept],
        cold[kept],
        known,
        met[kept],
        data.histories[known],
        min(audience_k, max(1, len(known) // 10)),
        ks,
        device,
    )


def evaluate_model(model: Model, data: EvaluationData, task: Task, fit_s: float = 0.0) -> MethodResult:
    """Evaluate one model on all measures."""
    items = model.items(data.content)
    block: Callable[..., Any] | None = getattr(model, "scores", None)
    users = model.users(task.histories) if block is None else np.empty((0, 0), np.float32)
    depth, found = list_depth(task), {}
    for name, mask in task.candidates.items():
        if block is not None:
            found[name] = _top_k_by_blocks(block, items, task.histories, depth, task.met, mask)
        else:
            found[name], _ = top_k(users, items, depth, exclude=task.met, mask=mask, device=task.device)
    return evaluate_lists(found, data, task, fit_s, _audience(model, items, block, task))


def evaluate_lists(
    found: Mapping[str, Lists], data: EvaluationData, task: Task, fit_s: float, audience: Floats | None = None
) -> MethodResult:
    """Evaluate the lists of each candidate set; see `ListRow.lists`."""
    values: dict[str, dict[str, Floats]] = {}
    parts: dict[str, dict[str, Floats]] = {}
    rest_values: dict[str, dict[str, Floats]] = {}
    rest_parts: dict[str, dict[str, Floats]] = {}
    shown: dict[str, dict[str, float]] = {}
    for name, mask in task.candidates.items():
        lists = found[name][:, : list_depth(task)]
        values[name], parts[name] = _measured(lists, task.relevant_in(name), task.ks)
        rest = without_items(lists, task.most_liked[name], len(mask))
        rest_values[name], rest_parts[name] = _measured(rest, task.remaining_in(name), task.ks)
        shown[name] = _list_measures(lists[:, :SHOWN], mask, data, task)
    spread = {name: {measure: [_mean(one)] for measure, one in own.items()} for name, own in values.items()}
    known = np.empty(0) if audience is None else audience
    return MethodResult(values, parts, rest_values, rest_parts, shown, known, spread, fit_s)


def _measured(lists: Lists, relevant: csr_matrix, ks: Sequence[int]) -> tuple[dict[str, Floats], dict[str, Floats]]:
    """Compute the measures of lists for each user, and what each item adds to them."""
    parts: dict[str, Floats] = {}
    for k in ks:
        parts |= contributions_by_item(lists, relevant, k)
    return measure_lists(lists, relevant, ks), parts


def average_seeds(found: Sequence[MethodResult]) -> MethodResult:
    """Average the results of several seeds."""
    first = found[0]
    if len(found) == 1:
        return first

    def mean_of(field: str) -> Any:
        return {
            name: {measure: np.mean([getattr(one, field)[name][measure] for one in found], axis=0) for measure in own}
            for name, own in getattr(first, field).items()
        }

    spread = {
        name: {measure: [one.spread[name][measure][0] for one in found] for measure in own}
        for name, own in first.spread.items()
    }
    audience = np.mean([one.audience for one in found], axis=0)
    seconds = float(np.mean([one.fit_s for one in found]))
    means = {field: mean_of(field) for field in ("values", "parts", "rest_values", "rest_parts", "lists")}
    return MethodResult(**means, audience=audience, spread=spread, fit_s=seconds)


def _list_measures(
    lists: NDArray[np.int64], mask: NDArray[np.bool_], data: EvaluationData, task: Task
) -> dict[str, float]:
    counts = times_shown(lists, len(mask))
    return {
        "coverage": coverage(counts, mask),
        "gini": gini(counts, mask),
        "diversity": _mean(diversity(lists, task.space)),
        "novelty": _mean(novelty(lists, task.counts, len(data.histories.indptr) - 1)),
        "cold": exposure(counts, data.cold),
    }


def _audience(model: Model, items: Vectors, block: Callable[..., Any] | None, task: Task) -> Floats:
    """Compute recall of each new item's early audience among all users with a history who had not met it."""
    if not len(task.audience_items):
        return np.empty(0)
    own = items[task.audience_items]
    if block is not None:
        lists = _users_by_blocks(block, own, task)
    else:
        users = model.users(task.audience_histories)
        lists, _ = top_k(own, users, task.audience_k, exclude=task.audience_met, device=task.device)
    return measure_lists(lists, task.audience, [task.audience_k])[f"recall@{task.audience_k}"]


def _top_k_by_blocks(
    block: Callable[[Vectors, csr_matrix], Vectors],
    items: Vectors,
    histories: csr_matrix,
    k: int,
    met: csr_matrix,
    mask: NDArray[np.bool_],
) -> NDArray[np.int64]:
    """Rank items as `top_k`, by scores that are no product."""
    places = np.flatnonzero(mask)
    found = []
    step = max(1, _NUMBERS // max(1, len(places)))
    for start in range(0, histories.shape[0], step):
        scores = block(items[places], histories[start : start + step])
        lists = _best_places(scores, met[start : start + step][:, places], k)
        found.append(np.where(lists >= 0, places[lists], -1))
    return np.concatenate(found)


def _users_by_blocks(block: Callable[[Vectors, csr_matrix], Vectors], items: Vectors, task: Task) -> NDArray[np.int64]:
    """Rank users of each item by scores that are no product; all scores of the new items are held at once."""
    step = max(1, _NUMBERS // max(1, len(items)))
    histories = task.audience_histories
    parts = [block(items, histories[start : start + step]) for start in range(0, histories.shape[0], step)]
    return _best_places(np.concatenate(parts).T, task.audience_met, task.audience_k)


def _best_places(scores: Vectors, exclude: csr_matrix, k: int) -> NDArray[np.int64]:
    """Find the k greatest of each row, int64 [B, k], equal ones by place; -1 where fewer are allowed."""
    allowed = np.array(scores, np.float32)
    rows = np.repeat(np.arange(len(allowed)), np.diff(exclude.indptr))
    allowed[rows, exclude.indices] = -np.inf
    order = np.argsort(-allowed, axis=1, kind="stable")[:, :k]
    lists = np.where(np.take_along_axis(allowed, order, axis=1) > -np.inf, order, -1).astype(np.int64)
    return np.pad(lists, ((0, 0), (0, k - lists.shape[1])), constant_values=-1)


def _mean(values: Floats) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else float("nan")


def times_shown(lists: Lists, items: int) -> NDArray[np.int64]:
    """Count the lists that each item is in, int64 [items]; places of -1 do not count."""
    return np.bincount(lists[lists >= 0], minlength=items).astype(np.int64)


def coverage(counts: NDArray[np.int64], candidates: Mask) -> float:
    """Compute the share of the candidates that are in some list."""
    return float(np.mean(counts[candidates] > 0))


def gini(counts: NDArray[np.int64], candidates: Mask) -> float:
    """Compute the Gini index of exposure: 0 for equal counts, towards 1 where one item has all slots; 0 for none."""
    ordered = np.sort(counts[candidates]).astype(np.float64)
    if not ordered.sum():
        return 0.0
    ranks = np.arange(1, len(ordered) + 1)
    return float(((2 * ranks - len(ordered) - 1) * ordered).sum() / (len(ordered) * ordered.sum()))


def diversity(lists: Lists, vectors: Vectors) -> NDArray[np.float64]:
    """Compute intra-list diversity (Ziegler et al., WWW 2005), float64 [B].

    The mean of 1 - cosine over the pairs of a list; NaN for a list of fewer than two items. Vectors [I, D] have length
    one, or zero, which has cosine 0 with all.
    """
    entries = _matrix(lists, len(vectors))
    sizes = np.diff(entries.indptr).astype(np.float64)
    own = np.asarray(entries @ np.square(vectors).sum(axis=1), np.float64)
    step = max(1, (1 << 24) // max(1, vectors.shape[1]))
    squares = [np.square(entries[start : start + step] @ vectors).sum(axis=1) for start in range(0, len(lists), step)]
    cosines = (np.concatenate(squares) if squares else np.empty(0)) - own
    pairs = sizes * (sizes - 1)
    alike: NDArray[np.float64] = np.divide(cosines, pairs, out=np.full(len(lists), np.nan), where=pairs > 0)
    return 1 - alike


def novelty(lists: Lists, counts: NDArray[np.int64], users: int) -> NDArray[np.float64]:
    """Compute novelty (Vargas & Castells, RecSys 2011), float64 [B]: mean of -log2 p over each list.

    p is the share of training users who met an item, with one added to both counts. NaN for an empty list.
    """
    surprise = -np.log2((counts + 1) / (users + 1))
    kept = lists >= 0
    total = np.where(kept, surprise[np.where(kept, lists, 0)], 0).sum(axis=1)
    sizes = kept.sum(axis=1)
    found: NDArray[np.float64] = np.divide(total, sizes, out=np.full(len(lists), np.nan), where=sizes > 0)
    return found


def exposure(counts: NDArray[np.int64], chosen: Mask) -> float:
    """Compute the share of all slots that hold chosen items; NaN where all lists are empty."""
    total = counts.sum()
    return float(counts[chosen].sum() / total) if total else float("nan")


def early_audience(rows: Interactions, items: NDArray[np.intp], early: int) -> csr_matrix:
    """Find early audiences, csr float32 [items, U]: 1 for the first `early` users of an item, by time, then by row."""
    from scipy.sparse import csr_matrix

    places = np.full(len(rows.item_ids), -1, np.int64)
    places[items] = np.arange(len(items))
    order = np.lexsort((rows.times, rows.items))
    order = order[places[rows.items[order]] >= 0]
    pairs = rows.items[order].astype(np.int64) * len(rows.user_ids) + rows.users[order]
    _, first = np.unique(pairs, return_index=True)
    order = order[np.sort(first)]
    own = places[rows.items[order]]
    begins = np.searchsorted(rows.items[order], rows.items[order], side="left")
    kept = np.arange(len(order)) - begins < early
    shape = (len(items), len(rows.user_ids))
    return csr_matrix((np.ones(int(kept.sum()), np.float32), (own[kept], rows.users[order][kept])), shape=shape)


def _matrix(lists: Lists, items: int) -> csr_matrix:
    from scipy.sparse import csr_matrix

    rows, places = np.nonzero(lists >= 0)
    shape = (len(lists), items)
    return csr_matrix((np.ones(len(rows), np.float32), (rows, lists[rows, places])), shape=shape)
