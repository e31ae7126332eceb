"""Store a fit of behaviour: item content and user histories to vectors of one space, with calibration of cold items.

A fit is one file of arrays and one of JSON; no pickle. Vectors predicted from content are shorter than those seen in
training, so that cold items would vanish from mixed lists; calibration brings their scores to the mean and spread of
warm ones, as measured on items held out as cold. It does not know whether cold items deserve as much.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from coldstart.errors import ColdstartError
from coldstart.recommend import model
from coldstart.recommend.model import Arrays, Mapper, Vectors
from coldstart.recommend.model.fusion import Content, Fusion, restore_fusion

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

_USERS = 2000  # whose lists calibrate the shift
_MOST = 10.0  # the scale never makes more of a cold vector, nor less than one by this
ARRAYS, CARD = "behaviour.safetensors", "behaviour.json"


@dataclass(frozen=True)
class Calibration:
    """Calibration of cold items: v becomes `scale v + offset`, with `shift` in one more dimension; warm ones stay.

    For each user all cold items move by one amount, so that their order stays.

    Attributes:
        offset: float32 [D]; or [1], a zero, for any number of dimensions.
    """

    scale: float
    shift: float
    offset: Vectors

    @classmethod
    def none(cls) -> Calibration:
        """Build a calibration that leaves all scores as they are."""
        return cls(1.0, 0.0, np.zeros(1, np.float32))

    def items(self, vectors: Vectors, cold: NDArray[np.bool_]) -> Vectors:
        """Calibrate item vectors, float32 [N, D] -> float32 [N, D + 1]; `cold` bool [N]."""
        chosen = np.asarray(cold)[:, None]
        moved = np.where(chosen, np.float32(self.scale) * vectors + self.offset, vectors)
        return np.concatenate([moved, np.where(chosen, self.shift, 0.0)], axis=1).astype(np.float32)

    def users(self, vectors: Vectors) -> Vectors:
        """Extend user vectors, float32 [B, D] -> float32 [B, D + 1]: 1 in the last dimension; zeros stay zeros."""
        some = np.any(vectors != 0, axis=1, keepdims=True)
        return np.concatenate([vectors, some], axis=1).astype(np.float32)

    def arrays(self) -> Arrays:
        """Return the arrays that `restore_calibration` reads."""
        return {"numbers": np.array([self.scale, self.shift], np.float64), "offset": self.offset}


def restore_calibration(arrays: Arrays) -> Calibration:
    """Restore a calibration from its arrays."""
    scale, shift = np.asarray(arrays["numbers"], np.float64)
    return Calibration(float(scale), float(shift), np.asarray(arrays["offset"], np.float32))


def fit_calibration(
    users: Vectors, items: Vectors, cold: NDArray[np.bool_], liked: csr_matrix | None = None, *, top: int = 20
) -> Calibration:
    """Fit a calibration: cold items' scores get the mean of warm ones for each user, and the spread in the median.

    Args:
        users: float32 [U, D]; items: float32 [I, D]; cold: bool [I]. Cold are items held out from training.
        liked: csr [U, I], above 0 where a user later liked an item, for cold and warm items held out by the same rule.
            With it, a further shift brings the share of cold items among the `top` of all to their share among the
            likes, by the scores of up to 2,000 users.

    Returns:
        `Calibration.none()` where cold or warm items are fewer than two or their scores have no spread.
    """
    cold = np.asarray(cold, bool)
    if min(cold.sum(), (~cold).sum()) < 2 or not len(users):
        return Calibration.none()
    spreads, means = [], []
    for part in (items[cold], items[~cold]):
        means.append(part.mean(axis=0, dtype=np.float64))
        centred = part - means[-1]
        covariance = centred.T @ centred / len(part)
        spreads.append(np.sqrt(np.maximum(np.einsum("ud,de,ue->u", users, covariance, users, optimize=True), 0)))
    some = (spreads[0] > 1e-9) & (spreads[1] > 1e-9)
    if not some.any():
        return Calibration.none()
    scale = float(np.clip(np.median(spreads[1][some] / spreads[0][some]), 1 / _MOST, _MOST))
    offset = (means[1] - scale * means[0]).astype(np.float32)
    found = Calibration(scale, 0.0, offset)
    return found if liked is None else _with_shift(found, users, items, cold, liked, top)


def _with_shift(
    found: Calibration, users: Vectors, items: Vectors, cold: NDArray[np.bool_], liked: csr_matrix, top: int
) -> Calibration:
    """Add the shift at which the share of cold items among the `top` is that among the likes, by bisection."""
    users_with_likes = np.flatnonzero((np.diff(liked.tocsr().indptr) > 0) & np.any(users != 0, axis=1))
    sampled = np.linspace(0, len(users_with_likes) - 1, min(len(users_with_likes), _USERS)).astype(np.intp)
    people = users_with_likes[sampled] if len(users_with_likes) else users_with_likes
    entries = liked.tocsr()[people].tocoo()
    rows = entries.col[entries.data > 0]
    if not len(rows):
        return found
    wanted = float(cold[rows].mean())
    scores = found.users(users[people]) @ found.items(items, cold).T
    own, others = scores[:, cold], scores[:, ~cold]
    top = min(top, scores.shape[1])
    best = -np.sort(-own, axis=1)[:, :top], -np.sort(-others, axis=1)[:, :top]
    reach = float(scores.max() - scores.min()) + 1e-6
    low, high = -reach, reach
    for _ in range(50):
        shift = (low + high) / 2
        if _share(best[0] + shift, best[1], top) < wanted:
            low = shift
        else:
            high = shift
    return Calibration(found.scale, high, found.offset)


def _share(own: NDArray[np.floating], others: NDArray[np.floating], top: int) -> float:
    """Compute the share of `own` among the `top` of both, each sorted best first."""
    both = np.concatenate([own, others], axis=1)
    first = np.argsort(-both, axis=1, kind="stable")[:, :top]
    return float((first < own.shape[1]).mean())


@dataclass(frozen=True)
class Behaviour:
    """Fit of behaviour: items and users as vectors of one space of `dim` dimensions, whose products are scores.

    Attributes:
        name: name of the mapper.
        item_ids: the training items, I of them: columns of the histories that `users` takes.
        warm: which of them had enough users, bool [I]; every other item is cold.
        deltas: corrections of warm items by their own interactions, float32 [I, D]; zero for the others.
        about: report of the selection, as JSON values.
    """

    name: str
    item_ids: tuple[str, ...]
    warm: NDArray[np.bool_]
    fusion: Fusion
    mapper: Mapper
    deltas: Vectors
    calibration: Calibration
    about: Mapping[str, Any]

    @cached_property
    def _places(self) -> dict[str, int]:
        return {item: place for place, item in enumerate(self.item_ids)}

    @property
    def dim(self) -> int:
        """Dimensions of a vector."""
        return int(self.deltas.shape[1]) + 1

    def is_warm(self, item_ids: tuple[str, ...] | list[str]) -> NDArray[np.bool_]:
        """Tell which of these items were warm at the time of the fit, bool [N]."""
        places = (self._places.get(item) for item in item_ids)
        return np.array([place is not None and bool(self.warm[place]) for place in places], bool)

    def items(self, content: Content) -> Vectors:
        """Map items to vectors, float32 [N, dim], in order; zero for an item without content in any space."""
        features = self.fusion.transform(content)
        known = np.any(features != 0, axis=1)
        vectors = self.mapper.items(features)
        own = [(row, self._places[item]) for row, item in enumerate(content.item_ids) if item in self._places]
        if own:
            rows, places = np.array(own, np.intp).T
            vectors[rows] += self.deltas[places]
        found = self.calibration.items(vectors, ~self.is_warm(content.item_ids))
        found[~known] = 0
        return found

    def users(self, histories: csr_matrix) -> Vectors:
        """Map histories over `item_ids` to user vectors: csr [B, I] -> float32 [B, dim]."""
        return self.calibration.users(self.mapper.users(histories))


def to_files(fitted: Behaviour) -> dict[str, bytes]:
    """Serialise a fit: file name -> content, as `load_behaviour` reads them."""
    from safetensors.numpy import save

    parts: dict[str, Mapping[str, NDArray[Any]]] = {
        "fusion": fitted.fusion.arrays(),
        "mapper": fitted.mapper.arrays(),
        "calibration": fitted.calibration.arrays(),
        "own": {"warm": fitted.warm, "deltas": fitted.deltas},
    }
    arrays, words = {}, {}
    for part, own in parts.items():
        for name, value in own.items():
            array = np.asarray(value)
            if array.dtype.kind in "UO":
                words[f"{part}/{name}"] = array.tolist()
            else:
                arrays[f"{part}/{name}"] = np.ascontiguousarray(array).reshape(array.shape)
    card = {"mapper": fitted.name, "item_ids": fitted.item_ids, "words": words, "about": fitted.about}
    return {ARRAYS: save(arrays), CARD: json.dumps(card, ensure_ascii=False, sort_keys=True).encode()}


def load_behaviour(folder: Path) -> Behaviour:
    """Load a fit from its folder.

    Raises:
        ColdstartError: a file is missing or broken.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        card = json.loads((folder / CARD).read_text("utf-8"))
        arrays: dict[str, NDArray[Any]] = load_file(folder / ARRAYS)
    except (OSError, ValueError, SafetensorError) as error:
        raise ColdstartError(
            f"{folder} holds no fit of behaviour ({error}): run `coldstart finetune behaviour`"
        ) from None
    arrays |= {name: np.array(value, dtype=str) for name, value in card["words"].items()}

    def of(part: str) -> dict[str, NDArray[Any]]:
        return {name.partition("/")[2]: value for name, value in arrays.items() if name.startswith(f"{part}/")}

    own = of("own")
    return Behaviour(
        card["mapper"],
        tuple(card["item_ids"]),
        own["warm"].astype(bool),
        restore_fusion(of("fusion")),
        model.restore(card["mapper"], of("mapper")),
        own["deltas"],
        restore_calibration(of("calibration")),
        card["about"],
    )
