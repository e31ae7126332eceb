"""One pass over a video for several stages: the same rows as alone, whatever is wrong with the file or a stage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from preparers import Acts, DiesInPass, act

from coldstart import sample
from coldstart.core import pipeline as pipelines
from coldstart.core.pipeline import Engine
from coldstart.core.progress import SilentProgress
from coldstart.core.stage import Reject, Row, Work
from coldstart.engine import one_pass
from coldstart.engine.local import run_map
from coldstart.engine.one_pass import SharedPasses, share_passes
from coldstart.media import guard
from coldstart.media import one_pass as pass_module
from coldstart.media.one_pass import OnePass, SharedData
from coldstart.media.video import probe_video
from coldstart.store import Store
from coldstart.store.freshness import build

PIPELINE = pipelines.load(
    {
        "media": {"roots": [str(sample.path())]},
        "stages": {
            "prints": {"stage": "understand.fingerprint"},
            "quality": {"stage": "understand.quality"},
            "shots": {"stage": "understand.shots"},
        },
    }
)


def write(path: Path, times_ms: Sequence[int], size: tuple[int, int] = (96, 64)) -> Path:
    """A moving picture of noise with frames at these times."""
    backdrop = np.random.default_rng(5).integers(0, 255, (size[1], size[0] + 2 * len(times_ms), 3), np.uint8)
    with av.open(path, "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        stream.time_base = stream.codec_context.time_base = Fraction(1, 1000)
        for place, time_ms in enumerate(times_ms):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(backdrop[:, 2 * place : 2 * place + size[0]]))
            frame.pts, frame.time_base = time_ms, stream.time_base
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def row_for(path: Path) -> Row:
    info = probe_video(path, preparers()["prints"].limits)
    entry = {"role": "video", "uri": str(path), "digest": guard.file_sha256(path), "size_bytes": path.stat().st_size}
    shown = {"width": info.width, "height": info.height, "duration_s": info.duration_s, "has_audio": info.has_audio}
    return {"item_id": "v", "media": [{**entry, **shown}]}


def preparers(root: Path | None = None) -> dict[str, Any]:
    roots = [str(sample.path()), *([str(root)] if root else [])]
    chosen = pipelines.load({**PIPELINE.raw, "media": {"roots": roots}})
    return {spec.name: build(spec, chosen).preparer() for spec in chosen.stages}  # type: ignore[union-attr]


def together(made: dict[str, Any], row: Row) -> dict[str, Any]:
    others = {name: prepare for name, prepare in made.items() if name != "prints"}
    shared, cost = OnePass(made["prints"], others)(row)
    return {"prints": (shared.data, cost), **shared.others}


@pytest.mark.parametrize(
    "times_ms",
    [
        range(0, 3000, 40),
        [*range(0, 1000, 16), *range(1000, 3000, 250), *range(3000, 4000, 40)],
        [0],
        [0, 40, 2500],
    ],
    ids=["steady", "varying", "one frame", "a frame that stays"],
)
def test_one_pass_gives_what_each_gives_alone(tmp_path: Path, times_ms: Sequence[int]) -> None:
    row = row_for(write(tmp_path / "v.mkv", times_ms))
    made = preparers(tmp_path)
    found = together(made, row)
    assert {"prints", "shots"} <= found.keys()
    assert {name: repr(found[name]) for name in found} == {name: repr(made[name](row)) for name in found}


@pytest.mark.slow
def test_one_pass_over_a_clip_with_sound_decodes_once(monkeypatch: pytest.MonkeyPatch) -> None:
    made = preparers()
    row = row_for(sample.path() / "videos" / "clip-01.mp4")
    opened = []
    plain = pass_module.open_video
    monkeypatch.setattr(pass_module, "open_video", lambda *asked: opened.append(asked) or plain(*asked))
    found = together(made, row)
    assert len(opened) == 1
    assert {name: repr(result) for name, result in found.items()} == {name: repr(made[name](row)) for name in made}


def test_no_more_of_a_long_video_is_decoded_than_for_the_longest_part(tmp_path: Path) -> None:
    row = row_for(write(tmp_path / "v.mkv", range(0, 4000, 40)))
    made = preparers(tmp_path)
    made = {"prints": replace(made["prints"], max_s=1.0), "quality": made["quality"]}
    found = together(made, row)
    assert found.keys() == {"prints"}, "quality, which needs the end, seeks by itself"
    assert repr(found["prints"]) == repr(made["prints"](row))


def test_a_video_that_breaks_off_is_left_to_each_stage(tmp_path: Path) -> None:
    path = write(tmp_path / "v.mkv", range(0, 8000, 40))
    row = row_for(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 3])
    row["media"][0]["size_bytes"] = path.stat().st_size
    made = preparers(tmp_path)
    with pytest.raises(Reject) as alone:
        made["prints"](row)
    with pytest.raises(Reject) as shared:
        together(made, row)
    assert str(shared.value) == str(alone.value)
    assert shared.value.reason == "corrupt_video"


def test_pictures_take_no_part() -> None:
    entry = {"role": "image", "uri": "p.jpg"}
    found, cost = OnePass(_Prepare("x"), {"later": _Prepare("y")})({"media": [entry]})
    assert (found, cost) == (SharedData("x", {}), 1.0)


@dataclass(frozen=True)
class _Prepare:
    value: str

    def __call__(self, row: Row) -> tuple[str, float]:
        return self.value, 1.0

    def collector(self, row: Row) -> None:
        return None


class _Stage:
    """A stage as far as passes know it."""

    kind, isolated, deadline_s = "fake", True, 30.0

    def __init__(
        self, name: str, prepare: Any, fields: tuple[str, ...] | None = None, reads: dict[str, str] | None = None
    ) -> None:
        self.name, self._prepare, self.item_fields, self.reads = name, prepare, fields, reads or {}

    def preparer(self) -> Any:
        return self._prepare


class _State:
    """Assessment, whatever the stage, in which these items of every stage are stale."""

    def __init__(self, *items: str) -> None:
        self.stale = items
        self.expected = {item: f"key-{item}" for item in items}

    def __call__(self, stage: Any) -> Any:
        return self


def video(item: str, **row: Any) -> Work:
    return Work(item, f"key-{item}", {"media": [{"role": "video"}], "value": 2.0, "cost": 1.0, "act": None, **row})


def planned(later: Any) -> SharedPasses:
    passes = SharedPasses([_Stage("first", Acts()), _Stage("later", later), _Stage("other", act)])
    passes.plan(passes.stages["first"], ["a", "b"], _State("a"))  # type: ignore[arg-type]
    return passes


def test_data_are_taken_once_and_under_their_key() -> None:
    passes = planned(Acts())
    shared = passes.share("first", Acts(), video("a"), 10.0)
    assert shared is not None and shared[1] == 40.0
    assert shared[0].others.keys() == {"later"}, "a stage whose preparer collects nothing takes no part"
    assert passes.share("first", Acts(), video("b"), 10.0) is None, "the later stage has a fresh row"
    assert passes.share("first", Acts(), Work("a", "key-a", {"media": [{"role": "image"}]}), 10.0) is None
    passes.keep("first", video("a"), SharedData(None, {"later": ({"value": 1}, 2.0)}))
    assert passes.take("later", Work("a", "another key", {})) is None
    passes.keep("first", video("a"), SharedData(None, {"later": ({"value": 1}, 2.0)}))
    assert passes.take("later", video("a")) == ({"value": 1}, 2.0)
    assert passes.take("later", video("a")) is None


def test_a_stage_that_reads_more_takes_no_part() -> None:
    stages = [
        _Stage("first", Acts(), ("media.image", "media.video")),
        _Stage("fewer fields", Acts(), ("media.video",)),
        _Stage("more fields", Acts(), ("media.video", "title")),
        _Stage("the whole record", Acts()),
        _Stage("rows", Acts(), ("media.video",), {"shots": "understand.shots"}),
    ]
    passes = SharedPasses(stages)  # type: ignore[arg-type]
    passes.plan(stages[0], ["a"], _State("a"))  # type: ignore[arg-type]
    shared = passes.share("first", Acts(), video("a"), 10.0)
    assert shared is not None and shared[0].others.keys() == {"fewer fields"}


def test_what_is_kept_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(one_pass, "_MOST_BYTES", 100)
    passes = planned(Acts())
    passes.keep("first", video("a"), SharedData(None, {"later": ("x" * 200, 1.0)}))
    assert passes.take("later", video("a")) is None


@pytest.mark.slow
def test_a_fault_of_another_stage_costs_the_item_nothing(tmp_path: Path) -> None:
    from test_engine import Stage, squares, values, verdicts

    store = Store(tmp_path / "workspace", create=True)
    stage = Stage(isolated=True, prepare=Acts())
    todo = [video(f"i{n}", value=float(n), act="exit" if n == 2 else None) for n in range(4)]
    with share_passes([stage, _Stage("later", DiesInPass())]):  # type: ignore[list-item]
        passes = one_pass.current()
        passes.plan(stage, [entry.item_id for entry in todo], _State(*(f"i{n}" for n in range(4))))  # type: ignore[arg-type]
        assert passes.share(stage.name, Acts(), todo[0], 1.0) is not None
        run_map(store, stage, todo, None, Engine(workers=1), SilentProgress())
    assert values(store) == squares([0, 1, 3])
    assert verdicts(store) == {"i2": ("decoder_fault", "the worker process died (exit code 3)")}
