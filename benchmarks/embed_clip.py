"""Claim: open_clip ViT-B/32 runs near the machine's matrix rate, alone and through `coldstart embed`.

Contenders, interleaved in one run: the encoder on ready pictures; the embed stage from JPEG files to committed rows; a
plain loop over open_clip, one picture at a time; LanceDB's own OpenCLIP embedding function. Two folders: made pictures
of 640 x 480, and real photos and posters of 171 to 256 pixels where `COLDSTART_DATA` has them.

The limit is the time that the model's own matrix products take in the same number format, measured in the same rounds,
with weights as they come or in the layout of the matrix units, whichever is faster. On a CPU that computes and decodes
on the same cores there is a second bound: the encoder's own time and the processor time of decoding, one after the
other over all cores. Weights are random: speed does not depend on them. `python -m benchmarks.embed_clip 1500` takes so
many made pictures alone.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from PIL import Image

from benchmarks.report import CACHE, Row, ratio, table
from coldstart import encoders
from coldstart.core import pipeline
from coldstart.core.device import choose_device, choose_dtype
from coldstart.encoders import _open_clip_speed
from coldstart.engine.run import run_pipeline
from coldstart.media.image import load_image
from coldstart.media.limits import Limits
from coldstart.store import Store

ARCH = "ViT-B-32"
BATCH = 64
LAYERS, WIDTH, TOKENS, PATCHES = 12, 768, 50, 49
DATA = Path(os.environ.get("COLDSTART_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))


def make_jpegs(count: int) -> Path:
    """A manifest of `count` JPEGs of 640 x 480 (smooth colour fields with grain, about 60 kB each)."""
    folder = CACHE / f"jpegs_{count}"
    manifest = folder / "manifest.jsonl"
    if manifest.exists():
        return manifest
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    lines = []
    for number in range(count):
        coarse = Image.fromarray(random.integers(0, 255, (12, 16, 3), dtype=np.uint8)).resize((640, 480), 3)
        grain = random.normal(0, 6, (480, 640, 1))
        pixels = np.clip(np.asarray(coarse, np.float32) + grain, 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:05d}.jpg", quality=85)
        lines.append(
            json.dumps({"item_id": f"{number:05d}", "title": f"picture {number}", "image": f"{number:05d}.jpg"})
        )
    manifest.write_text("\n".join(lines))
    return manifest


def real_jpegs(count: int) -> Path | None:
    """A manifest of `count` distinct photos of shops and posters, copied; None where there are not as many."""
    files = [*sorted(DATA.glob("fashion_products/images/*.jpg")), *sorted(DATA.glob("movielens_posters/**/*.jpg"))]
    if len(files) < count:
        return None
    folder = CACHE / f"jpegs_real_{count}"
    manifest = folder / "manifest.jsonl"
    if manifest.exists():
        return manifest
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for number, file in enumerate(files[place * len(files) // count] for place in range(count)):
        shutil.copy(file, folder / f"{number:05d}.jpg")
        lines.append(json.dumps({"item_id": f"{number:05d}", "title": file.stem, "image": f"{number:05d}.jpg"}))
    manifest.write_text("\n".join(lines))
    return manifest


def gemm_limit(dtype: torch.dtype, device: torch.device) -> float:
    """Pictures a second if the model were nothing but the matrix products that it has to do, attention's counted at
    their rate. The products that the encoder saves in its last block are not in the limit either."""
    shapes = [
        (1, BATCH * PATCHES, 32 * 32 * 3, WIDTH),
        (LAYERS - 1, BATCH * TOKENS, WIDTH, 3 * WIDTH),
        (LAYERS - 1, BATCH * TOKENS, WIDTH, WIDTH),
        (LAYERS - 1, BATCH * TOKENS, WIDTH, 4 * WIDTH),
        (LAYERS - 1, BATCH * TOKENS, 4 * WIDTH, WIDTH),
        (1, BATCH * TOKENS, WIDTH, 2 * WIDTH),  # of the last block only the class token is read
    ]
    seconds = operations = 0.0
    with torch.inference_mode():
        for count, rows, inner, columns in shapes:
            left = torch.randn(rows, inner, dtype=dtype, device=device)
            weights = [torch.randn(columns, inner, dtype=dtype, device=device) for _ in range(count)]
            ways = [partial(_products, left, [partial(torch.nn.functional.linear, weight=w) for w in weights], device)]
            if _open_clip_speed.usable(device, dtype):
                ways.append(
                    partial(_products, left, [_open_clip_speed.Packed(weight, None) for weight in weights], device)
                )
            for way in ways:  # not timed: memory that is touched for the first time
                way()
            seconds += min(way() for way in ways)
            operations += count * 2.0 * rows * inner * columns
    attention = LAYERS * 4.0 * TOKENS * TOKENS * WIDTH * BATCH
    return BATCH / (seconds * (operations + attention) / operations)


def _products(left: torch.Tensor, layers: list[Callable[[torch.Tensor], torch.Tensor]], device: torch.device) -> float:
    """Seconds of one product a layer, as in the model: no weight is hot in the cache."""
    _synchronise(device)
    began = time.perf_counter()
    for layer in layers:
        layer(left)
    _synchronise(device)
    return time.perf_counter() - began


def decode_s(manifest: Path, encoder: encoders.Encoder, count: int = 100) -> float:
    """Processor seconds that a picture costs from its file to the pixels that the encoder reads."""
    files = sorted(manifest.parent.glob("*.jpg"))
    files = files[:: max(1, len(files) // count)]
    assert encoder.image_transform is not None
    began = time.thread_time()
    for file in files:
        load_image(file, Limits(), encoder.image_transform)
    return (time.thread_time() - began) / len(files)


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def encoder_alone(encoder: encoders.Encoder, pictures: list[np.ndarray]) -> float:
    """Pictures a second from uint8 arrays to unit vectors."""
    began = time.perf_counter()
    for start in range(0, len(pictures), BATCH):
        encoder.encode_images(pictures[start : start + BATCH])
    return len(pictures) / (time.perf_counter() - began)


def embed_stage(manifest: Path, count: int) -> tuple[float, float]:
    """Pictures a second of the embed stage, from JPEG files to committed rows, and its share of waiting for data."""
    workspace = CACHE / "embed.workspace"
    shutil.rmtree(workspace, ignore_errors=True)
    store = Store(workspace, create=True)
    settings = {"encoder": f"open_clip:{ARCH}", "stage": "embed", "batch_size": BATCH, "allow_random_weights": True}
    loaded = pipeline.load({"stages": {"ingest": {}, "clip": settings}}, manifest=manifest)
    report = run_pipeline(store, loaded)
    ran = report.stages[1].ran
    assert ran.done == count, f"{ran.done} of {count} pictures embedded"
    return count / ran.seconds, ran.wait_s / ran.seconds


def plain_loop(manifest: Path, count: int) -> float:
    """Pictures a second of the loop that open_clip's page shows: open, preprocess, encode, one at a time, float32."""
    import open_clip

    model, _, preprocess = open_clip.create_model_and_transforms(ARCH)
    model.eval()
    files = sorted(manifest.parent.glob("*.jpg"))[:count]
    with torch.inference_mode():
        model.encode_image(preprocess(Image.open(files[0])).unsqueeze(0))
        began = time.perf_counter()
        for file in files:
            vector = model.encode_image(preprocess(Image.open(file)).unsqueeze(0))
            vector / vector.norm(dim=-1, keepdim=True)
    return len(files) / (time.perf_counter() - began)


