"""`hf:NAME_OR_FOLDER`: any causal language model, or vision-language model, that transformers reads.

A folder, or a name whose files are in the local hub cache or on the hub. Weights are safetensors only, and code from
a model's folder is never run. A model whose files have a picture processor reads pictures (`_vlm`).
"""

from __future__ import annotations

import hashlib
import json
from functools import partial
from pathlib import Path
from typing import Any

from coldstart import models
from coldstart.errors import ColdstartError
from coldstart.generators import Generator, GeneratorPassport, _adapter
from coldstart.generators._local import LocalModel
from coldstart.hub_files import hub_folder

PATTERNS = ("*.safetensors", "*.json", "*.txt", "*.model", "*.jinja")
"""All that is read; the digest covers these."""
EYES = ("preprocessor_config.json", "processor_config.json")


def build(
    rest: str,
    *,
    device: str,
    dtype: str,
    adapter: Path | None,
    batch_size: int | None = None,
    merge: bool = True,
    max_side: int = 512,
) -> Generator:
    """Find the model's files; no weights are read yet.

    Args:
        batch_size: most texts at once; None: what memory allows.
        merge: whether the adapter is added to the weights, which is quicker, or computed beside them.
        max_side: pixels of a picture's longer side, for models that read pictures.

    Raises:
        ColdstartError: there are no files, no safetensors among them, or the folder holds no adapter.
    """
    name, folder = f"hf:{rest}", Path(rest)
    if not rest:
        raise ColdstartError("generator 'hf' needs a model: write hf:NAME or hf:FOLDER")
    label = f"hf:{folder.resolve().name}" if folder.is_dir() else name
    if not folder.is_dir():
        folder = hub_folder(rest, PATTERNS, what="generator", name=name, instead="hf:FOLDER")
    _check(name, folder)
    place = adapter and _adapter.find(adapter)
    passport = partial(_passport, label, folder, place)
    if any((folder / file).is_file() for file in EYES):
        from coldstart.generators._vlm import VisionModel

        return VisionModel(name, folder, place, passport, device, dtype, batch_size, merge, max_side)
    return LocalModel(
        name,
        context_tokens(folder),
        partial(_tokenizer, folder),
        partial(_model, name, folder, place, merge),
        passport,
        device=device,
        dtype=dtype,
        batch_size=batch_size,
    )


def _check(name: str, folder: Path) -> None:
    if not (folder / "config.json").is_file():
        raise ColdstartError(f"generator {name!r}: {folder} holds no model (config.json is missing)")
    if not any(folder.glob("*.safetensors")):
        raise ColdstartError(f"generator {name!r}: {folder} holds no weights (*.safetensors; pickles are not read)")


def context_tokens(folder: Path) -> int | None:
    """What the configuration states, for the language part where there are several."""
    about = json.loads((folder / "config.json").read_text("utf-8"))
    inner = about.get("text_config") or {}
    stated = inner.get("max_position_embeddings") or about.get("max_position_embeddings") or about.get("n_positions")
    return stated if isinstance(stated, int) else None


def _passport(label: str, folder: Path, adapter: Path | None) -> GeneratorPassport:
    from coldstart.generators import _binding

    files = sorted({path for pattern in PATTERNS for path in folder.glob(pattern)})
    listing = "".join(f"{models.file_digest(path)}  {path.name}\n" for path in files)
    return GeneratorPassport(
        label,
        f"sha256:{hashlib.sha256(listing.encode()).hexdigest()}",
        _adapter.digest(adapter) if adapter else "",
        f"its own, binding {_binding.VERSION}",
    )


def _tokenizer(folder: Path) -> Any:
    from transformers import AutoTokenizer

    found = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False, padding_side="left")
    if found.pad_token_id is None:
        found.pad_token = found.eos_token
    return found


def _model(name: str, folder: Path, adapter: Path | None, merge: bool, device: Any, dtype: Any) -> Any:
    from transformers import AutoModelForCausalLM

    return read(AutoModelForCausalLM, name, folder, adapter, merge, device, dtype)


def read(kind: Any, name: str, folder: Path, adapter: Path | None, merge: bool, device: Any, dtype: Any) -> Any:
    """A model by one of transformers' auto classes, all its weights from its files.

    Raises:
        ColdstartError: the folder cannot be read as one, lacks weights, or the adapter is of another model.
    """
    import torch
    from transformers.utils import logging

    bars = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        # An adapter is added in float32 and rounded once: in a narrow format a small change would be lost.
        model, report = kind.from_pretrained(
            folder,
            dtype=torch.float32 if adapter and merge else dtype,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            output_loading_info=True,
        )
    except (OSError, ValueError, ImportError, KeyError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ColdstartError(f"generator {name!r}: {folder} cannot be read as a model: {reason}") from error
    finally:
        if bars:
            logging.enable_progress_bar()
    if missing := sorted(report["missing_keys"]):
        raise ColdstartError(f"generator {name!r}: its files lack {len(missing)} tensors, such as {missing[0]}")
    if adapter is not None:
        model = _adapter.apply(model, adapter, merge=merge)
    return model.to(device, dtype).requires_grad_(False).eval()
