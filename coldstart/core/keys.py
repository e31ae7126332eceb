"""Digests: the one way content and settings become keys."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

KEY_LENGTH = 32
"""Hex digits of a key: 128 bits, so that a billion rows collide with probability below 1e-20."""


def digest(value: Any) -> str:
    """Key of any JSON-serialisable value; equal values give equal keys, whatever the order of their mappings.

    Raises:
        TypeError: the value holds something JSON cannot.
    """
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:KEY_LENGTH]


def stage_key(kind: str, version: int, fingerprint: Mapping[str, Any]) -> str:
    """Key of a stage: what it is and everything in its settings that changes results."""
    return digest({"stage": kind, "version": version, "fingerprint": fingerprint})


def chain(stage: str, upstream: str) -> str:
    """Row key of a stage's row, from the stage's key and the keys of the rows it read."""
    return hashlib.sha256(f"{stage}\n{upstream}".encode()).hexdigest()[:KEY_LENGTH]
