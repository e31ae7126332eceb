"""What a picture can be the ground of: judges of visual attributes, as `describe.grounds` fitted and kept them.

    grounds = load(pipeline.fitted("describe.grounds"))
    seen = grounds.seen({"aligned": row["aligned"]["vector"]})

Only what may be a ground is in `seen`: what reaches the threshold of its attribute.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coldstart.perception.labels import Vectors
from coldstart.perception.visual_claims import Judge, Worth

FILE = "grounds.json"
Seen = dict[str, dict[str, float]]
"""Attribute -> value -> probability that the picture shows it."""


@dataclass(frozen=True)
class Asked:
    """One attribute: its values, and who judges it, the best first; none where no picture can be its ground."""

    values: tuple[str, ...]
    judges: tuple[Judge, ...]


@dataclass(frozen=True)
class Grounds:
    """What was fitted.

    Attributes:
        asked: visual attribute -> its judges. An item is judged by the first whose space has it.
        passports: space -> digest of the passport of the vectors that its judges take.
        reasons: visual attribute that no picture can be the ground of -> why, in words.
    """

    asked: Mapping[str, Asked]
    passports: Mapping[str, str]
    reasons: Mapping[str, str]

    @property
    def spaces(self) -> list[str]:
        """The spaces whose vectors are asked for."""
        return sorted({judge.space for one in self.asked.values() for judge in one.judges})

    def seen(self, vectors: Mapping[str, NDArray[Any] | Sequence[float] | None]) -> Seen:
        """What the pictures of one item are a ground of.

        Args:
            vectors: space -> its vector, unit float [D]; None or left out where it has none.
        """
        given = {space: np.asarray(one, np.float32)[None] for space, one in vectors.items() if one is not None}
        return self.seen_of(given, 1)[0]

    def seen_of(self, vectors: Mapping[str, Vectors], items: int) -> list[Seen]:
        """The same for many items, in their order.

        Args:
            vectors: space -> float32 [items, D], zero where an item has none.
        """
        found: list[Seen] = [{} for _ in range(items)]
        for name, one in self.asked.items():
            open_ = np.ones(items, np.bool_)
            for judge in one.judges:
                if judge.space not in vectors or judge.threshold is None:
                    continue
                own = vectors[judge.space]
                places = np.flatnonzero(open_ & own.any(axis=1))
                open_[places] = False
                likely = judge.probabilities(own[places])
                for row, column in np.argwhere(likely >= np.float32(judge.threshold)).tolist():
                    found[places[row]].setdefault(name, {})[one.values[column]] = float(likely[row, column])
        return found

    def files(self) -> dict[str, bytes]:
        """Path -> content: all that `load` needs."""
        files: dict[str, bytes] = {}
        asked: dict[str, Any] = {}
        for name, one in self.asked.items():
            judges = []
            for judge in one.judges:
                path = f"judge-{len(files)}.npy"
                files[path] = _saved(np.concatenate([judge.weights, judge.offsets[:, None]], axis=1))
                judges.append({**plain(judge), "file": path})
            asked[name] = {"values": list(one.values), "judges": judges}
        about = {"attributes": asked, "passports": dict(self.passports), "reasons": dict(self.reasons)}
        return {FILE: json.dumps(about, ensure_ascii=False, indent=1).encode(), **files}


def plain(judge: Judge) -> dict[str, Any]:
    """A judge as JSON gives it, without its weights."""
    return {"space": judge.space, "kind": judge.kind, "threshold": judge.threshold, "worth": asdict(judge.worth)}


def load(folder: Path) -> Grounds:
    """What `Grounds.files` left in a folder, such as `Artifact.folder`."""
    about = json.loads((folder / FILE).read_text("utf-8"))
    asked = {}
    for name, one in about["attributes"].items():
        judges = []
        for judge in one["judges"]:
            numbers = np.load(folder / judge["file"], allow_pickle=False)
            worth = dict(judge["worth"])
            interval = worth.pop("precision_interval")
            known = Worth(**worth, precision_interval=None if interval is None else tuple(interval))
            judges.append(
                Judge(judge["space"], judge["kind"], numbers[:, :-1], numbers[:, -1], judge["threshold"], known)
            )
        asked[name] = Asked(tuple(one["values"]), tuple(judges))
    return Grounds(asked, about["passports"], about["reasons"])


def _saved(numbers: Vectors) -> bytes:
    buffer = BytesIO()
    np.save(buffer, numbers, allow_pickle=False)
    return buffer.getvalue()
