"""Made sound for tests: sentences spoken by espeak-ng, noise of a stated level, and clips without a word.

All of it is mono float32 in [-1, 1] at 16,000 samples a second, and the same on every run. The voice is that of the
`espeakng-loader` wheel, no system package. A sentence is spoken in a process of its own: the library's noise generator
goes on from one sentence to the next, so that in one process the sound of a sentence would hang on those before it.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import jiwer
import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.float32]
RATE = 16_000

SENTENCES: tuple[tuple[str, str], ...] = (
    ("The red running shoes cost forty seven dollars and ninety cents.", "the red running shoes cost 4790"),
    ("This kitchen knife is 20 centimeters long.", "this kitchen knife is 20 centimeters long"),
    ("Order 3 boxes and pay only 25 dollars.", "order 3 boxes pay only 25"),
    ("The battery lasts for 12 hours.", "the battery lasts for 12 hours"),
    ("Our green tea comes in bags of 50.", "our green tea comes in bags of 50"),
    ("Today we make a simple tomato soup for 4 people.", "today we make a simple tomato soup for 4 people"),
    ("The winter jacket is now 30 percent off.", "the winter jacket is now 30 percent off"),
    ("You can return the camera within 14 days.", "you can return the camera within 14 days"),
    ("A bottle of olive oil is eight dollars and seventy five cents.", "a bottle of olive oil is 875"),
    ("The table holds up to 150 kilograms.", "the table holds up to 150 kilograms"),
    ("Mix 200 grams of flour with 2 eggs.", "mix 200 grams of flour with 2 eggs"),
    ("This phone has a screen of 6 inches.", "this phone has a screen of 6 inches"),
    ("The blue dress is sold out until Monday.", "the blue dress is sold out until monday"),
    ("We tested 15 vacuum cleaners in one week.", "we tested 15 vacuum cleaners in 1 week"),
    ("Please call us before 9 in the morning.", "please call us before 9 in the morning"),
    ("The new game costs fifty nine dollars and ninety nine cents.", "the new game costs 5999"),
    ("Wash the cotton shirt at 40 degrees.", "wash the cotton shirt at 40 degrees"),
    ("Her garden has more than 100 roses.", "her garden has more than 100 roses"),
    ("The train to London leaves at 7.", "the train to london leaves at 7"),
    ("Add a spoon of sugar and stir for 5 minutes.", "add a spoon of sugar stir for 5 minutes"),
    ("This leather bag weighs 900 grams.", "this leather bag weighs 900 grams"),
    ("Two tickets for the concert cost 110 dollars.", "2 tickets for the concert cost 110"),
    ("The children play football behind the school.", "the children play football behind the school"),
    ("My brother bought a used car for 3500 dollars.", "my brother bought a used car for 3500"),
)
"""What is said, and the words that are expected in the form of `plain`. The voice reads `$47.90` as no shop would."""

_UNITS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]
_UNITS += ["thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"]
_TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
_SCALES = {"hundred": 100, "thousand": 1000}
_NUMBERS = {word: n for n, word in enumerate(_UNITS)} | {word: 10 * n for n, word in enumerate(_TENS, 2)}
_SHORT = {"kg": "kilograms", "kilo": "kilograms", "kilogram": "kilograms", "g": "grams", "gram": "grams"}
_SHORT |= {"cm": "centimeters", "centimetres": "centimeters", "l": "liters", "liter": "liters"}
_SHORT |= {"litre": "liters", "litres": "liters", "yoghurt": "yogurt", "favourite": "favorite"}
_MONEY = frozenset(
    ("dollar", "dollars", "cent", "cents", "and", "euro", "euros", "krona", "kronor", "kr", "ore", "sek")
)


def plain(text: str) -> str:
    """Words to compare: lower case, no punctuation, numbers in digits, units in full, prices as their digits.

    "$47.90", "47.90" and "forty seven dollars and ninety cents" are all "4790", as numbers side by side become one:
    a transcript tells nobody where one ends. "$47.00" is "47". "And" and names of money go, since they stand in spoken
    prices and not always in written ones. Whisper's own normaliser (in transformers) makes of "$2.99" and "two ninety
    nine" two different words, and "one.5" of "1.5".
    """
    text = re.sub(r"(?<=\d),(?=\d{3})", "", text.lower()).replace("%", " percent ").replace("'", "")
    text = re.sub(r"(\d+)\.00\b", r"\1", text)
    text = re.sub(r"(?<=\d)(?=[a-z])", " ", text)
    words: list[str] = []
    value: int | None = None  # of the number words just read
    for word in [*re.findall(r"[a-z]+|\d+", text), ""]:
        if word in _NUMBERS and _continues(value, _NUMBERS[word]):
            value = (value or 0) + _NUMBERS[word]
        elif word in _SCALES and value:
            value += value % 1000 * (_SCALES[word] - 1)
        elif word == "and" and value and value % 100 == 0:
            continue  # one hundred and fifty
        elif word == "point" and (value is not None or (words and words[-1].isdigit())):
            continue  # one point five
        else:
            if value is not None:
                words.append(str(value))
            value = _NUMBERS.get(word)
            if value is None and word and word not in _MONEY:
                words.append(_SHORT.get(word, word))
    return re.sub(r"(?<=\d) (?=\d)", "", " ".join(words))


def _continues(value: int | None, more: int) -> bool:
    """Whether a number word belongs to the number before it: `twenty` + `five`, `one hundred` + `fifty`."""
    if value is None or (value >= 100 and value % 100 == 0):
        return True
    return value % 100 >= 20 and value % 10 == 0 and 0 < more < 10


@dataclass(frozen=True)
class Errors:
    """Errors of a transcript: of words and of numbers, each with how many were said; numbers put in are errors too."""

    word_errors: int
    words: int
    number_errors: int
    numbers: int
    numbers_right: int


def count_errors(expected: str, heard: str) -> Errors:
    """Compare two texts in the form of `plain`; what was put in is counted by what it is, all else by what was said."""
    said, found = expected.split(), heard.split()
    wrong, missed = {True: 0, False: 0}, 0
    for part in jiwer.process_words(expected, heard).alignments[0]:
        if part.type == "insert":
            tokens = found[part.hyp_start_idx : part.hyp_end_idx]
        elif part.type == "equal":
            continue
        else:
            tokens = said[part.ref_start_idx : part.ref_end_idx]
            missed += sum(token.isdigit() for token in tokens)
        for token in tokens:
            wrong[token.isdigit()] += 1
    numbers = sum(token.isdigit() for token in said)
    return Errors(wrong[False], len(said) - numbers, wrong[True], numbers, numbers - missed)


_CHILD = """
import ctypes, sys
import espeakng_loader as wheel
text, speed, voice = sys.argv[1:]
speech = ctypes.CDLL(wheel.get_library_path())
speech.espeak_SetParameter.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int]
speech.espeak_Synth.argtypes = [ctypes.c_char_p, ctypes.c_size_t, ctypes.c_uint, ctypes.c_int, ctypes.c_uint,
                                ctypes.c_uint, ctypes.c_void_p, ctypes.c_void_p]
