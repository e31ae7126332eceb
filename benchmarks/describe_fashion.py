"""Descriptions of fashion photos, written from their pixels: 483 products held out, the photo alone given.

    python -m benchmarks.describe_fashion [--short]

Needs the real data (`COLDSTART_DATA`, default `../shared/data`) and the starter models. The split is that of
`align_fashion`: products of one title or nearly one picture fall on one side, 483 are held out, and of the others a
tenth is the part by which training stops. `starter-vlm` is trained in its two stages to write a line such as
`Men Brown Casual Shoes, Casual.`, greedily and bound to nothing; a line that does not read so counts as wrong in all.
Beside it stand linear probes, which choose among the values instead of writing them: least squares to one-hot targets
over the pooled features, and over all levels, with the penalty that does best on the part to stop by. Settings were
chosen on that part as well. Picture features and the fit are kept under `.bench/`, the fit by all that it follows from:
a rerun writes with it again and repeats its seconds. `--short` trains on 256 products, one epoch a stage, anew.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.align_fashion import DATA, HELD_OUT, NEAR, VALID_SHARE, held_out, pictures, products
from benchmarks.report import CACHE, Row
from coldstart import encoders
from coldstart.core.stage import Reject
from coldstart.describe.finetune.training import Example, VlmSettings
from coldstart.describe.finetune.vlm import train_vlm
from coldstart.describe.finetune.vlm_state import Epoch
from coldstart.encoders.starter import IMAGE_DIM, LEVELS_DIM
from coldstart.generators import Request, Sampling, _smollm2
from coldstart.generators.starter_vlm import StarterVlm, vision_encoder, visual_features
from coldstart.media.image import load_image
from coldstart.media.limits import Limits
from coldstart.metrics.ranking import bootstrap
from coldstart.metrics.splits import group_items, near_pairs, split

FIELDS = {"type": "article_type", "colour": "colour", "gender": "gender", "usage": "usage"}
GOAL = {"type": "at least 0.87", "colour": "at least 0.50", "gender": "at least 0.89", "usage": ""}
REFERENCE = {"type": 0.834, "colour": 0.464, "gender": 0.886, "usage": 0.915}
ALONE = {"type": 0.586, "colour": 0.335, "gender": 0.737, "usage": 0.818}
PENALTIES = (0.03, 0.1, 0.3, 1.0, 3.0)
SETTINGS = VlmSettings(epochs=4, batch_size=16, lr=1e-3)
FULL, FIRST = "starter-vlm", "starter-vlm, projector alone"
STATE = "state.safetensors"
_BLANK = np.zeros((1, 1, 3), np.uint8)
Right = dict[str, NDArray[np.bool_]]


WRITTEN = CACHE / "describe_fashion.jsonl"
"""What was written of the products held out: `writer`, `item_id`, `text` a line."""


def line_of(product: dict[str, Any]) -> str:
    """What should be written."""
    return f"{product['gender']} {product['colour']} {product['article_type']}, {product['usage']}."


def right(texts: Sequence[str], asked: Sequence[dict[str, Any]], known: Sequence[dict[str, Any]]) -> Right:
    """Of each field, which texts state it as the record does.

    Args:
        known: products whose genders and colours tell where one word of a line ends and the next begins.
    """
    ends = {
        name: "|".join(sorted(map(re.escape, {product[name] for product in known}), key=len, reverse=True))
        for name in ("gender", "colour")
    }
    line = re.compile(
        rf"(?P<gender>{ends['gender']}) (?P<colour>{ends['colour']}) (?P<article_type>.+), (?P<usage>.+)\."
    )
    read = [found.groupdict() if (found := line.fullmatch(text)) else {} for text in texts]
    return {
        name: np.array([own.get(field) == product[field] for own, product in zip(read, asked, strict=True)])
        for name, field in FIELDS.items()
    }


def features(paths: list[Path]) -> NDArray[np.float16]:
    """What the projector takes of each picture, kept by what made it."""
    seeing = vision_encoder()
    about = [repr(seeing.passport("image")), "grid", *(path.name for path in paths)]
    kept = CACHE / f"describe_fashion-{sha256(json.dumps(about).encode()).hexdigest()[:12]}.npy"
    if not kept.exists():
        CACHE.mkdir(exist_ok=True)
        seen = (load_image(path, Limits(), seeing.image_transform) for path in paths)
        np.save(kept, visual_features(seeing, ([image] for image in seen)))
    found: NDArray[np.float16] = np.load(kept)
    return found


def probes(
    seen: NDArray[np.float32], sides: dict[str, NDArray[np.int64]], lines: list[dict[str, Any]]
) -> dict[str, NDArray[np.bool_]]:
    """Least squares with a penalty to one-hot targets, for each field; right or wrong of those held out."""
    learnt = torch.from_numpy(seen[sides["train"]])
    mean, deviation = learnt.mean(0), learnt.std(0)
    values = (torch.from_numpy(seen) - mean) / deviation.clamp(min=0.05 * float(deviation.mean()))
    rows = {side: values[places] for side, places in sides.items()}
    gram = rows["train"].T @ rows["train"] / len(rows["train"])
    found = {}
    for name, field in FIELDS.items():
        known = sorted({line[field] for line in lines})
        truth = torch.tensor([known.index(line[field]) for line in lines])
        goals = torch.nn.functional.one_hot(truth, len(known)).float()
        share = goals[sides["train"]].mean(0)
        toward = rows["train"].T @ (goals[sides["train"]] - share) / len(rows["train"])
        best = (-1.0, np.zeros(0, np.bool_))
        for penalty in PENALTIES:
            weights = torch.linalg.solve(gram + penalty * torch.eye(len(gram)), toward)
            hits = {side: ((rows[side] @ weights + share).argmax(1) == truth[sides[side]]) for side in sides}
            if (score := float(hits["valid"].float().mean())) > best[0]:
                best = (score, hits["test"].numpy())
        found[name] = best[1]
    return found


def written(folder: Path, seen: NDArray[np.float16]) -> tuple[list[str], float, int]:
    """Texts of a fit from the features of pictures, the seconds that they took, and their tokens."""
    writer = StarterVlm(folder, "auto", "auto", batch_size=64)
    asked = [Request("", images=(_BLANK,))] * len(seen)
    writer.generate_from(asked[:1], seen[:1], Sampling(max_new_tokens=2))  # loads the weights
    began = time.perf_counter()
    found = writer.generate_from(asked, seen, Sampling(max_new_tokens=32))
    texts = [one for one in found if not isinstance(one, Reject)]
    return [one.text for one in texts], time.perf_counter() - began, sum(one.new_tokens for one in texts)


def fitted(
    seen: NDArray[np.float16], sides: dict[str, NDArray[np.int64]], lines: list[dict[str, Any]], short: bool
) -> tuple[Path, dict[str, Any]]:
    """Folder of the fit, and what there is to say of it; kept by all that it follows from, but for short ones."""
    settings = SETTINGS.model_copy(update={"epochs": 1}) if short else SETTINGS
    parts = {side: places[: 256 if short else None] for side, places in sides.items()}
    examples = {
        side: [Example(lines[place]["id"], "", "", line_of(lines[place])) for place in parts[side]]
        for side in ("train", "valid")
    }
    about = json.dumps([settings.model_dump(), [[asdict(one) for one in part] for part in examples.values()]])
    key = sha256(about.encode() + seen[::97].tobytes()).hexdigest()[:12]
    folder = CACHE / f"describe_fashion-{'short' if short else key}"
    report = folder / "report.json"
    if short:
        shutil.rmtree(folder, ignore_errors=True)
    if not report.exists():

        def tell(epoch: Epoch) -> None:
            print(f"{time.strftime('%H:%M:%S')} {epoch}", file=sys.stderr, flush=True)

        tokenizer, model = _smollm2.load_tokenizer(), _smollm2.load_model(torch.device("cpu"), torch.bfloat16)
        began, load, whole = time.process_time(), os.getloadavg()[0], not (folder / STATE).exists()
        made = train_vlm(
            seen,
            parts["train"].tolist(),
            examples["train"],
            parts["valid"].tolist(),
            examples["valid"],
            settings,
            model=model,
            tokenizer=tokenizer,
            checkpoint=folder / STATE,
            progress=tell,
        )
        made.save(folder / "both")
        made.load_first_stage()
        made.save(folder / "first")
        stages = [sum(epoch.seconds for epoch in made.history if epoch.stage == stage) for stage in (1, 2)]
        said = {"seconds": stages, "tokens": made.tokens, "epochs": [asdict(epoch) for epoch in made.history]}
        said |= {"best_epoch": made.best_epoch, "processor_s": time.process_time() - began if whole else None}
        said |= {"load": [load, os.getloadavg()[0]]}
        report.write_text(json.dumps(said, indent=1))
    return folder, json.loads(report.read_text())


def run(short: bool) -> dict[str, Any]:
    """Shares of the 483 whose text states type, colour, gender and usage as the record does."""
    torch.set_num_threads(2)
    lines = products()
    ids, names = [line["id"] for line in lines], [" ".join(line["title"].lower().split()) for line in lines]
    files = [DATA / "fashion_products" / line["file"] for line in lines]
    groups = group_items([[name] for name in names], near_pairs(pictures(encoders.load("starter"), files), NEAR))
    test = held_out(groups, ids, HELD_OUT)
    rest = np.setdiff1d(np.arange(len(lines)), test)
    inner = split(groups[rest], [ids[place] for place in rest], {"train": 1 - VALID_SHARE, "valid": VALID_SHARE}, 1)
    sides = {side: rest[places] for side, places in inner.items()}
    seen = features(files)
    folder, about = fitted(seen, sides, lines, short)
    asked = [lines[place] for place in test]
    known = [lines[place] for place in rest]
    result: dict[str, Any] = {"items": [len(sides["train"]), len(sides["valid"]), len(test)], "fit": about, "right": {}}
    found: dict[str, Right] = {}
    told: list[dict[str, str]] = []
    for name, part in ((FIRST, "first"), (FULL, "both")):
        texts, seconds, tokens = written(folder / part, seen[test])
        found[name] = right(texts, asked, known)
        told += [{"writer": name, "item_id": one["id"], "text": text} for one, text in zip(asked, texts, strict=True)]
        result[f"texts of {name}"] = texts[:20]
        result[f"tokens/s of {name}"] = tokens / seconds
    if not short:  # what `describe_retrieval` indexes
        WRITTEN.write_text("".join(json.dumps(one) + "\n" for one in told), "utf-8")
    whole = seen[:, -LEVELS_DIM:].astype(np.float32)
    placed = sides | {"test": test}
    found["linear probe, pooled features"] = probes(whole[:, :IMAGE_DIM], placed, lines)
    found["linear probe, all levels"] = probes(whole, placed, lines)
    of = groups[test].tolist()
    for name, hits in found.items():
        intervals = {field: bootstrap(hits[field], groups=of) for field in FIELDS}
        result["right"][name] = {
            field: [round(value, 4) for value in (one.value, one.low, one.high)] for field, one in intervals.items()
        }
    return result


def rows(result: dict[str, Any]) -> list[Row]:
    """The claim's lines in the table."""
    learnt, valid, test = result["items"]
    lines = []
    for name, figures in result["right"].items():
        for field, (value, low, high) in figures.items():
            goal = ""
            if name == FULL:
                goal = f"{GOAL[field]} (reference {REFERENCE[field]})".strip()
            elif name == FIRST:
                goal = f"(reference {ALONE[field]})"
            setting = f"{test} unseen products, photo alone, {name}"
            lines.append(Row(f"fashion, {field}", setting, f"{value:.3f}", f"{low:.3f} to {high:.3f}", goal))
    fit = result["fit"]
    loads = " to ".join(f"{load:.0f}" for load in fit["load"])
    setting = f"{learnt} products and {valid} to stop by, two threads, load {loads}"
    stages = " and ".join(f"{seconds:.0f}" for seconds in fit["seconds"])
    spent = f"{fit['tokens'] / sum(fit['seconds']):.0f} tokens/s"
    if fit["processor_s"] is not None:  # of a fit that was killed in between, only a part is known
        spent += f", {fit['processor_s']:.0f} s of processor time"
    lines.append(Row("starter-vlm, seconds of both stages", setting, stages, spent, "(reference 1020)"))
    return lines


if __name__ == "__main__":
    print(json.dumps(run("--short" in sys.argv), indent=2))
