"""LanceDB's own OpenCLIP embedding function over the bytes of the files, as a table with a source column calls it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
from lancedb.embeddings.open_clip import OpenClipEmbeddings

from benchmarks.peers.answer import Answer, Turn, serve, versions


def start(job: dict[str, Any]) -> tuple[Answer, Turn]:
    function = OpenClipEmbeddings(name=job["arch"], pretrained=job["checkpoint"], device="cpu")
    files = [Path(file) for file in job["files"]]

    def turn(question: dict[str, Any]) -> Answer:
        began = time.perf_counter()
        found = function.compute_source_embeddings([file.read_bytes() for file in files])
        seconds = time.perf_counter() - began
        np.save(question["vectors"], np.asarray(found, np.float32))
        return {"seconds": seconds, "pictures": len(found)}

    return {"versions": versions("lancedb", "open_clip_torch", "torch")}, turn


if __name__ == "__main__":
    serve(start)
