"""Whom to tell of an item: the users of the greatest product with it, and what each liked that it is most like.

Scores of one user compare among items, and only so far among users: who likes much and all alike has great products
with everything. So users can be ranked by `lift` too: by how many standard deviations an item's score stands above what
that user scores on average over the catalogue.

Users of one score go by their ids. A product of float32 depends in its last digits on where a vector stands in memory
and on the machine, so scores that are no further apart than that count as one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from coldstart.errors import ColdstartError
from coldstart.recommend.model import Vectors
from coldstart.recommend.model.scoring import top_k as best
from coldstart.recommend.reasons import Reason, explain_user
from coldstart.recommend.service import Recommender
from coldstart.recommend.users import LATEST, ROWS, ScoringModel, most_similar

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

BY = ("score", "lift")
SUFFIXES = (".csv", ".parquet")
_ROUNDING = 2.0**-18
"""Share of the greatest score by which products of equal vectors may differ."""
_MORE = 32
"""Users looked at beyond those asked for: of equal ones at the end of the list, those of the first ids are kept."""


@dataclass(frozen=True)
class Person:
    """One user of an audience; `score` is what users are ranked by."""

    user_id: str
    rank: int
    score: float
    reason: Reason | None

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        own = {"user_id": self.user_id, "rank": self.rank, "score": self.score}
        return own | ({} if self.reason is None else self.reason.to_dict())


@dataclass(frozen=True)
class Audience:
    """Users for an item.

    Attributes:
        scored_by: `behaviour`, or the spaces of content; by: `score` or `lift`.
        cold: whether the item itself is; users: of how many those were taken; met: who had met it and was left out.
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
        """As JSON has it."""
        return asdict(self) | {"people": [one.to_dict() for one in self.people], "notes": list(self.notes)}


def audience(
    lister: Recommender, item_id: str, *, top_k: int = 100, by: str = "score", reasons: bool = True
) -> Audience:
    """The users of the greatest score for an item, without those who met it.

    Raises:
        ColdstartError: there is no such item, it has no vector, or there are no interactions.
    """
    if by not in BY:
        raise ColdstartError(f"by {by!r}: use {' or '.join(BY)}")
    tastes, known = lister.tastes, lister.records([item_id])
    if item_id not in known:
        raise ColdstartError(f"no item {item_id!r} in workspace {lister.store.uri}: see `coldstart status`")
    if item_id not in tastes.places:
        raise ColdstartError(
            f"item {item_id!r} has no vector by which users are scored ({tastes.name}): run `coldstart run --workspace "
            f"{lister.store.uri}`"
        )
    rows = lister.interactions()
    if not len(rows):
        raise ColdstartError(
            f"workspace {lister.store.uri} knows no users: `coldstart ingest --interactions FILE` reads what they did"
        )
    likes = tastes.likes(rows, None, lister.min_weight)
    users = np.concatenate([tastes.users_of(likes[at : at + ROWS]) for at in range(0, likes.shape[0], ROWS)])
    there = np.any(users != 0, axis=1)
    met = rows.over([item_id]).matrix().T.tocsr()
    vector = tastes.of((item_id,))
    asked, answers = _lifted(tastes.vectors, users, vector) if by == "lift" else (users, vector)
    depth = min(top_k + _MORE, len(asked))
    places, scores = best(answers, asked, depth, exclude=met, mask=there, device=lister.device)
    listed, worth = _sort_by_score_and_id(places[0], scores[0], rows.user_ids)
    listed, worth = listed[:top_k], worth[:top_k]
    why = _reasons(lister, tastes, item_id, vector, likes, listed) if reasons else [None] * len(listed)
    people = tuple(
        Person(rows.user_ids[place], rank, score, reason)
        for rank, (place, score, reason) in enumerate(zip(listed, worth, why, strict=True), start=1)
    )
    cold = bool(tastes.cold[tastes.places[item_id]])
    notes = () if tastes.learnt else (lister.by_content,)
    return Audience(item_id, tastes.name, by, cold, int(there.sum()), met.nnz, people, notes)