def lancedb_function(manifest: Path, count: int) -> float:
    """Pictures a second of LanceDB's own OpenCLIP embedding function, with its weights made random to need no hub."""
    import open_clip
    from lancedb.embeddings.open_clip import OpenClipEmbeddings

    create = open_clip.create_model_and_transforms
    with mock.patch.object(open_clip, "create_model_and_transforms", lambda name, pretrained: create(name)):
        function = OpenClipEmbeddings(name=ARCH, device="cpu")
    files = sorted(manifest.parent.glob("*.jpg"))[:count]
    images = [file.read_bytes() for file in files]
    function.compute_source_embeddings(images[:1])
    began = time.perf_counter()
    function.compute_source_embeddings(images)
    return len(files) / (time.perf_counter() - began)


def run(short: bool, count: int | None = None) -> dict[str, Any]:
    """Every round's figures in pictures a second, by folder for those that read files; `count`: so many, made ones."""
    made_only = count is not None
    few, rounds = (20 if short else 100), 3
    count = count or (200 if short else 5000)
    device = choose_device()
    dtype = choose_dtype(device)
    folders = {
        "made, 640 x 480": make_jpegs(count),
        "real, 171 to 256 pixels": None if made_only else real_jpegs(count),
    }
    encoder = encoders.load(f"open_clip:{ARCH}", allow_random_weights=True)
    pictures = [
        np.random.default_rng(i).integers(0, 255, (224, 224, 3), dtype=np.uint8) for i in range(min(count, 512))
    ]
    encoder_alone(encoder, pictures[:BATCH])
    found: dict[str, Any] = {"limit": [], "encoder": [], "folders": {}}
    for _ in range(rounds):
        limits = [gemm_limit(dtype, device)]
        found["encoder"].append(encoder_alone(encoder, pictures))
        for folder, manifest in folders.items():
            if manifest is None:
                continue
            own = found["folders"].setdefault(folder, {})
            limits.append(gemm_limit(dtype, device))
            rate, waited = embed_stage(manifest, count)
            limits.append(gemm_limit(dtype, device))
            cost = decode_s(manifest, encoder)
            figures = {
                "embed": rate,
                "embed_limit": statistics.mean(limits[-2:]),
                "waited": waited,
                "decode_ms": 1000 * cost,
                "bound": 1 / (1 / found["encoder"][-1] + cost / (os.cpu_count() or 1)),
                "loop": plain_loop(manifest, few),
                "lancedb": lancedb_function(manifest, few),
            }
            for name, value in figures.items():
                own.setdefault(name, []).append(value)
        found["limit"].append(statistics.mean(limits[:2]))
    return {"pictures": count, "dtype": str(dtype), "device": str(device), **found}