Heard = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)
@Heard
def heard(samples, count, events):
    if samples and count:
        sys.stdout.buffer.write(ctypes.string_at(samples, 2 * count))
    return 0
rate = speech.espeak_Initialize(2, 0, wheel.get_data_path().encode(), 0)  # 2: sound is handed over as it is made
speech.espeak_SetSynthCallback(heard)
if speech.espeak_SetVoiceByName(voice.encode()) or rate != 22050:
    sys.exit(f"voice {voice}, rate {rate}")
speech.espeak_SetParameter(1, int(speed), 0)
said = text.encode()
speech.espeak_Synth(said, len(said) + 1, 0, 1, 0, 1, None, None)
speech.espeak_Synchronize()
"""


@cache
def say(text: str, words_per_minute: int = 160, voice: str = "en-us") -> Samples:
    """A sentence spoken by espeak-ng, with 0.3 s of silence around it, loudest sample 0.6."""
    argv = [sys.executable, "-c", _CHILD, text, str(words_per_minute), voice]
    done = subprocess.run(argv, capture_output=True, timeout=60, check=True)
    spoken = resample(np.frombuffer(done.stdout, np.int16).astype(np.float64), 22_050)
    quiet = np.zeros(round(0.3 * RATE))
    return np.concatenate([quiet, 0.6 * spoken / np.abs(spoken).max(), quiet]).astype(np.float32)


def resample(samples: NDArray[np.float64], rate: int) -> NDArray[np.float64]:
    """The samples at 16,000 a second, by cutting or extending the spectrum."""
    count = round(len(samples) * RATE / rate)
    return np.fft.irfft(np.fft.rfft(samples)[: count // 2 + 1], count) * (count / len(samples))


def white(seconds: float, seed: int = 0) -> Samples:
    """White noise of RMS 0.1."""
    return level(np.random.default_rng(seed).standard_normal(round(seconds * RATE)), 0.1)


def pink(seconds: float, seed: int = 0) -> Samples:
    """Noise whose power falls with one over the frequency, RMS 0.1."""
    spectrum = np.fft.rfft(np.random.default_rng(seed).standard_normal(round(seconds * RATE)))
    spectrum[1:] /= np.sqrt(np.arange(1, len(spectrum)))
    spectrum[0] = 0
    return level(np.fft.irfft(spectrum, round(seconds * RATE)), 0.1)


def babble(seconds: float, seed: int = 0) -> Samples:
    """Eight voices of other sentences at once, RMS 0.1: the hardest background, since it is speech itself."""
    rng = np.random.default_rng(seed)
    count = round(seconds * RATE)
    total = np.zeros(count)
    voices = ("en-us", "en", "en-us+f2", "en-us+m3", "en-gb-scotland", "en+f2", "en-us+f4", "en+m1")
    for place, voice in enumerate(voices):
        said = [say(SENTENCES[(place * 3 + step) % len(SENTENCES)][0], 130 + 10 * place, voice) for step in range(3)]
        total += np.roll(np.resize(np.concatenate(said), count), rng.integers(count))
    return level(total, 0.1)


def level(samples: NDArray[np.floating], rms: float) -> Samples:
    return (samples * rms / np.sqrt(np.mean(samples**2))).astype(np.float32)


def mixed(speech: Samples, noise: Callable[[float, int], Samples], snr_db: float, seed: int = 0) -> Samples:
    """Speech in noise. The signal's power is taken over the samples that are not silent (above 1 % of the loudest)."""
    voiced = speech[np.abs(speech) > 0.01 * np.abs(speech).max()]
    wanted = np.sqrt(np.mean(voiced**2)) / 10 ** (snr_db / 20)
    both = speech + level(noise(len(speech) / RATE, seed)[: len(speech)], wanted)
    return (both / max(1.0, np.abs(both).max())).astype(np.float32)


