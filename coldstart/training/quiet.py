"""Libraries that train, kept from printing, from drawing bars and from changing the random numbers of the caller."""

from __future__ import annotations

import random
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

_ADVICE = ("`is_gradient_checkpointing` is deprecated",)
"""What one library says of another's call."""


@contextmanager
def quiet(seed: int, device: torch.device) -> Iterator[None]:
    """Seed all generators of random numbers, and give them back as they were; no bars and no advice meanwhile."""
    import datasets
    from transformers.utils import logging

    own = random.getstate(), np.random.get_state()
    level = logging.get_verbosity()
    bars = not datasets.are_progress_bars_disabled(), logging.is_progress_bar_enabled()
    datasets.disable_progress_bars()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []), warnings.catch_warnings():
        for message in _ADVICE:
            warnings.filterwarnings("ignore", message)
        try:
            random.seed(seed)
            np.random.seed(seed)
            torch.manual_seed(seed)
            yield
        finally:
            random.setstate(own[0])
            np.random.set_state(own[1])
            logging.set_verbosity(level)
            if bars[1]:
                logging.enable_progress_bar()
            if bars[0]:
                datasets.enable_progress_bars()
