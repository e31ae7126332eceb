"""Train the heads of `starter-clip`: ConSE, then a fit on a few publishable pictures.

    python -m tools.starter_clip.train --data DIR --out DIR [--cache DIR]

ConSE stays as it is. Beside it each side learns a linear map: InfoNCE between pictures and their texts, and between
imagined pictures of the 1,000 ImageNet classes and their names and definitions, while what it maps is held near to
where ConSE had it. The pictures are of few products, and the space has to serve others. The same data and seed give
the same weights on the same machine. Takes minutes, most of them for the vectors of pictures, which `--cache` keeps.
"""

from __future__ import annotations

import argparse
import copy
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.functional import normalize

from coldstart import encoders, sample
from coldstart.align.losses import MAX_SCALE, info_nce
from coldstart.encoders import Encoder
from coldstart.encoders._heads import WEIGHTS, AlignedHeads, Head, Heads, Tower
from coldstart.errors import ColdstartError
from tools.starter_clip import conse
from tools.starter_clip.data import Source, sources, vectors_of_frames, vectors_of_pictures

SHARES = {"grocery": 0.6, "clothing": 0.25, "video": 0.15}
"""Share of a batch of each kind; within a kind all sources alike, however many pictures they have."""


@dataclass(frozen=True)
class Recipe:
    """Settings of the training; chosen by products and labels left out of it, not by what the model card reports.

    Attributes:
        steps: of AdamW; its rate falls from `lr` to zero as a cosine.
        batch_size: pairs a step, and as many of imagined pictures.
        world: weight of the loss over imagined pictures of ImageNet classes.
        noise: length of the random vector that is added to each picture's before the linear map.
        keep: weight of the mean squared distance to ConSE, on both sides.
        scale: what cosines are multiplied by at first; learnt.
        seed: of draws and noise.
    """

    steps: int = 120
    batch_size: int = 160
    lr: float = 1e-3
    noise: float = 0.3
    world: float = 1.0
    keep: float = 3.0
    scale: float = 14.0
    seed: int = 0


@dataclass(frozen=True)
class Material:
    """Training data as vectors of the frozen encoders; S sources.

    Attributes:
        images: float32 `[N, Di]`; sources: int64 `[N]`, of each; weights: float32 `[N]`, how often each is drawn.
        texts: float32 `[S, K, Dt]`: the texts of each source, in turn until there are K.
    """

    images: torch.Tensor
    sources: torch.Tensor
    weights: torch.Tensor
    texts: torch.Tensor


def gather(found: Sequence[Source], encoder: Encoder, cache: Path | None = None) -> Material:
    """Encode all pictures and texts.

    Raises:
        ColdstartError: there are no sources.
    """
    if not found:
        raise ColdstartError("there is nothing to train on: no source has pictures")
    files = [file for source in found if source.kind != "video" for file in source.files]
    pictures, taken, parts = vectors_of_pictures(files, encoder, cache), 0, []
    for source in found:
        if source.kind == "video":
            parts.append(vectors_of_frames(source.files[0], encoder, cache))
        else:
            parts.append(pictures[taken : taken + len(source.files)])
            taken += len(source.files)
    kinds = [source.kind for source in found]
    shares = [
        SHARES[source.kind] / kinds.count(source.kind) / len(part) for source, part in zip(found, parts, strict=True)
    ]
    counts = torch.tensor([len(part) for part in parts])
    vectors = iter(encoder.encode_documents([text for source in found for text in source.texts]))
    texts = [np.stack([next(vectors) for _ in source.texts]) for source in found]
    longest = max(len(rows) for rows in texts)
    return Material(
        torch.from_numpy(np.concatenate(parts)),
        torch.arange(len(found)).repeat_interleave(counts),
        torch.tensor(shares, dtype=torch.float32).repeat_interleave(counts),
        torch.from_numpy(np.stack([rows[np.arange(longest) % len(rows)] for rows in texts])),
    )


def imagined(material: Material, encoder: Encoder, seed: int = 0) -> Material:
    """Sample vectors like those of pictures of the ImageNet classes, without pictures: four of each class.

    A linear classifier's row is the middle of its class times the inverse of the covariance within classes (Fisher's
    discriminant), so covariance times row points to where the class lies. What sets a real picture apart from the
    mean is added. The texts are the class's name, alone and in a sentence, and its definition.
    """
    random = torch.Generator().manual_seed(seed)
    weight, _ = conse.classifier()
    images, count = material.images, 4 * len(weight)
    mean = images.mean(0)
    spread = images - mean
    covariance = spread.T @ spread / len(images)
    covariance = 0.9 * covariance + 0.1 * covariance.diagonal().mean() * torch.eye(len(mean))
    ways = (weight - weight.mean(0)) @ covariance
    ways = ways / ways.norm(dim=1).median() / 2
    classes = torch.arange(count) % len(weight)
    drawn = torch.randint(len(images), (count,), generator=random)
    words = conse.class_words()
    texts = [text for name, told in words for text in (conse.TEMPLATE.format(name), told, name)]
    return Material(
        normalize(mean + ways[classes] + 0.7 * spread[drawn], dim=1),
        classes,
        torch.ones(count),
        torch.from_numpy(encoder.encode_documents(texts)).view(len(words), 3, -1),
    )


