"""What a fit of behaviour leaves: from the content of any item to its vector among users, warm or not.

Kept as one file of arrays and one of plain words; no pickle.
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

from coldstart import behaviour
from coldstart.behaviour import Mapper, Vectors
from coldstart.behaviour.calibration import Calibration, restore_calibration
from coldstart.behaviour.content import Content
from coldstart.behaviour.fusion import Fusion, restore_fusion
from coldstart.errors import ColdstartError

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

ARRAYS, CARD = "behaviour.safetensors", "behaviour.json"


@dataclass(frozen=True)
class Behaviour:
    """Items and users as vectors of one space, `dim` numbers each; their product says how well they go together.

    Attributes:
        name: of the mapper.
        item_ids: the training items, I of them: columns of the histories that `users` takes.
        warm: which of them had enough users, bool [I]; every other item is cold.
        deltas: what the warm ones' own interactions say beyond their content, float32 [I, D]; zero for the others.
        about: how it was chosen and how good it is, as JSON gives it.
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
        """Numbers of a vector."""
        return int(self.deltas.shape[1]) + 1

    def is_warm(self, item_ids: tuple[str, ...] | list[str]) -> NDArray[np.bool_]:
        """Which of these items were warm when it was fitted, bool [N]."""
        places = (self._places.get(item) for item in item_ids)
        return np.array([place is not None and bool(self.warm[place]) for place in places], bool)

    def items(self, content: Content) -> Vectors:
        """Vectors of items, float32 [N, dim], in order; zero where nothing is known of one in any of the spaces."""
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
        """Vectors of users by what they liked among `item_ids`: csr [B, I] -> float32 [B, dim]."""
        return self.calibration.users(self.mapper.users(histories))


def files(fitted: Behaviour) -> dict[str, bytes]:
    """Name -> content of the files of which `load` makes it anew."""
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


def load(folder: Path) -> Behaviour:
    """What was fitted, from its folder.

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
        behaviour.restore(card["mapper"], of("mapper")),
        own["deltas"],
        restore_calibration(of("calibration")),
        card["about"],
    )
