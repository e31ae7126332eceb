"""Mappers judged on items that they were not fitted on, in the made-up world; and by chance, to compare."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from behaviour_world import world
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from coldstart.metrics.ranking import Interval, bootstrap, measure_lists
from coldstart.recommend import model
from coldstart.recommend.model import Problem, Vectors
from coldstart.recommend.model.factors import als


@dataclass(frozen=True)
class HeldOut:
    """`problem` of the items that are not cold; `features` float32 [C, F] of the cold ones, `liked` csr [U, C]."""

    problem: Problem
    features: Vectors
    liked: csr_matrix


def held_out(share: float = 0.25, seed: int = 0, **settings: Any) -> HeldOut:
    """A random share of the world's items, as if nobody had met them; features are its two spaces side by side."""
    made = world(**settings)
    matrix = made.interactions.matrix()
    order = np.random.default_rng(seed).permutation(matrix.shape[1])
    cold, warm = np.split(order, [round(share * len(order))])
    features = np.concatenate(list(made.content.blocks.values()), axis=1)
    own = matrix[:, warm].tocsr()
    categories = tuple(made.content.records[place]["category"] for place in warm)
    problem = Problem(own, features[warm], als(own, dim=16), categories, own)
    return HeldOut(problem, features[cold], matrix[:, cold].tocsr())


def recall_at_10(name: str, of: HeldOut, settings: Mapping[str, Any] | None = None) -> Interval:
    """Mean over users on the held-out items alone, with its 95 % interval."""
    mapper = model.fit(name, of.problem, **settings or {})
    return recall_of(mapper.users(of.problem.matrix) @ mapper.items(of.features).T, of)


def recall_by_chance(of: HeldOut) -> Interval:
    return recall_of(np.random.default_rng(1).random(of.liked.shape), of)


def recall_of(scores: NDArray[Any], of: HeldOut) -> Interval:
    lists = np.argsort(-scores, axis=1)[:, :10].astype(np.int64)
    values = measure_lists(lists, of.liked, k=[10])["recall@10"]
    return bootstrap(values[~np.isnan(values)])
