"""Claim: `coldstart embed` turns a folder of JPEGs into vectors at least three times as fast as its peers do.

    make peers && python -m benchmarks [--full] peers_embed

open_clip's ViT-B/32 with the same weights, files and threads; from files to committed rows here, to whatever the peer
makes of them there. Each peer is a process of its own that has loaded its model and had one round to warm up, and all
take turns with ours, twice a round. Ours loads its model, starts its workers and commits in every turn, and has more
files, as a catalogue does, so that this is no larger a part of it than in a run of ten seconds; peers, which are warm,
get some of the same files. Peers run at their own defaults (float32 on a CPU), and once more with bfloat16 weights
where they have a setting for that. Ours chooses its number format by itself.

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
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks import clip_weights
from benchmarks.embed_clip import make_jpegs
from benchmarks.peers.process import Peer, PeerFailed, PeerMissing
from benchmarks.report import CACHE, Row, against
from coldstart.core import pipeline
from coldstart.engine.run import run_pipeline
from coldstart.store import Store

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
    "a plain open_clip DataLoader, bfloat16": Contender("open_clip_loader", None, "bfloat16", "at least 1.3"),
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
    """Pictures a second, ours and the peers', round by round, of every peer that is installed."""
    count, few, rounds = (192, 32, 1) if short else (1024, 128, 3)
    manifest = make_jpegs(count)
    checkpoint, hub = clip_weights.make()
    result: dict[str, Any] = {"pictures": count, "few": few, "threads": THREADS}
    result |= {"ours": [], "peers": {}, "versions": {}, "missing": {}, "cosines": {}}
    kept: dict[str, Vectors] = {}
    with tempfile.TemporaryDirectory(dir=CACHE) as name, ExitStack() as stack:
        scratch = Path(name)
        job = {"arch": clip_weights.ARCH, "checkpoint": str(checkpoint), "hub": str(hub), "threads": THREADS}
        job |= {"folder": f"{name}/files", "files": _some(manifest.parent, scratch / "files", few), "scratch": name}
        peers: dict[str, Peer] = {}
        for title, contender in CONTENDERS.items():
            module = f"benchmarks.peers.{contender.module}"
            asked = {**job, "dtype": contender.dtype}
            try:
                peer = Peer(module, asked, environment=contender.environment, threads=THREADS, limit_s=LIMIT_S)
                peers[title] = stack.enter_context(peer)
                peer.ask(vectors=str(scratch / "vectors.npy"))
            except PeerMissing:
                result["missing"][title] = "not installed (make peers)"
            except PeerFailed as failure:
                peers.pop(title, None)
                result["missing"][title] = f"failed: {failure}"
            else:
                result["versions"][title] = peer.about["versions"]
        for _ in range(rounds):
            sides = []
            for part in (list(peers)[: len(peers) // 2], list(peers)[len(peers) // 2 :]):
                seconds, vectors = ours(manifest, checkpoint, scratch / "ours.workspace")
                kept["coldstart embed"] = vectors[:few]
                sides.append(len(vectors) / seconds)
                for title in part:
                    answer = peers[title].ask(vectors=str(scratch / "vectors.npy"))
                    kept[title] = np.load(scratch / "vectors.npy")
                    result["peers"].setdefault(title, []).append(answer["pictures"] / answer["seconds"])
            result["ours"].append(statistics.mean(sides))
            print({title: round(speeds[-1], 1) for title, speeds in result["peers"].items()}, sides, file=sys.stderr)
    reference = kept.get(REFERENCE)
    if reference is not None:
        result["cosines"] = {title: alike(found, reference) for title, found in kept.items() if title != REFERENCE}
    return result


def _some(folder: Path, into: Path, few: int) -> list[str]:
    """The first of the files, by links in a folder of their own, which some peers read whole."""
    into.mkdir()
    found = []
    for file in sorted(folder.glob("*.jpg"))[:few]:
        os.link(file, into / file.name)
        found.append(str(into / file.name))
    return found


def rows(result: dict[str, Any]) -> list[Row]:
    """The claim's lines in the table."""
    setting = (
        f"ViT-B/32, {result['pictures']} JPEGs of 640 x 480 ({result['few']} of them for peers), "
        f"{result['threads']} threads"
    )
    lines = []
    for title, contender in CONTENDERS.items():
        claim = f"`coldstart embed` against {title}"
        if title in result["missing"]:
            lines.append(Row(claim, setting, "not run", result["missing"][title], contender.goal))
        elif title in result["peers"]:
            theirs = result["peers"][title]
            package, version = next(iter(result["versions"][title].items()))
            speeds = f"{statistics.median(result['ours']):.1f} against {statistics.median(theirs):.1f}"
            told = f"{setting}; {speeds} pictures/s; {package} {version}"
            lines.append(against("peer", claim, told, result["ours"], theirs, contender.goal))
    for title, found in result["cosines"].items():
        told = f"{found['least_centred']:.4f} without the common mean; different files {found['neighbours']:.3f}"
        claim = f"smallest cosine of a file's vectors, {title} and {REFERENCE}"
        lines.append(Row(claim, setting, f"{found['least']:.5f}", told, "at least 0.999"))
    return lines


if __name__ == "__main__":
    print(json.dumps(run(short=False), indent=2))
