"""Strange and broken sound, subtitles and two hours of black: each costs itself, and is limited, not swallowed."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from catalogue import rows, settings, states, write_manifest
from poison import write_video
from sounds import beep, write_long, write_sound

import coldstart

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
HEARD_S, WATCHED_S, FRAMES, COMPARED_S = 60.0, 120.0, 40, 30.0
PARTS = {
    "fingerprint": {"max_s": COMPARED_S},
    "duplicates": {"policy": "keep"},
    "quality": {"max_black_share": None},
    "shots": {"max_s": WATCHED_S},
    "speech": {"model": "fake", "max_s": HEARD_S},
    "screen": {"reader": "fake", "max_frames": FRAMES},
}
NO_ROW = {
    "silent picture": ("filtered", "no_sound"),
    "empty stream": ("filtered", "no_sound"),
    "spoilt sound": ("failed", "corrupt_audio"),
}
"""What speech says of the items that it turns away."""
TURNED_AWAY = {"subtitles alone": ("failed", "unsupported_media"), "cut file": ("failed", "corrupt_video")}
"""What ingest says of the media that it turns away."""


def spoil(path: Path) -> Path:
    """Overwrite the payload of every sound packet of a Matroska file, leaving its structure whole."""
    import av

    data = bytearray(path.read_bytes())
    with av.open(path) as container:
        packets = [bytes(packet) for packet in container.demux(container.streams.audio[0]) if packet.size]
    noise = np.random.default_rng(1).integers(0, 256, max(map(len, packets)), dtype=np.uint8).tobytes()
    for packet in packets:
        place = data.find(packet)
        assert place >= 0
        data[place : place + len(packet)] = b"\xff" * 4 + noise[: len(packet) - 4] if len(packet) > 4 else b"\xff"
    path.write_bytes(data)
    return path


def media(folder: Path) -> dict[str, Path]:
    """Item -> its file."""
    tone = beep(3.0, 1.0)
    subtitles = folder / "words.srt"
    subtitles.write_text("1\n00:00:00,500 --> 00:00:01,500\nWhat a bargain\n")
    cut = write_sound(folder / "cut.mp4", tone, codec="aac", pictures_s=3.0)
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
    return {
        "plain": write_sound(folder / "plain.mp4", tone, codec="aac", pictures_s=3.0),
        "subtitles beside": write_sound(folder / "sub.mkv", tone, codec="aac", pictures_s=3.0, subtitle=True),
        "late sound": write_sound(folder / "late.mkv", tone, codec="aac", pictures_s=5.0, offset_s=1.5),
        "longer than its pictures": write_sound(folder / "tail.mkv", beep(8.0, 6.0), codec="aac", pictures_s=2.0),
        "eight kilohertz": write_sound(
            folder / "old.mkv", beep(3.0, 1.0, 8000), rate=8000, codec="aac", pictures_s=3.0
        ),
        "six channels": write_sound(folder / "six.mkv", tone, codec="aac", layout="5.1", pictures_s=3.0),
        "a tenth of a second": write_sound(folder / "tick.wav", beep(0.1, 0.0)),
        "silent picture": write_video(folder / "mute.mp4", 2.0),
        "empty stream": write_sound(folder / "empty.mkv", tone[:0], codec="aac", pictures_s=2.0),
        "spoilt sound": spoil(write_sound(folder / "spoilt.mkv", tone, codec="flac", pictures_s=3.0)),
        "cut file": cut,
        "subtitles alone": subtitles,
        "two hours": write_long(folder / "long.mkv", 2.0),
    }


class Shop:
    def __init__(self, folder: Path) -> None:
        shop = folder / "shop"
        good = rows(shop, 3)
        self.files = media(shop)
        role = {".wav": "audio"}
        bad = [
            {"item_id": item, "title": item, "media": [{"uri": path.name, "role": role.get(path.suffix, "video")}]}
            for item, path in self.files.items()
        ]
        manifest = write_manifest(shop / "items.jsonl", [*good, *bad])
        plain: dict[str, Any] = settings(manifest)
        stages = plain["stages"]
        embed = {"text": {**stages["text"], "prompt": "item_evidence"}, "index": {}}
        self.pipeline = {**plain, "stages": {"ingest": {}, "understand": PARTS, **embed}, "max_failed": 1}
        self.workspace = coldstart.open(folder / "workspace", create=True)
        began = time.monotonic()
        self.report = self.workspace.run(self.pipeline)
        self.seconds = time.monotonic() - began

    def rows(self, part: str) -> dict[str, dict[str, Any]]:
        return {row["item_id"]: row for row in self.workspace.table(f"stage.understand.{part}").to_pylist()}


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    return Shop(tmp_path_factory.mktemp("sound"))


def test_every_item_is_a_row_or_a_line(shop: Shop) -> None:
    verdicts = {(row["stage"], row["item_id"]): row for row in shop.workspace.failures()}
    for item, (state, reason) in TURNED_AWAY.items():
        assert (verdicts["ingest", item]["state"], verdicts["ingest", item]["reason"]) == (state, reason)
    for item, (state, reason) in NO_ROW.items():
        found = verdicts["understand.speech", item]
        assert (found["state"], found["reason"]) == (state, reason)
    heard = set(shop.files) - set(NO_ROW) - set(TURNED_AWAY)
    assert set(shop.rows("speech")) == heard
    total = len(shop.files) + 3
    for stage, counts in states(shop.report.stages).items():
        assert sum(counts) == (total if stage == "ingest" else total - len(TURNED_AWAY)), stage
        assert counts[4] == 0, stage


def test_the_rest_goes_all_the_way(shop: Shop) -> None:
    served = {row["item_id"] for row in shop.workspace.table("catalog").to_pylist()}
    assert served == {"p0", "p1", "p2", *shop.files} - set(TURNED_AWAY)


@pytest.mark.parametrize(
    ("item", "at_s"),
    [
        ("plain", 1.0),
        ("subtitles beside", 1.0),
        ("late sound", 2.5),
        ("longer than its pictures", 6.0),
        ("two hours", 1.0),
    ],
)
def test_what_is_heard_stands_at_its_second(shop: Shop, item: str, at_s: float) -> None:
    row = shop.rows("speech")[item]
    first = min([*row["segments"], *row["dropped"]], key=lambda stretch: stretch["start_s"])  # short ones are dropped
    assert first["start_s"] == pytest.approx(at_s, abs=0.25)


def test_two_hours_are_limited_and_say_so(shop: Shop) -> None:
    assert shop.workspace.item("two hours").media[0]["duration_s"] == pytest.approx(7200, abs=15)
    assert shop.rows("speech")["two hours"]["heard_s"] == pytest.approx(HEARD_S, abs=0.1)
    assert shop.rows("shots")["two hours"]["watched_s"] == pytest.approx(WATCHED_S, abs=2)
    screen = shop.rows("screen")["two hours"]
    assert screen["frames_read"] + screen["frames_skipped"] <= FRAMES
    assert max(shop.rows("fingerprint")["two hours"]["times_s"]) <= COMPARED_S
    notes = {stage.stage: " ".join(stage.notes) for stage in shop.report.stages}
    assert "first 120 s alone" in notes["understand.shots"]
    assert "60 s" in notes["understand.speech"]
