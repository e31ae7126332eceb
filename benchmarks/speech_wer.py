"""Speech to text: word errors by speed and noise, words invented where nobody speaks, and time.

    python -m benchmarks.speech_wer [--short]

24 sentences with numbers and prices, spoken by espeak-ng (no real voice is here, and this one is harder for the model),
at three speeds without noise, and at 160 words a minute in white noise, pink noise and a babble of eight voices at 20
and 10 dB. Word error rate after `tests/support/spoken.py: plain`, which writes numbers in one way; the range is the
middle 95 % of 2,000 resamples of the sentences. The baseline is the same model on the same sound without voice
detection and gates. Time: a made recording of all sentences, one window after another as shipped, faster-whisper's
batched pipeline beside it, interleaved in rounds. Prints JSON; `--short` takes 8 sentences and fewer conditions.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jiwer
import numpy as np

from benchmarks.report import Row
from coldstart.models import install
from coldstart.understand.speech import Gates
from coldstart.understand.whisper import Whisper, WhisperSettings

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "support"))

from spoken import RATE, SENTENCES, Samples, babble, mixed, pink, plain, say, white, wordless

SPEEDS = (130, 160, 190)
NOISES = {"white": white, "pink": pink, "babble": babble}
LEVELS_DB = (20, 10)
ROUNDS, RESAMPLES = 3, 2000
THREADS = 2


def conditions(short: bool) -> dict[str, Callable[[str, int], Samples]]:
    """Name of a condition -> how a sentence (and its number, the seed of the noise) sounds in it."""
    found: dict[str, Callable[[str, int], Samples]] = {
        f"no noise, {speed} words a minute": lambda text, _, speed=speed: say(text, speed) for speed in SPEEDS
    }
    for name, noise in NOISES.items():
        for level_db in LEVELS_DB:
            if not short or (name, level_db) in (("white", 20), ("babble", 10)):
                found[f"{name} noise at {level_db} dB"] = lambda text, seed, noise=noise, level_db=level_db: mixed(
                    say(text, 160), noise, level_db, seed
                )
    return found


def word_errors(model: Whisper, sound: Callable[[str, int], Samples], count: int) -> dict[str, Any]:
    """Word error rate over the first `count` sentences, its range, and what of it the gates caused."""
    errors, dropped = [], 0
    for seed, (text, expected) in enumerate(SENTENCES[:count]):
        found = model.transcribe(sound(text, seed))
        heard = jiwer.process_words(expected, plain(" ".join(one.text for one in found.segments)))
        errors.append((heard.substitutions + heard.deletions + heard.insertions, len(expected.split())))
        dropped += bool(found.dropped)
    table = np.array(errors)
    picks = np.random.default_rng(0).integers(0, count, (RESAMPLES, count))
    rates = table[picks, 0].sum(axis=1) / table[picks, 1].sum(axis=1)
    low, high = np.quantile(rates, [0.025, 0.975])
    wrong, words = table.sum(axis=0).tolist()
    return {
        "errors": wrong,
        "words": words,
        "rate": round(wrong / words, 3),
        "low": round(float(low), 3),
        "high": round(float(high), 3),
        "without_errors": int((table[:, 0] == 0).sum()),
        "sentences": count,
        "with_drops": dropped,
    }


def raw(model: Any, samples: Samples) -> str:
    """What the model writes as faster-whisper runs it by default, at temperature 0, its own no-speech rule included."""
    segments, _ = model.transcribe(samples, temperature=0.0, condition_on_previous_text=False)
    return " ".join(segment.text for segment in segments)


def run(short: bool = False) -> dict[str, Any]:
    """All figures."""
    from faster_whisper import BatchedInferencePipeline, WhisperModel

    ours = Whisper("starter", WhisperSettings(), Gates(), device="cpu", threads=THREADS)
    plainly = WhisperModel(
        str(install.starter_folder("speech")), device="cpu", compute_type="int8", cpu_threads=THREADS
    )
    count = 8 if short else len(SENTENCES)
    rates = {name: word_errors(ours, sound, count) for name, sound in conditions(short).items()}

    clips = dict(list(wordless().items())[:: 3 if short else 1])
    invented = {
        name: {
            "seconds": round(len(samples) / RATE, 1),
            "raw": len(plain(raw(plainly, samples)).split()),
            "ours": sum(len(plain(one.text).split()) for one in ours.transcribe(samples).segments),
        }
        for name, samples in clips.items()
    }

    recording = np.concatenate([say(text, 160) for text, _ in SENTENCES[:count]])
    piece = say(SENTENCES[5][0], 160)
    batched = BatchedInferencePipeline(plainly)
    ways: dict[str, Callable[[], Any]] = {
        "ours": lambda: ours.transcribe(recording),
        "ours_greedy": lambda: greedy.transcribe(recording),
        "batched": lambda: list(batched.transcribe(recording, beam_size=5, temperature=0.0, batch_size=8)[0]),
        "one_clip": lambda: ours.transcribe(piece),
        "one_clip_raw": lambda: raw(plainly, piece),
    }
    greedy = Whisper("starter", WhisperSettings(beam_size=1), Gates(), device="cpu", threads=THREADS)
    times: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(1 + (1 if short else ROUNDS)):  # the first loads weights
        for name, way in ways.items():
            start = time.perf_counter()
            way()
            if turn:
                times[name].append(time.perf_counter() - start)
    return {
        "rates": rates,
        "invented": invented,
        "recording_s": round(len(recording) / RATE, 1),
        "clip_s": round(len(piece) / RATE, 1),
        "seconds": {name: round(statistics.median(taken), 2) for name, taken in times.items()},
        "spread": {name: [round(min(taken), 2), round(max(taken), 2)] for name, taken in times.items()},
        "load": round(os.getloadavg()[0], 1),
    }


def rows(result: dict[str, Any]) -> list[Row]:
    """The claim's lines in the table."""
    found = [
        Row(
            "word error rate, whisper-base on an espeak-ng voice",
            f"{name}, {one['sentences']} sentences, {one['words']} words",
            f"{one['rate']:.3f}",
            f"{one['low']:.3f} to {one['high']:.3f}",
        )
        for name, one in result["rates"].items()
    ]
    clips = result["invented"].values()
    seconds, load = result["seconds"], f"{THREADS} threads, load {result['load']}"
    invented = f"{sum(one['raw'] for one in clips)} to {sum(one['ours'] for one in clips)}"
    found.append(
        Row(
            "words invented where nobody speaks: model alone to as shipped",
            f"{len(clips)} clips of music and noise, {sum(one['seconds'] for one in clips):.0f} s",
            invented,
            f"{sum(one['raw'] > 0 for one in clips)} to {sum(one['ours'] > 0 for one in clips)} clips with words",
            "to 0",
        )
    )
    for claim, key, length in (
        ("real-time factor of speech to text", "ours", "recording_s"),
        ("the same, greedy", "ours_greedy", "recording_s"),
        ("the same, faster-whisper's batches of 8", "batched", "recording_s"),
        ("real-time factor on one short clip", "one_clip", "clip_s"),
        ("the same, faster-whisper alone, which encodes twice", "one_clip_raw", "clip_s"),
    ):
        low, high = (value / result[length] for value in result["spread"][key])
        setting = f"{result[length]} s of speech, {load}"
        found.append(Row(claim, setting, f"{seconds[key] / result[length]:.3f}", f"{low:.3f} to {high:.3f}"))
    return found


if __name__ == "__main__":
    print(json.dumps(run(short="--short" in sys.argv[1:]), indent=2))
