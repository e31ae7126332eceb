"""Train LoRA on a language or vision-language model with peft and TRL's `SFTTrainer`: examples in, an adapter out.

The loss is on completions alone. Text is packed: rows of several examples, each with positions of its own from 0, by
which transformers builds a mask that keeps them apart (`find_packed_sequence_indices`), whatever kernel attends.
Products are in bfloat16 where the device supports it well; the low-rank pairs are float32.

A killed training goes on from the checkpoints of transformers' `Trainer` in its folder; their
optimiser state is read with `weights_only`. Nothing is reported and no hub is contacted.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from pathlib import Path

import torch

from coldstart.core.progress import Progress
from coldstart.describe.finetune.sft import ADAPTER, CHECKPOINTS, RESULT, run_sft, sft_dtype
from coldstart.describe.finetune.training import Example, LoadItemPictures, LoraSettings
from coldstart.errors import ColdstartError

_JOB = "job.json"


@dataclass(frozen=True)
class LoraResult:
    """Adapter of a LoRA training, and its figures.

    Attributes:
        folder: holds `adapter/` as peft reads it.
        steps: done; best_step: of the lowest held-out loss, whose weights the adapter has; the last step without a
            held-out part.
        valid_loss: mean negative log-likelihood of a completion's token on the held-out part, at the best step (nats;
            None without one); valid_before: before training.
        history: of each log line its `step`, `seconds` and `tokens` so far, with `loss` or `valid_loss`.
        tokens: read in training, prompts included; seconds: of training and evaluation, also before an
            interruption; tokens_s: tokens a second of the steps alone.
        stopped: True where `patience` ended it before all epochs were done.
        left_out: examples longer than the model's context.
        trained: trained parameters.
    """

    folder: Path
    steps: int
    best_step: int
    valid_loss: float | None
    valid_before: float | None
    tokens: int
    seconds: float
    tokens_s: float
    stopped: bool
    left_out: int
    trained: int
    history: list[dict[str, float]] = field(default_factory=list)

    @property
    def adapter(self) -> Path:
        """Folder of `adapter_config.json` and `adapter_model.safetensors`."""
        return self.folder / ADAPTER

    def files(self) -> dict[str, bytes]:
        """Return the adapter's files by path, `adapter/…`."""
        return {f"{ADAPTER}/{path.name}": path.read_bytes() for path in sorted(self.adapter.iterdir())}


def train_lora(
    examples: Sequence[Example],
    valid: Sequence[Example],
    base: str,
    settings: LoraSettings,
    *,
    seed: int = 0,
    device: torch.device,
    dtype: str = "auto",
    folder: Path,
    progress: Progress | None = None,
    pictures: LoadItemPictures | None = None,
    name: str = "finetune.describe",
) -> LoraResult:
    """Train LoRA, or resume a killed training of the same inputs; a finished one is read from its folder.

    Args:
        valid: held-out examples for early stopping; without any, the last step counts as the best.
        base: `starter` or `hf:NAME_OR_PATH`.
        settings: with `processes` over 1 accelerate starts so many, one a GPU (or so many on the CPU), for text alone.
        seed: of LoRA's random half, of the order and of dropout.
        dtype: of frozen weights and products; `auto` and float16 (which would need loss scaling) become bfloat16 where
            the device supports it well, else float32.
        folder: of this training alone; files of another training there are removed.
        progress: `meter(name, total)` counts tokens; None shows nothing.
        pictures: of the items, for a vision-language base.
        name: of the stage, for the meter and for errors.

    Raises:
        ColdstartError: there are no examples; the base cannot be tuned or is not on this machine; it takes no pictures
            and some are given; the loss is no finite number; or a process fails.
    """
    if not examples:
        raise ColdstartError(f"{name}: no training examples")
    narrow = sft_dtype(device, dtype)
    digest = _digest(examples, valid, base, settings, seed, str(narrow))
    if (done := _read_result(folder, digest)) is not None:
        return done
    _clear_folder(folder, digest)
    if settings.processes > 1:
        from coldstart.describe.finetune import lora_processes

        if pictures is not None:
            raise ColdstartError(f"{name}: several processes train on text alone; set processes to 1 for pictures")
        lora_processes.launch_processes(folder, examples, valid, base, settings, seed, device, dtype, progress, name)
    else:
        run_sft(base, narrow, examples, valid, settings, seed, device, folder, digest, progress, pictures, name)
    result = _read_result(folder, digest)
    assert result is not None, "written by what was just trained"
    shutil.rmtree(folder / CHECKPOINTS, ignore_errors=True)
    return result


def _digest(
    examples: Sequence[Example], valid: Sequence[Example], base: str, settings: LoraSettings, seed: int, dtype: str
) -> str:
    """Return the digest of a training's inputs, without the weights behind the base's name and the pictures."""
    parts = [[asdict(one) for one in part] for part in (examples, valid)]
    return sha256(json.dumps([parts, base, settings.counted(), seed, dtype], sort_keys=True).encode()).hexdigest()


def _clear_folder(folder: Path, digest: str) -> None:
    """Empty the folder where it holds another training."""
    job = folder / _JOB
    if not job.is_file() or json.loads(job.read_bytes()) != {"job": digest}:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        job.write_text(json.dumps({"job": digest}), "utf-8")


def _read_result(folder: Path, digest: str) -> LoraResult | None:
    path = folder / RESULT
    if not path.is_file():
        return None
    result = json.loads(path.read_bytes())
    return LoraResult(folder, **result) if result.pop("job") == digest else None
