"""Read and apply adapters of open_clip models: LoRA, or retrained last blocks. A folder, without pickle.

`adapter.json` names the model it belongs to. Beside it lie peft's `adapter_model.safetensors` and `adapter_config.json`
(LoRA; Hu et al. 2022), or `blocks.safetensors` with the changed weights in full. Names of weights are those of the
model with its self-attention fused (`fuse_self_attention`), because then every weight that LoRA changes is an
`nn.Linear`. peft's own form of `nn.MultiheadAttention` is not used: it adds its product to the weights before each
forward pass and subtracts it after, so that the frozen weights drift by rounding, and it knows no dropout.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from coldstart.errors import ColdstartError
from coldstart.models import install
from coldstart.models.folder import check_weights

if TYPE_CHECKING:
    import torch

CARD = "adapter.json"
LORA_WEIGHTS, LORA_CONFIG, BLOCKS = "adapter_model.safetensors", "adapter_config.json", "blocks.safetensors"
Kind = Literal["lora", "last_blocks"]
_FILES: dict[Kind, tuple[str, ...]] = {"lora": (LORA_WEIGHTS, LORA_CONFIG), "last_blocks": (BLOCKS,)}


@dataclass(frozen=True)
class Base:
    """Identity of the model under an adapter.

    Attributes:
        encoder: its name, without folders of one machine.
        config: digest of its configuration.
        weights: digest of its weights, as in its passport.
    """

    encoder: str
    config: str
    weights: str


@dataclass(frozen=True)
class Adapter:
    """Adapter in a folder, with all its files."""

    folder: Path
    kind: Kind
    base: Base

    @property
    def digest(self) -> str:
        """Compute the SHA-256 (hex) of the files that change vectors."""
        digests = [install.file_digest(self.folder / name) for name in _FILES[self.kind]]
        return hashlib.sha256(" ".join(digests).encode()).hexdigest()

    def check(self, base: Base, encoder: str) -> None:
        """Raise `ColdstartError` if it belongs to another model."""
        for part, what in (("config", "an architecture"), ("weights", "weights")):
            theirs, ours = getattr(self.base, part), getattr(base, part)
            if theirs != ours:
                raise ColdstartError(
                    f"encoder {encoder!r}: adapter {self.folder} was trained on {self.base.encoder} ({part} "
                    f"{_short(theirs)}), {what} other than {base.encoder} ({part} {_short(ours)}); "
                    "load it with the model that it was trained on"
                )

    def apply(self, model: Any) -> Any:
        """Merge the adapter into the weights of a model, and return it.

        Args:
            model: the open_clip model with fused self-attention, in float32.

        Raises:
            ColdstartError: the files do not fit it.
        """
        from safetensors import SafetensorError

        try:
            return _merge_lora(model, self.folder) if self.kind == "lora" else _replace(model, self.folder / BLOCKS)
        except (OSError, SafetensorError, RuntimeError, KeyError, TypeError, ValueError) as error:
            raise ColdstartError(f"adapter {self.folder} does not fit {self.base.encoder}: {error}") from error


def find_adapter(folder: Path) -> Adapter:
    """Read an adapter's card and check that its files are present.

    Raises:
        ColdstartError: the folder holds no adapter.
    """
    try:
        card = json.loads((folder / CARD).read_bytes())
        if card["version"] != 1:
            raise ColdstartError(f"{folder / CARD} is of version {card['version']}: this coldstart reads version 1")
        adapter = Adapter(folder, card["kind"], Base(**card["base"]))
        missing = [name for name in _FILES[adapter.kind] if not (folder / name).is_file()]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ColdstartError(f"{folder} does not hold an adapter ({CARD}): {error!r}") from error
    if missing:
        raise ColdstartError(f"adapter {folder} lacks {', '.join(missing)}")
    return adapter


def write_card(folder: Path, kind: Kind, base: Base, about: Mapping[str, Any]) -> None:
    """Write `adapter.json`; `about` is for a person and changes no vector."""
    card = {"version": 1, "kind": kind, "base": asdict(base), "about": dict(about)}
    (folder / CARD).write_text(json.dumps(card, indent=2, sort_keys=True) + "\n", "utf-8")


def _merge_lora(model: Any, folder: Path) -> Any:
    from peft import get_peft_model, set_peft_model_state_dict
    from safetensors.torch import load_file

    from coldstart.models.adapters import read_lora_config

    wrapped = get_peft_model(model, read_lora_config(folder))
    found = set_peft_model_state_dict(wrapped, load_file(folder / LORA_WEIGHTS))
    missing = [name for name in found.missing_keys if "lora_" in name]
    if missing or found.unexpected_keys:
        raise ValueError(f"{len(missing)} weights are missing and {len(found.unexpected_keys)} have no place")
    return wrapped.merge_and_unload()


def _replace(model: Any, path: Path) -> Any:
    from safetensors.torch import load_file

    check_weights(path, "adapter")
    own: dict[str, torch.Tensor] = dict(model.named_parameters())
    for name, tensor in load_file(path).items():
        if own[name].shape != tensor.shape:
            raise ValueError(f"{name} is {list(tensor.shape)} and should be {list(own[name].shape)}")
        own[name].data.copy_(tensor)
    return model


def _short(digest: str) -> str:
    kind, _, value = digest.rpartition(":")
    return f"{kind}:{value[:12]}" if kind else value
