"""Folders as manifests: which files are media, and how many are passed over."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from coldstart.core.items import EXTENSIONS
from coldstart.errors import ColdstartError
from coldstart.ingest.folder import UNREAD, list_folder, read_folder
from coldstart.ingest.manifest import Manifest, base_folder


def touch(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def rows(path: Path) -> list[tuple[int, Any]]:
    return [(entry.line, entry.fields) for entry in Manifest(path).entries()]


def test_a_folder_is_its_media_by_name(tmp_path: Path) -> None:
    for name in ("b/Red-apple_pie.JPG", "a.mp4", "notes.txt", "tune.mp3", "ü 1.png"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    assert rows(tmp_path) == [
        (1, {"item_id": "a.mp4", "title": "a", "media": [{"uri": "a.mp4"}]}),
        (2, {"item_id": "b/Red-apple_pie.JPG", "title": "Red apple pie", "media": [{"uri": "b/Red-apple_pie.JPG"}]}),
        (3, {"item_id": "ü 1.png", "title": "ü 1", "media": [{"uri": "ü 1.png"}]}),
    ]
    assert base_folder(tmp_path) == tmp_path
    assert base_folder(tmp_path / "a.mp4") == tmp_path


def test_every_kind_of_picture_and_video_is_listed(tmp_path: Path) -> None:
    extensions = [extension for extension, role in EXTENSIONS.items() if role != "audio"]
    touch(tmp_path, *(f"x.{extension.upper()}" for extension in [*extensions, *UNREAD]))
    assert {"heic", "jpe", "jp2", "3gp", "wmv", "ogv", "m2ts", "mts", "avif"} <= {*extensions}
    listing = list_folder(tmp_path)
    assert len(listing.media) == len(extensions) + len(UNREAD)
    assert listing.note() == ""


def test_what_systems_leave_behind_is_no_media(tmp_path: Path) -> None:
    touch(
        tmp_path,
        *("a.jpg", "._a.jpg", ".cache/b.jpg", "__MACOSX/._a.jpg", "@eaDir/a.jpg", "Thumbs.db", ".DS_Store"),
        *(
            "$RECYCLE.BIN/c.jpg",
            "d/.hidden/e.jpg",
            "d/items.lance/data/x.bin",
            "d/notes.txt",
            "d/more.TXT",
            "d/tune.mp3",
            "README",
        ),
    )
    (tmp_path / "linked").symlink_to(tmp_path / "d", target_is_directory=True)
    assert [row["item_id"] for row in read_folder(tmp_path)] == ["a.jpg"]
    assert list_folder(tmp_path).note() == (
        "not listed: 9 hidden, 2 .txt, 1 linked folders, 1 without extension, 1 .mp3"
    )


def test_a_folder_without_media_says_what_it_has(tmp_path: Path) -> None:
    touch(tmp_path, *(f"x.{end}" for end in ("a", "b", "c", "d", "e", "f")), ".x")
    with pytest.raises(ColdstartError) as caught:
        read_folder(tmp_path)
    assert str(caught.value).startswith(f"no image or video file in {tmp_path} (not listed: 1 ")
    assert str(caught.value).endswith(", 2 others): give a folder of media, or a manifest of their paths")
