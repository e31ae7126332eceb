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
from coldstart.models import exported

if TYPE_CHECKING:
    from coldstart.encoders.starter import Starter, TokenIds
    from coldstart.media.image import ImageTransform
    from coldstart.models.starter_set import Job

_OPTIMISATION: dict[Job, str] = {"text": "ORT_ENABLE_BASIC", "image": "ORT_ENABLE_ALL"}
"""Optimisation of a graph as it loads: more than this gains nothing for texts; for pictures it halves the time."""

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
        return self._starter.token_batches(texts, lambda ids, mask: unit(run_text(graph, ids, mask)))

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
        return _open_graph("text")

    @cached_property
    def _image_graph(self) -> Any:
        return _open_graph("image")


def run_text(graph: Any, input_ids: TokenIds, attention_mask: TokenIds) -> Vectors:
    """Compute the mean token vectors of texts, float32 `[B, 384]`, from ids and mask, int64 `[B, T]`."""
    means: Vectors = graph.run(["mean"], {"input_ids": input_ids, "attention_mask": attention_mask})[0]
    return means


def run_images(graph: Any, images: Sequence[Pixels]) -> Vectors:
    """Compute the vectors of all levels, float32 `[B, LEVELS_DIM]`, of pictures, each uint8 `[260, 260, 3]` RGB.

    The first 1280 numbers are the pooled features at length one.
    """
    pixel_values = np.stack(images).transpose(0, 3, 1, 2).astype(np.float32)
    pixel_values *= np.float32(1 / 127.5)
    pixel_values -= 1  # mean and deviation of a half, as `starter.HALF`
    levels: Vectors = graph.run(["levels"], {"pixel_values": pixel_values})[0]
    return levels


def load_graph(path: Path, job: Job) -> Any:
    """Load a graph on the CPU: an `onnxruntime.InferenceSession`."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, _OPTIMISATION[job])
    options.log_severity_level = 3  # errors
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # idle threads would burn a core each
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _open_graph(job: Job) -> Any:
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
            path = export_graph(job)
        return load_graph(path, job)
    except Exception as fault:  # of exporters and runtimes any: the torch path gives the same answer
        _note(f"queries for {job} need torch, which takes longer: {' '.join(str(fault).split())[:300]}")
        return None


def export_graph(job: Job) -> Path:
    """Export the graph for a job, unless it is there and in order.

    Raises:
        ColdstartError: the weights are missing, it cannot be stored, or its vectors are not those of torch.
    """
    from coldstart.encoders._starter_export import write_graph

    return exported.make(job, lambda path: write_graph(job, path))


def _note(text: str) -> None:
    sys.stderr.write(f"note: {text}\n")
