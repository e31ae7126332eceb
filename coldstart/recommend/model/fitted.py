"""Store a fit of behaviour: item content and user histories to vectors of one space, with calibration of cold items.

A fit is one file of arrays and one of JSON; no pickle.
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
from coldstart.recommend.model import Mapper, Vectors
from coldstart.recommend.model.calibration import Calibration, restore_calibration
from coldstart.recommend.model.fusion import Content, Fusion, restore_fusion

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

ARRAYS, CARD = "behaviour.safetensors", "behaviour.json"


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

    @property
    def min_weight(self) -> float | None:
        """Least weight of a like that it was fitted on; None: above 0."""
        settings = self.about.get("settings")
        least = settings.get("min_weight") if isinstance(settings, Mapping) else None
        return float(least) if isinstance(least, int | float) else None

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
        return _restored(card, load_file(folder / ARRAYS))
    except (OSError, SafetensorError, *_DAMAGED) as error:  # the workspace may be a stranger's
        raise ColdstartError(
            f"{folder} holds no fit of behaviour ({error}): run `coldstart finetune behaviour`"
        ) from None


_DAMAGED = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)


def _restored(card: Mapping[str, Any], stored: Mapping[str, NDArray[Any]]) -> Behaviour:
    words = {name: np.array(value, dtype=str) for name, value in card["words"].items()}
    arrays = {**stored, **words}

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
        dict(card["about"]),
    )