def _sort_by_score_and_id(
    places: NDArray[np.int64], scores: NDArray[np.float32], user_ids: Sequence[str]
) -> tuple[list[int], list[float]]:
    """Order users by falling score and then by id, where scores that rounding alone tells apart are one score.

    Args:
        places: of users, by falling score; -1 where there is none.
    """
    there = places >= 0
    places, scores = places[there], scores[there]
    if not len(places):
        return [], []
    least = _ROUNDING * float(np.abs(scores).max())
    firsts = np.concatenate([[True], scores[:-1] - scores[1:] > least])
    worth = scores[np.flatnonzero(firsts)[np.cumsum(firsts) - 1]]
    order = sorted(range(len(places)), key=lambda at: (-worth[at], user_ids[int(places[at])]))
    return [int(places[at]) for at in order], [float(worth[at]) for at in order]


def _lifted(items: Vectors, users: Vectors, vector: Vectors) -> tuple[Vectors, Vectors]:
    """Users [U, D + 1] and an item [1, D + 1] whose products are scores in standard deviations above a user's mean."""
    mean = items.mean(axis=0, dtype=np.float64)
    centred = items - mean
    spread = np.sqrt(np.maximum(np.einsum("ud,de,ue->u", users, centred.T @ centred / len(items), users), 1e-12))
    scaled = users / spread[:, None]
    asked = np.concatenate([scaled, -(scaled @ mean)[:, None]], axis=1)
    return asked.astype(np.float32), np.concatenate([vector, np.ones((1, 1))], axis=1).astype(np.float32)


def _reasons(
    lister: Recommender, tastes: ScoringModel, item_id: str, vector: Vectors, likes: csr_matrix, listed: list[int]
) -> list[Reason | None]:
    """For each user the item of the history that is most like this one, among the latest."""
    nearest = []
    for place in listed:
        columns = likes.indices[likes.indptr[place] : likes.indptr[place + 1]][:LATEST]
        history = tuple(tastes.columns[column] for column in columns)
        nearest.append(history[int(most_similar(vector[0], tastes.of(history), 1)[0][0])])
    records = lister.records(list(dict.fromkeys([item_id, *nearest])))
    vectors, cold = tastes.of(tuple(nearest)), bool(tastes.cold[tastes.places[item_id]])
    return [
        explain_user(records[item_id], [records[item]], vector[0], vectors[row : row + 1], cold)
        if item in records
        else None
        for row, item in enumerate(nearest)
    ]


def check_out_path(out: Path) -> None:
    """Raise `ColdstartError` for a name that says no kind of file which `write` can write."""
    if out.suffix.lower() not in SUFFIXES:
        raise ColdstartError(f"--out {out}: give a name that ends in {' or '.join(SUFFIXES)}")


def write_audience(found: Audience, out: Path) -> None:
    """Write the people of an audience, best first, as CSV or Parquet.

    Raises:
        ColdstartError: a name of another kind, or the file cannot be written.
    """
    from pyarrow import csv

    check_out_path(out)
    told = [one.to_dict() for one in found.people]
    columns = {
        "user_id": pa.array([one["user_id"] for one in told], pa.string()),
        "rank": pa.array([one["rank"] for one in told], pa.int32()),
        "score": pa.array([one["score"] for one in told], pa.float32()),
        "because": pa.array([one["evidence"]["because"] if "evidence" in one else None for one in told], pa.string()),
        "reason": pa.array([one.get("reason") for one in told], pa.string()),
    }
    table = pa.table(columns)
    try:
        if out.suffix.lower() == ".csv":
            csv.write_csv(table, out)
        else:
            pq.write_table(table, out)
    except OSError as error:
        raise ColdstartError(f"cannot write {out}: {error.strerror or error}; name another file with --out") from error
