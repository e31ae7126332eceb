"""behaviour: from what items are to who will like them. Plain arrays in, plain arrays out; knows no tables.

Everything here ends in a dot product: an item and a user are vectors of one space, and the product says how well they
go together. A mapper makes an item's vector from its content alone, so that an item nobody has met has one too, and a
user's from the items of a history, so that a user nobody has trained on has one too.

Which items of a problem teach a mapper something: those with content and with a user who liked them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pkgutil import iter_modules
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from coldstart.errors import ColdstartError

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix


Vectors = NDArray[np.float32]


Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Teacher:
    """Vectors learnt from who met what: users float32 [U, D], items float32 [I, D]; zero where there was nothing."""

    users: Vectors
    items: Vectors


@dataclass(frozen=True)
class Problem:
    """What a mapper learns from. All of it is of the training window.

    Attributes:
        matrix: csr float32 [U, I]: above 0 where a user liked an item; an item that nobody liked is as good as cold.
        features: float32 [I, F]: content of the same items, one vector each; a row of zeros where nothing is known.
        teacher: of `matrix`.
        categories: of the items, None where one has none; hard negatives are drawn from the same.
        exposed: csr float32 [U, I]: 1 wherever a user met an item, liked or not; holds every entry of `matrix`.
    """

    matrix: csr_matrix
    features: Vectors
    teacher: Teacher
    categories: tuple[str | None, ...]
    exposed: csr_matrix


class Mapper(Protocol):
    """A fitted mapper. `items(...) @ users(...).T` are scores; they compare within one user."""

    def items(self, features: Vectors) -> Vectors:
        """Vectors of items by their content: float32 [N, F] -> float32 [N, D]; same order."""
        ...

    def users(self, histories: csr_matrix) -> Vectors:
        """Vectors of users by their histories over the training items: csr [B, I] -> float32 [B, D]; zero for an empty
        one. A row of the training matrix gives the vector that was trained with."""
        ...

    def arrays(self) -> Arrays:
        """All that `restore` of the same module needs."""
        ...


def names() -> list[str]:
    """Names of all mappers: the modules of `coldstart.recommend.model.mappers`."""
    from coldstart.recommend.model import mappers

    return sorted(module.name for module in iter_modules(mappers.__path__) if not module.name.startswith("_"))


def fit(name: str, problem: Problem, *, seed: int = 0, **settings: Any) -> Mapper:
    """Fit the mapper of that name.

    Raises:
        ColdstartError: there is none, or it cannot learn from so little.
    """
    return _module(name).fit(problem, seed=seed, **settings)  # type: ignore[no-any-return]


def restore(name: str, arrays: Arrays) -> Mapper:
    """A mapper from its arrays."""
    return _module(name).restore(arrays)  # type: ignore[no-any-return]


def _module(name: str) -> Any:
    if name not in names():
        raise ColdstartError(f"mapper {name!r}: there is {', '.join(names())}")
    return import_module(f"coldstart.recommend.model.mappers.{name}")


def trainable_items(name: str, problem: Problem) -> NDArray[np.int64]:
    """How many users liked each item, int64 [I]; 0 also where nothing is known of it.

    Raises:
        ColdstartError: all are 0; the mapper of that `name` cannot learn.
    """
    likes = problem.matrix.indices[problem.matrix.data > 0]
    users = np.bincount(likes, minlength=problem.matrix.shape[1])
    users[~np.any(problem.features != 0, axis=1)] = 0
    if not users.any():
        raise ColdstartError(
            f"{name}: of {len(users)} items none has both a vector of its content and a user who liked it: embed the "
            "items of the interactions"
        )
    return users.astype(np.int64)


def confidence(users: NDArray[np.int64], kappa: float) -> NDArray[np.float64]:
    """n / (n + kappa) of each item, float64 [I]; 0 where n is."""
    found: NDArray[np.float64] = np.divide(users, users + kappa, out=np.zeros(len(users)), where=users > 0)
    return found
