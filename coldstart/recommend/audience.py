"""Find the audience of an item: the users who score highest for it, each with the liked item most similar to it.

Scores compare among items of one user, and among users only roughly: a user with many broad likes scores high
everywhere. `lift` ranks users by standard deviations of the item's score above the user's mean over the catalogue.

Users of one score go by their ids. A float32 product depends in its last digits on memory layout and machine, so scores
that differ by rounding alone count as one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from coldstart.errors import ColdstartError
from coldstart.recommend.model import Vectors, scoring
from coldstart.recommend.reasons import Reason, explain_user
from coldstart.recommend.service import Recommender
from coldstart.recommend.table_files import table_writer
from coldstart.recommend.users import BATCH_USERS, MAX_HISTORY, ScoringModel, most_similar
from coldstart.store import ITEMS
from coldstart.store.similar import similar_ids

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

BY = ("score", "lift")
_ROUNDING = 2.0**-18
"""Relative difference, to the greatest score, up to which scores are equal."""
_MORE = 32
"""Users fetched beyond `top_k`, so that equal scores at the end of the list are ordered by id."""


@dataclass(frozen=True)
class Person:
    """One user of an audience; `score` is the value that ranks users."""

    user_id: str
    rank: int
    score: float
    reason: Reason | None

    def to_dict(self) -> dict[str, Any]:
        """Convert to JSON values."""
        own = {"user_id": self.user_id, "rank": self.rank, "score": self.score}
        return own | ({} if self.reason is None else self.reason.to_dict())


@dataclass(frozen=True)
class Audience:
    """Audience of one item.

    Attributes:
        scored_by: `behaviour`, or the spaces of content; by: `score` or `lift`.
        cold: whether the item is cold; users: number of users scored; met: number left out for having met the item.
    """

    item_id: str
    scored_by: str
    by: str
    cold: bool
    users: int
    met: int
    people: tuple[Person, ...]
    notes: tuple[str, ...] = field(default=())

    def to_dict(self) -> dict[str, Any]:
        """Convert to JSON values."""
        return asdict(self) | {"people": [one.to_dict() for one in self.people], "notes": list(self.notes)}


def audience(
    recommender: Recommender, item_id: str, *, top_k: int = 100, by: str = "score", reasons: bool = True
) -> Audience:
    """Find the users of the greatest score for an item, without those who have met it.

    Raises:
        ColdstartError: there is no such item, it has no vector, or there are no interactions.
    """
    if top_k < 1:
        raise ColdstartError(f"top_k {top_k}: ask for 1 or more")
    if by not in BY:
        raise ColdstartError(f"by {by!r}: use {' or '.join(BY)}")
    model, known = recommender.scoring_model, recommender.records([item_id])
    if item_id not in known:
        hint = similar_ids(item_id, recommender.store.batches(ITEMS, ["item_id"]))
        raise ColdstartError(f"no item {item_id!r} in workspace {recommender.store.uri}{hint}: see `coldstart status`")
    if item_id not in model.places:
        raise ColdstartError(
            f"item {item_id!r} has no vector by which users are scored ({model.name}): run `coldstart run --workspace "
            f"{recommender.store.uri}`",
            kind="not_ready",
        )
    rows = recommender.interactions()
    if not len(rows):
        raise ColdstartError(
            f"workspace {recommender.store.uri} has no interactions, and so no users: run `coldstart ingest "
            "--interactions FILE`",
            kind="not_ready",
        )
    likes = model.likes(rows, None, recommender.min_weight)
    users = np.concatenate(
        [model.users_of(likes[at : at + BATCH_USERS]) for at in range(0, likes.shape[0], BATCH_USERS)]
    )
    known_users = np.any(users != 0, axis=1)
    met = rows.over([item_id]).matrix().T.tocsr()
    vector = model.item_vectors((item_id,))
    scored, items = _lifted(model.vectors, users, vector) if by == "lift" else (users, vector)
    depth = min(top_k + _MORE, len(scored))
    places, scores = scoring.top_k(items, scored, depth, exclude=met, mask=known_users, device=recommender.device)
    listed, ranked_scores = _sort_by_score_and_id(places[0], scores[0], rows.user_ids)
    listed, ranked_scores = listed[:top_k], ranked_scores[:top_k]
    explained = _reasons(recommender, model, item_id, vector, likes, listed) if reasons else [None] * len(listed)
    people = tuple(
        Person(rows.user_ids[place], rank, score, reason)
        for rank, (place, score, reason) in enumerate(zip(listed, ranked_scores, explained, strict=True), start=1)
    )
    cold = bool(model.cold[model.places[item_id]])
    notes = () if model.is_fitted else (recommender.content_note,)
    return Audience(item_id, model.name, by, cold, int(known_users.sum()), met.nnz, people, notes)


def _sort_by_score_and_id(
    places: NDArray[np.int64], scores: NDArray[np.float32], user_ids: Sequence[str]
) -> tuple[list[int], list[float]]:
    """Sort users by falling score and then by id, where scores that differ by rounding alone are equal.

    Args:
        places: of users, by falling score; -1 where there is none.
    """
    present = places >= 0
    places, scores = places[present], scores[present]
    if not len(places):
        return [], []
    least = _ROUNDING * float(np.abs(scores).max())
    firsts = np.concatenate([[True], scores[:-1] - scores[1:] > least])
    ranked_scores = scores[np.flatnonzero(firsts)[np.cumsum(firsts) - 1]]
    order = sorted(range(len(places)), key=lambda at: (-ranked_scores[at], user_ids[int(places[at])]))
    return [int(places[at]) for at in order], [float(ranked_scores[at]) for at in order]


def _lifted(items: Vectors, users: Vectors, vector: Vectors) -> tuple[Vectors, Vectors]:
    """Rescale users [U, D + 1] and an item [1, D + 1] so that products are standard deviations above a user's mean."""
    mean = items.mean(axis=0, dtype=np.float64)
    centred = items - mean
    spread = np.sqrt(np.maximum(np.einsum("ud,de,ue->u", users, centred.T @ centred / len(items), users), 1e-12))
    scaled = users / spread[:, None]
    lifted = np.concatenate([scaled, -(scaled @ mean)[:, None]], axis=1)
    return lifted.astype(np.float32), np.concatenate([vector, np.ones((1, 1))], axis=1).astype(np.float32)


