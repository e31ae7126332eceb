"""A million vectors made from real ones: mixtures of the MiniLM vectors of near texts, with what mixing takes away.

Real texts (titles and overviews of films sentence by sentence, titles of clothes, captions of photos) are encoded once.
A made vector is a random convex mixture of one real vector and its `NEAR` nearest, which lie on the same subject, and
Gaussian noise in the directions and strengths in which a real vector leaves the mean of its near ones. Shares and noise
are chosen so that made vectors have the local dimension (Levina and Bickel 2004, as corrected by MacKay and Ghahramani
2005) and the distances to near ones of the real ones, at equal numbers; `likeness` measures both, so that it is a
figure of each run. Unlike uniform noise, such vectors have subjects, dense and thin places, and near neighbours that
are worth finding. They do not have what a million real texts have besides: exact copies, and rare subjects without end.

Queries are further draws that are not stored.
"""

from __future__ import annotations

import json
import os
import re
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.report import CACHE
from coldstart import encoders

DATA = Path(os.environ.get("COLDSTART_DATA", Path(__file__).resolve().parents[2] / "shared/data"))
DIM, NEAR, BLOCK = 384, 16, 10_000
SHARE = 0.1
"""Concentration of the Dirichlet shares: below one, a mixture is mostly of few."""
NOISE = 0.7
"""Length of the noise, in the length by which a real vector leaves the mean of its near ones."""

Vectors = NDArray[np.float32]


def texts() -> list[str]:
    """Every distinct text of the data, sorted."""
    found = set[str]()
    for film in _lines("movielens_posters/items.jsonl"):
        found.add(re.sub(r"\s*\(\d{4}\)\s*$", "", film["title"]))
        found.update(re.split(r"(?<=[.!?])\s+", film["text"] or ""))
    found.update(product["title"] for product in _lines("fashion_products/products.jsonl"))
    for photo in _lines("flickr8k_1k/images.jsonl"):
        found.update(photo["captions"])
    return sorted(text for text in found if len(text) > 2)


def _lines(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (DATA / name).read_text("utf-8").splitlines()]


def real() -> Vectors:
    """Unit vectors of the texts, float32 `[N, 384]`; kept under `.bench/`."""
    words = texts()
    path = CACHE / f"texts-{sha256(chr(10).join(words).encode()).hexdigest()[:12]}.npy"
    if not path.exists():
        CACHE.mkdir(exist_ok=True)
        np.save(path, encoders.load("starter").encode_documents(words))
    return np.asarray(np.load(path))


def near(vectors: Vectors, count: int, among: Vectors | None = None) -> tuple[NDArray[np.int64], Vectors]:
    """The `count` nearest of each vector among `among` (by default the others), nearest first.

    Returns:
        Their rows int64 and their cosines float32, both `[N, count]`.
    """
    itself = among is None
    others = vectors if among is None else among
    places, cosines = [], []
    for start in range(0, len(vectors), 1000):
        near_by = vectors[start : start + 1000] @ others.T
        if itself:
            near_by[np.arange(len(near_by)), start + np.arange(len(near_by))] = -np.inf
        some = np.argpartition(-near_by, count, axis=1)[:, :count]
        order = np.take_along_axis(near_by, some, 1).argsort(axis=1)[:, ::-1]
        places.append(np.take_along_axis(some, order, 1))
        cosines.append(np.take_along_axis(near_by, places[-1], 1))
    return np.concatenate(places), np.concatenate(cosines)


class Maker:
    """Draws vectors like some real ones.

    Args:
        vectors: unit vectors float32 `[N, D]`, more than `NEAR` of them.
    """

    def __init__(self, vectors: Vectors, share: float = SHARE, noise: float = NOISE) -> None:
        self._real, self._share, self._noise = vectors, share, noise
        self._near = near(vectors, NEAR)[0]
        left = vectors - vectors[self._near].mean(axis=1)
        covariance = left.T @ left / len(left)
        strength, directions = np.linalg.eigh(covariance)
        self._spread = (directions * np.sqrt(np.maximum(strength, 0))).T.astype(np.float32)

    def draw(self, count: int, random: np.random.Generator) -> tuple[Vectors, NDArray[np.int64]]:
        """Unit vectors float32 `[count, D]`, and the real vector that each is mixed around, int64 `[count]`."""
        seeds = random.integers(len(self._real), size=count)
        shares = random.dirichlet(np.full(NEAR + 1, self._share), size=count).astype(np.float32)
        parts = np.concatenate([seeds[:, None], self._near[seeds]], axis=1)
        made = np.einsum("nk,nkd->nd", shares, self._real[parts], optimize=True)
        made += self._noise * (random.standard_normal(made.shape, dtype=np.float32) @ self._spread)
        made /= np.linalg.norm(made, axis=1, keepdims=True)
        return made, seeds


def local_dimension(cosines: Vectors) -> float:
    """Dimension around the vectors by maximum likelihood, from the cosines to the `k` nearest of each, nearest first.

    Mean over the vectors of the inverse estimates, inverted (MacKay and Ghahramani); unit vectors lie `sqrt(2 - 2 cos)`
    apart. Vectors with a copy among the near ones are left out.
    """
    apart = np.sqrt(np.maximum(2 - 2 * cosines.astype(np.float64), 0))
    apart = apart[apart[:, 0] > 1e-3]
    inverse = np.log(apart[:, -1:] / apart[:, :-1]).mean(axis=1)
    return float(1 / inverse.mean())


def likeness(vectors: Vectors, count: int = 4000, k: int = 20) -> dict[str, float]:
    """Local dimension, and median cosine to the nearest and the `k`-th nearest, of `count` vectors among all."""
    chosen = np.random.default_rng(1).permutation(len(vectors))[:count]
    cosines = near(vectors[chosen], k + 1, vectors)[1][:, 1:]  # the first is the vector itself
    return {
        "local_dimension": local_dimension(cosines),
        "nearest": float(np.median(cosines[:, 0])),
        f"nearest_{k}": float(np.median(cosines[:, -1])),
    }


def made(rows: int, queries: int) -> Path:
    """A folder with `base.npy` float32 `[rows, 384]`, `queries.npy`, `groups.npy` and `makers.npy`.

    Made once. Groups int64 `[rows]` are a hundred subjects, numbered: items around the real vectors that lie nearest to
    one of a hundred. Makers int64 `[rows]` are a hundred numbers drawn blindly, each of one row in a hundred;
    `allowed.npy` int64 are the rows of maker 7.
    """
    folder = CACHE / "vectors_1m" / str(rows)
    if not (folder / "groups.npy").exists():
        folder.mkdir(parents=True, exist_ok=True)
        maker, random = Maker(real()), np.random.default_rng(0)
        subjects = near(real(), 1, real()[random.permutation(len(real()))[:100]])[0][:, 0]
        np.save(folder / "queries.npy", maker.draw(queries, random)[0])
        base = np.lib.format.open_memmap(folder / "base.npy", "w+", np.float32, (rows, DIM))
        groups = np.empty(rows, np.int64)
        for start in range(0, rows, BLOCK):
            size = min(BLOCK, rows - start)
            base[start : start + size], seeds = maker.draw(size, random)
            groups[start : start + size] = subjects[seeds]
        base.flush()
        makers = np.random.default_rng(2).integers(100, size=rows)
        np.save(folder / "makers.npy", makers)
        np.save(folder / "allowed.npy", np.flatnonzero(makers == 7))
        np.save(folder / "groups.npy", groups)
    return folder