def rows(result: dict[str, Any]) -> list[Row]:
    """The claim's lines in the table."""
    machine = f"{result['dtype']}, {result['device']}"
    against = ratio(result["encoder"], result["limit"])
    lines = [Row("ViT-B/32 encoder against its GEMM limit", machine, *against, "at least 0.92")]
    for folder, own in result["folders"].items():
        setting, embed = f"{result['pictures']} JPEGs ({folder}), {machine}", own["embed"]
        cost, waited = statistics.median(own["decode_ms"]), statistics.median(own["waited"])
        lines += [
            Row("`coldstart embed` against the same limit", setting, *ratio(embed, own["embed_limit"]), "at least 0.8"),
            Row(
                "`coldstart embed` against encoder and decoding on the same cores",
                f"{setting}; {cost:.1f} ms of a core a picture, the model waited {waited:.0%} of the time",
                *ratio(embed, own["bound"]),
            ),
            Row("`coldstart embed` against a plain open_clip loop", setting, *ratio(embed, own["loop"])),
            Row("`coldstart embed` against LanceDB's OpenCLIP", setting, *ratio(embed, own["lancedb"])),
        ]
    return lines


if __name__ == "__main__":
    measured = run(short=len(sys.argv) > 1, count=int(sys.argv[1]) if len(sys.argv) > 1 else None)
    print(table(rows(measured)))
