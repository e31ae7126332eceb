"""Transcribe speech by Whisper through faster-whisper, with Silero's voice activity detection before it.

Voice activity detection: Silero VAD as shipped with faster-whisper. Words: the greedy or beam search of CTranslate2 at
temperature 0, each window by itself, so that nothing is sampled and no window depends on the one before. On a CPU the
model runs in 8-bit integers, on CUDA in float16. A model knows the languages it was trained on and no others.

Hot words: rare words of the hints stand before the text that the model goes on with, so that it spells them as they
do. A word is rare where the model's own vocabulary has it in pieces only. What consists of hot words alone is read
again without them.
"""

from __future__ import annotations

import hashlib
import re
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from math import exp
from pathlib import Path
from typing import Any

import numpy as np

from coldstart.core import device as cores
from coldstart.core.device import check_names
from coldstart.core.keys import version
from coldstart.errors import ColdstartError
from coldstart.models import install
from coldstart.models.folder import check_folder
from coldstart.understand.speech import (
    RATE,
    Gates,
    Samples,
    Segment,
    Span,
    Transcript,
    Window,
    filter_segments,
    is_echo,
    windows,
    words_of,
)

_FILES = ("config.json", "model.bin", "preprocessor_config.json", "tokenizer.json", "vocabulary.json", "vocabulary.txt")
_NEEDED = ("config.json", "model.bin", "tokenizer.json")
_LONGEST_S = 30.0  # what Whisper hears at once
_SPAN_S = 28.0  # a longer stretch of voice is cut at a pause
_MARGIN_S = 0.4  # soft first and last sounds that the voice detector misses
_PROBED = 3  # windows that are asked for their language
_MOST_HOT = 24  # hot words; more of them are written where nobody said them
_SHORTEST_HOT = 3  # letters


@dataclass(frozen=True)
class WhisperSettings:
    """Settings of Whisper; every field changes results.

    Attributes:
        language: ISO 639 code of all recordings; None to detect it in each.
        beam_size: texts that are followed side by side; 1 is greedy.
        voice_threshold: 0 to 1, from which probability on the voice detector hears a voice.
        min_voice_s: shorter stretches of voice are passed over.
        min_language_confidence: a less certain language is not named.
    """

    language: str | None = None
    beam_size: int = 5
    voice_threshold: float = 0.5
    min_voice_s: float = 0.25
    min_language_confidence: float = 0.5


