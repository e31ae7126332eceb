"""Sound: on the time axis of the pictures, within limits, and with exact reasons where it cannot be had."""

from __future__ import annotations

import dataclasses
import pickle
import time
from pathlib import Path

import av
import numpy as np
import pytest
from poison import sound, write_video
from sounds import beep, onset_s, write_long, write_sound

from coldstart.core.stage import Reject
from coldstart.media.audio import Audio, LoadAudio, load_audio
from coldstart.media.limits import Limits

LIMITS = Limits()


def rejected(path: Path, limits: Limits = LIMITS) -> tuple[str, str, str]:
    with pytest.raises(Reject) as caught:
        load_audio(path, limits)
    return caught.value.reason, caught.value.detail, caught.value.state


def check(audio: Audio, seconds: float) -> None:
    assert audio.samples.dtype == np.float32 and audio.samples.ndim == 1
    assert np.abs(audio.samples).max() <= 1.0
    assert audio.heard_s == pytest.approx(seconds, abs=0.1)


@pytest.mark.parametrize(
    ("name", "codec", "rate", "layout"),
    [
        ("a.wav", "pcm_s16le", 16_000, "mono"),
        ("a.wav", "pcm_s16le", 8_000, "mono"),
        ("a.wav", "pcm_f32le", 44_100, "5.1"),
        ("a.mp3", "libmp3lame", 44_100, "stereo"),
        ("a.flac", "flac", 96_000, "stereo"),
        ("a.m4a", "aac", 48_000, "5.1"),
        ("a.ogg", "libopus", 48_000, "mono"),
        ("a.webm", "libopus", 48_000, "stereo"),
    ],
)
def test_sound_files(tmp_path: Path, name: str, codec: str, rate: int, layout: str) -> None:
    path = write_sound(tmp_path / name, beep(3.0, 1.0, rate), rate=rate, codec=codec, layout=layout)
    audio = load_audio(path, LIMITS)
    check(audio, 3.0)
    assert audio.sample_rate == 16_000
    assert audio.duration_s == pytest.approx(3.0, abs=0.1)
    assert audio.start_s == pytest.approx(0.0, abs=0.05)
    assert audio.start_s + onset_s(audio.samples) == pytest.approx(1.0, abs=0.06)


def test_samples_are_those_of_the_file(tmp_path: Path) -> None:
    tone = (0.5 * np.sin(2 * np.pi * 440 * np.arange(32_000) / 16_000)).astype(np.float32)
    audio = load_audio(write_sound(tmp_path / "tone.wav", tone), LIMITS)
    np.testing.assert_allclose(audio.samples, tone, atol=1e-4)


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv", "clip.mov"])
@pytest.mark.parametrize("offset_s", [0.0, 1.5])
def test_time_is_that_of_the_pictures(tmp_path: Path, name: str, offset_s: float) -> None:
    path = write_sound(tmp_path / name, beep(3.0, 1.0), codec="aac", pictures_s=5.0, offset_s=offset_s)
    audio = load_audio(path, LIMITS)
    assert audio.start_s == pytest.approx(offset_s, abs=0.1)
    assert audio.start_s + onset_s(audio.samples) == pytest.approx(1.0 + offset_s, abs=0.1)


def test_pictures_that_start_late_pull_the_clock_with_them(tmp_path: Path) -> None:
    early = write_sound(tmp_path / "early.mkv", beep(3.0, 1.0), codec="aac", pictures_s=3.0)
    with av.open(early) as source, av.open(tmp_path / "late.mkv", "w") as container:
        streams = {stream.index: container.add_stream_from_template(stream) for stream in source.streams}
        for packet in [packet for packet in source.demux() if packet.size]:
            if packet.stream.type == "video":
                packet.pts = packet.dts = packet.pts + 2000
            packet.stream = streams[packet.stream_index]
            container.mux(packet)
    audio = load_audio(tmp_path / "late.mkv", LIMITS)
    assert audio.start_s == pytest.approx(-2.0, abs=0.1)
    assert audio.start_s + onset_s(audio.samples) == pytest.approx(-1.0, abs=0.1)


def test_a_gap_is_silence(tmp_path: Path) -> None:
    path = write_sound(tmp_path / "gap.mkv", beep(4.0, 3.0), gap=(2.0, 1.5), pictures_s=6.0)
    audio = load_audio(path, LIMITS)
    check(audio, 5.5)
    assert onset_s(audio.samples) == pytest.approx(4.5, abs=0.01)


