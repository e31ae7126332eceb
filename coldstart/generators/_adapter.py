"""LoRA adapters of peft (Hu et al. 2022, arXiv:2106.09685), put on a language model. Safetensors alone."""

from __future__ import annotations

import hashlib
import warnings
from pathlib import Path
from typing import Any

from coldstart import models
from coldstart.errors import ColdstartError

FOLDER = "adapter"
CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


def find(folder: Path) -> Path:
    """The folder with peft's files in the folder of a fit.

    Raises:
        ColdstartError: a file is missing.
    """
    place = folder / FOLDER
    missing = [name for name in (CONFIG, WEIGHTS) if not (place / name).is_file()]
    if missing:
        raise ColdstartError(
            f"{folder} holds no adapter ({FOLDER}/{' and '.join(missing)} missing): make one with "
            "coldstart finetune describe"
        )
    return place


def digest(place: Path) -> str:
    """`sha256:…` over peft's files."""
    listing = " ".join(models.file_digest(place / name) for name in (CONFIG, WEIGHTS))
    return f"sha256:{hashlib.sha256(listing.encode()).hexdigest()}"


def apply(model: Any, place: Path, *, merge: bool) -> Any:
    """The model with the adapter, in its weights or beside them.

    Raises:
        ColdstartError: the adapter was made for another model.
    """
    from peft import LoraConfig, get_peft_model, set_peft_model_state_dict
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        config = LoraConfig.from_pretrained(str(place))
        config.base_model_name_or_path = None  # a folder of the machine that trained it
        with warnings.catch_warnings():  # of peft's to transformers
            warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated")
            wrapped = get_peft_model(model, config)
        found = set_peft_model_state_dict(wrapped, load_file(place / WEIGHTS))
        missing = [name for name in found.missing_keys if "lora_" in name]
        if missing or found.unexpected_keys:
            raise ValueError(f"{len(missing)} weights are missing and {len(found.unexpected_keys)} have no place")
    except (OSError, SafetensorError, RuntimeError, KeyError, TypeError, ValueError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ColdstartError(f"adapter {place} does not fit the model: {reason}") from error
    return (wrapped.merge_and_unload() if merge else wrapped).eval()