class Whisper:
    """Transcriber by Whisper; see the module and `coldstart.understand.speech.Transcriber`. Weights load on first use.

    Args:
        model: `starter`, a folder with a CTranslate2 Whisper model, or a name that faster-whisper knows (`large-v3`,
            `organisation/name`), which is taken from the hub's cache or fetched.
        threads: CPU threads; 0 for as many as there are cores.
    """

    def __init__(
        self, model: str, settings: WhisperSettings, gates: Gates, *, device: str = "auto", threads: int = 0
    ) -> None:
        check_names(device, "auto")
        self._name, self._settings, self._gates = model, settings, gates
        self._device, self._threads = device, threads or cores.thread_count()

    def identity(self) -> Mapping[str, Any]:
        files = {name: install.file_digest(self._folder / name) for name in _FILES if (self._folder / name).is_file()}
        libraries = {name: version(name) for name in ("faster-whisper", "ctranslate2")}
        return {"files": files, **libraries, **asdict(self._settings), "gates": asdict(self._gates)}

    def transcribe(self, samples: Samples, hints: Sequence[str] = ()) -> Transcript:
        """Transcribe as `Transcriber` states.

        Raises:
            ColdstartError: the model cannot be loaded, or does not know the language that was set.
        """
        spans = self._voiced(samples)
        found = windows(spans, len(samples), longest_s=_LONGEST_S, margin_s=_MARGIN_S)
        if not found:
            return Transcript(None, 0.0, 0.0, (), ())
        language, certainty = self._language(samples, found)
        hot = self._model.rare_words(hints) if hints else []
        raw = [segment for window in found for segment in self._read(samples, window, language, hot)]
        kept, dropped = filter_segments(raw, spans, self._gates)
        named = language if certainty >= self._settings.min_language_confidence else None
        return Transcript(named, certainty, sum(end - start for start, end in spans), kept, dropped)

    @cached_property
    def _folder(self) -> Path:
        if self._name == "starter":
            return install.starter_folder("speech")
        if (path := Path(self._name).expanduser()).exists():
            missing = [name for name in _NEEDED if not (path / name).is_file()]
            if missing:
                raise ColdstartError(
                    f"{path} is no Whisper model for CTranslate2: {', '.join(missing)} is not in it; "
                    "convert one with ct2-transformers-converter"
                )
            check_folder(path, f"speech model {self._name!r}")
            return path
        return _from_hub(self._name)

    @cached_property
    def _model(self) -> Any:
        device = self._device
        if device in ("auto", "mps"):  # CTranslate2 has no code for Apple's GPUs
            import ctranslate2

            device = "cuda" if device == "auto" and ctranslate2.get_cuda_device_count() else "cpu"
        kind, _, index = device.partition(":")
        try:
            return _load(self._folder, kind, int(index or 0), self._threads)
        except (RuntimeError, ValueError, OSError) as error:
            raise ColdstartError(f"cannot load the speech model in {self._folder}: {error}") from error

    def _voiced(self, samples: Samples) -> list[Span]:
        """Find spans with a voice, in seconds."""
        if len(samples) < self._settings.min_voice_s * RATE:
            return []
        from faster_whisper.vad import VadOptions, get_speech_timestamps

        options = VadOptions(
            threshold=self._settings.voice_threshold,
            min_speech_duration_ms=round(self._settings.min_voice_s * 1000),
            min_silence_duration_ms=300,
            max_speech_duration_s=_SPAN_S,
            speech_pad_ms=0,
        )
        return [(span["start"] / RATE, span["end"] / RATE) for span in get_speech_timestamps(samples, options)]

    def _language(self, samples: Samples, found: Sequence[Window]) -> tuple[str, float]:
        """Detect the language of the windows with most voice, and its probability: the mean over their seconds."""
        known = self._model.supported_languages
        if self._settings.language:
            if self._settings.language not in known:
                raise ColdstartError(
                    f"language {self._settings.language!r} is none that the speech model knows: {', '.join(known)}"
                )
            return self._settings.language, 1.0
        if len(known) == 1:
            return known[0], 1.0
        probed = sorted(found, key=lambda window: -window.voiced_s)[:_PROBED]
        total: dict[str, float] = {}
        for window in probed:
            for language, probability in self._model.languages(window.cut(samples, _MARGIN_S)):
                total[language] = total.get(language, 0.0) + probability * window.voiced_s
        best = max(total, key=lambda language: total[language])
        return best, min(1.0, total[best] / sum(window.voiced_s for window in probed))

    def _read(self, samples: Samples, window: Window, language: str, hot: Sequence[str]) -> list[Segment]:
        heard = window.cut(samples, _MARGIN_S)
        segments, _ = self._model.transcribe(
            heard,
            language=language,
            beam_size=self._settings.beam_size,
            temperature=0.0,
            condition_on_previous_text=False,
            hotwords=", ".join(hot) or None,
            compression_ratio_threshold=None,  # the gates see everything, and say why
            log_prob_threshold=None,
            no_speech_threshold=None,
        )
        offset_s, length_s = window.start / RATE, len(heard) / RATE
        found = []
        for segment in segments:
            if is_echo(segment.text, hot):
                return self._read(samples, window, language, ())
            start_s = offset_s + min(segment.start, length_s)
            end_s = offset_s + min(max(segment.end, segment.start), length_s)
            confidence = exp(min(segment.avg_logprob, 0.0))
            found.append(Segment(start_s, end_s, segment.text.strip(), confidence, segment.no_speech_prob))
        return found


def _load(folder: Path, device: str, index: int, threads: int) -> Any:
    from faster_whisper import WhisperModel
    from faster_whisper.audio import pad_or_trim

    class Model(WhisperModel):  # type: ignore[misc]
        """Keeps what it last encoded: a window is asked for its language and then for its words."""

        def __init__(self) -> None:
            super().__init__(
                str(folder),
                device=device,
                device_index=index,
                compute_type="float16" if device == "cuda" else "int8",
                cpu_threads=threads,
                local_files_only=True,
            )
            self._encoded: OrderedDict[bytes, Any] = OrderedDict()

        def encode(self, features: np.ndarray[Any, Any]) -> Any:
            key = hashlib.sha256(np.ascontiguousarray(features).tobytes()).digest()
            if key not in self._encoded:
                self._encoded[key] = super().encode(features)
                while len(self._encoded) > _PROBED:
                    self._encoded.popitem(last=False)
            return self._encoded[key]

        def rare_words(self, texts: Sequence[str]) -> list[str]:
            """List words that the vocabulary has in pieces only, each once, in order, `_MOST_HOT` at most."""
            found: dict[str, str] = {}
            for word in (word for text in texts for word in words_of(text)):
                spellings = (f" {word}", f" {word.casefold()}")
                if len(word) >= _SHORTEST_HOT and all(
                    len(self.hf_tokenizer.encode(one, add_special_tokens=False).ids) > 1 for one in spellings
                ):
                    found.setdefault(word.casefold(), word)
            return list(found.values())[:_MOST_HOT]

        def languages(self, samples: Samples) -> list[tuple[str, float]]:
            features = pad_or_trim(self.feature_extractor(samples)[..., :-1])
            found: Sequence[tuple[str, float]] = self.model.detect_language(self.encode(features))[0]
            return [(re.sub(r"\W", "", token), probability) for token, probability in found]

    return Model()


def _from_hub(name: str) -> Path:
    from faster_whisper.utils import download_model

    try:
        try:
            return Path(download_model(name, local_files_only=True))
        except FileNotFoundError:  # not in the cache
            return Path(download_model(name))
    except Exception as error:  # the hub's client raises a dozen kinds
        raise ColdstartError(
            f"cannot load speech model {name!r}: {error}; name the folder of a CTranslate2 Whisper model, or starter"
        ) from error
