"""The packaged video pipeline with the real starter models: copies, words, pictures and gates, from file to search."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from catalogue import coldstart, states, write_manifest
from transformed import CHANGES, write_copies

import coldstart as library
from coldstart import sample

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200), pytest.mark.usefixtures("starter_models")]
PARTS = ("fingerprint", "duplicates", "quality", "shots", "speech", "screen", "evidence", "safety")
STAGES = (
    "ingest",
    *(f"understand.{part}" for part in PARTS),
    "image",
    "clip",
    "text",
    "describe.write",
    "describe.check",
    "index",
)
COPIES = {"copy-of-05": ("clip-05.mp4", "mirrored"), "copy-of-08": ("clip-08.mp4", "caption bar")}

SPOKEN_ONLY = {
    "clip-05": "apart? this is my, and the last one is my",
    "clip-13": "one leek tonight",
    "clip-19": "beef tomato for the burgers",
    "clip-26": "thirty days and I am not going back",
}
WRITTEN_ONLY = {
    "clip-08": "Avocado 33.90 kr",
    "clip-11": "spot the difference",
    "clip-16": "back in store 42.90 kr",
}
"""Video -> words of its truth that stand neither in its title nor in its tags."""


def entries(folder: Path) -> list[dict[str, Any]]:
    """The sample's videos, two copies of them, a black video, an unsafe one and a picture of words."""
    found = []
    named = {*SPOKEN_ONLY, *WRITTEN_ONLY}
    for line in (sample.path() / "manifest.jsonl").read_text("utf-8").splitlines():
        entry = json.loads(line)
        if entry["kind"] == "video" and entry["item_id"] in named:
            entry["media"] = [{**medium, "uri": str(sample.path() / medium["uri"])} for medium in entry["media"]]
            found.append(entry)
    for name, (source, change) in COPIES.items():
        write_copies(sample.path() / "videos" / source, {folder / f"{name}.mp4": CHANGES[change]})
        found.append({"item_id": name, "title": f"look at this, {name}", "video": f"{name}.mp4"})
    black_with_beeps(folder / "black.mp4", 6)
    found.append({"item_id": "black", "title": "nothing to see", "video": "black.mp4"})
    unsafe = {**found[0], "item_id": "unsafe", "title": "cocaine for sale, dm me, ships worldwide"}
    return [*found, {**unsafe, "media": [{"role": "video", "uri": write_noise(folder / "unsafe.mp4")}]}]


