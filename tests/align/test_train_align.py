"""Training of heads: that it learns, tells groups apart, stops, and goes on where it was killed."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from coldstart.align.head_math import Pairs, mrr_of, recall_of
from coldstart.align.losses import MAX_SCALE
from coldstart.align.settings import HeadTraining
from coldstart.align.train_heads import Epoch, fit, new_heads
from coldstart.core.optim import AdamW
from coldstart.encoders._heads import Heads
from coldstart.errors import ColdstartError

CPU = torch.device("cpu")
TRAINING = HeadTraining(epochs=6, batch_size=50, lr=5e-3, dim=24, patience=0, dropout=0.1)


def changed(**settings: Any) -> HeadTraining:
    """Return `TRAINING` with some settings changed."""
    return TRAINING.model_copy(update=settings)


class KilledError(Exception):
    pass


def unit(vectors: NDArray[np.float64]) -> NDArray[np.float32]:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def made(items: int = 300, seed: int = 0, noise: float = 0.3) -> Pairs:
    """Two pictures and two texts an item, both of one hidden cause; the second text (of weight 0.5) says less."""
    random, world = np.random.default_rng(seed), np.random.default_rng(99)
    cause, picture, words = random.standard_normal((items, 12)), *world.standard_normal((2, 12, 40))
    images = np.repeat(cause @ picture, 2, 0) + noise * random.standard_normal((2 * items, 40))
    texts = np.repeat(cause @ words, 2, 0) + noise * random.standard_normal((2 * items, 40))
    texts[1::2] += 3 * noise * random.standard_normal((items, 40))
    owners = np.repeat(np.arange(items), 2)
    weights = np.tile(np.float32([1, 0.5]), items)
    return Pairs(unit(images).astype(np.float16), owners, unit(texts), owners, weights, np.arange(items))


def parts() -> tuple[Pairs, Pairs]:
    pairs = made()
    return pairs.take(np.arange(200)), pairs.take(np.arange(200, 300))


def weights_of(heads: Heads) -> dict[str, list[float]]:
    return {name: weight.flatten().tolist() for name, weight in heads.state_dict().items()}


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["infonce", "siglip"])
@pytest.mark.parametrize("hidden", [0, 32])
def test_it_learns(loss: str, hidden: int) -> None:
    training = changed(loss=loss, hidden=hidden, hidden_dropout=0.1, epochs=15)
    train, valid = parts()
    start = new_heads(training, 40, 40)
    before = weights_of(start)
    fitted = fit(train, valid, start, training, device=CPU)
    assert recall_of(start, valid, CPU) < 0.25
    assert recall_of(fitted.heads, valid, CPU) > 0.9
    assert weights_of(start) == before
    assert [epoch.epoch for epoch in fitted.history] == list(range(1, 16)) and not fitted.stopped
    assert fitted.history[-1].loss < fitted.history[0].loss
    assert not any(weight.requires_grad for weight in fitted.heads.parameters())


def test_the_heads_are_those_of_the_best_epoch() -> None:
    train, valid = parts()
    fitted = fit(train, valid, new_heads(TRAINING, 40, 40), TRAINING, device=CPU)
    best = fitted.history[fitted.best_epoch - 1]
    assert best.mrr == max(epoch.mrr or 0 for epoch in fitted.history)
    assert mrr_of(fitted.heads, valid, CPU) == best.mrr
    assert fitted.heads.logit_scale.exp().item() == pytest.approx(best.scale)


@pytest.mark.slow
def test_it_stops_without_progress_and_keeps_heads_that_nothing_betters() -> None:
    train, valid = parts()
    good = fit(train, valid, new_heads(TRAINING, 40, 40), changed(epochs=15), device=CPU).heads
    ruined = changed(epochs=30, patience=3, noise=9.0, lr=0.1)
    fitted = fit(train, valid, good, ruined, device=CPU)
    assert (fitted.best_epoch, fitted.stopped, len(fitted.history)) == (0, True, 3)
    names = [name for name in weights_of(good) if not name.startswith("logit")]
    assert [weights_of(fitted.heads)[name] for name in names] == [weights_of(good)[name] for name in names]


def test_without_a_held_out_part_the_last_epoch_is_best() -> None:
    fitted = fit(parts()[0], None, new_heads(TRAINING, 40, 40), changed(patience=1), device=CPU)
    assert (fitted.best_epoch, fitted.stopped) == (6, False)
    assert [epoch.mrr for epoch in fitted.history] == [None] * 6


@pytest.mark.slow
def test_the_seed_decides_all() -> None:
    train, valid = parts()
    one, two, other = (
        weights_of(fit(train, valid, new_heads(training, 40, 40), training, device=CPU).heads)
        for training in (TRAINING, TRAINING, changed(seed=1))
    )
    assert one == two != other


@pytest.mark.slow
@pytest.mark.parametrize("killed_after", [1, 4])
@pytest.mark.parametrize("loss", ["infonce", "siglip"])
def test_killed_and_resumed_is_as_never_killed(tmp_path: Path, killed_after: int, loss: str) -> None:
    training = changed(loss=loss, hidden=16, hidden_dropout=0.2, noise=0.1, prior=0.1)
    train, valid = parts()
    start, path = new_heads(training, 40, 40), tmp_path / "state.safetensors"

    def kill(epoch: Epoch) -> None:
        if epoch.epoch == killed_after:
            raise KilledError

    whole = fit(train, valid, start, training, device=CPU)
    with pytest.raises(KilledError):
        fit(train, valid, start, training, device=CPU, checkpoint=path, progress=kill)
    seen: list[int] = []
    resumed = fit(
        train, valid, start, training, device=CPU, checkpoint=path, progress=lambda epoch: seen.append(epoch.epoch)
    )
    assert seen == list(range(killed_after + 1, 7))
    assert weights_of(resumed.heads) == weights_of(whole.heads)
    assert (resumed.history, resumed.best_epoch) == (whole.history, whole.best_epoch)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


@pytest.mark.slow
def test_a_finished_training_is_not_done_again(tmp_path: Path) -> None:
    train, valid = parts()
    start, path, seen = new_heads(TRAINING, 40, 40), tmp_path / "state.safetensors", []
    first = fit(train, valid, start, TRAINING, device=CPU, checkpoint=path)
    again = fit(train, valid, start, TRAINING, device=CPU, checkpoint=path, progress=seen.append)
    assert not seen and weights_of(again.heads) == weights_of(first.heads) and again.seconds == first.seconds


@pytest.mark.slow
def test_a_checkpoint_of_another_training_is_not_read(tmp_path: Path) -> None:
    train, valid = parts()
    start, path = new_heads(TRAINING, 40, 40), tmp_path / "state.safetensors"
    weighted = replace(train, text_weights=np.ones(600, np.float32))
    others = {
        "training": (train, valid, start, changed(lr=1e-3)),
        "pairs": (weighted, valid, start, TRAINING),
        "held out": (train, None, start, TRAINING),
        "heads": (train, valid, new_heads(changed(seed=3), 40, 40), TRAINING),
    }
    for what, other in others.items():
        fit(train, valid, start, TRAINING, device=CPU, checkpoint=path)
        seen: list[Epoch] = []
        fresh = fit(*other, device=CPU, checkpoint=path, progress=seen.append)
        assert len(seen) == 6, what
        assert weights_of(fresh.heads) == weights_of(fit(*other, device=CPU).heads), what


@pytest.mark.parametrize("content", [b"", b"no safetensors at all"])
def test_a_broken_checkpoint_starts_anew(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "state.safetensors"
    path.write_bytes(content)
    train, valid = parts()
    seen: list[Epoch] = []
    fit(train, valid, new_heads(TRAINING, 40, 40), TRAINING, device=CPU, checkpoint=path, progress=seen.append)
    assert len(seen) == 6


def test_the_scale_stays_below_its_bound() -> None:
    train, valid = parts()
    training = changed(lr=0.1)
    history = fit(train, valid, new_heads(training, 40, 40), training, device=CPU, scale=99.0).history
    assert max(epoch.scale for epoch in history) <= MAX_SCALE * (1 + 1e-6)


def test_a_prior_and_anchored_weights_hold_heads_back() -> None:
    train, start = parts()[0], new_heads(TRAINING, 40, 40)

    def moved(training: HeadTraining, anchored: bool = False) -> float:
        heads = fit(train, None, start, training, device=CPU, anchored=anchored).heads
        assert heads.image.direct is not None and start.image.direct is not None
        return (heads.image.direct.weight - start.image.direct.weight).square().sum().item()

    free = moved(TRAINING)
    assert moved(changed(prior=100.0)) < 0.5 * free
    assert moved(changed(weight_decay=50.0), anchored=True) < 0.5 * free


def test_pairs_of_one_group_alone_are_refused() -> None:
    pairs = made(5)
    with pytest.raises(ColdstartError) as refused:
        fit(replace(pairs, groups=np.zeros(5, np.int64)), None, new_heads(TRAINING, 40, 40), TRAINING, device=CPU)
    assert str(refused.value) == ("5 pairs of one group teach nothing: alignment needs items of at least two products")


def test_vectors_that_are_no_numbers_are_an_error() -> None:
    pairs = made(60)
    pairs.texts[4:6] = np.nan
    with pytest.raises(ColdstartError) as caught:
        fit(pairs, None, new_heads(TRAINING, 40, 40), TRAINING, device=CPU)
    assert str(caught.value) == "2 texts have vectors that are no finite numbers, the first at 4: embed them again"


def test_a_loss_that_is_no_number_is_an_error() -> None:
    training = changed(lr=1e20, weight_decay=1e15)
    with pytest.raises(ColdstartError) as caught:
        fit(made(60), None, new_heads(training, 40, 40), training, device=CPU)
    assert str(caught.value) == "the loss of epoch 3 is nan: use a lower lr than 1e+20"


@pytest.mark.parametrize("anchored", [False, True])
def test_the_optimiser_is_torchs(anchored: bool) -> None:
    random = torch.Generator().manual_seed(0)
    start, *gradients = torch.randn(9, 5, 4, generator=random)
    ours, theirs = start.clone().requires_grad_(), start.clone().requires_grad_()
    goal = torch.full_like(start, 0.5)
    optimiser = AdamW({"w": ours}, {"w": goal if anchored else None}, 0.3)
    reference = torch.optim.AdamW([theirs], betas=(0.9, 0.98), weight_decay=0.0 if anchored else 0.3)
    for step, gradient in enumerate(gradients):
        lr = 0.01 * (step + 1)
        ours.grad, theirs.grad = gradient.clone(), gradient.clone()
        if anchored:
            theirs.data = theirs.data * (1 - 0.3 * lr) + goal * 0.3 * lr
        reference.param_groups[0]["lr"] = lr
        optimiser.step(lr)
        reference.step()
        torch.testing.assert_close(ours, theirs)
    assert ours.grad is None and optimiser.steps == 8


def identity(dim: int) -> Heads:
    heads = new_heads(HeadTraining(dim=dim), dim, dim)
    for head in (heads.image, heads.text):
        assert head.direct is not None
        head.direct.weight.data = torch.eye(dim)
        head.bias.data.zero_()
    return heads


def one_each(images: NDArray[np.float32], texts: NDArray[np.float32], groups: NDArray[np.int64]) -> Pairs:
    own = np.arange(len(images))
    return Pairs(images, own, texts, own, np.ones(len(texts), np.float32), groups)


def test_recall_takes_any_of_the_group_for_right_and_ties_for_wrong() -> None:
    eye = np.eye(30, dtype=np.float32)
    turned = np.roll(eye, 1, axis=0)  # each text is at its neighbour's picture: the other 29 of each query tie
    assert recall_of(identity(30), one_each(eye, eye, np.arange(30)), CPU) == 1.0
    assert recall_of(identity(30), one_each(eye, turned, np.arange(30)), CPU) == 0.0
    assert recall_of(identity(30), one_each(eye, turned, np.arange(30) // 2), CPU) == 0.5
    flat = np.tile(eye[:1], (30, 1))
    assert recall_of(identity(30), one_each(flat, flat, np.arange(30)), CPU) == 0.0


def test_recall_means_pictures_and_takes_the_heaviest_text() -> None:
    eye = np.eye(24, dtype=np.float32)
    half = np.float32(0.6) * eye[:12] + np.float32(0.8) * eye[12:]
    pairs = Pairs(
        np.concatenate([eye[:12], half]),
        np.tile(np.arange(12), 2),
        np.concatenate([np.roll(eye[:12], 3, axis=0), eye[:12]]),
        np.tile(np.arange(12), 2),
        np.repeat(np.float32([1, 2]), 12),
        np.arange(12),
    )
    assert recall_of(identity(24), pairs, CPU) == 1.0


def test_draws_follow_weights_and_stay_with_their_item() -> None:
    rows = Pairs(
        np.zeros((2, 3), np.float32),
        np.array([1, 0]),
        np.zeros((6, 3), np.float32),
        np.array([1, 0, 1, -1, 0, 1]),
        np.float32([1, 2, 3, 9, 0, 0]),
        np.arange(2),
    ).text_rows()
    random = np.random.default_rng(0)
    drawn = rows.draw(np.tile([0, 1], 4000), random).reshape(-1, 2)
    assert set(drawn[:, 0].tolist()) == {1} and set(drawn[:, 1].tolist()) == {0, 2}
    assert np.mean(drawn[:, 1] == 2) == pytest.approx(0.75, abs=0.03)
    assert rows.heaviest().tolist() == [1, 2]


def test_a_part_shares_the_vectors_of_the_whole() -> None:
    pairs = made(10)
    part = pairs.take(np.array([7, 2]))
    assert part.images is pairs.images and part.texts is pairs.texts
    assert part.image_rows().order.tolist() == [14, 15, 4, 5] and part.groups.tolist() == [7, 2]
    assert part.take(np.array([1])).text_rows().order.tolist() == [4, 5]


def test_pairs_that_do_not_fit_are_refused() -> None:
    pairs = made(4)
    with pytest.raises(ColdstartError) as bare:
        replace(pairs, text_weights=np.float32([1, 1, 0, 0, 1, 1, 0, 0]))
    with pytest.raises(ColdstartError) as lengths:
        replace(pairs, text_items=np.arange(4))
    with pytest.raises(ColdstartError) as beyond:
        replace(pairs, groups=np.arange(3))
    with pytest.raises(ColdstartError) as below:
        replace(pairs, text_weights=np.float32([1, -1] * 4))
    assert [str(error.value) for error in (bare, lengths, beyond, below)] == [
        "2 items have no text of a weight above 0, the first at 1",
        "texts: 8 vectors, 4 items and 8 weights do not fit",
        "pictures name item 3 of 3",
        "a weight of -1.0: weights are at least 0",
    ]
