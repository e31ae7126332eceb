from __future__ import annotations

import subprocess
import sys

import pytest

_TOUCH = """
import resource
import numpy as np
from coldstart.encoders._tensors import keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(8):
        np.ones(40 << 20, np.uint8)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

gave_back = faults()
set_limit = keep_freed_memory()
faults()
print(set_limit, gave_back, faults())
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's allocator")
def test_freed_memory_is_touched_again_without_a_fault() -> None:
    ran = subprocess.run([sys.executable, "-c", _TOUCH], capture_output=True, text=True, check=True)
    set_limit, before, after = ran.stdout.split()
    if set_limit == "False":
        pytest.skip("this C library takes no such wish")
    assert int(after) < int(before) / 4
