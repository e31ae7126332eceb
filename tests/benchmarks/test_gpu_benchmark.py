"""The benchmark of GPUs runs in small form without one, so that it works on the day that there is one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from benchmarks import embed_clip, gpu, gpu_fits


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
        "`torch.compile` of the model against the model",
        "`encode_images` against resident tensors",
        "`coldstart embed` against resident tensors",
        "`coldstart embed` on all devices against one",
        "tokens a second of descriptions",
    ]
    assert all("never run on a GPU" in row.setting for row in gpu.rows(result))


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="with a GPU it would measure it")
def test_fits_run_in_small_form_and_one_that_fails_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert list(gpu_fits.FITS) == ["align, heads", "align, LoRA on towers", "describe, LoRA", "rank", "recall"]

    def broken(device: torch.device, small: bool) -> dict[str, str]:
        raise RuntimeError(f"no kernel for {device.type}, small: {small}")

    monkeypatch.setattr(gpu_fits, "CACHE", tmp_path)
    monkeypatch.setattr(gpu_fits, "FITS", {"broken": broken, "align, heads": gpu_fits.heads})
    result = json.loads(json.dumps(gpu_fits.run(short=True)))
    failed, heads = gpu_fits.rows(result)
    assert (failed.figure, failed.spread) == ("failed", "RuntimeError: no kernel for cpu, small: True")
    assert heads.claim == "fit on the device: align, heads" and "never run on a GPU" in heads.setting
    assert heads.spread.startswith("MRR 1.000 of 100") and heads.figure.endswith(" s")
