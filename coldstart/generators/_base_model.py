"""Load the base model of an adapter, `starter` or `hf:NAME_OR_PATH`, and suppress the output of training libraries."""

from __future__ import annotations

import random
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from coldstart.errors import ColdstartError
from coldstart.generators._chat_form import bind_chat_template
from coldstart.models.folder import check_folder
from coldstart.models.hub import hub_folder

_FILES = ("*.json", "*.safetensors", "*.jinja", "*.model", "*.txt")


@dataclass(frozen=True)
class BaseModel:
    """Base model in memory.

    Attributes:
        name: as requested.
        model: transformers' own, frozen.
        tokenizer: its tokenizer, padding on the right.
        processor: of a vision-language model; None for one that reads text alone.
    """

    name: str
    model: Any
    tokenizer: Any
    processor: Any = None


def load_base(name: str, device: torch.device, dtype: torch.dtype, quantize: str = "") -> BaseModel:
    """Load a base model for training or for merging.

    Raises:
        ColdstartError: the name is of no model that can be tuned, its files are not on this machine, or `quantize` does
            not run here.
    """
    prefix, _, rest = name.partition(":")
    if quantize:
        _require_4bit(name, device)
    if prefix == "starter" and not rest:
        from coldstart.generators import _smollm2

        if quantize:
            raise ColdstartError("quantize='4bit': the starter model is small; set quantize to '' for it")
        tokenizer = _smollm2.load_tokenizer()
        tokenizer.padding_side = "right"
        model = _smollm2.load_model(device, dtype)
        model.tie_weights()  # the output layer is the embedding: merged files hold it once
        return BaseModel(name, model.requires_grad_(False), tokenizer)
    if prefix != "hf" or not rest:
        raise ColdstartError(f"generator {name!r} cannot be fitted: use starter or hf:NAME_OR_PATH")
    return _hf(name, rest, device, dtype, quantize)


def _hf(name: str, rest: str, device: torch.device, dtype: torch.dtype, quantize: str) -> BaseModel:
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText, AutoProcessor, AutoTokenizer
    from transformers.utils import logging

    folder = Path(rest).expanduser()
    if not folder.is_dir():
        folder = hub_folder(rest, _FILES, name=name, what="generator", instead="hf:FOLDER")
    check_folder(folder, f"generator {name!r}")
    common: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    bars = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        config = AutoConfig.from_pretrained(folder, **common)
        sees = hasattr(config, "vision_config")
        kind = AutoModelForImageTextToText if sees else AutoModelForCausalLM
        how: dict[str, Any] = {"dtype": dtype, "use_safetensors": True}
        if quantize:
            from transformers import BitsAndBytesConfig

            how["quantization_config"] = BitsAndBytesConfig(
                load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype
            )
            how["device_map"] = {"": device}
        model: Any = kind.from_pretrained(folder, **common, **how)
        processor: Any = AutoProcessor.from_pretrained(folder, **common) if sees else None
        tokenizer = processor.tokenizer if sees else AutoTokenizer.from_pretrained(folder, **common)
    except (OSError, ValueError, KeyError) as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise ColdstartError(f"generator {name!r}: {folder} cannot be loaded: {first}") from error
    finally:
        if bars:
            logging.enable_progress_bar()
    bind_chat_template(tokenizer, name, enable_thinking=False)
    tokenizer.padding_side = "right"
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    if not quantize:
        model.to(device)
    return BaseModel(name, model.requires_grad_(False), tokenizer, processor)


def _require_4bit(name: str, device: torch.device) -> None:
    from importlib.util import find_spec

    if find_spec("bitsandbytes") is None:
        raise ColdstartError(
            f"quantize='4bit' for {name!r} needs bitsandbytes, which is not installed: "
            "pip install bitsandbytes, or set quantize to ''"
        )
    if device.type != "cuda":
        raise ColdstartError(f"quantize='4bit' for {name!r} needs a CUDA device, not {device}: set quantize to ''")


_IGNORED_WARNINGS = ("`is_gradient_checkpointing` is deprecated",)
"""Warnings of one training library about calls of another."""


@contextmanager
def suppress_output(seed: int, device: torch.device) -> Iterator[None]:
    """Run a block without progress bars and warnings, seeded; random states and log levels are restored after it."""
    import datasets
    from transformers.utils import logging

    own = random.getstate(), np.random.get_state()
    level = logging.get_verbosity()
    bars = not datasets.are_progress_bars_disabled(), logging.is_progress_bar_enabled()
    datasets.disable_progress_bars()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []), warnings.catch_warnings():
        for message in _IGNORED_WARNINGS:
            warnings.filterwarnings("ignore", message)
        try:
            random.seed(seed)
            np.random.seed(seed)
            torch.manual_seed(seed)
            yield
        finally:
            random.setstate(own[0])
            np.random.set_state(own[1])
            logging.set_verbosity(level)
            if bars[1]:
                logging.enable_progress_bar()
            if bars[0]:
                datasets.enable_progress_bars()
