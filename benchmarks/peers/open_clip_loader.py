"""The script that one writes over open_clip: a DataLoader with its preprocessing, batches of 64, a worker a core."""

from __future__ import annotations

import os
import time
from typing import Any

import numpy as np
import open_clip
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from benchmarks.peers.answer import Answer, Turn, serve, versions

BATCH = 64


class Pictures(Dataset[torch.Tensor]):
    """Files as open_clip's own preprocessing leaves them."""

    def __init__(self, files: list[str], preprocess: Any) -> None:
        self.files, self.preprocess = files, preprocess

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, place: int) -> torch.Tensor:
        made: torch.Tensor = self.preprocess(Image.open(self.files[place]))
        return made


def start(job: dict[str, Any]) -> tuple[Answer, Turn]:
    dtype = getattr(torch, job["dtype"])
    model, _, preprocess = open_clip.create_model_and_transforms(job["arch"], pretrained=job["checkpoint"])
    model = model.to(dtype).eval()
    loader = DataLoader(Pictures(job["files"], preprocess), batch_size=BATCH, num_workers=os.cpu_count() or 1)

    def turn(question: dict[str, Any]) -> Answer:
        began = time.perf_counter()
        found = []
        with torch.inference_mode():
            for pixel_values in loader:
                vectors = model.encode_image(pixel_values.to(dtype)).float()
                found.append((vectors / vectors.norm(dim=-1, keepdim=True)).numpy())
        seconds = time.perf_counter() - began
        whole = np.concatenate(found)
        np.save(question["vectors"], whole)
        return {"seconds": seconds, "pictures": len(whole)}

    return {"versions": versions("open_clip_torch", "torch", "torchvision", "pillow")}, turn


if __name__ == "__main__":
    serve(start)
