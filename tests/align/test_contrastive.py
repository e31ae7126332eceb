"""Losses against open_clip's own where nothing is left out, and against loops where something is."""

import math

import pytest
import torch
from open_clip.loss import ClipLoss, SigLipLoss

from coldstart.align.losses import info_nce, sigmoid_loss

SCALE, BIAS = torch.tensor(9.0), torch.tensor(-3.0)
NOTHING = torch.zeros(6, 6, dtype=torch.bool)


def made(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(seed)
    image, text = torch.randn(2, 6, 4, generator=random)
    return torch.nn.functional.normalize(image, dim=1), torch.nn.functional.normalize(text, dim=1)


def grouped() -> torch.Tensor:
    groups = torch.tensor([0, 1, 0, 2, 2, 2])
    return groups[:, None] == groups[None]


@pytest.mark.parametrize("same", [NOTHING, torch.eye(6, dtype=torch.bool)])
def test_info_nce_is_open_clips(same: torch.Tensor) -> None:
    image, text = made()
    assert info_nce(image, text, SCALE, same).item() == pytest.approx(ClipLoss()(image, text, SCALE).item(), rel=1e-6)


@pytest.mark.parametrize("same", [NOTHING, torch.eye(6, dtype=torch.bool)])
def test_sigmoid_loss_is_open_clips(same: torch.Tensor) -> None:
    image, text = made()
    theirs = SigLipLoss()(image, text, SCALE, BIAS).item()
    assert sigmoid_loss(image, text, SCALE, BIAS, same).item() == pytest.approx(theirs, rel=1e-6)


def test_info_nce_leaves_out_the_same_group() -> None:
    image, text = made()
    same, total = grouped(), 0.0
    for a, b in ((image, text), (text, image)):
        for i in range(6):
            scores = [9.0 * float(a[i] @ b[j]) for j in range(6) if j == i or not same[i, j]]
            total -= (9.0 * float(a[i] @ b[i]) - math.log(sum(math.exp(score) for score in scores))) / 12
    assert info_nce(image, text, SCALE, same).item() == pytest.approx(total, rel=1e-5)


def test_sigmoid_loss_leaves_out_the_same_group() -> None:
    image, text = made()
    same, total = grouped(), 0.0
    for i in range(6):
        for j in range(6):
            if i == j or not same[i, j]:
                sign = 1 if i == j else -1
                total += math.log(1 + math.exp(-sign * (9.0 * float(image[i] @ text[j]) - 3.0))) / 6
    assert sigmoid_loss(image, text, SCALE, BIAS, same).item() == pytest.approx(total, rel=1e-5)


def test_smoothing_is_torchs_where_nothing_is_left_out() -> None:
    image, text = made()
    logits, own = 9.0 * image @ text.T, torch.arange(6)
    theirs = sum(torch.nn.functional.cross_entropy(z, own, label_smoothing=0.2) for z in (logits, logits.T)) / 2
    assert info_nce(image, text, SCALE, NOTHING, 0.2).item() == pytest.approx(float(theirs), rel=1e-6)


def test_smoothing_spreads_over_what_is_kept() -> None:
    image, text = made()
    same, total = grouped(), 0.0
    for a, b in ((image, text), (text, image)):
        for i in range(6):
            kept = [j for j in range(6) if j == i or not same[i, j]]
            logs = torch.log_softmax(9.0 * torch.stack([a[i] @ b[j] for j in kept]), 0)
            target = torch.full((len(kept),), 0.2 / len(kept))
            target[kept.index(i)] += 0.8
            total -= float((target * logs).sum()) / 12
    assert info_nce(image, text, SCALE, same, 0.2).item() == pytest.approx(total, rel=1e-5)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_one_group_alone_teaches_nothing_and_stays_finite(smoothing: float) -> None:
    image, text = (side.requires_grad_() for side in made())
    loss = info_nce(image, text, SCALE, torch.ones(6, 6, dtype=torch.bool), smoothing)
    loss.backward()
    assert loss.item() == 0 and image.grad is not None and not image.grad.any()


def test_gradients_are_those_of_the_kept_pairs_alone() -> None:
    image, text = made()
    lone = torch.ones(6, 6, dtype=torch.bool)
    lone[0, 1] = lone[1, 0] = False  # the only negatives: 0 and 1 of each other
    image.requires_grad_()
    sigmoid_loss(image, text, SCALE, BIAS, lone).backward()
    one = image.detach().clone().requires_grad_()
    pair = sigmoid_loss(one[:2], text[:2], SCALE, BIAS, NOTHING[:2, :2]) * 2 / 6
    pair.backward()
    assert image.grad is not None and one.grad is not None
    torch.testing.assert_close(image.grad[:2], one.grad[:2])
