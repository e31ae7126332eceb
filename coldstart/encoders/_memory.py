"""Memory that a process keeps between batches, so that it is not asked for page by page anew at every layer.

glibc gives large blocks back to the system as soon as they are free. On a CPU a model's activations are such blocks,
and the pages that the next layer then touches for the first time cost more than all that is not a matrix product.
"""

from __future__ import annotations

import ctypes
import sys
from functools import cache

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of mallopt(3)
_KEPT_BYTES = 512 << 20
_LARGEST_BYTES = 256 << 20


@cache
def keep_freed() -> bool:
    """Let this process keep up to 512 MiB of freed memory, in blocks of up to 256 MiB, from here on; once a process.

    Returns:
        Whether its C library is one that can be told so: glibc. Elsewhere nothing changes.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        tell = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return bool(tell(_MMAP_THRESHOLD, _LARGEST_BYTES)) and bool(tell(_TRIM_THRESHOLD, _KEPT_BYTES))
