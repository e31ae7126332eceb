from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from paths import DATA
from PIL import Image
from poison import make_poison, noise, role, sound, write_video

from coldstart.core.stage import Reject
from coldstart.media import guard
from coldstart.media.container import Video
from coldstart.media.image import ImageTransform, load_image, probe_image
from coldstart.media.limits import Limits
from coldstart.media.video import AudioInfo, VideoInfo, frames_at, probe_audio, probe_video, sample_frames

LIMITS = Limits()
WHOLE = ImageTransform((10_000, 10_000), "longest")
WIDTH, HEIGHT = 96, 64
CONTAINERS = {
    "clip.mp4": ("libx264", {}),
    "clip.mkv": ("libx264", {}),
    "clip.webm": ("libvpx", {}),
    "clip.avi": ("mpeg4", {}),
    "clip.ts": ("libx264", {}),
    "clip.flv": ("libx264", {}),
    "fragments.mp4": ("libx264", {"movflags": "frag_keyframe+empty_moov"}),
    "live.mkv": ("libx264", {"live": "1"}),
    "live.webm": ("libvpx", {"live": "1"}),
}


def write(
    path: Path,
    codec: str = "libx264",
    options: dict[str, str] | None = None,
    *,
    times_ms: list[int] | None = None,
    gop: int = 25,
    rotation: int = 0,
    mirror: bool = False,
    sound_s: float = 0.0,
) -> Path:
    """A clip whose frame shown at t seconds is grey of level 20 + 2 per tenth of a second, its left half darker."""
    times_ms = times_ms or list(range(0, 6000, 40))
    with av.open(path, "w", options=options or {}) as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height = WIDTH, HEIGHT
        stream.pix_fmt = "rgb8" if codec == "gif" else "yuv420p"
        stream.codec_context.gop_size = gop
        stream.bit_rate = 2_000_000
        if codec == "libx264":
            stream.options = {"sc_threshold": "0"}
        stream.codec_context.time_base = stream.time_base = Fraction(1, 25 if codec == "mpeg4" else 1000)
        if rotation or mirror:
            stream.set_display_rotation(rotation, hflip=mirror)
        voice = container.add_stream("aac", rate=16_000, layout="mono") if sound_s else None
        for ms in times_ms:
            pixels = np.full((HEIGHT, WIDTH, 3), level(ms / 1000), np.uint8)
            pixels[:, : WIDTH // 2] //= 2
            frame = av.VideoFrame.from_ndarray(pixels)
            frame.time_base = Fraction(1, 1000)
            frame.pts = ms
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
        if voice is not None:
            for start in range(0, round(sound_s * 16_000), 1024):
                tone = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
                tone.sample_rate, tone.pts = 16_000, start
                container.mux(voice.encode(tone))
            container.mux(voice.encode())
    return path


def level(time_s: float) -> int:
    return 20 + 2 * (int(time_s * 10 + 1e-6) % 100)


def seen_level(image: np.ndarray) -> float:
    return float(image[8:-8, WIDTH // 2 + 8 : -8].mean())


def reference(path: Path) -> tuple[list[float], list[float], list[float]]:
    """By decoding everything: (all frame times, key frame times, grey levels)."""
    with av.open(path) as container:
        stream = container.streams.video[0]
        frames = list(container.decode(stream))
        times = [float((f.pts - (stream.start_time or 0)) * stream.time_base) for f in frames]
        keys = [time for time, frame in zip(times, frames, strict=True) if frame.key_frame]
        return times, keys, [seen_level(f.to_ndarray(format="rgb24")) for f in frames]


def reason(path: Path, limits: Limits = LIMITS, **options: Any) -> tuple[str, str]:
    with pytest.raises(Reject) as caught:
        probe_video(path, limits)
        sample_frames(path, limits, WHOLE, **options)
    return caught.value.reason, caught.value.detail


@pytest.mark.slow
@pytest.mark.parametrize("name", CONTAINERS)
def test_uniform_frames_are_those_on_screen_at_the_middles(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name, *CONTAINERS[name])
    times, _, levels = reference(path)
    info = probe_video(path, LIMITS)
    assert info.duration_s == pytest.approx(6.0, abs=0.09)
    assert (info.width, info.height, info.has_audio, info.rotation_deg) == (WIDTH, HEIGHT, False, 0)
    for count in (1, 8, 30):
        frames = sample_frames(path, LIMITS, WHOLE, count)
        assert len(frames.images) == len(frames.times_s) == count
        for i, (time_s, image) in enumerate(zip(frames.times_s, frames.images, strict=True)):
            wanted = info.duration_s * (i + 0.5) / count
            shown = min(range(len(times)), key=lambda k: abs(times[k] - time_s))
            assert time_s == pytest.approx(times[shown], abs=1e-3)
            assert times[shown] <= wanted + 2e-3
            assert shown == len(times) - 1 or times[shown + 1] >= wanted - 2e-3
            assert seen_level(image) == pytest.approx(levels[shown], abs=1.0)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in CONTAINERS if name != "clip.ts"])
def test_key_frames_nearest_to_the_middles(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name, *CONTAINERS[name])
    times, keys, levels = reference(path)
    duration = probe_video(path, LIMITS).duration_s
    frames = sample_frames(path, LIMITS, WHOLE, 4, policy="keyframe")
    nearest = {min(keys, key=lambda key: abs(key - duration * (i + 0.5) / 4)) for i in range(4)}
    assert frames.times_s == pytest.approx(sorted(nearest), abs=1e-3)
    for time_s, image in zip(frames.times_s, frames.images, strict=True):
        at = min(range(len(times)), key=lambda k: abs(times[k] - time_s))
        assert seen_level(image) == pytest.approx(levels[at], abs=1.0)


def test_key_frames_of_a_container_without_an_index_are_key_frames(tmp_path: Path) -> None:
    path = write(tmp_path / "clip.ts")
    keys = reference(path)[1]
    frames = sample_frames(path, LIMITS, WHOLE, 4, policy="keyframe")
    assert frames.times_s == sorted(set(frames.times_s))
    assert len(frames.times_s) >= 3
    assert all(min(abs(key - time_s) for key in keys) < 1e-3 for time_s in frames.times_s)


def test_key_frames_come_once_each(tmp_path: Path) -> None:
    path = write(tmp_path / "clip.mp4", gop=1000)
    assert sample_frames(path, LIMITS, WHOLE, 8, policy="keyframe").times_s == [0.0]


@pytest.mark.parametrize("name", ["slides.mp4", "slides.mkv"])
def test_variable_frame_rate_goes_by_the_clock(tmp_path: Path, name: str) -> None:
    times_ms = [*range(0, 1000, 20), 2000, 5000, *range(8000, 8200, 40)]
    path = write(tmp_path / name, times_ms=times_ms)
    duration = probe_video(path, LIMITS).duration_s
    frames = sample_frames(path, LIMITS, WHOLE, 8)
    for i, (time_s, image) in enumerate(zip(frames.times_s, frames.images, strict=True)):
        wanted = duration * (i + 0.5) / 8
        shown = max(ms for ms in times_ms if ms <= wanted * 1000) / 1000
        assert time_s == pytest.approx(shown, abs=2e-3)
        assert seen_level(image) == pytest.approx(level(shown), abs=2.5)
    assert frames.images[5] is frames.images[6]  # one frame stays on screen from 5 s to 8 s


@pytest.mark.parametrize("mirror", [False, True])
@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
def test_rotation_and_mirroring(tmp_path: Path, rotation: int, mirror: bool) -> None:
    path = write(tmp_path / "phone.mp4", rotation=rotation, mirror=mirror, times_ms=list(range(0, 400, 40)))
    with av.open(path) as container:
        stored = next(container.decode(video=0)).to_ndarray(format="rgb24")
    upright = np.rot90(stored, rotation // 90)
    upright = upright[:, ::-1] if mirror else upright
    image = sample_frames(path, LIMITS, WHOLE, 1).images[0]
    assert image.shape == upright.shape
    assert np.abs(image.astype(int) - upright).mean() < 8
    info = probe_video(path, LIMITS)
    assert (info.height, info.width) == upright.shape[:2]
    if not mirror:
        assert info.rotation_deg == rotation


def test_sound_is_seen_and_may_outlast_the_pictures(tmp_path: Path) -> None:
    for name in ("clip.mp4", "clip.mkv"):
        path = write(tmp_path / name, sound_s=9.0)
        assert probe_video(path, LIMITS).has_audio
        frames = sample_frames(path, LIMITS, WHOLE, 8)
        assert frames.times_s == pytest.approx([6.0 * (i + 0.5) / 8 for i in range(8)], abs=0.05)
        assert len(sample_frames(path, LIMITS, WHOLE, 8, policy="keyframe").times_s) >= 5


def test_gif_is_a_video_and_an_image(tmp_path: Path) -> None:
    path = tmp_path / "loop.gif"
    pictures = [Image.new("L", (32, 24), 25 * i) for i in range(8)]
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=100)
    assert probe_video(path, LIMITS) == VideoInfo(0.8, 32, 24, 10.0, "gif", False, 0)
    for policy in ("uniform", "keyframe"):
        frames = sample_frames(path, LIMITS, WHOLE, 4, policy=policy)
        assert frames.times_s == pytest.approx([0.1, 0.3, 0.5, 0.7])
        assert [int(image[5, 5, 0]) for image in frames.images] == [25, 75, 125, 175]
    assert probe_image(path, LIMITS).frames == 8
    assert load_image(path, LIMITS, WHOLE)[5, 5].tolist() == [0, 0, 0]


def test_transparent_gif_on_white(tmp_path: Path) -> None:
    path = tmp_path / "loop.gif"
    pictures = [Image.new("RGBA", (32, 24), (0, 0, 0, 0)) for _ in range(3)]
    for i, picture in enumerate(pictures):
        picture.paste((255, 0, 0, 255), (i * 8, 0, i * 8 + 8, 24))
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=100, disposal=2)
    last = sample_frames(path, LIMITS, WHOLE, 3).images[2]
    assert last[5, 20].tolist() == [255, 0, 0]
    assert last[5, 4].tolist() == last[5, 28].tolist() == [255, 255, 255]


