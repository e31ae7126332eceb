"""Daft's own recipe: files as a column, downloaded, decoded, and `embed_image` with its transformers provider."""

from __future__ import annotations

import time
from typing import Any

import daft
import numpy as np
from daft.functions import decode_image, download, embed_image

from benchmarks.peers.answer import Answer, Turn, serve, versions


def start(job: dict[str, Any]) -> tuple[Answer, Turn]:
    files = job["files"]

    def turn(question: dict[str, Any]) -> Answer:
        began = time.perf_counter()
        frame = daft.from_pydict({"path": files})
        frame = frame.with_column("image", decode_image(download(frame["path"]), mode="RGB"))
        frame = frame.with_column("vector", embed_image(frame["image"], provider="transformers", model=job["hub"]))
        found = frame.select("path", "vector").to_pydict()
        seconds = time.perf_counter() - began
        by_path = dict(zip(found["path"], found["vector"], strict=True))
        vectors = np.asarray([by_path[file] for file in files], np.float32)
        np.save(question["vectors"], vectors / np.linalg.norm(vectors, axis=1, keepdims=True))
        return {"seconds": seconds, "pictures": len(vectors)}

    return {"versions": versions("daft", "transformers", "torch")}, turn


if __name__ == "__main__":
    serve(start)
