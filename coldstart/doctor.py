"""What this machine has, for `coldstart doctor` and for bug reports."""

from __future__ import annotations

import os
import platform
import shutil
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil

from coldstart import __version__, models
from coldstart.device import choose_device, choose_devices, choose_dtype

_PACKAGES = (
    "torch",
    "torchvision",
    "open_clip_torch",
    "transformers",
    "sentence-transformers",
    "timm",
    "lancedb",
    "av",
)


def examine(workspace: str) -> dict[str, Any]:
    """Facts by name, each as a person reads it; measures the device for a moment."""
    import torch

    device = choose_device()
    folder = Path(workspace) if "://" not in workspace else Path.cwd()
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    states = {row.name: row.state for row in models.rows()}
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()
    return {
        "coldstart": __version__,
        "python": platform.python_version(),
        "system": platform.platform(),
        "device": f"{device} ({name})",
        "devices": f"{', '.join(choose_devices())} (with engine.devices: all)",
        "number format": f"{choose_dtype(device)} (chosen by measurement)".replace("torch.", ""),
        "processor cores": os.cpu_count(),
        "torch threads": torch.get_num_threads(),
        "memory": f"{psutil.virtual_memory().available / 1e9:.1f} of {psutil.virtual_memory().total / 1e9:.1f} GB free",
        "disk": f"{free / 1e9:.1f} GB free in {folder.resolve()}",
        "models": f"{models.weights_dir()}: " + ", ".join(f"{model} {state}" for model, state in states.items()),
        **{package: version(package) for package in _PACKAGES},
    }