@cache
def wordless() -> dict[str, Samples]:
    """Clips of 8 to 40 s in which nobody says a word: name -> samples."""
    seconds, rng = 12.0, np.random.default_rng(7)
    time_s = np.arange(round(seconds * RATE)) / RATE
    hum = sum(np.sin(2 * np.pi * 50 * n * time_s) / n for n in range(1, 8))
    beeps = np.sin(2 * np.pi * 1000 * time_s) * (time_s % 1 < 0.2)
    clicks = (rng.random(len(time_s)) < 4 / RATE) * rng.uniform(-1, 1, len(time_s))
    siren = np.sin(2 * np.pi * np.cumsum(700 + 400 * np.sin(2 * np.pi * 0.4 * time_s)) / RATE)
    swell = (pink(40.0, 3) * (0.55 + 0.45 * np.sin(2 * np.pi * 0.12 * np.arange(40 * RATE) / RATE))).astype(np.float32)
    return {
        "silence": np.zeros(round(10 * RATE), np.float32),
        "near silence": white(10.0, 1) * np.float32(0.001),
        "white noise": white(20.0, 2),
        "pink noise": pink(20.0, 3),
        "surf": swell,
        "mains hum": level(hum, 0.1),
        "beeps": level(beeps, 0.1),
        "clicks": level(clicks, 0.02),
        "siren": level(siren, 0.1),
        "chords": chords(),
        "melody": melody(),
        "melody with vibrato": melody(vibrato=0.012),
        "drums": drums(),
        "vowels": vowels(),
        "band": level(chords() + melody() + drums(), 0.15),
    }


