"""Write a fitted ranker of the union of channels as files of an artifact, and read it back.

Files come from a workspace, which may be a stranger's: shapes and numbers are checked before anything is built by them.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from coldstart.core.neighbours import RECENCY
from coldstart.rank.channels import COOCCURRENCE, EASE, POPULAR, ItemToItem, Popular, ScoringChannel
from coldstart.rank.model import RankModel
from coldstart.rank.trees import Forest
from coldstart.rank.union_fit import KINDS, TAKEN, Linear, UnionFit, UnionRecipe

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

CARD_FILE, ARRAYS_FILE = "union.json", "union.safetensors"
_RECENCIES = {COOCCURRENCE: RECENCY, EASE: 1.0}
_LINEAR = ("mean", "deviation", "weights", "absent")


def to_files(fit: UnionFit) -> dict[str, bytes]:
    """Write a fit as files: name -> bytes."""
    from safetensors.numpy import save

    card = {
        "kind": fit.kind,
        "new_offset": fit.new_offset,
        "recipe": asdict(fit.recipe),
        "auto": bool(fit.report["auto"]),
        "best": fit.report["best"],
    }
    arrays: dict[str, NDArray[Any]] = {"counts": fit.counts.astype(np.int64)}
    for name, channel in fit.channels.items():
        if isinstance(channel, ItemToItem):
            own = channel.weights
            arrays |= {
                f"{name}/data": own.data.astype(np.float32),
                f"{name}/indices": own.indices.astype(np.int64),
                f"{name}/indptr": own.indptr.astype(np.int64),
            }
        elif isinstance(channel, Popular):
            arrays[f"{name}/final"] = channel.final
    if fit.linear is not None:
        card["features"] = list(fit.linear.names)
        arrays |= {f"linear/{name}": getattr(fit.linear, name) for name in _LINEAR}
    elif fit.trees is not None:
        card["features"] = list(fit.trees.names)
        arrays |= {f"trees/{name}": own for name, own in fit.trees.trees[TAKEN].arrays.items()}
    return {
        CARD_FILE: json.dumps(card, sort_keys=True).encode(),
        ARRAYS_FILE: save({name: np.ascontiguousarray(own) for name, own in arrays.items()}),
    }


def from_files(folder: Path, items: int) -> UnionFit:
    """Read what `to_files` wrote, of a fit over so many items; the channel of content is to be added.

    Raises:
        ValueError, KeyError, TypeError, OSError: it is something else.
    """
    from safetensors.numpy import load

    card = json.loads((folder / CARD_FILE).read_bytes())
    arrays = load((folder / ARRAYS_FILE).read_bytes())
    names, offset = tuple(map(str, card["features"])), float(card["new_offset"])
    if card["kind"] not in KINDS or not np.isfinite(offset) or type(card["auto"]) is not bool:
        raise ValueError("a ranker of no kind")
    recipe = UnionRecipe(depth=_whole(card["recipe"]["depth"]), new_depth=_whole(card["recipe"]["new_depth"]))
    counts = arrays["counts"]
    if counts.shape != (items,) or counts.dtype != np.int64 or (counts < 0).any():
        raise ValueError("counts of other items")
    channels: dict[str, ScoringChannel] = {}
    for name, recency in _RECENCIES.items():
        if f"{name}/data" in arrays:
            weights = _matrix(arrays, name, items)
            channels[name] = ItemToItem(name, weights, recency, counts > 0)
    final = arrays[f"{POPULAR}/final"]
    if final.shape != (items,) or final.dtype != np.float32:
        raise ValueError("popularity of other items")
    channels[POPULAR] = Popular.of_final(final)
    linear, trees = None, None
    if card["kind"] == "linear":
        own = [arrays[f"linear/{name}"] for name in _LINEAR]
        if any(one.shape != (len(names),) or one.dtype != np.float64 or not np.isfinite(one).all() for one in own):
            raise ValueError("weights of other features")
        if (arrays["linear/deviation"] <= 0).any():
            raise ValueError("scaling of other features")
        linear = Linear(names, *own)
    else:
        parts = {name.removeprefix("trees/"): own for name, own in arrays.items() if name.startswith("trees/")}
        trees = RankModel("trees", (TAKEN,), names, trees={TAKEN: Forest(parts, len(names))})
    report = {"auto": card["auto"], "best": str(card["best"])}
    return UnionFit(card["kind"], linear, trees, offset, recipe, channels, counts, report)


def _whole(value: Any) -> int:
    if type(value) is not int or not 0 <= value <= 10_000:
        raise ValueError(f"{str(value)[:40]} candidates of a channel")
    return value


def _matrix(arrays: dict[str, NDArray[Any]], name: str, items: int) -> csr_matrix:
    from scipy.sparse import csr_matrix

    data, indices, indptr = (arrays[f"{name}/{part}"] for part in ("data", "indices", "indptr"))
    kinds = [one.dtype.name for one in (data, indices, indptr)]
    if kinds != ["float32", "int64", "int64"] or data.ndim != 1 or indices.ndim != 1:
        raise ValueError(f"weights of {name} do not fit: they are of other kinds")
    fits = indptr.shape == (items + 1,) and indptr[0] == 0 and indptr[-1] == len(indices) == len(data)
    if not fits or (np.diff(indptr) < 0).any() or not np.isfinite(data).all():
        raise ValueError(f"weights of {name} do not fit")
    if len(indices) and (indices.min() < 0 or indices.max() >= items):
        raise ValueError(f"{name} names items that there are not")
    return csr_matrix((data.astype(np.float32), indices, indptr), (items, items))
