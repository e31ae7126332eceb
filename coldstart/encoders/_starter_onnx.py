"""Answer queries of `starter` by ONNX graphs of its networks: vectors of the same passports, without torch.

A graph is exported once, by `coldstart models pull` or by the first query that needs it (`coldstart.models.exported`);
where that cannot be done, torch answers. Embedding runs keep to torch, which is quicker for many inputs. Graphs compute
in float32.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from coldstart.core.vectors import unit
from coldstart.encoders import Modality, Passport, Pixels, Vectors
from coldstart.encoders._starter_graphs import load_graph, run_images, run_text
from coldstart.models import exported

if TYPE_CHECKING:
    from coldstart.encoders.starter import Starter
    from coldstart.media.image import ImageTransform
    from coldstart.models.starter_set import Job

_BATCH = 16
"""Pictures that go through the network at a time."""


class StarterQueries:
    """Encoder of queries in the spaces of `starter`; see the module and `Encoder`."""

    def __init__(self, starter: Starter) -> None:
        self._starter = starter
        self.name: str = starter.name
        self.modalities: frozenset[Modality] = starter.modalities
        self.image_transform: ImageTransform | None = starter.image_transform
        self.max_tokens: int | None = starter.max_tokens

    def passport(self, modality: Modality) -> Passport:
        return self._starter.passport(modality)

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        return self._starter.count_tokens(texts)

    def encode_documents(self, texts: Sequence[str]) -> Vectors:
        graph = self._text_graph
        if graph is None:
            return self._starter.encode_documents(texts)
        # of 32 short queries a fifth of the time is padding where lengths differ by eight; a further call costs less
        return self._starter.token_batches(texts, lambda ids, mask: unit(run_text(graph, ids, mask)), slack=1.1, room=2)

    encode_queries = encode_documents

    def encode_images(self, images: Sequence[Pixels]) -> Vectors:
        graph = self._image_graph
        if graph is None:
            return self._starter.encode_images(images)
        dim = self.passport("image").dim
        vectors = np.zeros((len(images), dim), np.float32)
        for start in range(0, len(images), _BATCH):
            some = images[start : start + _BATCH]
            vectors[start : start + _BATCH] = unit(run_images(graph, some)[:, :dim])
        return vectors

    def encode_videos(self, videos: Sequence[Pixels]) -> Vectors:
        return self._starter.encode_videos(videos)

    @cached_property
    def _text_graph(self) -> Any:
        return _open_graph("text", self._starter)

    @cached_property
    def _image_graph(self) -> Any:
        return _open_graph("image", self._starter)


def _open_graph(job: Job, starter: Starter) -> Any:
    """Load the graph for a job, exported first where there is none; None where that cannot be done, after a note."""
    try:
        path = exported.ready_graph(job)
        if path is None:
            if not exported.can_store():
                _note(
                    f"{exported.examine(job)[1]}, and the folder cannot be written: torch answers, which takes longer"
                )
                return None
            _note(f"{exported.examine(job)[1]}: it is made now, once; `coldstart models pull` makes it beforehand")
            path = export_graph(job, starter)
        return load_graph(path, job)
    except Exception as fault:  # of exporters and runtimes any: the torch path gives the same answer
        _note(f"queries for {job} need torch, which takes longer: {' '.join(str(fault).split())[:300]}")
        return None


def export_graph(job: Job, starter: Starter) -> Path:
    """Export the graph for a job of the starter's networks, in float32, unless it is there and in order.

    Raises:
        ColdstartError: the weights are missing, it cannot be stored, or its vectors are not those of torch.
    """
    from coldstart.encoders._starter_export import write_graph

    return exported.make(job, lambda path: write_graph(job, starter.in_float32(), path))


def _note(text: str) -> None:
    sys.stderr.write(f"note: {text}\n")