def test_a_clock_that_leaps_does_not_fill_the_memory(tmp_path: Path) -> None:
    path = write_sound(tmp_path / "leap.mkv", beep(4.0, 3.0), gap=(2.0, 10_000.0))
    assert load_audio(path, LIMITS, max_s=20.0).heard_s == 20.0


def test_sound_that_changes_its_form(tmp_path: Path) -> None:
    parts = [
        write_sound(tmp_path / "1.aac", beep(2.0, 1.0, 44_100), rate=44_100, codec="aac", layout="stereo"),
        write_sound(tmp_path / "2.aac", beep(2.0, 1.0, 16_000), rate=16_000, codec="aac", layout="mono"),
    ]
    (tmp_path / "both.aac").write_bytes(b"".join(part.read_bytes() for part in parts))
    audio = load_audio(tmp_path / "both.aac", LIMITS)
    check(audio, 4.1)
    assert onset_s(audio.samples[2 * 16_000 + 8_000 :]) == pytest.approx(0.5, abs=0.2)


def test_subtitles_and_a_cover_stand_beside_it(tmp_path: Path) -> None:
    audio = load_audio(
        write_sound(tmp_path / "titled.mkv", beep(3.0, 1.0), codec="aac", pictures_s=3.0, subtitle=True), LIMITS
    )
    check(audio, 3.0)
    assert onset_s(audio.samples) == pytest.approx(1.0, abs=0.1)


@pytest.mark.parametrize("seconds", [0.001, 0.02, 0.09])
def test_very_short_sound(tmp_path: Path, seconds: float) -> None:
    tone = np.full(round(seconds * 16_000), 0.3, np.float32)
    audio = load_audio(write_sound(tmp_path / "short.wav", tone), LIMITS)
    assert audio.heard_s == pytest.approx(seconds, abs=1e-3)


@pytest.mark.slow
def test_two_hours_are_limited(tmp_path: Path) -> None:
    path = write_long(tmp_path / "long.mkv", 2.0)
    began = time.process_time()
    audio = load_audio(path, LIMITS, max_s=30.0)
    assert time.process_time() - began < 5.0
    assert audio.heard_s == 30.0
    assert audio.duration_s == pytest.approx(7200, abs=1)
    assert audio.samples.nbytes == 30 * 16_000 * 4
    assert rejected(path, dataclasses.replace(LIMITS, max_duration_s=3600.0)) == (
        "too_long",
        "7200 s; the limit is 3600 s",
        "failed",
    )


