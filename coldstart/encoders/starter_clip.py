"""`starter-clip`: the starter's two encoders in one space, by heads that ship with the package.

Training data of the heads, and how well they do on data they never saw: `weights/starter_clip/MODEL_CARD.md`.
"""

from __future__ import annotations

from coldstart.core import settings
from coldstart.encoders._aligned import AlignedEncoder
from coldstart.errors import ColdstartError

HEADS = settings.PACKAGE / "weights" / "starter_clip"


def build(rest: str, *, device: str, dtype: str, allow_random_weights: bool) -> AlignedEncoder:
    if rest:
        raise ColdstartError(f"encoder 'starter-clip:{rest}' is unknown: it has no variants; write starter-clip")
    return AlignedEncoder("starter-clip", HEADS, device=device, dtype=dtype, allow_random_weights=allow_random_weights)
