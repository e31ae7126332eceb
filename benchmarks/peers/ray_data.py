"""Ray Data's recipe for pictures: read, prepare each one in tasks, predict in an actor by batches.

After its guide to batch inference with a vision model: `read_images`, `map` of the preprocessing, `map_batches` of a
class that holds the model. One actor and Ray's own parallelism for the rest; batches of 64.
"""

from __future__ import annotations

import os
import time
from typing import Any

import numpy as np
import open_clip
import ray
import torch
from PIL import Image

from benchmarks.peers.answer import Answer, Turn, serve, versions

BATCH = 64


class Predictor:
    """The actor that holds the model."""

    def __init__(self, arch: str, checkpoint: str, dtype: str, threads: int) -> None:
        torch.set_num_threads(threads)  # Ray would give it one
        self.dtype = getattr(torch, dtype)
        model, _, _ = open_clip.create_model_and_transforms(arch, pretrained=checkpoint)
        self.model = model.to(self.dtype).eval()

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        with torch.inference_mode():
            vectors = self.model.encode_image(torch.from_numpy(batch["pixels"]).to(self.dtype)).float()
            return {"path": batch["path"], "vector": (vectors / vectors.norm(dim=-1, keepdim=True)).numpy()}


class Prepare:
    """open_clip's preprocessing of one row."""

    def __init__(self, arch: str) -> None:
        config = open_clip.transform.PreprocessCfg(size=open_clip.get_model_config(arch)["vision_cfg"]["image_size"])
        self.preprocess = open_clip.transform.image_transform_v2(config, is_train=False)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        return {"path": row["path"], "pixels": self.preprocess(Image.fromarray(row["image"])).numpy()}


def start(job: dict[str, Any]) -> tuple[Answer, Turn]:
    os.environ["RAY_AUTH_MODE"] = "disabled"
    threads = int(job["threads"])
    ray.init(num_cpus=threads, include_dashboard=False, log_to_driver=False, object_store_memory=1 << 29)
    ray.data.DataContext.get_current().enable_progress_bars = False
    prepare = Prepare(job["arch"])

    def turn(question: dict[str, Any]) -> Answer:
        began = time.perf_counter()
        images = ray.data.read_images(job["files"], include_paths=True, mode="RGB")
        found = (
            images.map(prepare)
            .map_batches(
                Predictor,
                fn_constructor_args=(job["arch"], job["checkpoint"], job["dtype"], threads),
                batch_size=BATCH,
                concurrency=1,
            )
            .take_all()
        )
        seconds = time.perf_counter() - began
        by_path = {row["path"]: row["vector"] for row in found}
        np.save(question["vectors"], np.stack([by_path[file] for file in job["files"]]))
        return {"seconds": seconds, "pictures": len(found)}

    return {"versions": versions("ray", "open_clip_torch", "torch")}, turn


if __name__ == "__main__":
    serve(start)
