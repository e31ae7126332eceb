"""Write a fitted ranker as files of an artifact, and read it back.

Files come from a workspace, which may be a stranger's: shapes and numbers are checked before anything is built by them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coldstart.core.impressions import is_signal
from coldstart.rank.calibration import Calibration
from coldstart.rank.data import FitNames
from coldstart.rank.model import NETWORKS, PARTS, RankModel
from coldstart.rank.trees import Forest

CARD_FILE, NAMES_FILE = "rank.json", "names.json"
TREES_FILE, VECTORS_FILE = "trees.safetensors", "vectors.safetensors"
_MOST = {"items": 1 << 28, "events": 255, "features": 4_096, "outputs": 64, "dim": 512}
_MOST_OF = {
    "attention": {"length": 1 << 11, "found": 1 << 10},
    "long": {"vectors": 1 << 12, "latest": 1 << 11, "tokens": 64, "merged": 64},
}
"""Network -> largest sizes of its own."""
_BACKENDS = ("auto", "sdpa", "flex", "linear")
_MOST_WEIGHTS = 1 << 31


@dataclass(frozen=True)
class FittedRanker:
    """A fitted ranker with what it needs of its fit.

    Attributes:
        weights: event -> weight of log p in the score; names: numbering of items; vectors: of items, float32 [I, D].
        sids: version of the semantic IDs that it read, None without any; backend: of long attention.
    """

    model: RankModel
    weights: Mapping[str, float]
    names: FitNames
    vectors: NDArray[np.float32]
    sids: str | None = None
    backend: str = "auto"


def weights_file(network: str) -> str:
    """Name the file of a network's weights."""
    return f"{network}.safetensors"


def to_files(fitted: FittedRanker) -> dict[str, bytes]:
    """Write a ranker as files: name -> bytes."""
    from safetensors.numpy import save

    model = fitted.model
    card: dict[str, Any] = {
        "kind": model.kind,
        "events": list(model.events),
        "features": list(model.names),
        "weights": dict(fitted.weights),
        "calibration": model.calibration.to_dict(),
        "sids": fitted.sids,
        "backend": fitted.backend,
        "shapes": {name: asdict(one.network.shape) for name, one in model.networks.items()},
    }
    names = {"items": fitted.names.items, "codes": fitted.names.codes, "kinds": fitted.names.kinds}
    files = {
        NAMES_FILE: json.dumps(names, ensure_ascii=False).encode(),
        VECTORS_FILE: save({"vectors": np.ascontiguousarray(fitted.vectors)}),
    }
    if model.trees:
        arrays = {f"{event}/{name}": np.ascontiguousarray(own) for event, forest in model.trees.items()
                  for name, own in forest.arrays.items()}  # fmt: skip
        files[TREES_FILE] = save(arrays)
    for name, own in model.networks.items():
        weights = {key: one.detach().cpu().contiguous().numpy() for key, one in own.network.state_dict().items()}
        files[weights_file(name)] = save(weights | {"_mean": own.mean, "_spread": own.spread})
    files[CARD_FILE] = json.dumps(card, sort_keys=True).encode()
    return files


def from_files(folder: Path) -> FittedRanker:
    """Read what `to_files` wrote.

    Raises:
        ValueError, KeyError, TypeError, OSError: it is something else.
    """
    from safetensors.numpy import load

    card = json.loads((folder / CARD_FILE).read_bytes())
    events, features = tuple(card["events"]), tuple(map(str, card["features"]))
    kind, weights = card["kind"], {str(event): float(own) for event, own in card["weights"].items()}
    if kind not in PARTS or not events or not all(isinstance(one, str) and is_signal(one) for one in events):
        raise ValueError("a ranker without a kind or events")
    if set(weights) != set(events) or not all(np.isfinite(own) for own in weights.values()):
        raise ValueError("weights of other events")
    if len(set(features)) != len(features) or len(features) > _MOST["features"]:
        raise ValueError("features that are not told apart")
    known = json.loads((folder / NAMES_FILE).read_bytes())
    names = FitNames(
        tuple(map(str, known["items"])),
        {str(name): tuple(map(str, own)) for name, own in known["codes"].items()},
        tuple(map(str, known["kinds"])),
    )
    if len(set(names.items)) != len(names.items):
        raise ValueError("items stand twice")
    vectors = load((folder / VECTORS_FILE).read_bytes())["vectors"]
    if vectors.ndim != 2 or vectors.dtype != np.float32 or len(vectors) != len(names.items):
        raise ValueError("vectors of other items")
    if not np.isfinite(vectors).all():
        raise ValueError("vectors that are no numbers")
    model = RankModel(kind, events, features, calibration=Calibration.from_dict(card["calibration"]))
    if "trees" in PARTS[kind]:
        arrays = load((folder / TREES_FILE).read_bytes())
        for event in events:
            own = {name.partition("/")[2]: one for name, one in arrays.items() if name.partition("/")[0] == event}
            model.trees[event] = Forest(own, len(features))
    backend = card["backend"]
    if backend not in _BACKENDS:
        raise ValueError("an unknown back end of attention")
    for name in NETWORKS:
        if name in PARTS[kind]:
            from coldstart.rank.train_network import load_network

            stored = load((folder / weights_file(name)).read_bytes())
            shape = _shape(name, card["shapes"][name], names, features, events, vectors.shape[1])
            # sdpa and flex are one function, and which of them is quicker is a matter of the device
            own_backend = "linear" if backend == "linear" else "auto"
            model.networks[name] = load_network(name, shape, stored, events, own_backend)
    sids = card["sids"]
    return FittedRanker(model, weights, names, vectors, None if sids is None else str(sids), backend)


def _shape(
    network: str,
    known: Mapping[str, Any],
    names: FitNames,
    features: tuple[str, ...],
    events: tuple[str, ...],
    columns: int,
) -> dict[str, Any]:
    most = _MOST | _MOST_OF[network]
    shape = {name: int(known[name]) for name in most}
    shape_attributes = tuple(int(one) for one in known["attributes"])
    if any(not 0 <= shape[name] <= bound for name, bound in most.items()) or shape["dim"] < 8 or shape["dim"] % 4:
        raise ValueError("sizes of a network out of bounds")
    if (shape["items"], shape["features"], shape["outputs"]) != (len(names.items), len(features), len(events)):
        raise ValueError("a network of other items, features or events")
    if network == "long" and (shape["vectors"] != columns or not shape["merged"] or not shape["latest"]):
        raise ValueError("a network of other vectors, or of no actions")
    if any(not 0 <= one <= _MOST["items"] for one in shape_attributes) or len(shape_attributes) > 64:
        raise ValueError("attributes out of bounds")
    if (shape["items"] + sum(shape_attributes)) * shape["dim"] > _MOST_WEIGHTS:
        raise ValueError("a network that is too large")
    return {**shape, "attributes": shape_attributes}
