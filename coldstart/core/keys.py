"""Compute keys of content and settings, as digests; the only place that does."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from functools import cache
from importlib import metadata
from typing import Any

KEY_LENGTH = 32
"""Hex digits of a key: 128 bits, so that a billion rows collide with probability below 1e-20."""

_ENCODE = json.JSONEncoder(sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode


@cache
def version(package: str) -> str:
    """Look up the version of an installed package, which a fingerprint names; reading its metadata takes long.

    Raises:
        PackageNotFoundError: it is not installed.
    """
    return metadata.version(package)


def digest(value: Any) -> str:
    """Compute the key of a JSON-serialisable value; equal values give equal keys, whatever the order of mappings.

    Raises:
        TypeError: the value holds something JSON cannot.
    """
    return hashlib.sha256(_ENCODE(value).encode("utf-8", "surrogatepass")).hexdigest()[:KEY_LENGTH]


def stage_key(kind: str, version: int, fingerprint: Mapping[str, Any]) -> str:
    """Compute the key of a stage from its kind, its version and all settings that change results."""
    return digest({"stage": kind, "version": version, "fingerprint": fingerprint})


def chain(stage: str, upstream: str) -> str:
    """Compute the key of a stage's row from the stage's key and the keys of the rows it read."""
    return hashlib.sha256(f"{stage}\n{upstream}".encode()).hexdigest()[:KEY_LENGTH]


def item_key(record: Mapping[str, Any], media: Iterable[Mapping[str, Any]]) -> str:
    """Compute the key of an item's row from its record and the bytes of its media."""
    return digest([record, [(entry["role"], entry["digest"]) for entry in media]])
