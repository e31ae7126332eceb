import subprocess
import sys

import pytest
import torch

from coldstart.core import device
from coldstart.errors import ColdstartError


def test_importing_it_imports_no_torch() -> None:
    script = "import sys, coldstart.core.device; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True).stdout == "False\n"


def test_auto_takes_what_is_there() -> None:
    best = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    assert device.choose_device("auto").type == best
    assert device.choose_device("cpu") == torch.device("cpu")


def test_a_device_that_is_not_here_is_refused() -> None:
    count = torch.cuda.device_count()
    with pytest.raises(ColdstartError) as caught:
        device.choose_device(f"cuda:{count}")
    assert str(caught.value) == (
        f"device 'cuda:{count}' is not here: torch sees {count} CUDA devices; use device: auto"
    )


@pytest.mark.parametrize(("speedup", "expected"), [(1.29, torch.float32), (1.3, torch.bfloat16)])
def test_auto_takes_bfloat16_on_a_cpu_that_is_fast_at_it(
    speedup: float, expected: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device, "speedup", lambda kind, dtype: speedup)
    assert device.choose_dtype(torch.device("cpu")) == expected


def test_a_named_dtype_is_taken_without_measuring(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "speedup", None)
    assert device.choose_dtype(torch.device("cpu"), "float16") == torch.float16
    assert device.choose_dtype(torch.device("cpu"), "bfloat16") == torch.bfloat16


def test_the_measurement_runs_once() -> None:
    device.speedup.cache_clear()
    first = device.speedup("cpu", torch.bfloat16)
    assert first > 0
    assert device.speedup("cpu", torch.bfloat16) == first
    assert device.speedup.cache_info().misses == 1
