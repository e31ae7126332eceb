"""Export the networks of `starter` as ONNX graphs, and check their vectors against torch before they are kept."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from coldstart.core.vectors import unit
from coldstart.encoders._starter_graphs import load_graph, run_images, run_text
from coldstart.errors import ColdstartError

if TYPE_CHECKING:
    from coldstart.encoders.starter import Starter
    from coldstart.models.starter_set import Job

MIN_COSINE = 0.99999
_TEXTS = ("a jar of plum jam", "", "Wanderstiefel, wasserdicht, Größe 42 — 89,90 €", "word " * 400)


class _TextNetwork(nn.Module):
    def __init__(self, starter: Starter) -> None:
        super().__init__()
        self.network = starter.text_model  # its weights become this module's
        self._starter = starter

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        return self._starter.mean_tokens(input_ids, attention_mask)


class _ImageNetwork(nn.Module):
    def __init__(self, starter: Starter) -> None:
        super().__init__()
        self.early, self.late = starter.image_model
        self._starter = starter

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        return self._starter.all_levels(pixel_values)


def write_graph(job: Job, starter: Starter, path: Path) -> Mapping[str, str]:
    """Export the network for a job to a file; returns the releases of the libraries that made it.

    Args:
        starter: all levels in float32 on the CPU.

    Raises:
        ColdstartError: its vectors are not those of torch.
    """
    batch = torch.export.Dim("batch")
    network: nn.Module
    if job == "text":
        network = _TextNetwork(starter)
        mask = torch.ones(2, 16, dtype=torch.int64)
        mask[1, 9:] = 0
        inputs: dict[str, torch.Tensor] = {"input_ids": torch.arange(1000, 1032).reshape(2, 16), "attention_mask": mask}
        axes = {0: batch, 1: torch.export.Dim("length", max=starter.max_tokens)}
        output = "mean"
    else:
        network, output, axes = _ImageNetwork(starter), "levels", {0: batch}
        inputs = {"pixel_values": torch.zeros(2, 3, *starter.image_transform.size)}
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # about names of axes that two inputs share
        program = torch.onnx.export(
            network.eval(),
            kwargs=inputs,
            input_names=list(inputs),
            output_names=[output],
            dynamic_shapes=dict.fromkeys(inputs, axes),
            dynamo=True,
            verbose=False,
        )
        assert program is not None, "the exporter by torch.export returns its program"
        program.save(path, external_data=False)
    cosine = _lowest_cosine(job, path, starter)
    if not cosine >= MIN_COSINE:
        raise ColdstartError(f"the exported graph for {job} gives other vectors than torch (cosine {cosine:.6f})")
    return {name: version(name) for name in ("torch", "onnx", "onnxscript", "onnxruntime", "transformers", "timm")}


def _lowest_cosine(job: Job, path: Path, starter: Starter) -> float:
    """Compare the vectors of a graph with those of torch on a few inputs."""
    graph = load_graph(path, job)
    if job == "text":
        found = starter.token_batches(_TEXTS, lambda ids, mask: unit(run_text(graph, ids, mask)))
        return float((found * starter.encode_documents(_TEXTS)).sum(axis=1).min())
    images = list(np.random.default_rng(0).integers(0, 256, (3, *starter.image_transform.size, 3), np.uint8))
    return float((unit(run_images(graph, images)) * starter.encode_images(images)).sum(axis=1).min())
