"""Map item content to user interactions: the data of mappers, their protocol, and a registry by module name.

All scores are dot products: items and users are vectors of one space. A mapper makes an item's vector from content
alone, so that a cold item has one too, and a user's from the items of a history, so that a new user has one too. Plain
arrays in, plain arrays out; knows no tables.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pkgutil import iter_modules
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from coldstart.errors import ColdstartError, NothingToLearn

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

RECIPE = 3
"""Number of what is fitted by default; the report of a fit without one is of an earlier version."""
Vectors = NDArray[np.float32]
Arrays = Mapping[str, NDArray[Any]]
Tried = Mapping[str, Mapping[float, float]]
"""Setting that a training selects itself, such as `epochs` -> value -> ndcg@20 on items that the training held out."""


@dataclass(frozen=True)
class Teacher:
    """Collaborative filtering vectors: users float32 [U, D], items float32 [I, D]; zeros where there are no likes."""

    users: Vectors
    items: Vectors


@dataclass(frozen=True)
class Problem:
    """Training data of a mapper, all of the training window.

    Attributes:
        matrix: csr float32 [U, I]: above 0 where a user liked an item; an item without likes is treated as cold.
        features: float32 [I, F]: content vectors of the same items; a row of zeros where nothing is known.
        teacher: collaborative filtering of `matrix`.
        categories: category of each item or None; hard negatives are drawn from the same category.
        exposed: csr float32 [U, I]: 1 wherever a user met an item, liked or not; holds every entry of `matrix`.
    """

    matrix: csr_matrix
    features: Vectors
    teacher: Teacher
    categories: tuple[str | None, ...]
    exposed: csr_matrix


class Mapper(Protocol):
    """Fitted mapper. `items(...) @ users(...).T` are scores, comparable within one user."""

    def items(self, features: Vectors) -> Vectors:
        """Map content of items to vectors: float32 [N, F] -> float32 [N, D]; same order."""
        ...

    def users(self, histories: csr_matrix) -> Vectors:
        """Map histories over the training items to user vectors: csr [B, I] -> float32 [B, D]; zero for an empty one.

        A row of the training matrix gives the vector that training used.
        """
        ...

    def arrays(self) -> Arrays:
        """Return the arrays that `restore` of the same module reads."""
        ...


def names() -> list[str]:
    """List all mappers: the modules of `coldstart.recommend.model.mappers`."""
    from coldstart.recommend.model import mappers

    return sorted(module.name for module in iter_modules(mappers.__path__) if not module.name.startswith("_"))


def fit(name: str, problem: Problem, *, seed: int = 0, **settings: Any) -> Mapper:
    """Fit a mapper by its name.

    Raises:
        ColdstartError: there is no such mapper, or too little data for it.
    """
    return _module(name).fit(problem, seed=seed, **settings)  # type: ignore[no-any-return]


def as_selected(settings: Mapping[str, Any], fitted: Sequence[Mapper]) -> dict[str, Any]:
    """Fill in what was best in the mean of earlier trainings by the same settings, so that another holds nothing out.

    A training that had stopped counts with its last ndcg from there on. Settings of a mapper that selects nothing, or
    that is not to be trained again on all items (`refit`), stay.
    """
    tried: list[Tried] = [getattr(mapper, "tried", {}) for mapper in fitted]
    if not tried or not all(tried) or not settings.get("refit", True):
        return dict(settings)
    best = {name: _best_value([one[name] for one in tried]) for name in tried[0]}
    return {**settings, **best, "valid_share": 0.0}


def _best_value(found: Sequence[Mapping[float, float]]) -> float:
    values = sorted({value for one in found for value in one})
    means = [np.mean([one.get(value, one[max(one)]) for one in found]) for value in values]
    return values[int(np.argmax(means))]


def restore(name: str, arrays: Arrays) -> Mapper:
    """Restore a mapper from its arrays."""
    return _module(name).restore(arrays)  # type: ignore[no-any-return]


def _module(name: str) -> Any:
    if name not in names():
        raise ColdstartError(f"no mapper {name!r}: choose among {', '.join(names())}")
    return import_module(f"coldstart.recommend.model.mappers.{name}")


def trainable_items(name: str, problem: Problem) -> NDArray[np.int64]:
    """Count the users who liked each trainable item, int64 [I]; 0 for an item without likes or without content.

    Raises:
        NothingToLearn: all counts are 0; `name` is the mapper in the message.
    """
    likes = problem.matrix.indices[problem.matrix.data > 0]
    users = np.bincount(likes, minlength=problem.matrix.shape[1])
    users[~np.any(problem.features != 0, axis=1)] = 0
    if not users.any():
        raise NothingToLearn(
            f"{name}: of {len(users)} items none has both a vector of its content and a user who liked it: embed the "
            "items of the interactions"
        )
    return users.astype(np.int64)


def confidence(users: NDArray[np.int64], kappa: float) -> NDArray[np.float64]:
    """Compute the confidence n / (n + kappa) of each item from its n users, float64 [I]."""
    found: NDArray[np.float64] = np.divide(users, users + kappa, out=np.zeros(len(users)), where=users > 0)
    return found
