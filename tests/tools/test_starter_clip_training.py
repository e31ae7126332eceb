"""How the shipped heads are made, and that they are what their card says."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from paths import DATA
from torch.nn.functional import normalize

from coldstart import encoders, sample
from coldstart.encoders._heads import CONFIG, WEIGHTS, AlignedHeads, Heads, HeadShape
from coldstart.encoders.starter_clip import HEADS
from coldstart.errors import ColdstartError
from tools.starter_clip import conse, data, train
from tools.starter_clip.train import Material, Recipe

QUICK = Recipe(steps=150, batch_size=32, lr=3e-2, noise=0.1, keep=0.02)


def _toy(seed: int = 0) -> tuple[Material, Heads]:
    """Eight things; their texts are a turned copy of what their pictures have in common."""
    random = torch.Generator().manual_seed(seed)
    things = torch.randn(8, 12, generator=random)
    turn = torch.randn(12, 6, generator=random)
    images = normalize(things.repeat_interleave(5, 0) + 0.2 * torch.randn(40, 12, generator=random), dim=1)
    texts = normalize(things @ turn, dim=1)[:, None].repeat(1, 2, 1)
    material = Material(images, torch.arange(8).repeat_interleave(5), torch.ones(40), texts)
    names = normalize(torch.randn(7, 6, generator=random), dim=1).numpy()
    weight = torch.randn(7, 12, generator=random)
    return material, conse.heads_of(weight, torch.zeros(7), names, norm=2.0)


def _found(heads: Heads, material: Material) -> float:
    with torch.no_grad():
        cosines = normalize(heads.image(material.images), dim=1) @ normalize(heads.text(material.texts[:, 0]), dim=1).T
    return float((cosines.argmax(1) == material.sources).float().mean())


@pytest.mark.slow
def test_training_finds_more_than_its_prior_and_leaves_the_softmax_alone() -> None:
    material, prior = _toy()
    made = train.train(material, prior, QUICK)
    assert _found(prior, material) < 0.5
    assert _found(made, material) > 0.9
    assert made.image.inner is not None and prior.image.inner is not None
    assert torch.equal(made.image.inner.weight, prior.image.inner.weight)
    assert prior.image.direct is not None and not prior.image.direct.weight.any()


@pytest.mark.slow
def test_same_seed_gives_the_same_weights() -> None:
    material, prior = _toy()
    first, again, other = (
        train.train(material, prior, Recipe(**{**asdict(QUICK), "seed": seed}), material) for seed in (0, 0, 1)
    )
    states = [heads.state_dict() for heads in (first, again, other)]
    assert all(torch.equal(weight, states[1][name]) for name, weight in states[0].items())
    assert not torch.equal(states[0]["image.direct.weight"], states[2]["image.direct.weight"])


@pytest.mark.slow
def test_keep_holds_heads_near_to_the_prior() -> None:
    material, prior = _toy()
    made = [train.train(material, prior, Recipe(**{**asdict(QUICK), "keep": keep})) for keep in (30.0, 0.0)]
    with torch.no_grad():
        start, near, far = (normalize(heads.image(material.images), dim=1) for heads in (prior, *made))
    assert (near * start).sum(1).mean() > (far * start).sum(1).mean() + 0.1


def test_nothing_to_train_on_and_nothing_that_learns_are_told() -> None:
    with pytest.raises(ColdstartError, match=r"^there is nothing to train on: no source has pictures$"):
        train.gather([], encoders.load("fake"))
    material, _ = _toy()
    stiff = Heads(HeadShape(12, 6, 7, "softmax", direct=False), HeadShape(6, 6))
    with pytest.raises(ColdstartError, match=r"^heads without a direct way have nothing that could learn"):
        train.train(material, stiff)


def test_missing_data_is_named(tmp_path: Path) -> None:
    with pytest.raises(ColdstartError, match=r"products.jsonl cannot be read .*: name the folder of the data sets$"):
        data.sources(tmp_path)


def _grocery(folder: Path) -> None:
    (folder / "grocery").mkdir(parents=True)
    products = [
        {"id": f"p{n}", "title": f"T{n}", "text": f"D{n}", "coarse": "Fruit", "file": f"icon{n}.jpg"} for n in range(20)
    ]
    images = [
        {"product_id": f"p{n}", "split": split, "file": f"{split}{n}.jpg", "source_path": f"{split}/{n}.jpg"}
        for n in range(20)
        for split in ("train", "val", "test")
    ]
    for name, found in (("products", products), ("images", images)):
        (folder / "grocery" / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in found))
    (folder / "clothing").mkdir()
    clothes = [{"label": "hat", "split": split, "file": f"{split}.jpg"} for split in ("train", "test", "validation")]
    (folder / "clothing" / "images.jsonl").write_text("".join(json.dumps(row) + "\n" for row in clothes))
    (folder / "videos_real").mkdir()
    clips = [
        ("a", "open", None, "walking"),
        ("b", "open", "a", "walking again"),
        ("c", "research", None, "cooking"),
        ("d", "open", None, "sign: yes"),
        ("e", "open", None, "sign: no"),
    ]
    (folder / "videos_real" / "videos.jsonl").write_text(
        "".join(
            json.dumps(
                {"id": i, "licence_tier": tier, "duplicate_of": of, "title": title, "text": "t", "file": f"{i}.mp4"}
            )
            + "\n"
            for i, tier, of, title in clips
        )
    )


def test_only_what_may_be_trained_on_is_taken(tmp_path: Path) -> None:
    _grocery(tmp_path)
    shown = tmp_path / "truth.jsonl"
    hidden = data.held_out(f"p{n}" for n in range(20))
    kept = sorted({f"p{n}" for n in range(20)} - hidden)
    assert len(hidden) == 15
    number = kept[0][1:]
    shown.write_text(json.dumps({"shots": [{"photo": f"train/{number}.jpg"}]}) + "\n")
    found = data.sources(tmp_path, shown)
    assert sorted(source.name for source in found) == sorted([*kept, "hat", "a", "d"])
    files = {source.name: [file.name for file in source.files] for source in found}
    assert files[kept[0]] == [f"icon{number}.jpg"]
    assert files[kept[1]] == [f"train{kept[1][1:]}.jpg", f"icon{kept[1][1:]}.jpg"]
    assert files["hat"] == ["train.jpg"]


def test_shipped_heads_fit_the_shipped_code() -> None:
    aligned = AlignedHeads.load(HEADS)
    assert sum(file.stat().st_size for file in HEADS.iterdir()) <= 6_000_000
    assert {side: tower.encoder for side, tower in aligned.towers.items()} == {"image": "starter", "text": "starter"}
    assert aligned.heads.image.shape == HeadShape(1280, 384, 1000, "softmax")
    assert aligned.heads.text.shape == HeadShape(384, 384)
    assert aligned.about["recipe"] == asdict(Recipe())
    for weight in aligned.heads.parameters():
        assert torch.isfinite(weight).all()
    assert {CONFIG, WEIGHTS, "MODEL_CARD.md"} == {file.name for file in HEADS.iterdir()}


@pytest.mark.slow
def test_shipped_heads_are_of_the_pinned_starter_models() -> None:
    starter = encoders.load("starter", device="cpu")
    for side, tower in AlignedHeads.load(HEADS).towers.items():
        assert dict(tower.passport) == asdict(starter.passport(side))  # type: ignore[arg-type]


def _ours(folder: Path, files: list[Path], texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
    from coldstart.encoders._aligned import AlignedEncoder

    encoder = AlignedEncoder("starter-clip", folder, device="cpu", dtype="auto", allow_random_weights=False)
    pictures = data.vectors_of_pictures(files, encoders.load("starter", device="cpu"))
    return encoder.project("image", pictures), encoder.encode_documents(texts)


def _recall(images: np.ndarray, texts: np.ndarray, groups: list[int], k: int) -> float:
    from coldstart.metrics import ranking

    right = ranking.right_places(groups, list(range(len(texts))))
    return ranking.recall_at_k(ranking.ranks(images, texts, right), k)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "k", "floor"), [("flickr8k_1k", 10, 0.36), ("fashion_products", 10, 0.33)])
def test_shipped_heads_know_what_they_never_saw(name: str, k: int, floor: float) -> None:
    if not (DATA / name).is_dir():
        pytest.skip(f"no {name} in {DATA}: set COLDSTART_DATA")
    listed = "images.jsonl" if name == "flickr8k_1k" else "products.jsonl"
    found = [
        row for row in data.rows(DATA / name / listed) if name != "fashion_products" or not data.first_half(row["id"])
    ][:200]
    texts = [row["captions"][0] if name == "flickr8k_1k" else row["title"] for row in found]
    images, said = _ours(HEADS, [DATA / name / row["file"] for row in found], texts)
    assert _recall(images, said, list(range(len(found))), k) >= floor


@pytest.mark.slow
def test_shipped_heads_know_products_that_were_held_out() -> None:
    folder = DATA / "grocery"
    if not folder.is_dir():
        pytest.skip(f"no grocery in {DATA}: set COLDSTART_DATA")
    products = data.rows(folder / "products.jsonl")
    hidden = sorted(data.held_out(product["id"] for product in products))
    photos = [row for row in data.rows(folder / "images.jsonl") if row["product_id"] in hidden][::3]
    titles = {product["id"]: product["title"] for product in products}
    images, said = _ours(HEADS, [folder / row["file"] for row in photos], [titles[name] for name in hidden])
    assert _recall(images, said, [hidden.index(row["product_id"]) for row in photos], 5) >= 0.8


def test_sample_shots_name_photos_of_the_training_split() -> None:
    shots = [shot for row in data.rows(sample.path() / "truth.jsonl") for shot in row["shots"]]
    assert shots and all(Path(shot["photo"]).suffix == ".jpg" for shot in shots)
