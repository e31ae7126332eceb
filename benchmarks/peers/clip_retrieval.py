"""clip-retrieval's inference on a folder of pictures: its own reader, mapper and writer, at its defaults.

That is 256 pictures a batch, four preparing processes, float32 on a CPU, vectors in a NumPy file. The model stays
loaded between rounds, and its logger, which starts a process of its own, is left out: both in its favour.
"""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
from all_clip import load_clip
from clip_retrieval.clip_inference.mapper import ClipMapper
from clip_retrieval.clip_inference.reader import FilesReader
from clip_retrieval.clip_inference.runner import Runner
from clip_retrieval.clip_inference.writer import NumpyWriter

from benchmarks.peers.answer import Answer, Turn, serve, versions

BATCH, WORKERS = 256, 4  # what `clip_inference` does unasked


class Unlogged:
    """In place of its logger."""

    def __init__(self, partition: int) -> None:
        pass

    def start(self) -> None:
        pass

    def __call__(self, stats: Any) -> None:
        pass

    def end(self) -> None:
        pass


def start(job: dict[str, Any]) -> tuple[Answer, Turn]:
    model = f"open_clip:{job['arch']}/{job['checkpoint']}"
    folder, out = job["folder"], Path(job["scratch"]) / "clip_retrieval"
    only = {"enable_image": True, "enable_text": False, "enable_metadata": False}
    loaded = {"clip_model": model, "use_jit": False, "clip_cache_path": None, "warmup_batch_size": 1}
    _, preprocess, tokenizer = load_clip(**loaded)
    mapper = ClipMapper(**only, use_mclip=False, mclip_model="", **loaded)
    run = Runner(
        lambda sampler: FilesReader(sampler, preprocess, tokenizer, folder, BATCH, WORKERS, **only),
        lambda: mapper,
        lambda part: NumpyWriter(part, str(out), **only, output_partition_count=1),
        Unlogged,
        1,
    )

    def turn(question: dict[str, Any]) -> Answer:
        shutil.rmtree(out, ignore_errors=True)
        began = time.perf_counter()
        run(0)
        seconds = time.perf_counter() - began
        vectors = np.load(out / "img_emb" / "img_emb_0.npy")
        np.save(question["vectors"], vectors.astype(np.float32))
        return {"seconds": seconds, "pictures": len(vectors)}

    return {"versions": versions("clip-retrieval", "open_clip_torch", "torch", "numpy")}, turn


if __name__ == "__main__":
    serve(start)
