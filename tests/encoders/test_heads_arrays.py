"""Heads in NumPy, held against the same heads in torch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from coldstart.encoders._heads import WEIGHTS, AlignedHeads, Heads, HeadShape, Tower
from coldstart.encoders._heads_arrays import load_arrays

TOWER = Tower("fake:6", {"dim": 6})
SHAPES = {
    "linear": HeadShape(6, 4),
    "gelu": HeadShape(6, 4, hidden=5, activation="gelu"),
    "softmax without W": HeadShape(6, 4, hidden=5, activation="softmax", direct=False),
}


def saved(folder: Path, image: HeadShape, dtype: torch.dtype = torch.float32) -> AlignedHeads:
    torch.manual_seed(0)
    made = AlignedHeads({"image": TOWER, "text": TOWER}, Heads(image, HeadShape(6, 4)))
    torch.nn.init.normal_(made.heads.image.bias)
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
    assert not arrays or arrays["image"].weights["bias"].dtype == np.float32
    save_file({"image.bias": torch.zeros(3)}, tmp_path / WEIGHTS)
    assert load_arrays(tmp_path) == {}
    (tmp_path / WEIGHTS).write_bytes(b"no tensors")
    assert load_arrays(tmp_path) == {}
