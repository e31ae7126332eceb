"""Load and run the ONNX graphs of the networks of `starter`, on the CPU."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from coldstart.encoders import Pixels, Vectors

if TYPE_CHECKING:
    from coldstart.encoders.starter import TokenIds
    from coldstart.models.starter_set import Job

_OPTIMISATION: dict[Job, str] = {"text": "ORT_ENABLE_BASIC", "image": "ORT_ENABLE_ALL"}
"""Optimisation of a graph as it loads: more than this gains nothing for texts; for pictures it halves the time."""


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
