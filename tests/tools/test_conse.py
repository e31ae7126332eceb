"""ConSE as heads: against a loop over the classes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from coldstart import encoders
from tools.starter_clip import conse


def _small() -> tuple[torch.Tensor, torch.Tensor, np.ndarray]:
    random = np.random.default_rng(0)
    names = random.standard_normal((5, 4)).astype(np.float32) + 1
    names /= np.linalg.norm(names, axis=1, keepdims=True)
    weight = torch.from_numpy(random.standard_normal((5, 6)).astype(np.float32))
    return weight, torch.from_numpy(random.standard_normal(5).astype(np.float32)), names


def test_image_head_is_the_names_weighted_by_probability() -> None:
    weight, bias, names = _small()
    heads = conse.heads_of(weight, bias, names, norm=3.0)
    x = np.array([1, 0, 0, 0, 0, 0], np.float32)
    logits = [3.0 * float(weight[k].numpy() @ x) + float(bias[k]) for k in range(5)]
    shares = np.exp(logits) / np.exp(logits).sum()
    middle = names.mean(0)
    wanted = sum(
        share * (name - middle) / np.linalg.norm(name - middle) for share, name in zip(shares, names, strict=True)
    )
    with torch.no_grad():
        found = heads.image(torch.from_numpy(x)[None])[0].numpy()
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_text_head_moves_the_middle_and_no_more() -> None:
    weight, bias, names = _small()
    heads = conse.heads_of(weight, bias, names)
    with torch.no_grad():
        found = heads.text(torch.from_numpy(names)).numpy()
    np.testing.assert_allclose(found, names - names.mean(0), atol=1e-6)


def test_classes_are_in_the_order_of_the_classifier() -> None:
    words = conse.class_words()
    assert len(words) == 1000
    assert words[130] == (
        "flamingo",
        "large pink to scarlet web-footed wading bird with down-bent bill; inhabits brackish lakes",
    )
    assert [name for name, _ in words][:2] == ["tench", "goldfish"]


@pytest.mark.slow
def test_prior_finds_a_class_by_its_name() -> None:
    encoder = encoders.load("starter", device="cpu")
    heads = conse.prior(encoder)
    weight, _ = conse.classifier()
    chosen = [130, 1, 609]  # flamingo, goldfish, jeep
    texts = torch.from_numpy(encoder.encode_documents(["a pink flamingo", "a goldfish in a bowl", "an off-road jeep"]))
    with torch.no_grad():
        images = torch.nn.functional.normalize(heads.image(torch.nn.functional.normalize(weight[chosen], dim=1)), dim=1)
        said = torch.nn.functional.normalize(heads.text(texts), dim=1)
    assert (images @ said.T).argmax(1).tolist() == [0, 1, 2]