def train(material: Material, prior: Heads, recipe: Recipe | None = None, world: Material | None = None) -> Heads:
    """Train a copy of the prior on the material and, if given, the imagined pictures.

    The direct ways, the biases and the scale learn; the softmax branch, if any, stays as it was.

    Raises:
        ColdstartError: a head has no direct way.
    """
    recipe = recipe or Recipe()
    random = torch.Generator().manual_seed(recipe.seed)
    heads = copy.deepcopy(prior).requires_grad_(False)
    image, text = heads.image, heads.text
    if image.direct is None or text.direct is None:
        raise ColdstartError("heads without a direct way have nothing that could learn beside their prior")
    heads.logit_scale.fill_(math.log(recipe.scale))
    learnt = [image.direct.weight, image.bias, text.direct.weight, text.bias, heads.logit_scale]
    first_weight, first_bias = image.direct.weight.clone(), image.bias.clone()
    for weight in learnt:
        weight.requires_grad_(True)
    optimiser = torch.optim.AdamW(learnt, lr=recipe.lr, betas=(0.9, 0.98), weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, recipe.steps)
    parts = [(material, recipe.noise, 1.0)] + ([(world, 0.0, recipe.world)] if world else [])
    with torch.no_grad():
        before = [prior.image(part.images) for part, _, _ in parts]  # what learning adds is added to this
    for _ in range(recipe.steps):
        loss = torch.zeros(())
        for (part, length, share), fixed in zip(parts, before, strict=True):
            rows = torch.multinomial(part.weights, recipe.batch_size, replacement=True, generator=random)
            of = part.sources[rows]
            words = part.texts[of, torch.randint(part.texts.shape[1], of.shape, generator=random)]
            shown = part.images[rows]
            if length:
                shown = shown + torch.randn(shown.shape, generator=random) * (length / shown.shape[1] ** 0.5)
            added = shown @ (image.direct.weight - first_weight).T + (image.bias - first_bias)
            found, said = normalize(fixed[rows] + added, dim=1), normalize(text(words), dim=1)
            loss = loss + share * info_nce(found, said, heads.logit_scale.exp(), of[:, None] == of[None])
            if part is material:
                with torch.no_grad():
                    first = normalize(fixed[rows], dim=1), normalize(prior.text(words), dim=1)
                loss = loss + recipe.keep * (found - first[0]).square().sum(1).mean()
                loss = loss + recipe.keep * (said - first[1]).square().sum(1).mean()
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
        with torch.no_grad():
            heads.logit_scale.clamp_(max=math.log(MAX_SCALE))
    return heads.requires_grad_(False).eval()


def without_prior(prior: Heads, seed: int = 0) -> Heads:
    """Linear heads of the same widths: the picture's random, the text's as it was. To show what the prior is worth."""
    made = copy.deepcopy(prior)
    made.image = Head(replace(prior.image.shape, hidden=0, direct=True))
    random = torch.Generator().manual_seed(seed)
    width = prior.image.shape.inputs
    assert made.image.direct is not None
    with torch.no_grad():
        made.image.direct.weight.copy_(torch.randn(prior.dim, width, generator=random) / width**0.5)
    return made


def save(heads: Heads, encoder: Encoder, folder: Path, about: Mapping[str, Any]) -> None:
    """Write the heads in float16, readable by all."""
    towers = {side: Tower("starter", asdict(encoder.passport(side))) for side in ("image", "text")}
    AlignedHeads(towers, heads, about).save(folder, dtype=torch.float16)
    (folder / WEIGHTS).chmod(0o644)


def make(data: Path, out: Path, cache: Path | None = None, recipe: Recipe | None = None) -> Heads:
    """Train on the sets in `data` and write the heads into `out`."""
    recipe = recipe or Recipe()
    encoder = encoders.load("starter", device="cpu")
    found = sources(data, sample.path() / "truth.jsonl")
    material = gather(found, encoder, cache)
    heads = train(material, conse.prior(encoder), recipe, imagined(material, encoder, recipe.seed))
    counts = {kind: sum(len(source.files) for source in found if source.kind == kind) for kind in SHARES}
    about = {"made_by": "python -m tools.starter_clip.train", "recipe": asdict(recipe), "files": counts}
    save(heads, encoder, out, about)
    return heads


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.starter_clip.train", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with grocery, clothing and videos_real")
    parser.add_argument("--out", type=Path, required=True, help="where heads.json and heads.safetensors go")
    parser.add_argument("--cache", type=Path, help="keeps the vectors of pictures, for the next time")
    options = parser.parse_args()
    torch.set_num_threads(1)  # the matrices are small, and the order of sums stays the same
    try:
        make(options.data, options.out, options.cache)
    except ColdstartError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
