"""Media that a manifest names: other spellings of paths, still GIFs, bytes inside the manifest."""

from __future__ import annotations

import hashlib
import io
import os
from pathlib import Path

import pytest
from PIL import Image

from coldstart.core.items import Item
from coldstart.errors import ColdstartError
from coldstart.ingest.media_files import EmbeddedMedia, LocalMedia, count_frames
from coldstart.media.limits import Limits


def gif(frames: int) -> bytes:
    pictures = [Image.new("RGB", (8, 8), (number * 40, 255, 0)) for number in range(frames)]
    file = io.BytesIO()
    pictures[0].save(file, "GIF", save_all=True, append_images=pictures[1:], comment=b"x" * 300)
    return file.getvalue()


def test_a_path_is_found_as_it_is_or_in_another_spelling(tmp_path: Path) -> None:
    for name in ("a.jpg", "d/cafe\u0301.jpg", r"e\own.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    files = LocalMedia(tmp_path)
    assert files.find("a.jpg") == "a.jpg"
    assert files.find("d/caf\u00e9.jpg") == str(tmp_path / "d/cafe\u0301.jpg")
    assert files.find("d\\caf\u00e9.jpg") == str(tmp_path / "d/cafe\u0301.jpg")
    assert files.find(r"e\own.jpg") == r"e\own.jpg"
    assert files.find(str(tmp_path / "a.jpg")) == str(tmp_path / "a.jpg")
    assert [files.find(uri) for uri in ("b.jpg", "https://x.example/a.jpg", "a\0b", "x" * 5000)] == [None] * 4


def test_nothing_is_read_outside_the_folders_of_the_media(tmp_path: Path) -> None:
    for name in ("inside", "root", "outside"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "still.gif").write_bytes(gif(1))
    (tmp_path / "inside" / "link.gif").symlink_to(tmp_path / "outside" / "still.gif")
    os.mkfifo(tmp_path / "inside" / "pipe.gif")
    files = LocalMedia(tmp_path / "inside", [tmp_path / "root"])
    assert files.is_still("still.gif") and files.is_still("../root/still.gif")
    for uri in ("link.gif", "../outside/still.gif", "pipe.gif", ".", "a\0.gif", "https://x.example/still.gif"):
        assert not files.is_still(uri)


def test_a_gif_of_one_frame_is_a_picture(tmp_path: Path) -> None:
    (tmp_path / "still.gif").write_bytes(gif(1))
    (tmp_path / "moving.gif").write_bytes(gif(3))
    (tmp_path / "none.gif").write_bytes(b"GIF89a")
    files = LocalMedia(tmp_path)
    for name, kind in (("still.gif", "product"), ("moving.gif", "video"), ("none.gif", "video"), ("gone.gif", "video")):
        assert Item.parse({"item_id": "a", "media": name}, files).kind == kind


@pytest.mark.parametrize("frames", [1, 2, 5])
def test_frames_of_a_gif_are_counted_as_pillow_does(frames: int) -> None:
    content = gif(frames)
    assert getattr(Image.open(io.BytesIO(content)), "n_frames", 1) == frames
    assert count_frames(io.BytesIO(content), up_to=100) == frames
    assert count_frames(io.BytesIO(content), up_to=2) == min(frames, 2)
    assert count_frames(io.BytesIO(content[:-40]), up_to=100) <= frames


def test_bytes_become_files_beside_the_manifest(tmp_path: Path) -> None:
    embedded = EmbeddedMedia(tmp_path / "shop.parquet", Limits())
    path = tmp_path / "shop.media" / hashlib.sha256(b"one").hexdigest()
    fields = {
        "item_id": "a",
        "image": b"one",
        "images": [{"bytes": b"one", "path": "x.jpg"}, {"bytes": None, "path": "y.jpg"}, {"bytes": None, "path": None}],
        "media": [{"bytes": b"one", "path": "z.png"}, {"uri": "w.jpg"}, "v.jpg"],
    }
    item = Item.parse(embedded.save(fields))
    assert [(entry.uri, entry.role) for entry in item.media] == [
        *((str(path), "image"), ("w.jpg", "image"), ("v.jpg", "image")),
        *((str(path), "image"), (str(path), "image"), ("y.jpg", "image")),
    ]
    assert path.read_bytes() == b"one"
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_bytes_have_limits(tmp_path: Path) -> None:
    embedded = EmbeddedMedia(tmp_path / "shop.parquet", Limits(max_image_bytes=3))
    with pytest.raises(ValueError) as caught:
        embedded.save({"image": b"four"})
    assert str(caught.value) == "image: 4 bytes, more than 3"
    with pytest.raises(ValueError) as caught:
        embedded.save({"image": {"bytes": "text"}})
    assert str(caught.value) == "image: bytes are due, not str"
    assert not (tmp_path / "shop.media").exists()


def test_nothing_is_written_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "shop.media").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ColdstartError) as caught:
        EmbeddedMedia(tmp_path / "shop.parquet", Limits()).save({"image": b"x"})
    assert str(caught.value).startswith(
        f"cannot write the media that stand in the manifest to {tmp_path / 'shop.media'}: it is a link; "
    )
    assert not [*(tmp_path / "elsewhere").iterdir()]


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "shop.media").write_text("a file")
    with pytest.raises(ColdstartError) as caught:
        EmbeddedMedia(tmp_path / "shop.parquet", Limits()).save({"image": b"x"})
    assert str(caught.value) == (
        f"cannot write the media that stand in the manifest to {tmp_path / 'shop.media'}: File exists; "
        "copy the manifest to a folder with room where you may write"
    )
