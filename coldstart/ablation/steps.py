"""New items found by more and more of their content: one step of a ladder after another, over plain arrays.

Every step is judged twice on the same lists: by content alone (the mean of what a user liked, cosine), as it serves
where there is no fit of behaviour; and aligned, by a ridge from the step's content onto users, so that it shows whether
a stage still pays once behaviour is used. The last step is what `coldstart.recommend.model.selection` makes of all the content.
Whatever is fitted (fusion, ridge, the choice) is fitted on the training items and rows of the split alone.
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

ALIGNED = "aligned"
MOST_USERS = 20_000
"""Users that are asked; of more, so many are drawn."""


@dataclass(frozen=True)
class Step:
    """One step of the ladder.

    Attributes:
        name: such as `title`; about: what it knows of an item, in words.
        blocks: of the content, all that it uses.
        needs: names of the costs that it stands on, those of the steps before it that it still uses among them.
        is_behaviour: the last step: matched by the mapper that is chosen, no longer by content alone.
    """

    name: str
    about: str
    blocks: tuple[str, ...]
    needs: frozenset[str] = frozenset()
    is_behaviour: bool = False


@dataclass(frozen=True)
class MissingStep:
    """A step that cannot be judged, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class LadderSettings:
    """How steps are judged.

    Attributes:
        k: length of a list.
        labels: whether category, tags and attributes are content of every step, beside its blocks.
        min_weight: rows of at least this weight speak for their item; None: above 0.
        choice: what the last step tries; `labels` and `min_weight` of it are those above.
        seed: of what is fitted.
    """

    k: int = 20
    labels: bool = False
    min_weight: float | None = None
    choice: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0


@dataclass(frozen=True)
class Lists:
    """The lists of one way of matching: what it found, and how long its fit took.

    Attributes:
        hits: csr [B, I]: 1 where a list has a right item among its first `k`.
        ndcg: float64 [B].
    """

    hits: csr_matrix
    ndcg: NDArray[np.float64]
    fit_s: float


@dataclass(frozen=True)
class SplitResult:
    """All steps on one split.

    Attributes:
        users: places of the users that were asked, int64 [B]; relevant: csr [B, I], I the items of the split.
        lists: step -> its lists; `aligned`: step -> those of the ridge on its content, the last step's its own.
        missing: steps that could not be fitted.
        items: new items that were to choose from; training: items that fits saw.
        chosen: which mapper the last step took.
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
    """Every step's lists of the split's new test items.

    Args:
        content: over the split's items, in their order; has the blocks of all steps.
        meter: counts steps.

    Raises:
        ColdstartError: nobody can be asked.
    """
    from scipy.sparse import csr_matrix

    data = build_data(split, content, min_weight=settings.min_weight)
    asked, cold = _query_users(data), np.flatnonzero(data.cold)
    among_new = data.relevant[asked].multiply(data.cold[None, :])  # what is warm is not to choose from
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
                by_content[step.name], chosen = _by_selected_mapper(data, own, asked, cold, settings, lists)
                aligned[step.name] = by_content[step.name]
            else:
                by_content[step.name], aligned[step.name] = _by_content(data, own, asked, cold, settings, lists)
        except ColdstartError as error:
            missing.append(MissingStep(step.name, str(error)))
        if meter is not None:
            meter.advance(1, 0, 0.0)
    counts = {"items": len(cold), "training": int(split.warm.sum())}
    return SplitResult(asked.astype(np.int64), relevant, by_content, aligned, tuple(missing), chosen=chosen, **counts)


def _by_content(
    data: EvaluationData,
    content: Content,
    asked: NDArray[np.intp],
    cold: NDArray[np.intp],
    settings: LadderSettings,
    lists: Any,
) -> tuple[Lists, Lists]:
    places = data.warm_places
    known = content.take(places)
    rows = data.training.over(known.item_ids)
    made, fusion = build_problem(rows, known, min_weight=settings.min_weight, weights=None, labels=settings.labels)
    new = fusion.transform(content.take(cold))
    histories = data.histories[asked][:, places]
    liked = np.asarray(histories @ made.features, np.float32)
    started = monotonic()
    ridge = model.fit("ridge", made, seed=settings.seed, target="users")
    fit_s = monotonic() - started
    return lists(new, liked, 0.0), lists(ridge.items(new), ridge.users(histories), fit_s)


def _by_selected_mapper(
    data: EvaluationData,
    content: Content,
    asked: NDArray[np.intp],
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
    users = fitted.users(data.histories[asked][:, places])
    return lists(fitted.items(content.take(cold)), users, fit_s), str(found.report["chosen"])


def _query_users(data: EvaluationData) -> NDArray[np.intp]:
    """Users who liked a new item and are known by a history, at most `MOST_USERS`."""
    right = np.asarray(data.relevant[:, np.flatnonzero(data.cold)].sum(axis=1)).ravel() > 0
    found = data.asked()
    found = found[right[found]]
    if len(found) > MOST_USERS:
        seed = int(data.split.settings.get("seed", 0))
        found = np.sort(np.random.default_rng(seed).choice(found, MOST_USERS, replace=False))
    if not len(found):
        raise ColdstartError("nobody who is known by a history liked a new item: give more interactions")
    return found


def _hits(lists: NDArray[np.int64], places: NDArray[np.intp], relevant: csr_matrix) -> csr_matrix:
    """1 where a list has a right item: lists int64 [B, k] of places among `places` -> csr [B, I]."""
    from scipy.sparse import csr_matrix

    kept = lists >= 0
    rows = np.repeat(np.arange(len(lists)), kept.sum(axis=1))
    shown = csr_matrix((np.ones(len(rows), np.float32), (rows, places[lists[kept]])), shape=relevant.shape)
    found = csr_matrix(shown.multiply(relevant > 0))
    found.eliminate_zeros()
    return found
