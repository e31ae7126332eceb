"""Speech to text: the gates one by one, the stage over a fake model, and the real model on speech, noise and music."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jiwer
import numpy as np
import pyarrow as pa
import pytest
from catalogue import settings
from sounds import beep, write_long, write_sound
from spoken import RATE, SENTENCES, Errors, Samples, babble, count_errors, mixed, plain, say, wordless

from coldstart.core import pipeline as pipelines
from coldstart.core.keys import digest
from coldstart.errors import ColdstartError
from coldstart.media.audio import Audio
from coldstart.models import install
from coldstart.understand.speech import (
    Dropped,
    FakeTranscriber,
    Gates,
    Segment,
    Window,
    filter_segments,
    is_echo,
    windows,
)
from coldstart.understand.speech_loader import LoadSpeech, Speech
from coldstart.understand.stages.speech import SpeechStage, build
from coldstart.understand.whisper import Whisper, WhisperSettings


def stage(**own: Any) -> SpeechStage:
    raw = {**settings(Path("items.jsonl")), "engine": {"device": "cpu"}, "media": {"roots": [Path.cwd().anchor]}}
    pipeline = pipelines.load({**raw, "stages": {"speech": {"stage": "understand.speech", "model": "fake", **own}}})
    return build("speech", pipeline.stages[0].settings, pipeline)


def segment(start_s: float, end_s: float, text: str, confidence: float = 0.8, no_speech: float = 0.0) -> Segment:
    return Segment(start_s, end_s, text, confidence, no_speech)


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (segment(0, 3, "The shoes cost 47 dollars."), None),
        (segment(6, 8, "Thank you for watching."), "no_voice"),
        (segment(0, 3, "You", confidence=0.59, no_speech=0.61), "no_speech"),
        (segment(0, 3, "You", confidence=0.59, no_speech=0.59), None),
        (segment(0, 3, "You", confidence=0.61, no_speech=0.79), None),
        (segment(0, 3, "You", confidence=0.61, no_speech=0.81), "no_speech"),
        (segment(0, 3, "so so so so so so so so so so so so so so so so so so so so"), "repetition"),
        (segment(0, 3, "Our dream tea", confidence=0.36), "low_confidence"),
        (segment(0, 1, "It was the best of times and the worst of times"), "too_fast"),
        (segment(0.9, 1.0, "Order three boxes"), None),  # times of short segments are rough
    ],
)
def test_each_gate(given: Segment, reason: str | None) -> None:
    kept, dropped = filter_segments([given], [(0.0, 5.0)], Gates())
    if reason is None:
        assert (kept, dropped) == ((given,), ())
    else:
        assert (kept, dropped) == ((), (Dropped(given.start_s, given.end_s, given.text, reason),))


def test_the_same_words_again_and_again_are_heard_twice() -> None:
    said = [segment(i, i + 1, f"Buy now{'!' * i}") for i in range(4)]
    kept, dropped = filter_segments([*said, segment(4, 5, "Or later.")], [(0.0, 5.0)], Gates())
    assert [one.text for one in kept] == ["Buy now", "Buy now!", "Or later."]
    assert [one.reason for one in dropped] == ["repetition", "repetition"]


def test_marks_without_words_vanish() -> None:
    assert filter_segments([segment(0, 1, " . "), segment(1, 2, "♪♪")], [(0.0, 5.0)], Gates()) == ((), ())


def test_windows_hold_all_spans() -> None:
    spans = [(0.1, 2.0), (3.0, 12.0), (14.0, 29.0), (29.5, 31.0), (70.0, 98.0)]
    found = windows(spans, 100 * RATE, longest_s=30.0, margin_s=0.4)
    assert [window.spans for window in found] == [tuple(spans[:3]), (spans[3],), (spans[4],)]
    assert [window.start / RATE for window in found] == pytest.approx([0.0, 29.25, 69.6])
    assert [window.end / RATE for window in found] == pytest.approx([29.25, 31.4, 98.4])
    assert windows([], RATE, longest_s=30.0, margin_s=0.4) == []


def test_a_window_is_silent_away_from_voices() -> None:
    heard = Window(0, 5 * RATE, ((1.0, 2.0), (4.0, 5.0))).cut(np.ones(6 * RATE, np.float32), 0.5)
    expected = np.zeros(5 * RATE, np.float32)
    expected[RATE // 2 : RATE * 5 // 2] = expected[RATE * 7 // 2 :] = 1.0
    np.testing.assert_array_equal(heard, expected)


def test_the_fake_hears_tones() -> None:
    samples = np.concatenate([beep(2.0, 1.0, pitch=440) * 0, np.tile(beep(0.2, 0.0, pitch=440), 5), np.zeros(RATE)])
    found = FakeTranscriber().transcribe(samples.astype(np.float32))
    assert found.segments == (Segment(2.0, 3.0, "tone 440", 1.0, 0.0),)
    assert (found.language, found.voiced_s) == ("en", 1.0)
    assert FakeTranscriber().transcribe(beep(2.0, 1.0)).dropped == (Dropped(1.0, 1.2, "tone 1000", "too_fast"),)


def test_rows_have_the_time_of_the_pictures(tmp_path: Path) -> None:
    tone = np.tile(beep(0.2, 0.0, pitch=440), 5)
    samples = np.concatenate([np.zeros(RATE, np.float32), tone, np.zeros(RATE, np.float32), beep(1.0, 0.0)])
    path = write_sound(tmp_path / "late.mkv", samples, pictures_s=6.0, offset_s=1.5)
    entry = {"role": "video", "uri": str(path), "digest": "", "size_bytes": path.stat().st_size, "has_audio": True}
    whole = stage()
    audio, _ = whole.preparer()({"media": [entry]})
    (row,) = whole.compute([audio])
    assert row == {
        "language": "en",
        "language_confidence": 1.0,
        "heard_s": pytest.approx(4.0, abs=0.01),
        "voiced_s": pytest.approx(1.2),
        "segments": [
            {"start_s": pytest.approx(2.5), "end_s": pytest.approx(3.5), "text": "tone 440", "confidence": 1.0}
        ],
        "dropped": [
            {"start_s": pytest.approx(4.5), "end_s": pytest.approx(4.7), "text": "tone 1000", "reason": "too_fast"}
        ],
    }
    pa.Table.from_pylist([{"item_id": "a", "row_key": "k", **row}], schema=whole.schema)  # type: ignore[dict-item]
    (early,) = whole.compute([Speech(Audio(tone, RATE, -0.3, 1.0))])
    assert [(s["start_s"], s["end_s"]) for s in early["segments"]] == [(0.0, pytest.approx(0.7))]  # type: ignore[index]


def test_silence_is_a_row_without_words() -> None:
    (row,) = stage().compute([Speech(Audio(np.zeros(RATE * 2, np.float32), RATE, 0.0, 2.0))])
    assert row == {
        "language": None,
        "language_confidence": 0.0,
        "heard_s": 2.0,
        "voiced_s": 0.0,
        "segments": [],
        "dropped": [],
    }


@pytest.mark.slow
def test_two_hours_are_heard_in_part(tmp_path: Path) -> None:
    path = write_long(tmp_path / "long.mkv", 2.0)
    entry = {"role": "video", "uri": str(path), "digest": "", "size_bytes": path.stat().st_size, "has_audio": True}
    heard = stage(max_s=25.0)
    audio, cost = heard.preparer()({"media": [entry]})
    (row,) = heard.compute([audio])
    assert row["heard_s"] == cost == 25.0  # type: ignore[index]
    beeps = row["segments"] + row["dropped"]  # type: ignore[index]
    assert sorted(one["start_s"] for one in beeps) == pytest.approx([1.0, 11.0, 21.0], abs=0.2)


def test_what_changes_results_is_in_the_fingerprint(tmp_path: Path) -> None:
    folder = model_folder(tmp_path)
    plain_key = digest(stage(model=str(folder)).fingerprint())
    changes: list[dict[str, Any]] = [
        {"max_s": 30.0},
        {"language": "en"},
        {"beam_size": 1},
        {"voice_threshold": 0.6},
        {"min_confidence": 0.3},
        {"min_language_confidence": 0.7},
        {"hot_words": "auto"},
        {"hot_words": ["Oatly"]},
    ]
    keys = {digest(stage(model=str(folder), **change).fingerprint()) for change in changes}
    assert len(keys | {plain_key}) == 1 + len(changes)
    assert digest(stage(model=str(folder), threads=1).fingerprint()) == plain_key
    (folder / "model.bin").write_bytes(b"other weights")
    assert digest(stage(model=str(folder)).fingerprint()) != plain_key


def test_the_title_is_read_and_part_of_the_key_only_where_hot_words_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[list[str]] = []
    heard = FakeTranscriber.transcribe

    def listen(self: FakeTranscriber, samples: Samples, hints: Sequence[str] = ()) -> Any:
        given.append(list(hints))
        return heard(self, samples)

    monkeypatch.setattr(FakeTranscriber, "transcribe", listen)
    sound = Audio(np.zeros(RATE, np.float32), RATE, 0.0, 1.0)
    for hot_words, fields, hints in [
        ("auto", {"media.audio", "media.video", "title"}, ["Oatly Oat Milk"]),
        (["Arla", "Yoggi"], {"media.audio", "media.video", "title"}, ["Oatly Oat Milk", "Arla", "Yoggi"]),
        ("off", {"media.audio", "media.video"}, []),
    ]:
        own = stage(hot_words=hot_words)
        assert set(own.item_fields) == fields
        loader = own.preparer()
        assert isinstance(loader, LoadSpeech)
        own.compute([LoadSpeech(lambda row: (sound, 1.0), loader.titled)({"title": "Oatly Oat Milk"})[0]])  # type: ignore[arg-type]
        assert given.pop() == hints
        own.compute([LoadSpeech(lambda row: (sound, 1.0), loader.titled)({"title": None})[0]])  # type: ignore[arg-type]
        assert given.pop() == hints[1:]
    assert stage(hot_words=False).settings.hot_words == "off"  # as YAML reads it
    assert "hot_words" not in stage(hot_words="off").fingerprint()  # rows of versions without the setting stay


def test_an_echo_is_a_text_of_hot_words_alone() -> None:
    assert is_echo("Oatly, SOYGHURT. Oatly", ["Oatly", "Soyghurt"])
    assert not is_echo("Oatly costs 20", ["Oatly"])
    assert not is_echo("12.", ["Oatly"]) and not is_echo("Oatly", [])


def model_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    for name in ("config.json", "model.bin", "tokenizer.json"):
        (folder / name).write_bytes(b"{}")
    return folder


def whisper(model: str, **listening: Any) -> Whisper:
    return Whisper(model, WhisperSettings(**listening), Gates(), device="cpu", threads=2)


def test_a_folder_that_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(ColdstartError) as caught:
        whisper(str(tmp_path)).identity()
    assert str(caught.value) == (
        f"{tmp_path} is no Whisper model for CTranslate2: config.json, model.bin, tokenizer.json is not in it; "
        "convert one with ct2-transformers-converter"
    )
    folder = model_folder(tmp_path)
    with pytest.raises(ColdstartError, match=f"^cannot load the speech model in {folder}: "):
        whisper(str(folder)).transcribe(say(SENTENCES[0][0]))


def test_a_name_that_no_hub_has() -> None:
    with pytest.raises(ColdstartError, match=r"^cannot load speech model 'huge': .*; name the folder of a CTranslate2"):
        whisper("huge").identity()


def test_an_unknown_device_is_named_at_once() -> None:
    with pytest.raises(ColdstartError, match=r"^device 'tpu' is unknown"):
        Whisper("starter", WhisperSettings(), Gates(), device="tpu")


def test_numbers_compare_fairly() -> None:
    for said, expected in SENTENCES:
        assert plain(said) == plain(expected) == expected
    for written in ("$47.90", "47.90", "47,90 kr", "forty-seven dollars and ninety cents", "Forty seven ninety"):
        assert plain(written) == "4790"
    assert plain("$3,500.00") == plain("3500 dollars") == plain("three thousand five hundred") == "3500"
    assert plain("one hundred and fifty kg") == plain("150kg") == "150 kilograms"
    assert plain("twenty-five, 30% off") == plain("25, thirty percent off") == "2530 percent off"
    assert plain("one point five litres") == plain("1.5 l") == "15 liters"
    assert plain("the point is clear") == "the point is clear"


@pytest.mark.parametrize(
    ("said", "heard", "errors"),
    [
        ("arla milk for 18", "arla milk for 18", Errors(0, 3, 0, 1, 1)),
        ("arla milk for 18", "ala milk 80", Errors(2, 3, 1, 1, 0)),
        ("arla milk", "arla 2 milk too", Errors(1, 2, 1, 0, 0)),
        ("arla 18", "", Errors(1, 1, 1, 1, 0)),
    ],
)
def test_errors_of_numbers_are_counted_apart(said: str, heard: str, errors: Errors) -> None:
    assert count_errors(said, heard) == errors


@pytest.fixture(scope="module")
def starter() -> Whisper:
    try:
        install.starter_folder("speech")
    except ColdstartError as error:
        pytest.skip(str(error))
    return whisper("starter")


def words(model: Whisper, samples: Samples) -> str:
    return " ".join(one.text for one in model.transcribe(samples).segments)


def spoken() -> list[Samples]:
    """Every second sentence, at 130, 160 and 190 words a minute in turn."""
    return [say(said, (130, 160, 190)[place % 3]) for place, (said, _) in enumerate(SENTENCES[::2])]


@pytest.mark.slow
def test_word_error_rate_of_one_long_recording(starter: Whisper) -> None:
    """Half of the sentences without a pause between them: several windows, and cuts where the speech goes on."""
    pause = round(0.3 * RATE)
    joined = np.concatenate([samples[pause:-pause] for samples in spoken()])
    expected = " ".join(expected for _, expected in SENTENCES[::2])
    for samples, bound in ((joined, 0.25), (mixed(joined, babble, 20), 0.35)):
        assert jiwer.wer(expected, plain(words(starter, samples))) < bound


@pytest.mark.slow
def test_hot_words_are_spelt_as_the_title_does_and_never_stand_alone(starter: Whisper) -> None:
    said = say("My kids eat two bowls of Yoggi with strawberries.")
    title = "Yoggi Strawberry Yoghurt"
    assert "Yoggi" not in words(starter, said)
    assert "Yoggi" in " ".join(one.text for one in starter.transcribe(said, [title]).segments)
    credulous = whisper("starter", voice_threshold=1e-6, beam_size=1)
    for name in ("silence", "clicks", "melody"):
        found = credulous.transcribe(wordless()[name][: 20 * RATE], ["Oatly Soyghurt"])
        assert not any("Oatly" in one.text for one in found.segments), name


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(wordless()))
def test_no_words_where_nobody_speaks(starter: Whisper, name: str) -> None:
    found = starter.transcribe(wordless()[name])
    assert found.segments == ()
    assert found.language is None or found.dropped


@pytest.mark.slow
def test_the_gates_hold_even_where_the_voice_detector_is_deaf(starter: Whisper) -> None:
    """Every sound counts as a voice here, so that the model invents words for all of them."""
    credulous = whisper("starter", voice_threshold=1e-6, beam_size=1)
    for name in ("near silence", "white noise", "mains hum", "siren"):
        found = credulous.transcribe(wordless()[name][: 12 * RATE])
        assert found.segments == (), name
        assert found.dropped, name


@pytest.mark.slow
def test_speech_between_music_keeps_its_time(starter: Whisper) -> None:
    music = wordless()["chords"][: 10 * RATE] * np.float32(0.5)
    said = say("Today we make a simple tomato soup for 4 people.", 150)
    found = starter.transcribe(np.concatenate([music, said, music, np.zeros(25 * RATE, np.float32), said]))
    assert found.language == "en" and found.language_confidence > 0.5
    first, *_, last = found.segments
    assert "tomato soup" in first.text and "tomato soup" in last.text
    length_s = len(said) / RATE
    assert first.start_s == pytest.approx(10.3, abs=0.7) and first.end_s <= 10 + length_s + 0.5
    again_s = 45 + length_s
    assert last.start_s == pytest.approx(again_s + 0.3, abs=0.7) and last.end_s <= again_s + length_s + 0.5
    assert found.voiced_s == pytest.approx(2 * length_s, rel=0.3)


@pytest.mark.slow
def test_languages(starter: Whisper) -> None:
    spanish = starter.transcribe(say("Los zapatos rojos cuestan cuarenta euros y son muy cómodos.", 150, "es"))
    assert spanish.language == "es" and "zapatos" in " ".join(one.text for one in spanish.segments)
    unsure = whisper("starter", min_language_confidence=0.99).transcribe(say(SENTENCES[0][0]))
    assert unsure.language is None and 0.0 < unsure.language_confidence < 0.99
    told = whisper("starter", language="en").transcribe(say(SENTENCES[0][0]))
    assert (told.language, told.language_confidence) == ("en", 1.0)
    with pytest.raises(ColdstartError, match=r"^language 'xx' is none that the speech model knows: "):
        whisper("starter", language="xx").transcribe(say(SENTENCES[0][0]))


@pytest.mark.slow
def test_a_result_depends_on_its_recording_alone(starter: Whisper) -> None:
    first, second = say(SENTENCES[4][0]), say(SENTENCES[9][0])
    alone = starter.transcribe(first)
    starter.transcribe(second)
    assert starter.transcribe(first) == alone
    assert Whisper("starter", WhisperSettings(), Gates(), device="cpu", threads=1).transcribe(first) == alone


@pytest.mark.slow
@pytest.mark.parametrize("count", [0, 1, 100, 1600, 4000])
def test_next_to_nothing(starter: Whisper, count: int) -> None:
    assert starter.transcribe(np.full(count, 0.3, np.float32)).segments == ()


@pytest.mark.slow
def test_a_folder_serves_as_well(starter: Whisper, tmp_path: Path) -> None:
    copy = shutil.copytree(install.starter_folder("speech"), tmp_path / "copy")
    own = whisper(str(copy))
    assert own.identity() == starter.identity()
    assert own.transcribe(say(SENTENCES[9][0])) == starter.transcribe(say(SENTENCES[9][0]))


@pytest.mark.slow
def test_the_protocol_needs_no_model_library() -> None:
    script = "import sys, coldstart.understand.stages.speech, coldstart.understand.whisper; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    assert {"torch", "faster_whisper", "ctranslate2", "onnxruntime"}.isdisjoint(loaded)


def test_the_sound_track_is_part_of_the_key_only_where_one_is_chosen() -> None:
    plain = stage().fingerprint()
    assert "sound_track" not in plain
    assert stage(sound_track="deu").fingerprint() == {**plain, "sound_track": "deu"}
    assert stage(sound_track=2).preparer().load.track == 2


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        ("german", "give the code of a language by ISO 639-2, such as deu, or a number from 1 on"),
        (0, "tracks are numbered from 1 on"),
    ],
)
def test_a_sound_track_is_a_language_or_a_number(value: object, fault: str) -> None:
    with pytest.raises(ColdstartError, match=fault):
        stage(sound_track=value)
