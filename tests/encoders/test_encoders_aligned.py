"""Encoders of heads over others: align:FOLDER and starter-clip."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import aligned
import numpy as np
import pytest
import torch

from coldstart import encoders
from coldstart.encoders import HeadEncoder
from coldstart.encoders._heads import AlignedHeads, Head, Heads, HeadShape
from coldstart.errors import ColdstartError
from coldstart.models import install


def test_vectors_are_those_of_the_encoders_below_through_the_heads(tmp_path: Path) -> None:
    folder = aligned.folder(tmp_path / "heads")
    encoder = encoders.load(f"align:{folder}")
    assert isinstance(encoder, HeadEncoder)
    heads = AlignedHeads.load(folder).heads
    below = encoders.load("fake:64").encode_documents(["a red shoe", "lemon"])
    wanted = below @ heads.text.direct.weight.numpy().T + heads.text.bias.numpy()  # type: ignore[union-attr]
    wanted /= np.linalg.norm(wanted, axis=1, keepdims=True)
    np.testing.assert_allclose(encoder.encode_documents(["a red shoe", "lemon"]), wanted, atol=1e-6)
    np.testing.assert_allclose(encoder.project("text", below), wanted, atol=1e-6)
    picture = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    seen = torch.from_numpy(encoders.load("fake:48").encode_images([picture]))
    inner, outer = heads.image.inner, heads.image.outer
    assert inner is not None and outer is not None and heads.image.direct is not None
    by_hand = heads.image.direct(seen) + outer(torch.nn.functional.gelu(inner(seen))) + heads.image.bias
    np.testing.assert_allclose(encoder.encode_images([picture]), by_hand / by_hand.norm(), atol=1e-6)


def test_a_softmax_head_is_conse() -> None:
    head = Head(HeadShape(3, 2, hidden=4, activation="softmax", direct=False)).requires_grad_(False)
    assert head.inner is not None and head.outer is not None
    x = torch.tensor([[0.6, 0.8, 0.0]])
    logits = x @ head.inner.weight.T + head.inner.bias
    names = head.outer.weight.T  # a row a class
    conse = sum(
        probability * name for probability, name in zip(logits.exp()[0] / logits.exp().sum(), names, strict=True)
    )
    torch.testing.assert_close(head(x)[0], conse)


def test_pictures_and_words_share_a_passport_that_every_part_changes(tmp_path: Path) -> None:
    first = encoders.load(f"align:{aligned.folder(tmp_path / 'a')}", label="align:it").passport("image")
    assert encoders.load(f"align:{tmp_path / 'a'}", label="align:it").passport("text") == first
    assert (first.encoder, first.dim) == ("align:it", 16)
    others = [
        encoders.load(f"align:{aligned.folder(tmp_path / 'b', seed=1)}", label="align:it"),
        encoders.load(f"align:{aligned.folder(tmp_path / 'c', text='fake:32')}", label="align:it"),
        encoders.load(f"align:{tmp_path / 'a'}", label="align:other"),
    ]
    assert len({encoder.passport("image").digest for encoder in others} | {first.digest}) == 4


def test_heads_refuse_encoders_that_they_were_not_made_for(tmp_path: Path) -> None:
    folder = aligned.folder(tmp_path / "heads")
    path = folder / "heads.json"
    config = json.loads(path.read_text())
    config["towers"]["image"]["passport"]["weights"] = "sha256:other"
    path.write_text(json.dumps(config))
    with pytest.raises(ColdstartError) as caught:
        encoders.load(f"align:{folder}")
    assert str(caught.value) == (
        "encoder 'align:heads': its image head was fitted on another fake:48 (weights 'none' instead of "
        "'sha256:other'): fit it again"
    )


@pytest.mark.parametrize("name", ["align:", "align:nowhere"])
def test_a_name_that_is_no_folder_says_what_to_name(name: str) -> None:
    with pytest.raises(ColdstartError) as caught:
        encoders.load(name)
    given = name.partition(":")[2] or "nothing"
    assert str(caught.value) == (
        f"encoder {name!r}: {given} is no folder of aligned heads; in a pipeline, name a stage of kind "
        "align.text_image, such as align:text_image"
    )


def test_a_folder_whose_files_do_not_fit_is_refused(tmp_path: Path) -> None:
    folder = aligned.folder(tmp_path / "heads")
    with pytest.raises(ColdstartError, match=r"^.*nowhere does not hold aligned heads \(heads\.json\): "):
        AlignedHeads.load(tmp_path / "nowhere")
    aligned.folder(tmp_path / "wider", dim=24)
    (folder / "heads.safetensors").write_bytes((tmp_path / "wider" / "heads.safetensors").read_bytes())
    with pytest.raises(ColdstartError, match=r"heads\.safetensors does not fit heads\.json beside it: "):
        AlignedHeads.load(folder)


def test_heads_come_back_as_they_were_saved(tmp_path: Path) -> None:
    first = AlignedHeads.load(aligned.folder(tmp_path / "a"))
    first.save(tmp_path / "b")
    again = AlignedHeads.load(tmp_path / "b")
    assert again.heads.digest() == first.heads.digest()
    assert (again.towers, again.about) == (first.towers, {"seed": 0})
    assert (tmp_path / "a" / "heads.json").read_bytes() == (tmp_path / "b" / "heads.json").read_bytes()


def test_shapes_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match="a head needs a hidden layer or direct weights"):
        HeadShape(3, 2, direct=False)
    with pytest.raises(ValueError, match="heads of one space end in one width, not 2 and 3"):
        Heads(HeadShape(4, 2), HeadShape(4, 3))


def test_building_one_imports_no_torch(tmp_path: Path) -> None:
    folder = aligned.folder(tmp_path / "heads")
    code = (
        "import sys\nfrom coldstart import encoders\n"
        f"encoder = encoders.load('align:{folder}')\nencoder.passport('image')\nassert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_starter_clip_has_no_variants() -> None:
    with pytest.raises(ColdstartError) as caught:
        encoders.load("starter-clip:large")
    assert str(caught.value) == "encoder 'starter-clip:large' is unknown: it has no variants; write starter-clip"


@pytest.mark.slow
def test_starter_clip_finds_pictures_by_their_words() -> None:
    try:
        install.starter_folder("image"), install.starter_folder("text")
    except ColdstartError as error:
        pytest.skip(str(error))
    from coldstart.core import settings
    from coldstart.media.image import load_image
    from coldstart.media.limits import Limits

    encoder = encoders.load("starter-clip", device="cpu", dtype="float32")
    sample = settings.PACKAGE / "sample"
    rows = [json.loads(line) for line in (sample / "manifest.jsonl").read_text("utf-8").splitlines()]
    products = [row for row in rows if row["kind"] == "product"]
    assert encoder.image_transform is not None
    pictures = [load_image(sample / row["media"][0]["uri"], Limits(), encoder.image_transform) for row in products]
    cosines = encoder.encode_queries([row["title"] for row in products]) @ encoder.encode_images(pictures).T
    ranks = (cosines >= np.diag(cosines)[:, None]).sum(axis=1)
    assert (ranks <= 10).mean() > 0.4  # 10 of 65 by chance, 0.15
