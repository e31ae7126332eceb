"""The benchmark of GPUs runs in small form without one, so that it works on the day that there is one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from benchmarks import embed_clip, gpu


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="with a GPU it would measure it")
def test_it_runs_in_small_form_and_says_that_it_measures_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu, "CACHE", tmp_path)
    monkeypatch.setattr(embed_clip, "CACHE", tmp_path)
    monkeypatch.setattr(gpu, "NEW", 4)
    result = json.loads(json.dumps(gpu.run(short=True)))
    assert result["machine"] == {"device": "cpu", "torch": torch.__version__, "cuda": torch.version.cuda}
    (found,) = result["models"].values()
    assert found["swept"]["operations"] > 1e9
    assert [row.claim for row in gpu.rows(result)] == [
        "model on resident tensors against its matrix products",
        "`encode_images` against resident tensors",
        "`coldstart embed` against resident tensors",
        "`coldstart embed` on all devices against one",
        "tokens a second of descriptions",
    ]
    assert all("cpu: the script alone is tested" in row.setting for row in gpu.rows(result))
