"""Claim: `coldstart embed` turns a folder of JPEGs into vectors at least three times as fast as its peers do.

    make peers && python -m benchmarks [--full] peers_embed

open_clip's ViT-B/32 with the same weights, files and threads; from files to committed rows here, to whatever the peer
makes of them there. Each peer is a process of its own that has loaded its model and had one round to warm up, and
takes turns with ours, so that a ratio has both sides from the same minute; ours loads its model, starts its workers and
commits in every round. Peers run at their own defaults (float32 on a CPU), and once more with bfloat16 weights where
they have a setting for that. Ours chooses its number format by itself.

Vectors are held to the plain open_clip script's in float32, which is the reference: the smallest cosine over all
files. Random weights send all pictures into one narrow cone, so the cosine between neighbouring files stands beside it,
and the smallest cosine after the files' mean is taken away.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks import clip_weights
from benchmarks.embed_clip import make_jpegs
from benchmarks.peers.process import Peer, PeerFailed, PeerMissing
from benchmarks.report import CACHE, Row, against
from coldstart import pipeline
from coldstart.engine.run import run_pipeline
from coldstart.workspace import Store

Vectors = npt.NDArray[np.float32]
THREADS = os.cpu_count() or 1
LIMIT_S = 300.0


@dataclass(frozen=True)
class Contender:
    """A peer: its runner, its environment (None is ours), its number format, and the goal of the ratio."""

    module: str
    environment: str | None
    dtype: str = "float32"
    goal: str = ""


CONTENDERS = {
    "a plain open_clip DataLoader": Contender("open_clip_loader", None),
    "clip-retrieval": Contender("clip_retrieval", "clip_retrieval", goal="at least 3"),
    "sentence-transformers": Contender("sentence_transformers", None, goal="at least 3"),
    "LanceDB's OpenCLIP": Contender("lancedb_function", None),
    "Ray Data": Contender("ray_data", None),
    "Daft": Contender("daft", "daft"),
    "a plain open_clip DataLoader, bfloat16": Contender("open_clip_loader", None, "bfloat16"),
    "sentence-transformers, bfloat16": Contender("sentence_transformers", None, "bfloat16"),
    "Ray Data, bfloat16": Contender("ray_data", None, "bfloat16"),
}
"""In this order; the first gives the reference vectors."""
REFERENCE = next(iter(CONTENDERS))


def ours(manifest: Path, checkpoint: Path, scratch: Path) -> tuple[float, Vectors]:
    """Seconds of the embed stage from JPEG files to committed rows, and its vectors in the order of the files."""
    shutil.rmtree(scratch, ignore_errors=True)
    store = Store(scratch, create=True)
    settings = {"encoder": f"open_clip:{clip_weights.ARCH}/{checkpoint}", "stage": "embed"}
    loaded = pipeline.load({"stages": {"ingest": {}, "clip": settings}}, manifest=manifest)
    run_pipeline(store, loaded, only=["ingest"])
    ran = run_pipeline(store, loaded, only=["clip"]).stages[0].ran
    space = next(table for table in store.tables() if table.startswith("stage.clip"))
    rows = store.read(space, ["item_id", "vector"])
    ordered = sorted(zip(rows["item_id"].to_pylist(), rows["vector"].to_pylist(), strict=True))
    return ran.seconds, np.asarray([vector for _, vector in ordered], np.float32)


def alike(found: Vectors, reference: Vectors) -> dict[str, float]:
    """Smallest cosine of a file's two vectors, the same without the common mean, and the mean cosine of neighbours."""
    middle = reference.mean(axis=0)
    return {
        "least": float(_cosines(found, reference).min()),
        "least_centred": float(_cosines(found - middle, reference - middle).min()),
        "neighbours": float(_cosines(reference[1:], reference[:-1]).mean()),
    }


def _cosines(left: Vectors, right: Vectors) -> Vectors:
    norms = np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)
    return np.asarray((left * right).sum(axis=1) / norms, np.float32)


