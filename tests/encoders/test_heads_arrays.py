"""Heads in NumPy, held against the same heads in torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from coldstart.encoders._heads import CONFIG, WEIGHTS, AlignedHeads, Heads, HeadShape, JoinedHeads, Tower
from coldstart.encoders._heads_arrays import HeadArrays, load_arrays
from coldstart.errors import ColdstartError

TOWER = Tower("fake:6", {"dim": 6})
SHAPES = {
    "linear": HeadShape(6, 4),
    "gelu": HeadShape(6, 4, hidden=5, activation="gelu"),
    "softmax without W": HeadShape(6, 4, hidden=5, activation="softmax", direct=False),
    "exp without W": HeadShape(6, 4, hidden=5, activation="exp", direct=False),
}


def saved(folder: Path, image: HeadShape, dtype: torch.dtype = torch.float32) -> AlignedHeads:
    torch.manual_seed(0)
    heads = Heads(image, HeadShape(6, 4))
    torch.nn.init.normal_(heads.image.bias)
    made = AlignedHeads({"image": TOWER, "text": TOWER}, heads)
    made.save(folder, dtype=dtype)
    return AlignedHeads.load(folder)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_they_give_the_vectors_of_torch(tmp_path: Path, shape: HeadShape) -> None:
    heads = saved(tmp_path, shape, torch.float16).heads
    vectors = np.random.default_rng(0).normal(size=(7, 6)).astype(np.float32)
    arrays = load_arrays(tmp_path)
    np.testing.assert_allclose(arrays["image"].project(vectors), heads.image.project(vectors), atol=1e-6)
    np.testing.assert_allclose(arrays["text"].project(vectors), heads.text.project(vectors), atol=1e-6)
    assert arrays["image"].project(vectors).dtype == np.float32
    assert arrays["image"].project(vectors[:0]).shape == (0, 4)


def test_what_numpy_cannot_read_or_does_not_fit_is_left_to_torch(tmp_path: Path) -> None:
    saved(tmp_path, SHAPES["linear"], torch.bfloat16)
    arrays = load_arrays(tmp_path)
    image = arrays.get("image")
    assert image is None or (isinstance(image, HeadArrays) and image.weights["bias"].dtype == np.float32)
    save_file({"image.bias": torch.zeros(3)}, tmp_path / WEIGHTS)
    assert load_arrays(tmp_path) == {}
    (tmp_path / WEIGHTS).write_bytes(b"no tensors")
    assert load_arrays(tmp_path) == {}


def joined(folder: Path) -> JoinedHeads:
    torch.manual_seed(0)
    kernels = HeadShape(6, 3, hidden=5, activation="exp", direct=False)
    heads = JoinedHeads([Heads(HeadShape(6, 4), HeadShape(6, 4)), Heads(HeadShape(6, 3), kernels)], (0.7, 0.3))
    AlignedHeads({"image": TOWER, "text": TOWER}, heads.requires_grad_(False)).save(folder)
    return heads


def test_joined_heads_are_saved_whole_and_give_the_same_vectors_without_torch(tmp_path: Path) -> None:
    made = joined(tmp_path)
    loaded, arrays = AlignedHeads.load(tmp_path).heads, load_arrays(tmp_path)
    vectors = np.random.default_rng(0).normal(size=(7, 6)).astype(np.float32)
    assert loaded.digest() == made.digest() and loaded.dim == 7
    found = {}
    for side in ("image", "text"):
        head = getattr(loaded, side)
        found[side] = arrays[side].project(vectors)
        np.testing.assert_allclose(found[side], head.project(vectors), atol=1e-6)
        np.testing.assert_allclose(np.linalg.norm(found[side], axis=1), 1, atol=1e-5)
    alone = [part.image.project(vectors) @ part.text.project(vectors).T for part in made.parts]
    np.testing.assert_allclose(found["image"] @ found["text"].T, 0.7 * alone[0] + 0.3 * alone[1], atol=1e-5)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"weights": [0.7, float("nan")]}, "nan"),
        ({"weights": [0.7]}, "1 weights"),
        ({"weights": [0.9, 0.3]}, "sum of 1"),
        ({"weights": []}, "weights are missing"),
        ({"activation": "tanh"}, "tanh"),
        ({"inputs": 5}, "one width"),
        ({"version": 3}, "version 3"),
    ],
)
def test_joined_heads_of_a_stranger_are_checked(tmp_path: Path, change: dict[str, Any], named: str) -> None:
    joined(tmp_path)
    config = json.loads((tmp_path / CONFIG).read_bytes())
    for name, value in change.items():
        (config["heads"]["text"][1] if name in ("activation", "inputs") else config)[name] = value
    (tmp_path / CONFIG).write_text(json.dumps(config))
    with pytest.raises(ColdstartError, match=named):
        AlignedHeads.load(tmp_path)
