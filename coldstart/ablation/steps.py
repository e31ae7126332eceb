"""Evaluate steps of an ablation, each with more content of the items than the one before, over plain arrays.

Every step is evaluated twice on the same lists: by content alone (mean of the liked items, cosine), as served without a
fit of behaviour; and aligned, by a ridge from the step's content onto users, which shows whether a stage still pays
once behaviour is used. The last step is the selected mapper on all content. Fusion, ridge and selection are fitted on
the training items and rows of the split alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from time import monotonic
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from coldstart.core.progress import Meter
from coldstart.errors import ColdstartError
from coldstart.metrics.ranking import measure_lists
from coldstart.recommend import model
from coldstart.recommend.evaluate.data import build_data
from coldstart.recommend.evaluate.splits import Split
from coldstart.recommend.model import Vectors
from coldstart.recommend.model.fusion import Content
from coldstart.recommend.model.holdout import build_problem
from coldstart.recommend.model.scoring import top_k
from coldstart.recommend.model.selection import SelectionSettings, select_model

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

    from coldstart.recommend.evaluate.data import EvaluationData

MOST_USERS = 20_000
"""Most users with lists; of more, so many are drawn."""


@dataclass(frozen=True)
class Step:
    """One step of an ablation.

    Attributes:
        name: such as `title`; about: description of its content.
        blocks: content blocks that it uses.
        needs: names of the costs that it depends on, with those of earlier steps that it still uses.
        is_behaviour: the last step, scored by the selected mapper instead of content alone.
    """

    name: str
    about: str
    blocks: tuple[str, ...]
    needs: frozenset[str] = frozenset()
    is_behaviour: bool = False


@dataclass(frozen=True)
class MissingStep:
    """Step that cannot be evaluated, with the reason."""

    name: str
    reason: str


@dataclass(frozen=True)
class LadderSettings:
    """Settings of an ablation.

    Attributes:
        k: length of a list.
        labels: use category, tags and attributes as content of every step, beside its blocks.
        min_weight: least weight of a row that counts as a like; None: above 0.
        choice: settings of model selection in the last step, apart from `labels` and `min_weight`.
        seed: of the fits.
    """

    k: int = 20
    labels: bool = False
    min_weight: float | None = None
    choice: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0


@dataclass(frozen=True)
class Lists:
    """Lists of one scoring method: hits, and seconds of its fit.

    Attributes:
        hits: csr [B, I]: 1 where a list has a right item among its first `k`.
        ndcg: float64 [B].
    """

    hits: csr_matrix
    ndcg: NDArray[np.float64]
    fit_s: float


@dataclass(frozen=True)
class SplitResult:
    """Results of all steps on one split.

    Attributes:
        users: places of the users with lists, int64 [B]; relevant: csr [B, I], I the items of the split.
        lists: step -> its lists; `aligned`: step -> those of the ridge on its content, the last step's its own.
        missing: steps that could not be fitted.
        items: number of new candidates; training: number of training items.
        chosen: mapper that the last step selected.
    """

    users: NDArray[np.int64]
    relevant: csr_matrix
    lists: Mapping[str, Lists]
    aligned: Mapping[str, Lists]
    missing: tuple[MissingStep, ...]
    items: int
    training: int
    chosen: str | None = None


def evaluate_steps(
    split: Split, content: Content, steps: Sequence[Step], settings: LadderSettings, meter: Meter | None = None
) -> SplitResult:
    """Evaluate every step on the split's new test items.

    Args:
        content: over the split's items, in their order; has the blocks of all steps.
        meter: progress meter of steps.

    Raises:
        ColdstartError: no user has both a history and a relevant new item.
    """
    from scipy.sparse import csr_matrix

    data = build_data(split, content, min_weight=settings.min_weight)
    queried, cold = _query_users(data), np.flatnonzero(data.cold)
    among_new = data.relevant[queried].multiply(data.cold[None, :])  # warm items are no candidates
    relevant = csr_matrix(among_new)
    relevant.eliminate_zeros()

    def lists(items: Vectors, users: Vectors, fit_s: float) -> Lists:
        found, _ = top_k(users, items, settings.k)
        ndcg = measure_lists(found, csr_matrix(relevant[:, cold]), [settings.k])[f"ndcg@{settings.k}"]
        return Lists(_hits(found, cold, relevant), ndcg, fit_s)

    by_content: dict[str, Lists] = {}
    aligned: dict[str, Lists] = {}
    missing: list[MissingStep] = []
    chosen = None
    for step in steps:
        own = Content(content.item_ids, {name: content.blocks[name] for name in step.blocks}, content.records)
        try:
            if step.is_behaviour:
                by_content[step.name], chosen = _by_selected_mapper(data, own, queried, cold, settings, lists)
                aligned[step.name] = by_content[step.name]
            else:
                by_content[step.name], aligned[step.name] = _by_content(data, own, queried, cold, settings, lists)
        except ColdstartError as error:
            missing.append(MissingStep(step.name, str(error)))
        if meter is not None:
            meter.advance(1, 0, 0.0)
    counts = {"items": len(cold), "training": int(split.warm.sum())}
    return SplitResult(queried.astype(np.int64), relevant, by_content, aligned, tuple(missing), chosen=chosen, **counts)


def _by_content(
    data: EvaluationData,
    content: Content,
    users: NDArray[np.intp],
    cold: NDArray[np.intp],
    settings: LadderSettings,
    lists: Any,
) -> tuple[Lists, Lists]:
    places = data.warm_places
    known = content.take(places)
    rows = data.training.over(known.item_ids)
    problem, fusion = build_problem(rows, known, min_weight=settings.min_weight, weights=None, labels=settings.labels)
    new = fusion.transform(content.take(cold))
    histories = data.histories[users][:, places]
    liked = np.asarray(histories @ problem.features, np.float32)
    started = monotonic()
    ridge = model.fit("ridge", problem, seed=settings.seed, target="users")
    fit_s = monotonic() - started
    return lists(new, liked, 0.0), lists(ridge.items(new), ridge.users(histories), fit_s)


def _by_selected_mapper(
    data: EvaluationData,
    content: Content,
    users: NDArray[np.intp],
    cold: NDArray[np.intp],
    settings: LadderSettings,
    lists: Any,
) -> tuple[Lists, str]:
    places = data.warm_places
    known = content.take(places)
    given = {"labels": settings.labels, "min_weight": settings.min_weight, "seed": settings.seed}
    started = monotonic()
    found = select_model(data.training.over(known.item_ids), known, SelectionSettings(**{**settings.choice, **given}))
    fit_s = monotonic() - started
    fitted = found.behaviour
    vectors = fitted.users(data.histories[users][:, places])
    return lists(fitted.items(content.take(cold)), vectors, fit_s), str(found.report["chosen"])


def _query_users(data: EvaluationData) -> NDArray[np.intp]:
    """Find users with a history who liked a new item, at most `MOST_USERS`."""
    right = np.asarray(data.relevant[:, np.flatnonzero(data.cold)].sum(axis=1)).ravel() > 0
    found = data.query_users()
    found = found[right[found]]
    if len(found) > MOST_USERS:
        seed = int(data.split.settings.get("seed", 0))
        found = np.sort(np.random.default_rng(seed).choice(found, MOST_USERS, replace=False))
    if not len(found):
        raise ColdstartError("no user with a history liked a new item: give more interactions")
    return found


def _hits(lists: NDArray[np.int64], places: NDArray[np.intp], relevant: csr_matrix) -> csr_matrix:
    """Mark hits: lists int64 [B, k] of places among `places` -> csr [B, I], 1 where a listed item is relevant."""
    from scipy.sparse import csr_matrix

    kept = lists >= 0
    rows = np.repeat(np.arange(len(lists)), kept.sum(axis=1))
    shown = csr_matrix((np.ones(len(rows), np.float32), (rows, places[lists[kept]])), shape=relevant.shape)
    found = csr_matrix(shown.multiply(relevant > 0))
    found.eliminate_zeros()
    return found