def run(short: bool) -> dict[str, Any]:
    """Pictures a second, ours and the peer's, round by round, for every peer that is installed."""
    count, rounds = (96, 1) if short else (512, 5)
    manifest = make_jpegs(count)
    files = [str(file) for file in sorted(manifest.parent.glob("*.jpg"))]
    checkpoint, hub = clip_weights.make()
    result: dict[str, Any] = {"pictures": len(files), "threads": THREADS, "peers": {}, "missing": {}, "cosines": {}}
    with tempfile.TemporaryDirectory(dir=CACHE) as name:
        scratch = Path(name)
        job = {
            "arch": clip_weights.ARCH,
            "checkpoint": str(checkpoint),
            "hub": str(hub),
            "folder": str(manifest.parent),
            "files": files,
            "threads": THREADS,
            "scratch": name,
        }
        kept: dict[str, Vectors] = {}
        for title, contender in CONTENDERS.items():
            try:
                result["peers"][title] = beside(contender, job, manifest, scratch, rounds, title, kept)
            except PeerMissing:
                result["missing"][title] = "not installed (make peers)"
            except PeerFailed as failure:
                result["missing"][title] = f"failed: {failure}"
            print(f"{title}: {result['peers'].get(title) or result['missing'][title]}", file=sys.stderr, flush=True)
    reference = kept.get(REFERENCE)
    if reference is not None:
        result["cosines"] = {title: alike(found, reference) for title, found in kept.items() if title != REFERENCE}
    return result


def beside(
    contender: Contender,
    job: dict[str, Any],
    manifest: Path,
    scratch: Path,
    rounds: int,
    title: str,
    kept: dict[str, Vectors],
) -> dict[str, Any]:
    """Rounds in which ours and one peer take turns; `kept` gets both their vectors."""
    out = scratch / "vectors.npy"
    module, environment = f"benchmarks.peers.{contender.module}", contender.environment
    speeds: dict[str, list[float]] = {"ours": [], "theirs": []}
    asked = {**job, "dtype": contender.dtype}
    with Peer(module, asked, environment=environment, threads=THREADS, limit_s=LIMIT_S) as peer:
        peer.ask(vectors=str(out))
        for _ in range(rounds):
            seconds, vectors = ours(manifest, Path(job["checkpoint"]), scratch / "ours.workspace")
            speeds["ours"].append(len(vectors) / seconds)
            answer = peer.ask(vectors=str(out))
            speeds["theirs"].append(answer["pictures"] / answer["seconds"])
        kept["coldstart embed"], kept[title] = vectors, np.load(out)
        return {**speeds, "versions": peer.about["versions"]}


def rows(result: dict[str, Any]) -> list[Row]:
    """The claim's lines in the table."""
    setting = f"ViT-B/32, {result['pictures']} JPEGs of 640 x 480, {result['threads']} threads"
    lines = []
    for title, contender in CONTENDERS.items():
        claim = f"`coldstart embed` against {title}"
        if title in result["missing"]:
            lines.append(Row(claim, setting, "not run", result["missing"][title], contender.goal))
        elif title in result["peers"]:
            one = result["peers"][title]
            package, version = next(iter(one["versions"].items()))
            speeds = " against ".join(f"{statistics.median(one[side]):.1f}" for side in ("ours", "theirs"))
            told = f"{setting}; {speeds} pictures/s; {package} {version}"
            lines.append(against("peer", claim, told, one["ours"], one["theirs"], contender.goal))
    for title, found in result["cosines"].items():
        told = f"{found['least_centred']:.4f} without the common mean; different files {found['neighbours']:.3f}"
        claim = f"smallest cosine of a file's vectors, {title} and {REFERENCE}"
        lines.append(Row(claim, setting, f"{found['least']:.5f}", told, "at least 0.999"))
    return lines


if __name__ == "__main__":
    print(json.dumps(run(short=False), indent=2))
