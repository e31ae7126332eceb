"""Load the sound of an item for `understand.speech`, in a worker process: imports no Arrow and no store."""

from __future__ import annotations

from dataclasses import dataclass

from coldstart.core.stage import Row
from coldstart.media.audio import Audio, LoadAudio


@dataclass(frozen=True)
class Speech:
    """Sound of one item, and its title where that may name what is said."""

    audio: Audio
    title: str = ""


@dataclass(frozen=True)
class LoadSpeech:
    """Load the sound of an item as `LoadAudio`, with the item's title."""

    load: LoadAudio
    titled: bool

    def __call__(self, row: Row) -> tuple[Speech, float]:
        audio, cost = self.load(row)
        return Speech(audio, (row.get("title") or "") if self.titled else ""), cost