def test_a_file_cut_within_its_sound_gives_what_is_there(tmp_path: Path) -> None:
    options = {"movflags": "faststart"}
    whole = write_sound(tmp_path / "whole.mp4", beep(8.0, 1.0), codec="aac", options=options).read_bytes()
    (tmp_path / "cut.mp4").write_bytes(whole[: len(whole) * 2 // 3])
    audio = load_audio(tmp_path / "cut.mp4", LIMITS)
    assert 1.0 < audio.heard_s < 8.0
    assert audio.duration_s == pytest.approx(8.0, abs=0.1)
    assert onset_s(audio.samples) == pytest.approx(1.0, abs=0.1)


def test_damaged_packets_are_passed_over(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).uniform(-0.3, 0.3, 16_000 * 4).astype(np.float32)
    whole = bytearray(write_sound(tmp_path / "whole.mp3", noise, codec="libmp3lame").read_bytes())
    middle = len(whole) // 2
    whole[middle : middle + 1500] = b"\xff" * 1500
    (tmp_path / "damaged.mp3").write_bytes(whole)
    assert load_audio(tmp_path / "damaged.mp3", LIMITS).heard_s == pytest.approx(4.0, abs=0.8)


def test_reasons(tmp_path: Path) -> None:
    silent = write_video(tmp_path / "silent.mp4", 1.0)
    assert rejected(silent) == ("no_sound", "mov,mp4,m4a,3gp,3g2,mj2 with video", "filtered")
    (tmp_path / "empty.mp3").write_bytes(b"")
    assert rejected(tmp_path / "empty.mp3") == ("empty_file", "0 bytes", "failed")
    (tmp_path / "text.mp3").write_bytes(b"Not a sound at all.\n" * 20)
    assert rejected(tmp_path / "text.mp3")[::2] == ("unsupported_media", "failed")
    (tmp_path / "cut.m4a").write_bytes(sound()[:2000])
    assert rejected(tmp_path / "cut.m4a")[::2] == ("corrupt_video", "failed")
    small = dataclasses.replace(LIMITS, max_video_bytes=100)
    assert rejected(silent, small)[::2] == ("too_many_bytes", "failed")


def test_a_sound_stream_without_packets_is_no_sound(tmp_path: Path) -> None:
    path = write_sound(tmp_path / "bare.mkv", np.zeros(0, np.float32), pictures_s=1.0)
    assert rejected(path) == ("no_sound", "matroska,webm whose sound stream is empty", "filtered")


def test_sound_of_which_nothing_decodes(tmp_path: Path) -> None:
    path = tmp_path / "garbage.mkv"
    with av.open(path, "w") as container:
        stream = container.add_stream("flac", rate=16_000, layout="mono")
        for i in range(5):
            packet = av.Packet(b"\x00" * 500)
            packet.stream, packet.pts, packet.dts = stream, i * 100, i * 100
            container.mux(packet)
    assert rejected(path) == ("corrupt_audio", "not one frame of 5 packets can be decoded", "failed")


def medium(path: Path, role: str, has_audio: bool | None = True) -> dict[str, object]:
    return {"role": role, "uri": str(path), "digest": "", "size_bytes": path.stat().st_size, "has_audio": has_audio}


def test_the_first_medium_with_sound_is_heard(tmp_path: Path) -> None:
    silent = write_video(tmp_path / "silent.mp4", 1.0)
    video = write_sound(tmp_path / "clip.mkv", beep(3.0, 1.0), pictures_s=3.0)
    song = write_sound(tmp_path / "song.wav", beep(2.0, 0.5))
    hear = LoadAudio(LIMITS, 600.0)
    assert pickle.loads(pickle.dumps(hear)) == hear
    for unsure in (False, None, True):
        audio, cost = hear({"media": [medium(silent, "video", unsure), medium(song, "audio"), medium(video, "video")]})
        assert audio.heard_s == cost == pytest.approx(3.0)
    assert hear({"media": [medium(silent, "video", None), medium(song, "audio")]})[0].heard_s == pytest.approx(2.0)
    assert LoadAudio(LIMITS, 1.5)({"media": [medium(song, "audio")]})[0].heard_s == 1.5
    for media in (None, [], [medium(silent, "image")], [medium(silent, "video", False)]):
        with pytest.raises(Reject) as caught:
            hear({"media": media})
        assert (caught.value.reason, caught.value.detail, caught.value.state) == (
            "no_sound",
            "no sound file, and no video with sound",
            "filtered",
        )
    with pytest.raises(Reject) as caught:
        hear({"media": [medium(silent, "video", None)]})
    assert (caught.value.reason, caught.value.state) == ("no_sound", "filtered")
    song.write_bytes(song.read_bytes() + b"x")
    with pytest.raises(Reject) as caught:
        hear({"media": [{**medium(song, "audio"), "size_bytes": 7}]})
    assert caught.value.reason == "media_changed"


@pytest.mark.parametrize("layout", ["mono", "stereo", "quad", "5.1", "5.1(side)"])
@pytest.mark.parametrize("rate", [16_000, 44_100])
def test_one_loudness_in_every_layout(tmp_path: Path, layout: str, rate: int) -> None:
    tone = (0.9 * np.sin(2 * np.pi * 440 * np.arange(rate) / rate)).astype(np.float32)
    path = write_sound(tmp_path / "tone.wav", tone, rate=rate, layout=layout)
    samples = load_audio(path, LIMITS).samples
    assert np.abs(samples).max() == pytest.approx(0.9, abs=1e-3)
    assert np.sqrt(np.mean(samples**2)) == pytest.approx(0.9 / np.sqrt(2), abs=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("layout", "rate"), [("mono", 44_100), ("stereo", 16_000), ("stereo", 48_000), ("5.1", 48_000)]
)
def test_samples_equal_those_of_faster_whisper(tmp_path: Path, layout: str, rate: int) -> None:
    from faster_whisper.audio import decode_audio

    noise = np.random.default_rng(0).uniform(-0.95, 0.95, rate).astype(np.float32)
    path = write_sound(tmp_path / "noise.wav", noise, rate=rate, layout=layout)
    ours, theirs = load_audio(path, LIMITS).samples, decode_audio(str(path))
    assert len(ours) == len(theirs)
    np.testing.assert_allclose(ours, theirs, atol=2 / 32768)  # theirs are rounded to 16 bits, after the mix too
