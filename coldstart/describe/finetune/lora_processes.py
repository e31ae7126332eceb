"""Train LoRA in several processes started by accelerate: one a GPU, or so many on the CPU.

    python -m accelerate.commands.launch --multi_gpu --num_processes 8 \
        -m coldstart.describe.finetune.lora_processes FOLDER

The folder's `examples.json` holds examples and settings; the first process writes the adapter and the result.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from coldstart.core.progress import Meter, Progress, Skipped
from coldstart.describe.finetune import sft
from coldstart.describe.finetune.training import Example, LoraSettings
from coldstart.errors import ColdstartError

JOB, LOG = "examples.json", "train.log"
_PROGRESS, _ERROR = "coldstart-progress ", "coldstart-error "


def launch_processes(
    folder: Path,
    examples: Sequence[Example],
    valid: Sequence[Example],
    base: str,
    settings: LoraSettings,
    seed: int,
    device: torch.device,
    dtype: str,
    progress: Progress | None,
    name: str,
) -> None:
    """Start the processes, relay their progress and wait; they end with this process at the latest.

    Raises:
        ColdstartError: there are fewer GPUs; or a process fails, with the end of its log.
    """
    processes = settings.processes
    available = torch.cuda.device_count() if device.type == "cuda" else processes
    if available < processes:
        raise ColdstartError(f"{processes} processes need as many GPUs, and torch sees {available}")
    job = {
        "examples": [[asdict(one) for one in part] for part in (examples, valid)],
        "base": base,
        "settings": settings.model_dump(),
        "seed": seed,
        "device": device.type,
        "dtype": dtype,
        "name": name,
    }
    (folder / JOB).write_text(json.dumps(job), "utf-8")
    threads = max(1, (os.cpu_count() or 1) // processes)
    command = [
        *(sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--gpu_ids", "all"),
        *("--num_processes", str(processes), "--num_machines", "1", "--main_process_port", "0"),
        *("--mixed_precision", "no", "--dynamo_backend", "no", "--num_cpu_threads_per_process", str(threads)),
        *("-m", __name__, str(folder)),
    ]
    log = folder / LOG
    with (
        log.open("w", encoding="utf-8") as log_file,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log_file, text=True) as child,
    ):
        try:
            assert child.stdout is not None
            _relay_progress(child.stdout, progress)
        except BaseException:
            child.terminate()  # accelerate ends the processes that it started
            raise
    if child.returncode:
        lines = log.read_text("utf-8", errors="replace").splitlines()
        known = [line.removeprefix(_ERROR) for line in lines if line.startswith(_ERROR)]
        raise ColdstartError(known[0] if known else f"training failed; the end of {log}: {' | '.join(lines[-5:])}")


def _relay_progress(lines: Any, progress: Progress | None) -> None:
    meter: Meter | None = None
    try:
        for line in lines:
            if progress is None or not line.startswith(_PROGRESS):
                continue
            update = json.loads(line.removeprefix(_PROGRESS))
            if meter is None:
                context: AbstractContextManager[Any] = progress.meter(update["name"], update["total"])
                meter, ends = context.__enter__(), context.__exit__
            meter.advance(update["done"], 0, 0.0)
    finally:
        if meter is not None:
            ends(None, None, None)


class _StdoutProgress:
    """Progress as lines on stdout, read by the process that started this one."""

    def meter(self, name: str, total: int | None) -> _StdoutProgress:
        self._name, self._total = name, total
        return self

    def __enter__(self) -> _StdoutProgress:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def advance(self, done: int, skipped: Skipped, wait_share: float) -> None:
        sys.stdout.write(f"{_PROGRESS}{json.dumps({'name': self._name, 'total': self._total, 'done': done})}\n")
        sys.stdout.flush()


def main() -> None:
    """Train as one of the processes that accelerate started."""
    parser = argparse.ArgumentParser(prog="python -m coldstart.describe.finetune.lora_processes", description=__doc__)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    job = json.loads((folder / JOB).read_bytes())
    examples, valid = ([Example(**one) for one in part] for part in job["examples"])
    settings = LoraSettings(**job["settings"])
    place = int(os.environ.get("LOCAL_RANK", "0"))
    device = torch.device("cpu") if job["device"] == "cpu" else torch.device(job["device"], place)
    digest = json.loads((folder / "job.json").read_bytes())["job"]
    try:
        dtype = sft.sft_dtype(device, job["dtype"])
        sft.run_sft(
            job["base"],
            dtype,
            examples,
            valid,
            settings,
            job["seed"],
            device,
            folder,
            digest,
            _StdoutProgress(),
            None,
            job["name"],
        )
    except ColdstartError as error:
        sys.stderr.write(f"{_ERROR}{error}\n")
        sys.exit(1)


if __name__ == "__main__":
    main()
