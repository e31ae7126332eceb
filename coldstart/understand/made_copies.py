"""Measure the search for copies on copies that are made of the catalogue's own pictures.

Each picture is made smaller, brighter or darker, cut, mirrored, turned, or put into bars, a border or another picture,
and encoded anew. Half of the originals are
compared with: a copy of one of them should be linked to it, and a copy of one of the others to nothing. Nothing is
stated of a copy, so that pictures alone decide. Pictures are decoded in this process: give those that ingest accepted.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageEnhance, ImageOps

from coldstart.core.stage import Reject
from coldstart.media.guard import media_of_role, open_medium
from coldstart.media.image import ImageTransform, load_image
from coldstart.media.limits import Limits
from coldstart.store import ITEMS, Store
from coldstart.understand.candidates import CANDIDATE_RULES, candidate_frames
from coldstart.understand.fingerprint_loader import DETAILED, SQUEEZED, hash_picture
from coldstart.understand.item_facts import Facts
from coldstart.understand.local_features import compute_local_features, opencv_version
from coldstart.understand.near_duplicates import Sequence as Frames
from coldstart.understand.originals import Arrival, Originals
from coldstart.understand.second_look import Pictures, SecondLook
from coldstart.understand.stages.duplicates import DuplicatesStage

_READ = ImageTransform((768, 768), "longest")
_QUALITY = 60  # of the JPEG that a copy is encoded as
_EDGE, _MUCH = 0.04, 0.075  # of each side that is cut
_BAR, _BORDER, _ABOVE = 0.17, 0.08, 0.12  # of the height (a border's: of the longer side) that is added
_INSET = 0.6  # of width and height that a picture keeps within another
_Made = tuple[Frames, Pictures]
_NOTHING = Facts(frozenset(), frozenset(), None, "", {}, frozenset(), None)


def _smaller(image: Image.Image) -> Image.Image:
    return image.resize((max(1, image.width * 3 // 5), max(1, image.height * 3 // 5)))


def _cut(image: Image.Image, share: float = _EDGE) -> Image.Image:
    across, down = round(share * image.width), round(share * image.height)
    return image.crop((across, down, image.width - across, image.height - down))


def _brightness(gain: float) -> Callable[[Image.Image], Image.Image]:
    return lambda image: ImageEnhance.Brightness(image).enhance(gain)


def _with_bar(image: Image.Image) -> Image.Image:
    height = round(_ABOVE * image.height)
    found = Image.new("RGB", (image.width, image.height + height), "white")
    found.paste(image, (0, height))
    words = ImageDraw.Draw(found)
    words.text((image.width // 20, height // 4), "WAIT FOR IT ...", fill="black", font_size=max(6, height // 2))
    return found


def _inside(image: Image.Image) -> Image.Image:
    found = Image.linear_gradient("L").resize(image.size).convert("RGB")
    small = image.resize((max(1, round(_INSET * image.width)), max(1, round(_INSET * image.height))))
    found.paste(small, ((image.width - small.width) // 2, (image.height - small.height) // 2))
    return found


CHANGES: Mapping[str, Callable[[Image.Image], Image.Image]] = {
    "smaller": _smaller,
    "cut at the edges": _cut,
    "brighter": _brightness(1.15),
    "darker": _brightness(0.85),
    "mirrored": ImageOps.mirror,
    "letterboxed": lambda image: ImageOps.expand(image, (0, round(_BAR * image.height)), "black"),
    "bordered": lambda image: ImageOps.expand(image, round(_BORDER * max(image.size)), "lightgrey"),
    "turned": lambda image: image.rotate(3, Image.Resampling.BICUBIC),
    "cut by much": lambda image: _cut(image, _MUCH),
    "with a bar above": _with_bar,
    "inside another": _inside,
}
"""Name of a change -> function that makes it; each copy is encoded anew as well."""


@dataclass(frozen=True)
class MadeCopies:
    """Copies that were made, in the order of `changes`.

    Attributes:
        changes: name of the change of each, from `CHANGES`.
        known: whether its original is among those compared with, bool [N].
        linked: whether it was linked to any item; right: to its original, bool [N].
        unreadable: pictures that could not be read any more.
    """

    changes: Sequence[str]
    known: NDArray[np.bool_]
    linked: NDArray[np.bool_]
    right: NDArray[np.bool_]
    unreadable: int


def measure_made_copies(
    store: Store, stage: DuplicatesStage, limits: Limits, *, most: int, step: Callable[[], None] = lambda: None
) -> MadeCopies:
    """Make at most so many copies of pictures that are originals, and search for each.

    Args:
        step: called after each copy.
    """
    arrivals = {one.item: one for one in stage.picture_originals(store)}
    order = sorted(arrivals, key=_hashed)
    compared = {item for item in order if _hashed(item)[-1] & 1}
    chosen = [*(item for item in order if item in compared)][: (most + 1) // 2]
    chosen += [*(item for item in order if item not in compared)][: most - len(chosen)]
    asked: dict[str, Frames] = {}
    places = {item: place for place, item in enumerate(arrivals)}

    def load(items: list[str]) -> list[Frames]:
        return [asked[items[0]], *(stage.load_sequences(store, items[1:]) if items[1:] else ())]

    known = Originals(stage.rules, places, load)
    for item, arrival in arrivals.items():
        if item in compared:
            known.add(arrival)
    second = SecondLook(stage.rules.min_share, places, lambda items: stage.load_pictures(store, items))
    stage.add_pictures(store, second, {item: one for item, one in arrivals.items() if item in compared})
    rows: list[tuple[str, bool, bool, bool]] = []
    unreadable = 0
    for item, change, made in _made(store, chosen, limits):
        step()
        if made is None:
            unreadable += 1
            continue
        asked[""], pictures = made
        screen = candidate_frames(asked[""].prints, None, CANDIDATE_RULES["image"])
        arrival = Arrival("", "image", screen, _NOTHING)
        copy = known.find_original(arrival).copy or second.find_original(arrival, pictures).copy
        rows.append((change, item in compared, copy is not None, copy is not None and copy.original == item))
    flags = np.array([row[1:] for row in rows], np.bool_).reshape(-1, 3)
    return MadeCopies([row[0] for row in rows], flags[:, 0], flags[:, 1], flags[:, 2], unreadable)


def _made(store: Store, items: Sequence[str], limits: Limits) -> Iterator[tuple[str, str, _Made | None]]:
    """Make a copy of each item's first picture: item, change, and what is compared, None where it is unreadable."""
    rows = {row["item_id"]: row for row in store.read(ITEMS, ["item_id", "media"], ids=items).to_pylist()}
    names = list(CHANGES)
    for place, item in enumerate(items):
        change = names[place % len(names)]
        try:
            yield item, change, _altered(media_of_role(rows[item], "image")[0], CHANGES[change], limits)
        except (Reject, OSError, KeyError, IndexError):
            yield item, change, None


def _altered(medium: Mapping[str, Any], change: Callable[[Image.Image], Image.Image], limits: Limits) -> _Made:
    with open_medium(medium, limits) as path:
        image = Image.fromarray(load_image(path, limits, _READ))
    encoded = io.BytesIO()
    change(image).save(encoded, "JPEG", quality=_QUALITY)
    with Image.open(encoded) as copy:
        frames = Frames(None, hash_picture(SQUEEZED.apply(copy)))
        features = (compute_local_features(DETAILED.apply(copy)),) if opencv_version() else ()
    return frames, Pictures(None, features)


def _hashed(item: str) -> bytes:
    return sha256(item.encode("utf-8", "surrogatepass")).digest()
