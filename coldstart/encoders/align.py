"""`align:FOLDER`: two encoders and the heads that a fit has put on them, so that pictures and words share a space.

In a pipeline `align:NAME` is the newest result of its fit stage of that name.
"""

from __future__ import annotations

from pathlib import Path

from coldstart.encoders._aligned import AlignedEncoder
from coldstart.errors import ColdstartError


def build(
    rest: str, *, device: str, dtype: str, allow_random_weights: bool, label: str | None = None
) -> AlignedEncoder:
    """Build the encoder of a folder.

    Args:
        rest: the folder.
        label: what to call it instead of by its folder.

    Raises:
        ColdstartError: there is no such folder, or none of heads that fit the encoders on this machine.
    """
    folder = Path(rest).expanduser()
    name = label or f"align:{folder.name}"
    if not rest or not folder.is_dir():
        raise ColdstartError(
            f"encoder 'align:{rest}': {rest or 'nothing'} is no folder of aligned heads; in a pipeline, name a stage "
            "of kind align.text_image, such as align:text_image"
        )
    return AlignedEncoder(name, folder, device=device, dtype=dtype, allow_random_weights=allow_random_weights)
