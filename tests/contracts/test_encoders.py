"""What every encoder promises. A new encoder joins by one line in `encoder`."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import aligned
import numpy as np
import pytest
import tiny_encoders

from coldstart import encoders
from coldstart.encoders import Encoder, Passport
from coldstart.errors import ColdstartError
from coldstart.models import install

TEXTS = ["a red shoe", "", "http://127.0.0.1/x.jpg", "a blue shirt with long sleeves " * 3, "x", "/y.png", "a red shoe"]
PULLED = ("starter", "starter:levels", "starter-clip", "starter:multilingual")
NAMES = ["fake:24", "align", *PULLED, "open_clip", "siglip2", "bert", "clip", "siglip", "qwen"]


@pytest.fixture(scope="module", params=[pytest.param(n, marks=[pytest.mark.slow] * (n in PULLED)) for n in NAMES])
def encoder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    if request.param == "fake:24":
        return encoders.load("fake:24")
    if request.param == "align":
        return encoders.load(f"align:{aligned.folder(tmp_path_factory.mktemp('align') / 'heads')}")
    if request.param in PULLED:
        try:
            for job in ("multilingual",) if request.param == "starter:multilingual" else ("text", "image"):
                install.starter_folder(job)
        except ColdstartError as error:
            pytest.skip(str(error))
        return encoders.load(request.param, device="cpu", dtype="float32")
    folder: Path = tmp_path_factory.mktemp(request.param)
    getattr(tiny_encoders, f"{request.param}_folder")(folder)
    place = folder / "model" if request.param == "bert" else folder
    prefix = "open_clip:local-dir" if request.param in ("open_clip", "siglip2") else "sentence-transformers"
    return encoders.load(f"{prefix}:{place}", device="cpu", dtype="float32")


def pictures(encoder: Encoder, count: int = 5) -> list[np.ndarray]:
    if encoder.image_transform is None:
        pytest.skip(f"{encoder.name} takes no pictures")
    height, width = encoder.image_transform.size
    if encoder.image_transform.resize == "longest":
        height, width = 48, 64
    return list(np.random.default_rng(0).integers(0, 256, (count, height, width, 3), dtype=np.uint8))


def holds(encode: Callable[[list], np.ndarray], inputs: list, dim: int) -> np.ndarray:
    """Shape, type and length of the vectors; and that neither order nor batch size changes them."""
    vectors = encode(inputs)
    assert vectors.shape == (len(inputs), dim)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    one_by_one = np.concatenate([encode([one]) for one in inputs])
    np.testing.assert_allclose(vectors, one_by_one, atol=2e-5)
    np.testing.assert_allclose(encode(inputs[::-1])[::-1], vectors, atol=2e-5)
    assert encode([]).shape == (0, dim)
    return vectors


@pytest.mark.slow
def test_passports_need_no_weights(encoder: Encoder) -> None:
    for modality in encoder.modalities:
        passport = encoder.passport(modality)
        assert Passport.from_json(passport.to_json()) == passport
        assert len(passport.digest) == 12
        assert not {"_model", "text_model", "image_model"} & vars(encoder).keys()


@pytest.mark.slow
def test_texts(encoder: Encoder) -> None:
    dim = encoder.passport("text").dim
    documents = holds(encoder.encode_documents, TEXTS, dim)
    holds(encoder.encode_queries, TEXTS, dim)
    np.testing.assert_allclose(documents[0], documents[6], atol=2e-5)
    assert np.abs(documents[0] - documents[3]).max() > 1e-4


@pytest.mark.slow
def test_texts_over_the_limit_are_counted_in_full_and_cut(encoder: Encoder) -> None:
    assert encoder.max_tokens is not None
    words = ["x " * n for n in (1, encoder.max_tokens, 3 * encoder.max_tokens)]
    counts = encoder.count_tokens(words)
    assert counts[1] - counts[0] >= encoder.max_tokens - 1
    assert counts[2] - counts[1] >= 2 * encoder.max_tokens
    assert encoder.count_tokens([]) == []
    vectors = encoder.encode_documents(words)
    np.testing.assert_allclose(vectors[1], vectors[2], atol=2e-5)


@pytest.mark.slow
def test_images(encoder: Encoder) -> None:
    images = pictures(encoder)
    vectors = holds(encoder.encode_images, images, encoder.passport("image").dim)
    assert np.abs(vectors[0] - vectors[1]).max() > 1e-4


def test_videos(encoder: Encoder) -> None:
    images = pictures(encoder, 8)
    videos = [np.stack(images[:4]), np.stack(images[4:])]
    if "video" in encoder.modalities:
        holds(encoder.encode_videos, videos, encoder.passport("video").dim)
    else:
        with pytest.raises(TypeError, match="takes no video"):
            encoder.encode_videos(videos)


def test_aligned_modalities_share_a_passport_and_the_starter_does_not(encoder: Encoder) -> None:
    passports = {encoder.passport(modality) for modality in encoder.modalities}
    assert len(passports) == (2 if encoder.name in ("starter", "starter:levels") else 1)


@pytest.mark.parametrize("module", encoders.known())
def test_importing_an_encoder_imports_no_other_and_no_torch(module: str) -> None:
    script = (
        "import sys, importlib, coldstart.encoders as package\n"
        f"importlib.import_module('coldstart.encoders.{module.replace('-', '_')}')\n"
        "heavy = {'torch', 'timm', 'transformers', 'open_clip', 'sentence_transformers'} & sys.modules.keys()\n"
        "names = {name: 'coldstart.encoders.' + name.replace('-', '_') for name in package.known()}\n"
        "print(sorted(heavy), [name for name, path in names.items() if path in sys.modules])"
    )
    seen = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert seen.strip() == f"[] ['{module}']"
