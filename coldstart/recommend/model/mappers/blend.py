"""Blend several mappers into one: each user's scores of every mapper scaled to one spread, then added by weight.

Vectors of the parts are concatenated, so that a product is that sum. A user's vector of a part is divided by the
deviation of its scores over the training items, since mappers score in different units.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from coldstart.errors import ColdstartError
from coldstart.recommend import model
from coldstart.recommend.model import Arrays, Mapper, Problem, Vectors

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix


@dataclass(frozen=True)
class Part:
    """Mapper of a blend, with its weight; `spread` float32 [D, D]: covariance of its training item vectors."""

    name: str
    mapper: Mapper
    weight: float
    spread: Vectors


class Blend:
    """Fitted blend; see `coldstart.recommend.model.Mapper`."""

    def __init__(self, parts: Sequence[Part]) -> None:
        self.parts = tuple(parts)

    def items(self, features: Vectors) -> Vectors:
        """Map content to item vectors; see `Mapper.items`."""
        return np.concatenate([part.weight * part.mapper.items(features) for part in self.parts], axis=1)

    def users(self, histories: csr_matrix) -> Vectors:
        """Map histories to user vectors; see `Mapper.users`."""
        return np.concatenate(
            [_scale_to_unit_spread(part.mapper.users(histories), part.spread) for part in self.parts], axis=1
        )

    def arrays(self) -> Arrays:
        """Return the arrays that `restore` reads."""
        found: dict[str, Any] = {"names": np.array([part.name for part in self.parts])}
        for place, part in enumerate(self.parts):
            found |= {f"{place}.weight": np.array([part.weight]), f"{place}.spread": part.spread}
            found |= {f"{place}.mapper.{name}": np.asarray(value) for name, value in part.mapper.arrays().items()}
        return found


def fit(problem: Problem, *, seed: int = 0, parts: Mapping[str, Mapping[str, Any]]) -> Blend:
    """Fit every mapper of a blend.

    Args:
        parts: label -> its `weight`, its `mapper` (by default the label), and the mapper's settings.

    Raises:
        ColdstartError: there are no parts.
    """
    if not parts:
        raise ColdstartError("a blend has no parts: name at least one mapper")
    fitted = []
    for label, given in parts.items():
        settings = {name: value for name, value in given.items() if name not in ("mapper", "weight")}
        name = str(given.get("mapper", label))
        mapper = model.fit(name, problem, seed=seed, **settings)
        fitted.append((name, mapper, float(given.get("weight", 1.0))))
    return blend_of(fitted, problem.features)


def blend_of(parts: Sequence[tuple[str, Mapper, float]], features: Vectors) -> Blend:
    """Blend fitted mappers: name, mapper and weight of each.

    Args:
        features: float32 [I, F], of the items over which scores are scaled to one spread.
    """
    return Blend([Part(name, mapper, weight, _spread(mapper.items(features))) for name, mapper, weight in parts])


def restore(arrays: Arrays) -> Blend:
    """Restore a blend from its arrays."""
    parts = []
    for place, name in enumerate(arrays["names"].tolist()):
        start = f"{place}.mapper."
        own = {key.removeprefix(start): value for key, value in arrays.items() if key.startswith(start)}
        weight = float(arrays[f"{place}.weight"][0])
        parts.append(Part(name, model.restore(name, own), weight, arrays[f"{place}.spread"]))
    return Blend(parts)


def _spread(items: Vectors) -> Vectors:
    centred = items - items.mean(axis=0, dtype=np.float64).astype(np.float32)
    found: Vectors = centred.T @ centred / np.float32(max(1, len(items)))
    return found


def _scale_to_unit_spread(users: Vectors, spread: Vectors) -> Vectors:
    """Divide users [B, D] by the deviation of their scores; a user of zeros stays zero."""
    deviation = np.sqrt(np.maximum(np.einsum("bd,bd->b", users @ spread, users), 0))
    even: Vectors = users / np.where(deviation > 1e-12, deviation, 1).astype(np.float32)[:, None]
    return even
