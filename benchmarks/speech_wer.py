"""Speech to text: word errors by voice and noise, what hot words of a title add, words invented, and time.

    python -m benchmarks.speech_wer [--short]

Sixty sentences of product talk with titles, brands, numbers and prices (`tests/support/shop_talk.py`), by three voices
of espeak-ng (no real voice is here, and these are harder for the model), clean, and in white noise and a babble of
eight voices at 10 dB; each once as by default and once with the rare words of its product's title as hot words. The way
of hot words was chosen on the first twenty, so that figures are of the other forty, in noise of twenty of them. Both
texts are compared after `tests/support/spoken.py: plain`, which writes numbers and prices in one way; numbers are
counted apart. Intervals are 95 % bootstraps over sentences, all voices of one drawn together, and paired where two ways
are compared. The baseline of invented words is the same model on the same sound without voice detection and gates.
Time: a made recording, one window after another as shipped, faster-whisper's batched pipeline beside it, interleaved in
rounds. Prints JSON; `--short` takes 4 sentences by one voice. Transcripts are kept in `.bench`, so that a run that was
stopped goes on.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.report import CACHE, Row
from coldstart.core.keys import digest
from coldstart.metrics.intervals import Measure, difference, share
from coldstart.models import install
from coldstart.understand.speech import Gates
from coldstart.understand.whisper import Whisper, WhisperSettings

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "support"))

from shop_talk import CHOOSING, SHOP_TALK
from spoken import RATE, SENTENCES, Samples, babble, count_errors, mixed, plain, say, white, wordless

VOICES = {"en-us": 160, "en-us+f4": 150, "en-gb-scotland": 150}
"""Voice -> words a minute."""
NOISES = {"clean": None, "white noise at 10 dB": white, "babble at 10 dB": babble}
LEVEL_DB = 10
IN_NOISE = 20
"""Sentences, of those for figures, that are heard in noise: an hour of a processor is enough."""
WAYS = ("plain", "hot")
ROUNDS = 3
THREADS = int(os.environ.get("OMP_NUM_THREADS", "2"))


def transcripts(model: Whisper, places: Sequence[int], voices: Sequence[str]) -> list[dict[str, Any]]:
    """What the model writes of each sentence by each voice in each noise, without and with hot words."""
    kept = CACHE / f"speech-talk-{digest([model.identity(), SHOP_TALK, list(NOISES), LEVEL_DB])[:12]}.jsonl"
    known = [json.loads(line) for line in kept.read_text("utf-8").splitlines()] if kept.is_file() else []
    found = {(one["noise"], one["voice"], one["place"]): one for one in known}
    for place in places:
        title, text = SHOP_TALK[place]
        rare = {word.casefold() for word in model._model.rare_words([title])}
        for noise, made in NOISES.items():
            for voice in voices:
                if (noise, voice, place) in found or not _is_heard(noise, place):
                    continue
                spoken = say(text, VOICES[voice], voice)
                sound = spoken if made is None else mixed(spoken, made, LEVEL_DB, place)
                texts = {
                    way: " ".join(one.text for one in model.transcribe(sound, hints).segments)
                    for way, hints in zip(WAYS, ((), (title,)), strict=True)
                }
                one = {"noise": noise, "voice": voice, "place": place, "rare": sorted(rare), **texts}
                found[noise, voice, place] = one
                with kept.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(one) + "\n")
    wanted = [(noise, voice, place) for noise in NOISES for voice in voices for place in places]
    return [found[one] for one in wanted if _is_heard(one[0], one[2])]


def _is_heard(noise: str, place: int) -> bool:
    return NOISES[noise] is None or place < CHOOSING + IN_NOISE


def counted(heard: Sequence[dict[str, Any]], way: str) -> dict[str, list[int]]:
    """Counts of each transcript: wrong words and words, right numbers and numbers, right names and names, not said."""
    counts: dict[str, list[int]] = {
        name: [] for name in ("wrong", "words", "numbers_right", "numbers", "names_right", "names", "not_said")
    }
    for one in heard:
        text = SHOP_TALK[one["place"]][1]
        errors = count_errors(plain(text), plain(one[way]))
        rare = {plain(word) for word in one["rare"]}  # "yoghurt" of a title and "yogurt" of a sentence are one
        said, written = (rare & set(plain(part).split()) for part in (text, one[way]))
        for name, value in (
            ("wrong", errors.word_errors),
            ("words", errors.words),
            ("numbers_right", errors.numbers_right),
            ("numbers", errors.numbers),
            ("names_right", len(said & written)),
            ("names", len(said)),
            ("not_said", bool(written - said)),
        ):
            counts[name].append(int(value))
    return counts


def summary(heard: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Word errors, right numbers and right names of both ways, and their differences, paired."""
    sentences = [one["place"] for one in heard]
    counts = {way: counted(heard, way) for way in WAYS}
    measures = {"wer": ("wrong", "words"), "numbers": ("numbers_right", "numbers"), "names": ("names_right", "names")}
    found: dict[str, Any] = {"sentences": len(set(sentences)), "transcripts": len(heard)}
    for name, (part, whole) in measures.items():
        pairs = [(counts[way][part], counts[way][whole]) for way in WAYS]
        for way, pair in zip(WAYS, pairs, strict=True):
            found[f"{name}_{way}"] = _values(share(*pair, groups=sentences))
        found[f"{name}_gain"] = _values(difference(*pairs, groups=sentences))
    return found | {f"not_said_{way}": sum(counts[way]["not_said"]) for way in WAYS}


