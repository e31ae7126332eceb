"""Expected vectors come from open_clip itself: its tokenizer, its transform, its full-length text tower."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_encoders
from PIL import Image

from coldstart import encoders
from coldstart.errors import ColdstartError

TEXTS = ["a red shoe", "a longer text about a shirt with sleeves", "x " * 40]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tiny")


@pytest.fixture(scope="module")
def reference(folder: Path) -> Any:
    return tiny_encoders.open_clip_folder(folder, resize_mode="squash", mean=[0.5, 0.5, 0.5], std=[0.2, 0.25, 0.3])


def unit(rows: Any) -> np.ndarray:
    rows = rows.detach().numpy()
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_texts_cut_to_the_longest_equal_open_clip_at_full_length(folder: Path, reference: Any) -> None:
    import open_clip

    encoder = encoders.load(f"open_clip:local-dir:{folder}", device="cpu", dtype="float32")
    tokens = open_clip.tokenize(TEXTS, context_length=24)
    np.testing.assert_allclose(encoder.encode_documents(TEXTS), unit(reference.encode_text(tokens)), atol=1e-5)
    assert encoder.count_tokens(TEXTS) == [5, 10, 42]
    assert encoder.max_tokens == 24


@pytest.mark.slow
def test_a_text_tower_of_its_own_gives_the_same(folder: Path, reference: Any, tmp_path: Path) -> None:
    stated = json.loads((folder / "open_clip_config.json").read_text())
    stated["model_cfg"]["custom_text"] = True
    (tmp_path / "open_clip_config.json").write_text(json.dumps(stated))
    (tmp_path / "open_clip_model.safetensors").write_bytes((folder / "open_clip_model.safetensors").read_bytes())
    ours, theirs = (
        encoders.load(f"open_clip:local-dir:{f}", device="cpu", dtype="float32").encode_queries(TEXTS)
        for f in (tmp_path, folder)
    )
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("resize_mode", ["squash", "shortest", "longest"])
def test_pictures_equal_open_clip(resize_mode: str, tmp_path: Path) -> None:
    import torch
    from open_clip.transform import PreprocessCfg, image_transform_v2

    reference = tiny_encoders.open_clip_folder(tmp_path, resize_mode=resize_mode, fill_color=7)
    encoder = encoders.load(f"open_clip:local-dir:{tmp_path}", device="cpu", dtype="float32")
    noise = np.random.default_rng(0).integers(0, 256, (2, 50, 70, 3), dtype=np.uint8)
    photos = [Image.fromarray(array) for array in noise]
    theirs = image_transform_v2(PreprocessCfg(size=(32, 32), resize_mode=resize_mode, fill_color=7), is_train=False)
    expected = unit(reference.encode_image(torch.stack([theirs(photo) for photo in photos])))
    assert encoder.image_transform is not None
    ours = encoder.encode_images([encoder.image_transform.apply(photo) for photo in photos])
    np.testing.assert_allclose(ours, expected, atol=2e-3)  # some pixels are a level apart: `media/resize.py`


@pytest.mark.slow
def test_a_checkpoint_file_and_its_passport(tmp_path: Path) -> None:
    import hashlib

    import open_clip
    import torch

    torch.manual_seed(5)
    path = tmp_path / "weights.pt"
    model = open_clip.create_model("ViT-S-32-alt")
    torch.save(model.state_dict(), path)
    encoder = encoders.load(f"open_clip:ViT-S-32-alt/{path}", device="cpu", dtype="float32")
    passport = encoder.passport("image")
    assert passport.encoder == "open_clip:ViT-S-32-alt/weights.pt"
    assert passport.weights == f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"
    expected = unit(model.eval().encode_text(open_clip.tokenize(TEXTS)))
    np.testing.assert_allclose(encoder.encode_documents(TEXTS), expected, atol=1e-5)


@pytest.mark.slow
def test_random_weights_are_asked_for_seeded_and_stated() -> None:
    with pytest.raises(ColdstartError) as caught:
        encoders.load("open_clip:ViT-S-32-alt")
    assert str(caught.value) == (
        "encoder 'open_clip:ViT-S-32-alt' names no weights: write open_clip:ViT-S-32-alt/FILE with a checkpoint"
    )
    first, second = (
        encoders.load("open_clip:ViT-S-32-alt", device="cpu", dtype="float32", allow_random_weights=True)
        for _ in range(2)
    )
    assert first.passport("text").encoder == "open_clip:ViT-S-32-alt (random weights)"
    assert first.passport("text").weights == "random:0"
    np.testing.assert_array_equal(first.encode_queries(TEXTS), second.encode_queries(TEXTS))


def test_the_activation_of_a_tag_is_used_where_the_architecture_states_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import coldstart.encoders.open_clip as module

    file = tmp_path / "w.safetensors"
    file.write_bytes(b"")
    calls: list[Any] = []
    monkeypatch.setattr(module, "hub_file", lambda repo, names, **_: calls.append((repo, names)) or file)
    encoder: Any = encoders.load("open_clip:ViT-B-32/openai")
    assert encoder._source.config["quick_gelu"] is True
    assert calls == [
        ("timm/vit_base_patch32_clip_224.openai", ["open_clip_model.safetensors", "open_clip_pytorch_model.bin"])
    ]


@pytest.mark.parametrize(
    ("rest", "message"),
    [
        (
            "ViT-B-33/openai",
            "encoder 'open_clip:ViT-B-33/openai': architecture 'ViT-B-33' is unknown; "
            "nearest are ViT-B-32, ViT-S-32, ViT-M-32",
        ),
        (
            "ViT-B-32/laion2b_x",
            "encoder 'open_clip:ViT-B-32/laion2b_x': 'laion2b_x' is neither a file nor weights of ViT-B-32; "
            "known are laion2b_e16, laion2b_s34b_b79k, laion400m_e32",
        ),
        (
            "ViT-B-32/laion2b_s34b_b79k",
            "encoder 'open_clip:ViT-B-32/laion2b_s34b_b79k': laion/CLIP-ViT-B-32-laion2B-s34B-b79K is not in the "
            "local hub cache and HF_HUB_OFFLINE is set; run `hf download laion/CLIP-ViT-B-32-laion2B-s34B-b79K` on a "
            "connected machine, bring the files here and write open_clip:ViT-B-32/FILE",
        ),
        (
            "hf-hub:someone/something",
            "encoder 'open_clip:hf-hub:someone/something': someone/something is not in the local hub cache and "
            "HF_HUB_OFFLINE is set; run `hf download someone/something` on a connected machine, bring the files here "
            "and write open_clip:local-dir:FOLDER",
        ),
        ("hf-hub:a/b/c", "encoder 'open_clip:hf-hub:a/b/c': 'a/b/c' is neither a folder nor a hub name"),
    ],
)
def test_a_model_that_is_not_here_is_refused_with_the_way_out(
    rest: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ColdstartError) as caught:
        encoders.load(f"open_clip:{rest}")
    assert str(caught.value) == message


def test_a_folder_without_weights_or_configuration_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ColdstartError, match=r"open_clip_config\.json is not an open_clip configuration"):
        encoders.load(f"open_clip:local-dir:{tmp_path}")
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": tiny_encoders.OPEN_CLIP}))
    with pytest.raises(ColdstartError) as caught:
        encoders.load(f"open_clip:local-dir:{tmp_path}")
    assert str(caught.value) == (
        f"encoder 'open_clip:local-dir:{tmp_path}': {tmp_path} holds no weights (*.safetensors, *.bin, *.pth)"
    )


@pytest.mark.slow
def test_bfloat16_stays_close_to_float32() -> None:
    exact, narrow = (
        encoders.load("open_clip:ViT-B-32", device="cpu", dtype=dtype, allow_random_weights=True)
        for dtype in ("float32", "bfloat16")
    )
    coarse = np.random.default_rng(0).integers(0, 256, (8, 7, 7, 3), dtype=np.uint8)
    images = [np.asarray(Image.fromarray(array).resize((224, 224))) for array in coarse]
    assert (exact.encode_images(images) * narrow.encode_images(images)).sum(axis=1).min() >= 0.999
    assert (exact.encode_documents(TEXTS) * narrow.encode_documents(TEXTS)).sum(axis=1).min() >= 0.999
