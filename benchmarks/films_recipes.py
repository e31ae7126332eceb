"""Both recipes for new films, as they were written down before each look at the new ones; nothing here was changed
after. Weights of contents are relative; those named in a way's powers are whitened that far, others by 0.5."""

from __future__ import annotations

from typing import Any

from benchmarks.films_methods import Way

FILM = {"genres": 0.15, "period": 0.5, "title": 0.3, "text": 0.3, "poster": 0.1}
WEIGHTS = FILM | {"states-12": 0.2, "states-22": 0.4, "states-30": 0.2}

FIRST, FIRST_WITHOUT = Way("kernel", {}, WEIGHTS), Way("kernel", {}, FILM)

_WIDER = {"dim": 256, "smoothing": 10.0}
_KERNEL = Way("kernel", _WIDER, {**WEIGHTS, "period": 1.0}, {"genres": 0.0, "title": 0.0})
_KERNEL_WITHOUT = Way("kernel", {"gamma": 0.3}, FILM, {"genres": 0.25, "title": 0.0, "text": 0.0, "poster": 0.0})
_BESIDE: tuple[tuple[str, dict[str, Any], float], ...] = (
    ("contrastive", {"pairs": "histories"}, 0.3),
    ("dropoutnet", {"distil": True}, 0.15),
    ("knn", {}, 0.15),
)

BLEND = [(_KERNEL, 0.4), *((Way(name, settings, WEIGHTS), share) for name, settings, share in _BESIDE)]
BLEND_WITHOUT = [(_KERNEL_WITHOUT, 0.4), *((Way(name, settings, FILM), share) for name, settings, share in _BESIDE)]