def test_frames_equal_full_size_conversion_and_pillow(tmp_path: Path) -> None:
    path = write_video(tmp_path / "clip.mp4", 0.4, width=640, height=360)
    with av.open(path) as container:
        stored = next(container.decode(video=0))
    for transform in (ImageTransform((224, 224), "shortest"), ImageTransform((160, 256), "squash", "bilinear")):
        plain = transform.apply(Image.fromarray(stored.to_ndarray(format="rgb24", interpolation="ACCURATE_RND")))
        ours = sample_frames(path, LIMITS, transform, 1, policy="keyframe").images[0]
        assert ours.shape == plain.shape
        assert np.abs(ours.astype(int) - plain).mean() < 2.0


def test_pixel_aspect_makes_frames_wider(tmp_path: Path) -> None:
    path = tmp_path / "dv.mp4"
    with av.open(path, "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(4, 3)
        container.mux(stream.encode(av.VideoFrame.from_ndarray(noise(WIDTH, HEIGHT))))
        container.mux(stream.encode())
    info = probe_video(path, LIMITS)
    assert (info.width, info.height) == (128, 64)
    assert sample_frames(path, LIMITS, WHOLE, 1).images[0].shape == (64, 128, 3)


@pytest.mark.slow
def test_cost_does_not_grow_with_the_length(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[int] = []
    original = Video.decoded

    def counted(self: Video) -> Any:
        for frame in original(self):
            decoded[-1] += 1
            yield frame

    monkeypatch.setattr(Video, "decoded", counted)
    for name in ("clip.mp4", "clip.mkv", "live.mkv"):
        for seconds in (15, 60):
            times_ms = list(range(0, seconds * 1000, 40))
            path = write(tmp_path / f"{seconds}-{name}", *CONTAINERS[name], times_ms=times_ms)
            decoded.append(0)
            sample_frames(path, LIMITS, WHOLE, 8)
    assert max(decoded) < 8 * 30  # a second, which holds one key frame, and a few frames to sort, for each of 8


def test_dense_times_decode_on_instead_of_seeking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seeks: list[int] = []
    original = Video.seek
    monkeypatch.setattr(
        Video, "seek", lambda self, ticks, **options: (seeks.append(ticks), original(self, ticks, **options))
    )
    for suffix in (".mp4", ".mkv"):
        seeks.clear()
        path = write(tmp_path / f"clip{suffix}", gop=1000)
        assert len(sample_frames(path, LIMITS, WHOLE, 20).images) == 20
        assert len(seeks) == 1


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["uniform", "keyframe"])
@pytest.mark.parametrize(
    "name", ["clip.mkv", "clip.webm", "clip.avi", "clip.flv", "faststart.mp4", "clip.mp4", "fragments.mp4"]
)
def test_missing_second_half(tmp_path: Path, name: str, policy: str) -> None:
    options = ("libx264", {"movflags": "faststart"}) if name == "faststart.mp4" else CONTAINERS[name]
    path = write(tmp_path / name, *options)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    why, detail = reason(path, policy=policy)
    assert why == "corrupt_video"
    if name == "clip.mp4":
        assert detail == "mp4 that cannot be opened: Invalid data found when processing input"
    elif name == "faststart.mp4":
        assert detail.startswith("the file ends at ") and detail.endswith(" s of 6.0 s")


def test_reasons_and_details(tmp_path: Path) -> None:
    path = write(tmp_path / "clip.mp4", sound_s=2.0)
    size = path.stat().st_size
    assert reason(path, Limits(max_duration_s=5)) == ("too_long", "6 s; the limit is 5 s")
    assert reason(path, Limits(max_pixels=6000)) == ("too_many_pixels", "96 x 64 pixels; the limit is 6000")
    assert reason(path, Limits(min_side=65)) == ("too_small", "96 x 64 pixels; the shorter side must be at least 65")
    assert reason(path, Limits(max_video_bytes=10)) == (
        "too_many_bytes",
        f"{size} bytes; the limit for videos is 10",
    )
    for content, expected in {
        b"": ("empty_file", "0 bytes"),
        b"hello " * 50: ("unsupported_media", "neither video nor sound: looks like text"),
        b"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nclip.mp4\n": (
            "unsupported_media",
            "neither video nor sound: looks like text",
        ),
        b"ffconcat version 1.0\nfile clip.mp4\n": (
            "unsupported_media",
            "neither video nor sound: looks like text",
        ),
        sound(): ("no_video_stream", "mov,mp4,m4a,3gp,3g2,mj2 with audio"),
    }.items():
        (tmp_path / "other.mp4").write_bytes(content)
        assert reason(tmp_path / "other.mp4") == expected


def test_an_image_is_no_video(tmp_path: Path) -> None:
    for name in ("photo.jpg", "photo.png"):
        Image.fromarray(noise(64, 48)).save(tmp_path / name)
        assert reason(tmp_path / name)[0] == "unsupported_media"


def test_cover_picture_of_a_song_is_no_video(tmp_path: Path) -> None:
    path = tmp_path / "song.mp3"
    with av.open(path, "w") as container:
        voice = container.add_stream("libmp3lame", rate=16_000, layout="mono")
        cover = container.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt = 64, 48, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        container.mux(cover.encode(av.VideoFrame.from_ndarray(noise(64, 48)).reformat(format="yuvj420p")))
        container.mux(cover.encode())
        for start in range(0, 16_000, 1024):
            tone = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            tone.sample_rate, tone.pts = 16_000, start
            container.mux(voice.encode(tone))
        container.mux(voice.encode())
    assert reason(path) == ("no_video_stream", "mp3 with audio, video")


def test_probe_audio(tmp_path: Path) -> None:
    path = tmp_path / "voice.m4a"
    path.write_bytes(sound(2.0))
    info = probe_audio(path, LIMITS)
    assert info == AudioInfo(pytest.approx(2.0, abs=0.1), "aac")
    silent = write(tmp_path / "silent.mp4", times_ms=[0, 40])
    with pytest.raises(Reject, match="unsupported_media: mov,mp4,m4a,3gp,3g2,mj2 without sound"):
        probe_audio(silent, LIMITS)


@pytest.mark.parametrize("name", ["película 短片 🎬.mp4", "a:b?c#d%20.mp4", "-i.mp4"])
def test_any_file_name(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name, times_ms=[0, 40, 80])
    assert probe_video(path, LIMITS).codec == "h264"


def test_one_frame(tmp_path: Path) -> None:
    path = write(tmp_path / "still.mp4", times_ms=[0])
    assert sample_frames(path, LIMITS, WHOLE, 3).times_s == [0.0, 0.0, 0.0]
    assert sample_frames(path, LIMITS, WHOLE, 3, policy="keyframe").times_s == [0.0]


def test_poison_set(tmp_path: Path) -> None:
    folder = tmp_path / "catalogue"
    for name, expected in make_poison(folder).items():
        with (
            pytest.raises(Reject) as caught,
            guard.local_path(guard.resolve_uri(name, folder, [], LIMITS), LIMITS) as path,
        ):
            if role(name) == "video":
                probe_video(path, LIMITS)
                sample_frames(path, LIMITS, WHOLE)
            else:
                probe_image(path, LIMITS)
                load_image(path, LIMITS, WHOLE)
        assert (name, caught.value.reason) == (name, expected)


@pytest.mark.slow
@pytest.mark.skipif(not (DATA / "videos_real").is_dir(), reason=f"no videos_real in {DATA}: set COLDSTART_DATA")
def test_real_videos_equal_full_decoding() -> None:
    """Reference: PyAV decoding every frame. An AVI with reordered frames may be one frame off after a seek."""
    paths = sorted((DATA / "videos_real" / "videos").iterdir())
    for path in [path for path in paths if path.suffix != ".mp4"][::4] + paths[17::5]:
        times, keys, _ = reference(path)
        duration = probe_video(path, LIMITS).duration_s
        frames = sample_frames(path, LIMITS, ImageTransform((64, 64), "shortest"), 8)
        step = 1.5 * duration / len(times) if path.suffix == ".avi" else 2e-3
        for i, time_s in enumerate(frames.times_s):
            wanted = duration * (i + 0.5) / 8
            assert time_s == pytest.approx(max(t for t in times if t <= wanted + 1e-3), abs=step), path.name
        for time_s in sample_frames(path, LIMITS, ImageTransform((64, 64), "shortest"), 8, "keyframe").times_s:
            assert path.suffix == ".gif" or min(abs(key - time_s) for key in keys) < 2e-3, path.name


@pytest.mark.slow
@pytest.mark.parametrize("name", CONTAINERS)
def test_frames_at_given_times_are_those_on_screen(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name, *CONTAINERS[name])
    times, _, levels = reference(path)
    wanted = [0.0, 0.05, 0.9, 0.9, 3.33, 5.0]
    frames = frames_at(path, LIMITS, WHOLE, wanted)
    assert len(frames.images) == len(wanted)
    for asked, time_s, image in zip(wanted, frames.times_s, frames.images, strict=True):
        shown = max(i for i, start in enumerate(times) if start <= asked + 1e-3)
        assert time_s == pytest.approx(times[shown], abs=1e-3)
        assert seen_level(image) == pytest.approx(levels[shown], abs=1.0)


@pytest.mark.slow
@pytest.mark.parametrize("name", CONTAINERS)
def test_times_past_the_end_get_the_last_frame(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name, *CONTAINERS[name])
    times, _, levels = reference(path)
    frames = frames_at(path, LIMITS, WHOLE, [1.0, 6.5, 100.0])
    assert frames.times_s == pytest.approx([1.0, times[-1], times[-1]], abs=2e-3)
    assert seen_level(frames.images[-1]) == pytest.approx(levels[-1], abs=1.0)


def test_frames_at_times_of_a_varying_rate(tmp_path: Path) -> None:
    path = write(tmp_path / "clip.mkv", times_ms=[0, 100, 1500, 1540, 4000, 4040])
    frames = frames_at(path, LIMITS, WHOLE, [0.05, 1.4, 1.5, 3.9, 4.01])
    assert frames.times_s == pytest.approx([0.0, 0.1, 1.5, 1.54, 4.0], abs=1e-3)


@pytest.mark.parametrize("times_s", [[], [2.0, 1.0]])
def test_frames_at_wants_rising_times(tmp_path: Path, times_s: list[float]) -> None:
    with pytest.raises(ValueError, match="rising order"):
        frames_at(write(tmp_path / "clip.mp4"), LIMITS, WHOLE, times_s)


def test_frames_at_of_a_video_cut_short_is_corrupt(tmp_path: Path) -> None:
    whole = write(tmp_path / "clip.mkv").read_bytes()
    path = tmp_path / "cut.mkv"
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(Reject) as caught:
        frames_at(path, LIMITS, WHOLE, [0.5, 5.9])
    assert caught.value.reason == "corrupt_video"
