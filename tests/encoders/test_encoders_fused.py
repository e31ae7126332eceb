"""Expected values are open_clip's own blocks and torch's convolution in float32."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_encoders
import torch

from coldstart import encoders
from coldstart.encoders import _open_clip_speed
from coldstart.encoders._tensors import to_pixel_values

CPU, NARROW = torch.device("cpu"), torch.bfloat16
MEAN, STD = (0.48, 0.46, 0.41), (0.27, 0.26, 0.28)
TEXTS = ["a red shoe", "a longer text about a shirt with sleeves", "x"]
here = pytest.mark.skipif(not _open_clip_speed.usable(CPU, NARROW), reason="this processor has no bfloat16 products")


def pictures(count: int, side: int) -> list[np.ndarray]:
    return list(np.random.default_rng(0).integers(0, 256, (count, side, side, 3), dtype=np.uint8))


def test_used_on_a_cpu_in_bfloat16_alone() -> None:
    assert not _open_clip_speed.usable(CPU, torch.float32)
    assert not _open_clip_speed.usable(torch.device("cuda"), NARROW)


@here
@pytest.mark.parametrize("side", [32, 39])  # what does not fill a patch is left out, as by the convolution
def test_patches_of_bytes_equal_the_convolution_of_pixel_values(side: int) -> None:
    convolution = torch.nn.Conv2d(3, 24, 8, 8)
    images = pictures(3, side)
    expected = convolution(to_pixel_values(images, MEAN, STD, CPU, torch.float32))
    with torch.inference_mode():
        patches = _open_clip_speed.Patches(convolution.weight, convolution.bias, MEAN, STD)
        ours = patches(torch.from_numpy(np.stack(images)))
    assert ours.shape == expected.shape and ours.dtype == NARROW
    torch.testing.assert_close(ours.float(), expected.detach(), atol=0.02, rtol=0.01)


@pytest.mark.parametrize("length", [7, _open_clip_speed._SHORT + 1])
@pytest.mark.parametrize("masked", ["no", "all alike", "each head"])
def test_attention_equals_that_of_torch_in_float32(length: int, masked: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_open_clip_speed, "_has_amx", lambda: False)
    batch, heads, width = 3, 2, 8
    joint = torch.randn(batch, length, 3, heads, width, generator=torch.Generator().manual_seed(0)).to(NARROW)
    joint = joint.permute(2, 0, 3, 1, 4)
    mask = None
    if masked != "no":
        mask = torch.full((length, length), float("-inf")).triu(1)
        mask = mask if masked == "all alike" else mask.repeat(batch, heads, 1, 1) - torch.eye(length)
    q, k, v = joint.float().unbind()
    expected = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=1.0)
    ours = _open_clip_speed.attend(joint, None if mask is None else mask.to(NARROW))
    expected = expected.transpose(1, 2).reshape(batch, length, heads * width)
    torch.testing.assert_close(ours.float(), expected, atol=0.05, rtol=0.05)


@pytest.mark.slow
@here
@pytest.mark.parametrize("stated", [{}, {"quick_gelu": True}])
def test_vectors_equal_those_of_open_clip(
    stated: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny_encoders.open_clip_folder(tmp_path)
    config = tmp_path / "open_clip_config.json"
    read = json.loads(config.read_text())
    read["model_cfg"] |= stated
    config.write_text(json.dumps(read))

    def load(dtype: str) -> encoders.Encoder:
        return encoders.load(f"open_clip:local-dir:{tmp_path}", device="cpu", dtype=dtype)

    fused, exact = load("bfloat16"), load("float32")
    assert exact.image_transform is not None
    images = pictures(5, exact.image_transform.size[0])
    pairs = [(fused.encode_images(images), exact.encode_images(images))]
    pairs.append((fused.encode_documents(TEXTS), exact.encode_documents(TEXTS)))
    for ours, theirs in pairs:
        assert (ours * theirs).sum(axis=1).min() >= 0.999
    assert sum(isinstance(module, _open_clip_speed.Block) for module in fused._model.modules()) >= 2  # type: ignore[attr-defined]
    monkeypatch.setattr(_open_clip_speed, "usable", lambda device, dtype: False)
    plain = load("bfloat16")
    assert (plain.encode_images(images) * pairs[0][0]).sum(axis=1).min() >= 0.999
    assert not any(isinstance(module, _open_clip_speed.Block) for module in plain._model.modules())  # type: ignore[attr-defined]
