"""A transcriber made of arithmetic, for tests of everything around one: it hears loud stretches and writes their pitch.

A tone of 440 Hz becomes `tone 440`. It knows no words. Needs no model.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from coldstart.perception.speech import RATE, Dropped, Samples, Segment, Transcript

_FRAME = RATE // 10
_LOUD = 0.01  # RMS; a frame below it is silence
_SHORT_S = 0.25  # a shorter stretch is dropped, so that tests see both lists


class FakeTranscriber:
    """See the module."""

    def identity(self) -> Mapping[str, Any]:
        return {"fake": 1}

    def transcribe(self, samples: Samples) -> Transcript:
        frames = samples[: len(samples) // _FRAME * _FRAME].reshape(-1, _FRAME)
        loud = np.concatenate([[False], np.sqrt(np.mean(frames**2, axis=1)) > _LOUD, [False]])
        edges = np.flatnonzero(loud[1:] != loud[:-1]).reshape(-1, 2)
        segments, dropped = [], []
        for first, last in edges.tolist():
            spectrum = np.abs(np.fft.rfft(samples[first * _FRAME : last * _FRAME]))
            start_s, end_s = first * _FRAME / RATE, last * _FRAME / RATE
            text = f"tone {round(int(spectrum.argmax()) / (end_s - start_s))}"
            if end_s - start_s < _SHORT_S:
                dropped.append(Dropped(start_s, end_s, text, "too_fast"))
            else:
                segments.append(Segment(start_s, end_s, text, 1.0, 0.0))
        voiced_s = float(loud.sum()) * _FRAME / RATE
        return Transcript("en" if segments else None, float(bool(segments)), voiced_s, tuple(segments), tuple(dropped))
