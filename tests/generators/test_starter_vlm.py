"""`starter-vlm`: refusals, how pictures become features, and the real models fitted on two pictures."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from coldstart import generators
from coldstart.core import settings as resources
from coldstart.core.attributes import Attribute
from coldstart.core.description import json_schema
from coldstart.core.stage import Reject
from coldstart.describe.finetune.training import Example, VlmSettings
from coldstart.encoders.starter import GRID_DIM, IMAGE_DIM, LEVELS_DIM
from coldstart.errors import ColdstartError
from coldstart.generators import Generation, Pixels, Request, Sampling, _local, _smollm2, starter_vlm
from coldstart.media.image import load_image
from coldstart.media.limits import Limits
from coldstart.models import install

PICTURE = np.zeros((260, 260, 3), np.uint8)


@pytest.fixture
def somewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """As if the language model were here."""
    monkeypatch.setattr(_smollm2, "weights_path", lambda: tmp_path / _smollm2.FILE)
    return tmp_path


def refused(**given: object) -> str:
    with pytest.raises(ColdstartError) as error:
        starter_vlm.build(**({"rest": "", "device": "cpu", "dtype": "float32", "adapter": None} | given))  # type: ignore[arg-type]
    return str(error.value)


def test_what_cannot_be_built(somewhere: Path) -> None:
    assert refused(rest="large") == "generator 'starter-vlm:large' is unknown: write starter-vlm"
    assert refused(batch_size=0) == "generator 'starter-vlm': batch_size 0 must be at least 1"
    assert refused(adapter=somewhere) == (
        f"{somewhere} holds no adapter (adapter/adapter_config.json and adapter_model.safetensors missing): "
        "make one with coldstart finetune describe"
    )
    place = somewhere / _local.FOLDER
    place.mkdir()
    for name in (_local.CONFIG, _local.WEIGHTS):
        (place / name).write_bytes(b"")
    assert refused(adapter=somewhere) == (
        f"{somewhere} holds no projector.safetensors: it is the fit of another generator than starter-vlm"
    )


def test_it_writes_nothing_before_it_is_fitted(somewhere: Path) -> None:
    unfitted = generators.load("starter-vlm", device="cpu", dtype="float32")
    assert unfitted.name == "starter-vlm" and unfitted.image_transform is not None
    with pytest.raises(ColdstartError) as error:
        unfitted.generate([Request("", images=(PICTURE,))], Sampling())
    assert str(error.value) == (
        "generator 'starter-vlm' writes nothing before it is fitted: run coldstart finetune describe, "
        "and write generator: finetune:describe in the pipeline"
    )


class FakeVision:
    """Every number of a picture's features is that of its first pixel; `seen` counts pictures by batch."""

    def __init__(self) -> None:
        self.seen: list[int] = []

    def grid_features(self, images: list[Pixels]) -> NDArray[np.float16]:
        self.seen.append(len(images))
        rows = [np.full(GRID_DIM, image[0, 0, 0], np.float16) for image in images]
        return np.array(rows, np.float16).reshape(-1, GRID_DIM)


def test_features_are_the_mean_of_an_items_pictures_whatever_the_batch() -> None:
    encoder = FakeVision()
    items = [[np.full((1, 1, 3), 2 * place + frame, np.uint8) for frame in range(1 + place % 3)] for place in range(40)]
    features = starter_vlm.visual_features(encoder, items)
    assert features.shape == (40, GRID_DIM) and features.dtype == np.float16
    assert features[:, 0].tolist() == [2 * place + (place % 3) / 2 for place in range(40)]
    assert encoder.seen == [32, 32, 15]
    assert starter_vlm.visual_features(encoder, []).shape == (0, GRID_DIM)


LINES = ("Red soft drink.", "Green apple, loose.")
KINDS = {"type": Attribute(values=("drink", "apple"))}


