"""Pictures of items for training: the same that a space looked at, by an encoder that gave known vectors for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import catalogue
import numpy as np
import pytest

import coldstart
from coldstart import encoders
from coldstart.align.fit_towers import encode_image_refs, image_refs
from coldstart.core import settings as resources
from coldstart.core.progress import SilentProgress
from coldstart.media.limits import Limits

SAMPLE = resources.PACKAGE / "sample"
TABLE = f"stage.image-{encoders.load('fake:48').passport('image').digest}"


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> coldstart.Workspace:
    """A space over an item of one picture, one of three, and a video."""
    folder = tmp_path_factory.mktemp("looks")
    photos = [catalogue.photo(folder / f"{n}.jpg", n + 3).name for n in range(4)]
    video = min((SAMPLE / "videos").iterdir(), key=lambda path: path.stat().st_size)
    manifest = [
        {"item_id": "one", "title": "a", "image": photos[0]},
        {"item_id": "three", "title": "b", "media": [{"role": "image", "uri": name} for name in photos[1:]]},
        {"item_id": "film", "title": "c", "media": [{"role": "video", "uri": str(video)}]},
    ]
    settings: dict[str, Any] = catalogue.settings(catalogue.write_manifest(folder / "items.jsonl", manifest))
    settings["media"] = {"roots": [str(SAMPLE)]}
    settings["stages"]["image"] |= {"encoder": "fake:48", "frames": 3, "pictures": 2}
    opened = coldstart.open(folder / "w", create=True)
    opened.run(settings, only=["ingest", "image"])
    return opened


@pytest.mark.slow
def test_vectors_are_those_that_the_space_stored(workspace: coldstart.Workspace) -> None:
    rows = {row["item_id"]: row for row in workspace._store.read(TABLE).to_pylist()}
    items = ["film", "one", "three"]
    looks = image_refs(workspace._store, TABLE, 2, items)
    assert {item: len(own) for item, own in looks.items()} == {"film": 3, "one": 1, "three": 2}
    times = [look.time_s for look in looks["film"]]
    stored = rows["film"]["frame_times_s"]
    assert times == [stored[1], stored[0], stored[2]]  # the middle one first
    with SilentProgress().meter("looks", None) as meter:
        seen = encode_image_refs(
            encoders.load("fake:48"), [looks[item] for item in items], Limits(), batch=4, workers=0, meter=meter
        )
    assert seen.items.tolist() == [0, 0, 0, 1, 2, 2]
    np.testing.assert_allclose(seen.vectors[:3], np.array(rows["film"]["frame_vectors"])[[1, 0, 2]], atol=1e-3)
    for place, item in enumerate(items):
        mean = seen.vectors[seen.items == place].mean(0)
        np.testing.assert_allclose(mean / np.linalg.norm(mean), rows[item]["vector"], atol=1e-5)


@pytest.mark.slow
def test_what_cannot_be_read_any_more_is_left_out_and_counted(workspace: coldstart.Workspace) -> None:
    looks = image_refs(workspace._store, TABLE, 2, ["one", "three"])
    path = Path(looks["three"][1].path)
    content = path.read_bytes()
    path.write_bytes(content[:-1] + b"x")
    counted: list[tuple[int, int]] = []

    class Meter:
        def advance(self, done: int, lost: int, wait_share: float) -> None:
            counted.append((done, lost))

    own = [looks["one"], looks["three"]]
    seen = encode_image_refs(encoders.load("fake:48"), own, Limits(), batch=2, workers=0, meter=Meter())
    path.write_bytes(content)
    assert (seen.items.tolist(), counted) == ([0, 1], [(2, 0), (1, 1)])
    nothing = encode_image_refs(encoders.load("fake:48"), [], Limits(), batch=2, workers=0, meter=Meter())
    assert (nothing.vectors.shape, nothing.items.shape) == ((0, 48), (0,))
