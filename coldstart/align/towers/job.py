"""Training of the towers of an open_clip model on pictures and texts, as a job in a folder.

`job.json` and `pairs.jsonl` go in; `out/adapter/` and `out/report.json` come out; `checkpoints/` holds what a killed
job goes on from. All weights are safetensors: accelerate's own saving of states pickles the optimiser, so it is not
used. With several processes this module is what accelerate starts in each of them:

    python -m accelerate.commands.launch --multi_gpu --num_processes 8 -m coldstart.align.towers.job FOLDER
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch

from coldstart import encoders
from coldstart.align.settings import TowerKind, TowerTraining
from coldstart.align.towers.data import Example, PairDataset, read_examples, write_examples
from coldstart.align.towers.model import Towers
from coldstart.align.towers.train import ProcessGroup, ProgressCallback, init_process_group, train
from coldstart.core.device import choose_device, choose_dtype
from coldstart.encoders.open_clip import OpenClip
from coldstart.errors import ColdstartError
from coldstart.media.limits import Limits

JOB, PAIRS, OUT, CHECKPOINTS, LOG = "job.json", "pairs.jsonl", "out", "checkpoints", "train.log"
ADAPTER, REPORT = "adapter", "report.json"
FRAMES = 4
"""Frames of a video without a stated time, of which a draw takes one."""
_SAYS, _FAILS = "coldstart-progress ", "coldstart-error "


def write_job(
    folder: Path,
    encoder: str,
    examples: Iterable[Example],
    kind: TowerKind,
    training: TowerTraining,
    *,
    limits: Limits | None = None,
    allow_random_weights: bool = False,
) -> Path:
    """Write `job.json` and `pairs.jsonl`.

    The output that an equal job left in the folder is used again, that of another is not.

    Args:
        encoder: an `open_clip:…` name.
        kind: of training; training: its settings.
        examples: of both splits; without `valid` ones nothing is measured and the last epoch counts as the best.

    Raises:
        ColdstartError: another encoder; an item without a picture or text; or fewer than two groups to train on.
    """
    if not encoder.startswith("open_clip:"):
        raise ColdstartError(f"encoder {encoder!r} has no towers to train: use an open_clip:… model")
    examples = list(examples)
    groups = {example.group for example in examples if example.split == "train"}
    if len(groups) < 2:
        raise ColdstartError(f"items of {len(groups)} products teach nothing: training needs at least two")
    folder.mkdir(parents=True, exist_ok=True)
    write_examples(folder / PAIRS, examples)
    job = {
        "version": 1,
        "encoder": encoder,
        "allow_random_weights": allow_random_weights,
        "limits": asdict(limits or Limits()),
        "recipe": {"towers": kind, "frames": FRAMES, **training.recipe()},
    }
    (folder / JOB).write_text(json.dumps(job, indent=2, sort_keys=True) + "\n", "utf-8")
    return folder


def run(
    folder: Path,
    *,
    device: str = "auto",
    dtype: str = "auto",
    processes: int = 1,
    workers: int = 0,
    progress: ProgressCallback | None = None,
) -> Path:
    """Train, or go on where a killed run stopped; a finished job is not done again.

    Args:
        dtype: of frozen weights and products; `auto` and float16 (which would need its loss scaled) become bfloat16
            where the device does that well, else float32.
        processes: 1 trains in this process, more are started by accelerate, one a GPU (or so many on the CPU).
        workers: processes that decode pictures, for each that trains.

    Returns:
        `folder/out`, with `adapter/` and `report.json`.

    Raises:
        ColdstartError: the encoder is not installed, nothing can be read, memory runs out at one pair a pass, the loss
            is no number; or a child process fails, with the end of its log.
    """
    digest = _digest(folder)
    out = folder / OUT
    if (out / REPORT).is_file() and json.loads((out / REPORT).read_bytes())["job"] == digest:
        return out
    chosen = choose_device(device)
    if processes == 1:
        with torch.random.fork_rng(devices=[chosen] if chosen.type == "cuda" else []):
            _train(folder, digest, ProcessGroup(), chosen, dtype, workers, progress or _no_progress)
        return out
    count = torch.cuda.device_count() if chosen.type == "cuda" else processes
    if count < processes:
        raise ColdstartError(f"{processes} processes need as many GPUs, and torch sees {count}")
    _launch(folder, chosen.type, dtype, processes, workers, progress or _no_progress)
    return out


def _train(
    folder: Path,
    digest: str,
    process_group: ProcessGroup,
    device: torch.device,
    dtype: str,
    workers: int,
    progress: ProgressCallback,
) -> None:
    job = json.loads((folder / JOB).read_bytes())
    recipe = dict(job["recipe"])
    kind, frames = recipe.pop("towers"), recipe.pop("frames")
    training = TowerTraining(**recipe)
    given: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in job["limits"].items()}
    narrow = choose_dtype(device, dtype)
    narrow = torch.float32 if narrow == torch.float16 else narrow
    encoder = encoders.load(job["encoder"], device="cpu", allow_random_weights=job["allow_random_weights"])
    assert isinstance(encoder, OpenClip)
    examples = read_examples(folder / PAIRS)
    data = PairDataset(
        examples,
        encoder.image_transform,
        Limits(**given),
        frames=frames,
        augment=training.augment,
        seed=training.seed,
    )
    towers = Towers(encoder, kind, training, device, narrow)
    state, rest = train(
        folder / CHECKPOINTS,
        digest,
        towers,
        examples,
        data,
        training,
        process_group=process_group,
        device=device,
        workers=workers,
        progress=progress if process_group.rank == 0 else _no_progress,
    )
    if process_group.rank == 0:
        seconds = sum(one["seconds"] for one in state.history)
        report = {
            "job": digest,
            "encoder": encoder.base.encoder,
            "loss": "infonce" if towers.bias is None else "siglip",
            "trained_parameters": sum(weight.numel() for weight in towers.weights().values()),
            "items": {split: sum(one.split == split for one in examples) for split in ("train", "valid")},
            "before": state.measured,
            "history": state.history,
            "best_epoch": state.best_epoch,
            "stopped": state.stopped,
            "seconds": state.seconds,
            "samples_s": sum(one["seconds"] * one["samples_s"] for one in state.history) / seconds,
            "processes": process_group.size,
            "device": str(device),
            "dtype": str(narrow).removeprefix("torch."),
            **rest,
        }
        draft = folder / f".{OUT}.draft"
        shutil.rmtree(draft, ignore_errors=True)
        towers.save(draft / ADAPTER, {"recipe": job["recipe"], "best_epoch": state.best_epoch})
        (draft / REPORT).write_text(json.dumps(report, indent=2) + "\n", "utf-8")
        shutil.rmtree(folder / OUT, ignore_errors=True)
        draft.rename(folder / OUT)
    process_group.wait()


def _launch(folder: Path, device: str, dtype: str, processes: int, workers: int, progress: ProgressCallback) -> None:
    """Start the processes, hand on their progress, and wait; they end with this process at the latest."""
    threads = max(1, (os.cpu_count() or 1) // processes)
    launcher = [
        *(sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--gpu_ids", "all"),
        *("--num_processes", str(processes), "--num_machines", "1", "--main_process_port", "0"),
        *("--mixed_precision", "no", "--dynamo_backend", "no", "--num_cpu_threads_per_process", str(threads)),
    ]
    job = ["-m", __name__, str(folder), "--device", device, "--dtype", dtype, "--workers", str(workers)]
    log = folder / LOG
    with (
        log.open("w", encoding="utf-8") as log_file,
        subprocess.Popen([*launcher, *job], stdout=subprocess.PIPE, stderr=log_file, text=True) as child,
    ):
        try:
            assert child.stdout is not None
            for line in child.stdout:
                if line.startswith(_SAYS):
                    progress(json.loads(line.removeprefix(_SAYS)))
        except BaseException:
            child.terminate()  # accelerate ends the processes that it started
            raise
    if child.returncode:
        lines = log.read_text("utf-8", errors="replace").splitlines()
        known = [line.removeprefix(_FAILS) for line in lines if line.startswith(_FAILS)]
        raise ColdstartError(known[0] if known else f"training failed; the end of {log}: {' | '.join(lines[-5:])}")


def main() -> None:
    """Run one of the processes that accelerate starts."""
    parser = argparse.ArgumentParser(prog="python -m coldstart.align.towers.job", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--workers", type=int, default=0)
    given = parser.parse_args()
    process_group, device = init_process_group(choose_device(given.device).type)
    try:
        _train(given.folder, _digest(given.folder), process_group, device, given.dtype, given.workers, _print)
    except ColdstartError as error:
        sys.stderr.write(f"{_FAILS}{error}\n")
        sys.exit(1)


def _digest(folder: Path) -> str:
    """Compute the digest of a job's input, by which output and checkpoints are recognised."""
    try:
        return sha256(b"".join(sha256((folder / name).read_bytes()).digest() for name in (JOB, PAIRS))).hexdigest()
    except OSError as error:
        raise ColdstartError(f"{folder} holds no job: {error.filename} cannot be read") from error


def _no_progress(event: Mapping[str, Any]) -> None:
    """Ignore progress."""


def _print(event: Mapping[str, Any]) -> None:
    sys.stdout.write(f"{_SAYS}{json.dumps(dict(event))}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
