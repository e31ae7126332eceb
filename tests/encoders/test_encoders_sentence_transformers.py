"""Expected vectors come from transformers, called as each model's own page describes."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_encoders
from PIL import Image

from coldstart import encoders
from coldstart.encoders import Encoder
from coldstart.errors import ColdstartError
from coldstart.media.image import ImageTransform

TEXTS = ["a red shoe", "a blue shirt with long sleeves and more", "x"]


def load(folder: Path, **options: Any) -> Encoder:
    return encoders.load(f"sentence-transformers:{folder}", device="cpu", dtype="float32", **options)


def unit(rows: Any) -> np.ndarray:
    rows = rows.detach().numpy()
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def photos(count: int, height: int, width: int) -> list[Image.Image]:
    coarse = np.random.default_rng(0).integers(0, 256, (count, 4, 4, 3), dtype=np.uint8)
    return [Image.fromarray(array).resize((width, height), Image.Resampling.BICUBIC) for array in coarse]


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bert")
    tiny_encoders.bert_folder(folder)
    return folder / "model"


def test_queries_and_documents_carry_the_prompts_of_the_model(bert: Path) -> None:
    import torch
    from transformers import AutoModel, AutoTokenizer

    encoder = load(bert)
    model, tokenizer = AutoModel.from_pretrained(bert), AutoTokenizer.from_pretrained(bert)
    for encode, prompt in ((encoder.encode_queries, "x : "), (encoder.encode_documents, "y : ")):
        batch = tokenizer([prompt + text for text in TEXTS], padding=True, return_tensors="pt")
        with torch.no_grad():
            states, mask = model(**batch).last_hidden_state, batch["attention_mask"].unsqueeze(-1)
        np.testing.assert_allclose(encode(TEXTS), unit((states * mask).sum(1) / mask.sum(1)), atol=1e-5)
    assert encoder.count_tokens(["a red shoe", ""]) == [7, 4]  # with "y :" and two special tokens
    assert encoder.max_tokens == 32
    assert encoder.image_transform is None


def test_options_change_vectors_and_passport(bert: Path) -> None:
    plain, prompted, short = load(bert), load(bert, document_prompt="z : "), load(bert, truncate_dim=8)
    assert np.abs(plain.encode_documents(TEXTS) - prompted.encode_documents(TEXTS)).max() > 1e-4
    np.testing.assert_allclose(plain.encode_queries(TEXTS), prompted.encode_queries(TEXTS), atol=1e-6)
    first = plain.encode_documents(TEXTS)[:, :8]
    expected = first / np.linalg.norm(first, axis=1, keepdims=True)
    np.testing.assert_allclose(short.encode_documents(TEXTS), expected, atol=1e-5)
    assert [e.passport("text").dim for e in (plain, prompted, short)] == [16, 16, 8]
    assert len({e.passport("text").digest for e in (plain, prompted, short)}) == 3


def test_the_digest_covers_every_file_that_is_read_and_no_other(bert: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(bert, folder)
    before = load(folder).passport("text")
    assert before == load(bert).passport("text")
    (folder / "README.md").write_text("changed")
    assert load(folder).passport("text") == before
    pooling = next(folder.glob("1_*/config.json"))
    pooling.write_text(pooling.read_text() + "\n")
    assert load(folder).passport("text") != before


def test_clip_equals_transformers(tmp_path: Path) -> None:
    from transformers import CLIPModel, CLIPProcessor

    tiny_encoders.clip_folder(tmp_path)
    encoder = load(tmp_path)
    assert encoder.image_transform == ImageTransform((32, 32), "shortest", "bicubic")
    model, processor = CLIPModel.from_pretrained(tmp_path), CLIPProcessor.from_pretrained(tmp_path)
    pictures = photos(3, 40, 60)
    expected = model.get_image_features(**processor(images=pictures, return_tensors="pt")).pooler_output
    ours = encoder.encode_images([encoder.image_transform.apply(picture) for picture in pictures])
    assert (ours * unit(expected)).sum(axis=1).min() >= 0.9999  # Pillow and torchvision round pixels differently
    batch = processor(text=TEXTS, padding=True, return_tensors="pt")
    expected = model.get_text_features(**batch).pooler_output
    np.testing.assert_allclose(encoder.encode_documents(TEXTS), unit(expected), atol=1e-5)


def test_siglip_texts_are_padded_to_full_length_without_a_mask_as_it_was_trained(tmp_path: Path) -> None:
    from transformers import SiglipModel, SiglipProcessor

    tiny_encoders.siglip_folder(tmp_path)
    encoder = load(tmp_path)
    assert encoder.image_transform == ImageTransform((32, 32), "squash", "bicubic")
    model, processor = SiglipModel.from_pretrained(tmp_path), SiglipProcessor.from_pretrained(tmp_path)
    batch = processor(text=TEXTS, padding="max_length", max_length=32, return_tensors="pt")
    expected = model.get_text_features(input_ids=batch["input_ids"]).pooler_output
    np.testing.assert_allclose(encoder.encode_documents(TEXTS), unit(expected), atol=1e-5)


def test_a_vision_language_model_takes_pictures_of_any_size_and_the_frames_in_order(tmp_path: Path) -> None:
    tiny_encoders.qwen_folder(tmp_path)
    encoder = load(tmp_path)
    assert encoder.modalities == {"text", "image", "video"}
    assert encoder.image_transform == ImageTransform((1024, 1024), "longest", "bicubic")
    assert load(tmp_path, max_side=64).image_transform == ImageTransform((64, 64), "longest", "bicubic")
    wide, tall = (np.asarray(photos(1, *size)[0]) for size in ((32, 64), (64, 32)))
    assert encoder.encode_images([wide, tall]).shape == (2, 16)
    video = np.stack([np.asarray(photo) for photo in photos(4, 32, 64)])
    forward, backward, first_half = encoder.encode_videos([video, video[::-1], video[:2]])
    assert np.abs(forward - backward).max() > 1e-3
    assert np.abs(forward - first_half).max() > 1e-3


def test_text_that_looks_like_an_address_stays_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny_encoders.clip_folder(tmp_path)
    encoder = load(tmp_path)
    picture = tmp_path / "x.png"
    photos(1, 32, 32)[0].save(picture)
    named = encoder.encode_queries([str(picture)])
    picture.unlink()
    np.testing.assert_array_equal(encoder.encode_queries([str(picture)]), named)
    assert encoder.encode_documents(["http://127.0.0.1:9/x.jpg"]).shape == (1, 12)


def test_weights_that_are_not_there_are_not_made_up(bert: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = tmp_path / "model"
    shutil.copytree(bert, folder)
    tensors = load_file(folder / "model.safetensors")
    lost = "encoder.layer.0.output.dense.weight"
    save_file({n: t for n, t in tensors.items() if n != lost}, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ColdstartError) as caught:
        load(folder).encode_documents(TEXTS)
    assert str(caught.value) == f"encoder 'sentence-transformers:{folder}': its files lack 1 tensors, such as {lost}"


def test_pickles_foreign_code_and_empty_folders_are_refused(bert: Path, tmp_path: Path) -> None:
    name = f"sentence-transformers:{tmp_path / 'model'}"
    folder = tmp_path / "model"
    folder.mkdir()
    with pytest.raises(ColdstartError) as caught:
        load(folder)
    assert str(caught.value) == f"encoder {name!r}: {folder} holds no weights (*.safetensors; pickles are not read)"
    shutil.copytree(bert, folder, dirs_exist_ok=True)
    (folder / "2_Dense").mkdir()
    pickled = folder / "2_Dense" / "pytorch_model.bin"
    pickled.write_bytes(b"")
    with pytest.raises(ColdstartError) as caught:
        load(folder)
    assert str(caught.value) == f"encoder {name!r}: {pickled} is a pickle; save the model again as safetensors"
    pickled.unlink()
    (folder / "own.py").write_text("raise SystemExit('this must never run')")
    modules = folder / "modules.json"
    modules.write_text(modules.read_text().replace("sentence_transformers.", "own.", 1))
    with pytest.raises(ColdstartError, match=r"modules\.json names a class to be run \(own\."):
        load(folder)


def test_a_hub_name_without_network_fails_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ColdstartError) as caught:
        encoders.load("sentence-transformers:all-mpnet-base-v2")
    assert str(caught.value) == (
        "encoder 'sentence-transformers:all-mpnet-base-v2': sentence-transformers/all-mpnet-base-v2 is not in the "
        "local hub cache and HF_HUB_OFFLINE is set; run `hf download sentence-transformers/all-mpnet-base-v2` on a "
        "connected machine, bring the files here and write sentence-transformers:FOLDER"
    )


def test_a_hub_that_does_not_answer_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import httpx
    from huggingface_hub import constants

    def refuse(url: str, timeout: float) -> None:
        assert timeout <= 3
        raise httpx.ConnectError("no route to host")

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "ENDPOINT", "https://hub.example")
    monkeypatch.setattr(httpx, "head", refuse)
    with pytest.raises(ColdstartError, match=r"https://hub\.example does not answer \(no route to host\); run `hf"):
        encoders.load("sentence-transformers:some/model")
