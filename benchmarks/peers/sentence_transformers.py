"""sentence-transformers' `encode` of a list of pictures, as its CLIP example does it, in its own batches of 32."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from PIL import Image
from sentence_transformers import SentenceTransformer

from benchmarks.peers.answer import Answer, Turn, serve, versions

OPEN = 512
"""Files that are open at once; a system allows a thousand or so."""


def start(job: dict[str, Any]) -> tuple[Answer, Turn]:
    model = SentenceTransformer(job["hub"], device="cpu", model_kwargs={"dtype": job["dtype"]}, local_files_only=True)
    files = job["files"]

    def turn(question: dict[str, Any]) -> Answer:
        began = time.perf_counter()
        found = []
        for place in range(0, len(files), OPEN):
            pictures = [Image.open(file) for file in files[place : place + OPEN]]
            found.append(model.encode(pictures, normalize_embeddings=True, show_progress_bar=False))
        seconds = time.perf_counter() - began
        vectors = np.concatenate(found)
        np.save(question["vectors"], vectors.astype(np.float32))
        return {"seconds": seconds, "pictures": len(vectors)}

    return {"versions": versions("sentence-transformers", "transformers", "torch")}, turn


if __name__ == "__main__":
    serve(start)