def _values(measure: Measure | None) -> list[float] | None:
    """Value, bounds and n; None where nothing was counted."""
    return (
        None if measure is None else [round(measure.value, 4), round(measure.low, 4), round(measure.high, 4), measure.n]
    )


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
    voices = list(VOICES)[: 1 if short else None]
    tested = transcripts(ours, range(CHOOSING, CHOOSING + 4 if short else len(SHOP_TALK)), voices)
    talk = {noise: summary([one for one in tested if one["noise"] == noise]) for noise in NOISES}
    by_voice = {
        f"{voice}, {noise}": summary([one for one in tested if (one["noise"], one["voice"]) == (noise, voice)])
        for noise in NOISES
        for voice in voices
    }

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
        "talk": talk,
        "by_voice": by_voice,
        "voices": len(voices),
        "invented": invented,
        "recording_s": round(len(recording) / RATE, 1),
        "clip_s": round(len(piece) / RATE, 1),
        "seconds": {name: round(statistics.median(taken), 2) for name, taken in times.items()},
        "spread": {name: [round(min(taken), 2), round(max(taken), 2)] for name, taken in times.items()},
        "load": round(os.getloadavg()[0], 1),
    }


def rows(result: dict[str, Any]) -> list[Row]:
    """The claim's lines in the table."""
    found = []
    names = {"wer": "word error rate", "numbers": "numbers and prices right", "names": "rare words of the title right"}
    for noise, one in result["talk"].items():
        setting = f"{noise}, {one['sentences']} sentences by {result['voices']} voices"
        for measure, claim in names.items():
            ways = {"plain": claim, "hot": f"{claim}, with the title's rare words as hot words"}
            for way, text in (*ways.items(), ("gain", f"{claim}: with hot words less without")):
                if (values := one[f"{measure}_{way}"]) is not None:
                    value, low, high, n = values
                    shown = f"{value:+.3f}" if way == "gain" else f"{value:.3f}"
                    unit = {"wer": "words", "numbers": "numbers", "names": "names"}[measure]
                    found.append(Row(text, f"{setting}, {n} {unit}", shown, f"{low:.3f} to {high:.3f}"))
        said = " to ".join(str(one[f"not_said_{way}"]) for way in WAYS)
        claim = "transcripts with a rare word of the title that nobody said: without to with hot words"
        found.append(Row(claim, f"{setting}, {one['transcripts']} transcripts", said, ""))
    for name, one in result["by_voice"].items():
        for way, text in (("plain", "word error rate"), ("hot", "word error rate, with hot words")):
            value, low, high, n = one[f"wer_{way}"]
            found.append(
                Row(
                    text, f"{name}, {one['sentences']} sentences, {n} words", f"{value:.3f}", f"{low:.3f} to {high:.3f}"
                )
            )
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
