"""`starter`: SmolLM2-135M-Instruct, small and offline. It follows a schema well, instructions badly until fitted."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from coldstart.errors import ColdstartError
from coldstart.generators import GeneratorPassport, _local, _smollm2
from coldstart.generators._local import LocalModel
from coldstart.models import install


def build(
    rest: str,
    *,
    device: str,
    dtype: str,
    adapter: Path | None,
    batch_size: int | None = None,
    merge: bool = True,
) -> LocalModel:
    """Build the starter language model with its adapter, if any.

    Args:
        batch_size: most texts at once; None: what memory allows.
        merge: whether the adapter is added to the weights, which is quicker, or computed beside them.

    Raises:
        ColdstartError: it has a rest, is not on this machine, or the folder holds no adapter for it.
    """
    if rest:
        raise ColdstartError(f"generator 'starter:{rest}' is unknown: write starter")
    _smollm2.weights_path()
    return LocalModel(
        "starter",
        _smollm2.CONTEXT,
        _smollm2.load_tokenizer,
        partial(_model, adapter=adapter and _local.find_adapter(adapter), merge=merge),
        partial(_passport, adapter and _local.find_adapter(adapter)),
        device=device,
        dtype=dtype,
        batch_size=batch_size,
    )


def _model(device: Any, dtype: Any, *, adapter: Path | None, merge: bool) -> Any:
    import torch

    if adapter is None:
        return _smollm2.load_model(device, dtype)
    # Added in float32 and rounded once: in bfloat16 a small change would be lost against the weight.
    return _local.apply_adapter(_smollm2.load_model(device, torch.float32), adapter, merge=merge).to(dtype)


def _passport(adapter: Path | None) -> GeneratorPassport:
    return GeneratorPassport(
        "starter:SmolLM2-135M-Instruct",
        f"sha256:{install.file_digest(_smollm2.weights_path())}",
        _local.adapter_digest(adapter) if adapter else "",
        f"its own, binding {_local.CONSTRAINED_VERSION}",
    )