def chords(seconds: float = 24.0) -> Samples:
    """Four chords in turn, two seconds each, of plucked strings with eight overtones."""
    roots = ((261.6, 329.6, 392.0), (220.0, 261.6, 329.6), (174.6, 220.0, 261.6), (196.0, 246.9, 293.7))
    bars = [sum(note(pitch, 2.0, decay=1.2) for pitch in roots[bar % 4]) for bar in range(round(seconds / 2))]
    return level(np.concatenate(bars), 0.1)


def melody(seconds: float = 24.0, vibrato: float = 0.0) -> Samples:
    """A tune of half-second notes in the range of a voice, as a flute or (with vibrato) a violin might play it."""
    steps = np.random.default_rng(5).choice([0, 2, 4, 5, 7, 9, 11, 12], round(seconds * 2))
    tones = [note(293.7 * 2 ** (step / 12), 0.5, decay=4.0, vibrato=vibrato) for step in steps]
    return level(np.concatenate(tones), 0.1)


def vowels(seconds: float = 20.0) -> Samples:
    """A voice that sings one vowel after another and no word: overtones of a gliding pitch through formants."""
    time_s = np.arange(round(seconds * RATE)) / RATE
    pitch = 160 + 40 * np.sin(2 * np.pi * 0.15 * time_s) + 3 * np.sin(2 * np.pi * 5 * time_s)
    phase = 2 * np.pi * np.cumsum(pitch) / RATE
    shapes = np.array([(730, 1090, 2440), (270, 2290, 3010), (570, 840, 2410), (300, 870, 2240)])
    turn = time_s / 2.5 % len(shapes)
    formants = np.stack([np.interp(turn, np.arange(5), np.append(shapes[:, n], shapes[0, n])) for n in range(3)])
    total = np.zeros(len(time_s))
    for n in range(1, 25):
        total += np.sin(n * phase) * sum(1 / (1 + ((n * pitch - formant) / 90) ** 2) for formant in formants)
    return level(total, 0.1)


def drums(seconds: float = 24.0) -> Samples:
    """120 beats a minute: a falling bass tone, and a burst of noise on every other beat."""
    time_s = np.arange(RATE // 2) / RATE
    bass = np.sin(2 * np.pi * (50 * time_s - 8 * np.exp(-30 * time_s))) * np.exp(-8 * time_s)
    snare = np.random.default_rng(6).standard_normal(len(time_s)) * np.exp(-25 * time_s) * 0.6
    return level(np.tile(np.concatenate([bass, bass * 0.6 + snare]), round(seconds)), 0.1)


def note(pitch: float, seconds: float, decay: float, vibrato: float = 0.0) -> NDArray[np.float64]:
    """One tone of eight overtones; `decay` is the time in seconds in which it falls to a third."""
    time_s = np.arange(round(seconds * RATE)) / RATE
    phase = 2 * np.pi * pitch * (time_s - vibrato * np.cos(2 * np.pi * 5.5 * time_s) / (2 * np.pi * 5.5))
    tone = sum(np.sin(n * phase) / n**1.5 for n in range(1, 9))
    attack = np.minimum(time_s / 0.02, 1) * np.minimum((seconds - time_s) / 0.02, 1)
    faded: NDArray[np.float64] = tone * attack * np.exp(-time_s / decay)
    return faded