def _reasons(
    recommender: Recommender, model: ScoringModel, item_id: str, vector: Vectors, likes: csr_matrix, listed: list[int]
) -> list[Reason | None]:
    """Explain each user by the item of the latest history that is most similar to this item."""
    nearest = []
    for place in listed:
        columns = likes.indices[likes.indptr[place] : likes.indptr[place + 1]][:MAX_HISTORY]
        history = tuple(model.columns[column] for column in columns)
        nearest.append(history[int(most_similar(vector[0], model.item_vectors(history), 1)[0][0])])
    records = recommender.records(list(dict.fromkeys([item_id, *nearest])))
    vectors, cold = model.item_vectors(tuple(nearest)), bool(model.cold[model.places[item_id]])
    return [
        explain_user(records[item_id], [records[item]], vector[0], vectors[row : row + 1], cold)
        if item in records
        else None
        for row, item in enumerate(nearest)
    ]


def write_audience(found: Audience, out: Path) -> None:
    """Write the users of an audience, best first; the end of the file's name is its format.

    Raises:
        ColdstartError: the name has another end, or the file cannot be written.
    """
    rows = [one.to_dict() for one in found.people]
    columns = {
        "user_id": pa.array([one["user_id"] for one in rows], pa.string()),
        "rank": pa.array([one["rank"] for one in rows], pa.int32()),
        "score": pa.array([one["score"] for one in rows], pa.float32()),
        "because": pa.array([one["evidence"]["because"] if "evidence" in one else None for one in rows], pa.string()),
        "reason": pa.array([one.get("reason") for one in rows], pa.string()),
    }
    table = pa.table(columns)
    with table_writer(out, table.schema) as writer:
        writer.write_table(table)