def write_noise(path: Path) -> str:
    """Two seconds of moving colours that no other video shows."""
    patches = np.random.default_rng(3).integers(0, 255, (6, 9, 3), dtype=np.uint8)
    with av.open(path, "w") as container:
        stream = container.add_stream("libx264", rate=10, options={"preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = 288, 192, "yuv420p"
        for n in range(20):
            pixels = np.kron(np.roll(patches, n // 2, axis=1), np.ones((32, 32, 1), np.uint8))
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    return str(path)


def black_with_beeps(path: Path, seconds: int) -> None:
    """A black picture a second, and a beep of a fifth of a second in each."""
    with av.open(path, "w") as container:
        stream = container.add_stream("libx264", rate=1, options={"preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = 160, 120, "yuv420p"
        sound = container.add_stream("aac", rate=16000)
        sound.layout = "mono"
        tone = np.sin(2 * np.pi * 1000 * np.arange(16000) / 16000) * (np.arange(16000) < 3200) * 0.3
        for n in range(seconds):
            frame = av.VideoFrame.from_ndarray(np.zeros((120, 160, 3), np.uint8), format="rgb24")
            frame.pts, frame.time_base = n, Fraction(1)
            container.mux(stream.encode(frame))
            beep = av.AudioFrame.from_ndarray(tone.astype(np.float32)[None], format="fltp", layout="mono")
            beep.sample_rate, beep.pts, beep.time_base = 16000, n * 16000, Fraction(1, 16000)
            container.mux(sound.encode(beep))
        container.mux(stream.encode())
        container.mux(sound.encode())


class Shop:
    """The catalogue, run once by the command line."""

    def __init__(self, folder: Path) -> None:
        self.manifest = write_manifest(folder / "items.jsonl", entries(folder))
        self.uri = folder / "workspace"
        given = ["-w", self.uri, "-m", self.manifest, "--media-root", sample.path(), "--set", "understand.screen.fps=1"]
        done = coldstart("run", "video", *given, "--json")
        assert done.returncode == 0, done.stderr
        self.reports = json.loads(done.stdout)["stages"]
        self.workspace = library.open(self.uri)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    return Shop(tmp_path_factory.mktemp("understand"))


def test_every_part_accounts_for_every_item(shop: Shop) -> None:
    total = len(shop.manifest.read_text().splitlines())
    assert [report["stage"] for report in shop.reports] == list(STAGES)
    for stage, counts in states(shop.workspace.status()).items():
        assert sum(counts) == total, stage
        assert counts[1] == 0 and counts[4] == 0, f"{stage}: nothing failed, nothing waits"


@pytest.mark.parametrize(("video", "words"), [*SPOKEN_ONLY.items(), *WRITTEN_ONLY.items()])
def test_words_that_are_only_spoken_or_only_on_screen_find_the_video(shop: Shop, video: str, words: str) -> None:
    assert shop.workspace.search(text=words, kind="video", top_k=3)[0].item_id == video


def test_without_understanding_those_words_find_little(shop: Shop, tmp_path: Path) -> None:
    """The search finds them by what was heard and read, not by luck."""
    plain = library.open(tmp_path, create=True)
    plain.run("starter", manifest=shop.manifest, media_roots=[sample.path()], overrides=["image.frames=1"])
    queries = {**SPOKEN_ONLY, **WRITTEN_ONLY}
    found = sum(plain.search(text=words, kind="video", top_k=1)[0].item_id == video for video, words in queries.items())
    assert found <= len(queries) // 2


def test_copies_are_found_linked_and_served_with_their_original(shop: Shop) -> None:
    rows = {row["item_id"]: row for row in shop.workspace.table("catalog").to_pylist()}
    originals = {item: row["duplicate_of"] for item, row in rows.items() if row["duplicate_of"]}
    assert originals == {"copy-of-05": "clip-05", "copy-of-08": "clip-08"}
    for copy, original in originals.items():
        assert rows[copy]["vector_image"] == rows[original]["vector_image"]
        assert rows[copy]["transcript"] == rows[original]["transcript"]
        assert rows[copy]["title"] != rows[original]["title"]
    hit = shop.workspace.search(text=SPOKEN_ONLY["clip-05"], top_k=1)[0]
    assert (hit.item_id, list(hit.copies)) == ("clip-05", ["copy-of-05"])
    found = [hit.item_id for hit in shop.workspace.search(text=SPOKEN_ONLY["clip-05"], top_k=50)]
    assert "copy-of-05" not in found
    found = [hit.item_id for hit in shop.workspace.search(text=SPOKEN_ONLY["clip-05"], top_k=50, copies=True)]
    assert "copy-of-05" in found
    counts = states(shop.workspace.status())
    assert {stage for stage, own in counts.items() if own[3] == 2} == {
        *("understand.shots", "understand.speech", "understand.screen", "understand.evidence", "image", "clip", "text"),
        *("describe.write", "describe.check"),
    }


def test_what_may_not_be_served_says_why_and_can_be_appealed(shop: Shop) -> None:
    verdicts = {(row["stage"], row["item_id"]): row for row in shop.workspace.failures()}
    for stage in ("image", "clip", "text", "index"):
        assert verdicts[stage, "unsafe"]["reason"] == "unsafe"
        assert verdicts[stage, "black"]["state"] == "filtered"
    assert "cocaine" in verdicts["index", "unsafe"]["detail"]
    report = shop.workspace.run(overrides=["understand.safety.threshold=1"])
    done = {stage.stage: stage.ran.done for stage in report.stages}
    again = ("image", "clip", "text", "describe.write", "describe.check", "index")
    assert done == {**dict.fromkeys(STAGES, 0), **dict.fromkeys(again, 1)}
    assert shop.workspace.search(item="unsafe")
    report = shop.workspace.run(overrides=["understand.safety.threshold=0.8"])
    assert {stage.stage: stage.ran.done for stage in report.stages} == {**dict.fromkeys(STAGES, 0), "index": 1}


def test_turning_a_part_on_redoes_that_part_and_what_reads_it(shop: Shop, tmp_path: Path) -> None:
    off = ["understand.screen=false", "understand.safety=false", "understand.speech.model=fake"]
    given = {"manifest": shop.manifest, "media_roots": [sample.path()]}
    workspace = library.open(tmp_path, create=True)
    workspace.run("video", overrides=off, only=["ingest"], limit=3, **given)
    first = workspace.run("video", overrides=off, only=["understand"], **given)
    assert {stage.stage: stage.ran.done for stage in first.stages}["understand.evidence"] == 3
    again = workspace.run("video", overrides=off[1:], only=["understand"], **given)
    assert {stage.stage.partition(".")[2]: stage.ran.done for stage in again.stages} == {
        **dict.fromkeys(("fingerprint", "duplicates", "quality", "shots", "speech"), 0),
        "screen": 3,
        "evidence": 3,
    }
