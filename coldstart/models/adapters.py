"""Read the configuration of a LoRA adapter (Hu et al. 2022) in peft's form, without what would run or lead elsewhere.

peft itself imports the module that `megatron_core` names and chooses the method by the file. Here the file says shapes
and scales alone; the name of the base model in it is for people.
"""

from __future__ import annotations

import json
from dataclasses import MISSING, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coldstart.errors import ColdstartError
from coldstart.models.folder import check_folder, pattern_fault

if TYPE_CHECKING:
    from peft import LoraConfig

CONFIG = "adapter_config.json"
_READ = (
    "r", "lora_alpha", "lora_dropout", "bias", "target_modules", "exclude_modules", "modules_to_save", "fan_in_fan_out",
    "use_rslora", "use_dora", "layers_to_transform", "layers_pattern", "rank_pattern", "alpha_pattern", "task_type",
    "lora_bias", "inference_mode",
)  # fmt: skip
_FOR_PEOPLE = ("peft_type", "base_model_name_or_path", "revision", "auto_mapping", "peft_version")
_PATTERNS = ("target_modules", "exclude_modules", "layers_pattern")


def read_lora_config(folder: Path) -> LoraConfig:
    """Read `adapter_config.json` of a folder whose files are checked (`check_folder`).

    Raises:
        ColdstartError: a file is not what it has to be, or the adapter is more than plain LoRA.
    """
    from peft import LoraConfig

    path = folder / CONFIG
    check_folder(folder, "adapter", adapter=True)
    try:
        stated = json.loads(path.read_bytes())
        usual = {field.name: _usual(field) for field in fields(LoraConfig)}
        if stated.get("peft_type") != "LORA":
            raise ColdstartError(f"adapter: {path} is of method {stated.get('peft_type')!r}: LORA is read")
        for key, value in stated.items():
            if value and key not in (*_READ, *_FOR_PEOPLE, "init_lora_weights") and value != usual.get(key):
                raise ColdstartError(f"adapter: {path} sets {key}, which is not read: plain LoRA is")
        if (began := stated.get("init_lora_weights", True)) not in (True, False, "gaussian"):
            raise ColdstartError(
                f"adapter: {path} sets init_lora_weights={began!r}, which changes the base: plain LoRA is read"
            )
        for pattern in _patterns(stated):
            if fault := pattern_fault(pattern):
                raise ColdstartError(f"adapter: {path} has a pattern that {fault} ({pattern[:80]})")
        return LoraConfig(**{key: stated[key] for key in _READ if key in stated})
    except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise ColdstartError(f"adapter: {path} cannot be read ({str(error).splitlines()[0][:200]})") from error


def _usual(field: Any) -> Any:
    return (
        field.default_factory() if field.default is MISSING and field.default_factory is not MISSING else field.default
    )


def _patterns(stated: dict[str, Any]) -> list[str]:
    """List the regular expressions that are matched with names of layers."""
    given = [stated.get(key) for key in _PATTERNS]
    found = [one for value in given for one in (value if isinstance(value, list) else [value])]
    found += [key for name in ("rank_pattern", "alpha_pattern") for key in stated.get(name) or ()]
    return [one for one in found if isinstance(one, str)]