@pytest.fixture(scope="module")
def pictures() -> list[Pixels]:
    transform = starter_vlm.vision_encoder("cpu", "float32").image_transform
    paths = sorted((resources.PACKAGE / "sample" / "images").glob("*.jpg"))
    return [load_image(path, Limits(), transform) for path in (paths[0], paths[-1])]


@pytest.fixture(scope="module")
def fit(pictures: list[Pixels], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of two pictures, each with its line, also asked in a chat."""
    import torch

    from coldstart.describe.finetune.vlm import train_vlm

    try:
        install.starter_folder("language"), install.starter_folder("image")
    except ColdstartError as error:
        pytest.skip(str(error))
    features = starter_vlm.visual_features(starter_vlm.vision_encoder("cpu", "float32"), [[one] for one in pictures])
    examples = [Example("a", "", "", LINES[0]), Example("b", "", "", LINES[1])]
    settings = VlmSettings(projector_epochs=2, epochs=12, batch_size=2, lr=2e-3, hidden=256, dropout=0, mirror=False)
    made = train_vlm(
        features,
        [0, 1],
        examples,
        [],
        [],
        settings,
        model=_smollm2.load_model(torch.device("cpu"), torch.float32),
        tokenizer=_smollm2.load_tokenizer(),
    )
    folder = tmp_path_factory.mktemp("fit")
    made.save(folder)
    return folder


def texts(found: list[Generation | Reject]) -> list[str]:
    assert all(isinstance(one, Generation) for one in found), found
    return [one.text for one in found if isinstance(one, Generation)]


@pytest.mark.slow
def test_the_real_models_write_from_pixels(fit: Path, pictures: list[Pixels]) -> None:
    writer = generators.load("starter-vlm", device="cpu", dtype="float32", adapter=fit)
    requests = [Request("", images=(picture,)) for picture in pictures]
    short = Sampling(max_new_tokens=24)
    assert texts(writer.generate(requests, short)) == list(LINES)
    assert [texts(writer.generate([one], short))[0] for one in requests] == list(LINES)
    twice = Request("", images=(pictures[1], pictures[1]))
    nothing = Request("a title")
    found = writer.generate([twice, nothing, requests[0]], short)
    assert isinstance(found[1], Reject)
    assert str(found[1]) == "no_picture: starter-vlm writes from pictures, and the item has none"
    assert texts([found[0], found[2]]) == [LINES[1], LINES[0]]
    in_chat = Request("What is it?", "Answer in JSON.", json_schema(KINDS, ("attributes", "summary")), (pictures[0],))
    bound = writer.generate([in_chat], Sampling(max_new_tokens=64))
    assert set(json.loads(texts(bound)[0])) == {"attributes", "summary"}
    long = writer.generate([Request("long " * 9000, images=(pictures[0],))], short)[0]
    assert isinstance(long, Reject) and long.reason == "prompt_too_long"
    assert writer.passport().adapter.count("sha256:") == 1
    assert writer.passport() != generators.load("starter-vlm", device="cpu").passport()


@pytest.mark.slow
def test_grid_features_hold_the_vectors_of_the_encoder(fit: Path, pictures: list[Pixels]) -> None:
    from coldstart import encoders

    plain = encoders.load("starter", device="cpu", dtype="float32").encode_images(pictures)
    levels = encoders.load("starter:levels", device="cpu", dtype="float32").encode_images(pictures)
    features = starter_vlm.vision_encoder("cpu", "float32").grid_features(pictures).astype(np.float32)
    np.testing.assert_allclose(features[:, -LEVELS_DIM:] / LEVELS_DIM**0.5, levels, atol=1e-4)
    mean = features[:, :-LEVELS_DIM].reshape(len(pictures), -1, IMAGE_DIM).mean(1)  # cells are of one size: 9 x 9 by 3
    np.testing.assert_allclose(mean / np.linalg.norm(mean, axis=1, keepdims=True), plain, atol=1e-3)
