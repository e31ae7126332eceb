"""An adapter on an open_clip model: the vectors are those of the model that was trained, and of a space of its own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_encoders
import torch

from coldstart import encoders
from coldstart.align.settings import TowerTraining
from coldstart.align.towers.model import Towers
from coldstart.errors import ColdstartError

TEXTS = ["a red shoe", "a longer blue shirt with sleeves", "x " * 40]
KINDS = [("open_clip", "lora"), ("open_clip", "last_blocks"), ("siglip2", "lora"), ("siglip2", "last_blocks")]


def trained(folder: Path, adapter: Path, seed: int = 9, kind: Any = "lora", **settings: Any) -> Towers:
    """Towers whose every trained weight was moved at random, and their adapter."""
    encoder: Any = encoders.load(f"open_clip:local-dir:{folder}", device="cpu", dtype="float32")
    training = TowerTraining(**{"last_blocks": 1, "r": 4, **settings})
    towers = Towers(encoder, kind, training, torch.device("cpu"), torch.float32)
    torch.manual_seed(seed)
    towers.put({name: weight + 0.1 * torch.randn_like(weight) for name, weight in towers.copy().items()})
    towers.save(adapter, {})
    return towers


@pytest.fixture(params=KINDS, ids=lambda kind: "-".join(kind))
def made(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, Path, Towers]:
    name, kind = request.param
    folder = tmp_path / name
    folder.mkdir()
    getattr(tiny_encoders, f"{name}_folder")(folder)
    return folder, tmp_path / "adapter", trained(folder, tmp_path / "adapter", kind=kind)


@pytest.mark.slow
def test_an_encoder_with_the_adapter_gives_the_vectors_of_the_trained_towers(made: Any) -> None:
    folder, adapter, towers = made
    name = f"open_clip:local-dir:{folder}"
    plain = encoders.load(name, device="cpu", dtype="float32")
    adapted = encoders.load(name, device="cpu", dtype="float32", adapter=adapter)
    assert adapted.image_transform is not None
    noise = np.random.default_rng(0).integers(0, 256, (3, *adapted.image_transform.size, 3), dtype=np.uint8)
    with torch.no_grad():
        expected = [towers.images(list(noise)).numpy(), towers.texts(towers.encoder.tokenize(TEXTS)).numpy()]
    found = [adapted.encode_images(list(noise)), adapted.encode_documents(TEXTS)]
    base = [plain.encode_images(list(noise)), plain.encode_documents(TEXTS)]
    for ours, theirs, before in zip(found, expected, base, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=2e-5)
        assert np.abs(ours - before).max() > 1e-2
    one_by_one = np.concatenate([adapted.encode_queries([text]) for text in TEXTS])
    np.testing.assert_allclose(one_by_one, found[1], atol=2e-5)


@pytest.mark.slow
def test_its_space_is_another_than_that_of_the_model_and_of_another_adapter(made: Any, tmp_path: Path) -> None:
    folder, adapter, towers = made
    trained(folder, tmp_path / "other", seed=10, kind=towers.kind)
    name = f"open_clip:local-dir:{folder}"
    if towers.kind == "lora":  # the same weights, counted more
        trained(folder, tmp_path / "louder", lora_alpha=64)
    else:
        trained(folder, tmp_path / "louder", kind="lora")
    folders = [None, adapter, tmp_path / "other", tmp_path / "louder"]
    passports = [encoders.load(name, device="cpu", adapter=one).passport("image") for one in folders]
    assert len({passport.digest for passport in passports}) == 4
    base, plus, digest = passports[1].weights.partition("+adapter:sha256:")
    assert (base, plus, len(digest)) == (passports[0].weights, "+adapter:sha256:", 64)
    assert len({passport.encoder for passport in passports}) == 1
    again = encoders.load(name, device="cpu", adapter=str(adapter)).passport("text")
    assert again == passports[1]


@pytest.mark.slow
def test_equal_trainings_give_equal_bytes(made: Any, tmp_path: Path) -> None:
    folder, adapter, towers = made
    trained(folder, tmp_path / "again", kind=towers.kind)
    for file in adapter.iterdir():
        assert file.read_bytes() == (tmp_path / "again" / file.name).read_bytes(), file.name


@pytest.mark.slow
def test_an_adapter_of_another_model_is_refused_with_both_names(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        tiny_encoders.open_clip_folder(tmp_path / name)
    (tmp_path / "siglip2").mkdir()
    tiny_encoders.siglip2_folder(tmp_path / "siglip2")
    adapter = tmp_path / "adapter"
    trained(tmp_path / "one", adapter)
    weights = tmp_path / "two" / "open_clip_model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    card = json.loads((adapter / "adapter.json").read_text())["base"]
    for other, part, what in (("siglip2", "config", "an architecture"), ("two", "weights", "weights")):
        name = f"open_clip:local-dir:{tmp_path / other}"
        base = encoders.load(name).base  # type: ignore[attr-defined]
        with pytest.raises(ColdstartError) as caught:
            encoders.load(name, adapter=adapter)
        theirs, ours = card[part], getattr(base, part)
        if part == "weights":
            theirs, ours = theirs[:19], ours[:19]
        assert str(caught.value) == (
            f"encoder {name!r}: adapter {adapter} was trained on open_clip:local-dir:one ({part} {theirs}), "
            f"{what} other than open_clip:local-dir:{other} ({part} {ours}); load it with the model that it was "
            "trained on"
        )


@pytest.mark.slow
def test_a_model_may_lie_in_another_folder(tmp_path: Path) -> None:
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
        tiny_encoders.open_clip_folder(tmp_path / name)
    trained(tmp_path / "here", tmp_path / "adapter")
    encoders.load(f"open_clip:local-dir:{tmp_path / 'there'}", device="cpu", adapter=tmp_path / "adapter")


def test_a_folder_without_an_adapter_is_refused(tmp_path: Path) -> None:
    folder, adapter = tmp_path / "model", tmp_path / "adapter"
    folder.mkdir()
    tiny_encoders.open_clip_folder(folder)
    name = f"open_clip:local-dir:{folder}"
    with pytest.raises(ColdstartError, match=r"does not hold an adapter \(adapter\.json\): FileNotFoundError"):
        encoders.load(name, adapter=adapter)
    trained(folder, adapter)
    card = json.loads((adapter / "adapter.json").read_text())
    (adapter / "adapter.json").write_text(json.dumps({**card, "version": 2}))
    with pytest.raises(ColdstartError) as caught:
        encoders.load(name, adapter=adapter)
    assert str(caught.value) == f"{adapter / 'adapter.json'} is of version 2: this coldstart reads version 1"
    (adapter / "adapter.json").write_text(json.dumps({**card, "kind": "dora"}))
    with pytest.raises(ColdstartError, match=r"does not hold an adapter \(adapter\.json\): KeyError\('dora'\)"):
        encoders.load(name, adapter=adapter)
    (adapter / "adapter.json").write_text(json.dumps(card))
    (adapter / "adapter_model.safetensors").rename(adapter / "adapter_model.bin")  # a pickle is not looked at
    with pytest.raises(ColdstartError) as caught:
        encoders.load(name, adapter=adapter)
    assert str(caught.value) == f"adapter {adapter} lacks adapter_model.safetensors"


@pytest.mark.parametrize("kind", ["lora", "last_blocks"])
def test_weights_that_do_not_fit_are_refused_when_they_load(kind: str, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder, adapter = tmp_path / "model", tmp_path / "adapter"
    folder.mkdir()
    tiny_encoders.open_clip_folder(folder)
    trained(folder, adapter, kind=kind)
    file = adapter / ("adapter_model.safetensors" if kind == "lora" else "blocks.safetensors")
    tensors = load_file(file)
    name, tensor = tensors.popitem()
    save_file({**tensors, name: tensor.new_zeros(3, 3)} if kind == "last_blocks" else tensors, file)
    encoder = encoders.load(f"open_clip:local-dir:{folder}", device="cpu", dtype="float32", adapter=adapter)
    shape = list(tensor.shape)
    why = "1 weights are missing and 0 have no place" if kind == "lora" else f"{name} is [3, 3] and should be {shape}"
    with pytest.raises(ColdstartError) as caught:
        encoder.encode_documents(["x"])
    assert str(caught.value) == f"adapter {adapter} does not fit open_clip:local-dir:model: {why}"
