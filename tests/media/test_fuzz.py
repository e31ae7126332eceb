"""Damaged media of twelve formats through every stage that decodes media: a row or a verdict, and nothing else."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import pytest

from tools import fuzz_media

VARIANTS = 300
"""Twenty-five of each format: ten processor seconds. `tools/fuzz_media.py` tries as many as wanted."""


@pytest.mark.slow
def test_damaged_media_give_rows_or_verdicts(tmp_path: Path) -> None:
    figures = fuzz_media.run(tmp_path, VARIANTS, seed=7, workers=2)
    sys.stdout.write(f"{figures}\n{dict(figures.places)}\n")
    assert figures.faults == {}
    assert figures.files == VARIANTS
    assert figures.rows + figures.rejects.total() == figures.reads
    assert figures.rejects["corrupt_image"] > 25, "the damage is seen"
    assert figures.rows > VARIANTS, "and much of it is read all the same"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_the_undamaged_files_give_rows(tmp_path: Path) -> None:
    for name in fuzz_media.FORMATS:
        path = tmp_path / f"seed.{name}"
        path.write_bytes(fuzz_media.make_seed(name))
        row = {"item_id": name, "record": {}, "media": [{"role": fuzz_media.role(name), "uri": str(path)}]}
        found, _ = fuzz_media.ReadAll(tmp_path)(row)
        wanted = dict.fromkeys(("ingest", *fuzz_media.STAGES[fuzz_media.role(name)]), "row")
        assert found == (wanted | {"speech": "no_sound"} if name == "gif" else wanted)


def test_damage_follows_from_the_seed_and_changes_the_file() -> None:
    content = fuzz_media.make_seed("png")
    made = [fuzz_media.damage(content, fuzz_media.Random(number)) for number in range(20)]
    assert made == [fuzz_media.damage(content, fuzz_media.Random(number)) for number in range(20)]
    assert len({*made, content}) == 21


def test_figures_count_each_outcome_and_name_what_is_none() -> None:
    figures = fuzz_media.Figures(files=2)
    for loader, outcome in {
        "ingest": "row",
        "quality": "corrupt_video",
        "speech": "decoder_fault: IndexError at av/container/core.py:demux:9, called at coldstart.media.audio:load:1",
        "shots": "decoder_fault: KeyError at coldstart.media.video:load:1",
        "screen": "FAULT ValueError: shapes",
    }.items():
        figures.add("0.mp4", loader, outcome)
    assert (figures.reads, figures.rows) == (5, 1)
    assert figures.rejects == Counter(corrupt_video=1, decoder_fault=2)
    assert figures.faults == {
        "0.mp4 shots": "KeyError at coldstart.media.video:load:1",
        "0.mp4 screen": "FAULT ValueError: shapes",
    }
    assert str(figures) == (
        "2 files, 5 reads: 1 rows, 3 Rejects (decoder_fault 2, corrupt_video 1), 2 others, 0 s of processor time"
    )
