"""Make the packaged sample catalogue, `coldstart/sample/`, from the grocery photos and open clips of COLDSTART_DATA.

    COLDSTART_DATA=../shared/data python tools/make_sample.py

Needs `espeak-ng` on the PATH and matplotlib (for its DejaVu font). The same data and the same versions of these, PyAV
and Pillow give the same bytes. `sample_storyboards.yaml` says what each video shows, writes and says; which photos,
how the camera moves and what things cost follow from the seed. Videos use photos of the `train` split alone, so that
`val` and `test` stay unseen, and never the icon pictures, which are the products' own.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import sys
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from sample_render import FPS, View, caption_layer, clip_frames, film_frames, speak, write_gif, write_mp4

ROOT = Path(__file__).resolve().parents[1]
SEED = 20260901
SHAPES = {"square": (320, 320), "portrait": (320, 400), "tall": (288, 512)}
PHOTOS_AND_SECONDS = {1: (4, 1.6), 2: (3, 1.4), 3: (3, 1.2)}  # by number of products: photos of each, seconds a photo
PRICES = {"Fruit": (14, 49), "Packages": (12, 39), "Vegetables": (9, 44)}  # whole kronor; 90 oere are added
Record = dict[str, Any]


class Cut(NamedTuple):
    """What is taken from an open clip, under which title, and what is seen in it."""

    title: str
    start_s: float
    end_s: float
    shows: str


CLIPS = {
    "video-intel-bottle-detection": Cut(
        "Shelf camera, a quiet morning", 6, 14, "Water bottles stand on a shelf; a hand takes them and puts them back."
    ),
    "video-cc-test_video_30s": Cut(
        "Rooftops at sunset", 22, 30, "Animated film: a red-haired girl on a roof at sunset, and a small flying dragon."
    ),
    "video-intelgif-people-detection": Cut(
        "Empty office, Monday", 0, 2, "A person walks past the windows of an empty room with a wooden floor."
    ),
}


@dataclass(frozen=True)
class Shot:
    """One photo of a product on screen, times in seconds from the start of the film."""

    product: Record
    photo: Record
    start_s: float
    end_s: float
    caption: str


@dataclass(frozen=True)
class Film:
    """A storyboard with its photos, times and words settled."""

    item_id: str
    board: Record
    shots: list[Shot]
    speech: str


def rng(*key: object) -> random.Random:
    """A generator of its own for each decision, so that a new video changes no other."""
    return random.Random("/".join(map(str, (SEED, *key))))


def moment(day: int, key: str) -> str:
    """A time between 7 and 21 o'clock on the given day after 2026-08-01."""
    return (
        datetime(2026, 8, 1, tzinfo=UTC) + timedelta(days=day, minutes=rng("time", key).randrange(420, 1260))
    ).isoformat()


def price(product: Record) -> float:
    """In kronor; invented."""
    return rng("price", product["class_id"]).randint(*PRICES[product["department"]]) + 0.9


def attributes(product: Record) -> Record:
    if product["department"] != "Packages":
        return {"currency": "SEK"}
    brand = "God Morgon" if product["title"].startswith("God Morgon") else product["title"].split()[0]
    return {"currency": "SEK", "brand": brand}


def product_item(product: Record) -> Record:
    return {
        "item_id": product["id"],
        "kind": "product",
        "title": product["title"],
        "description": product["text"],
        "category": product["department"],
        "tags": [product["coarse"].replace("-", " ").lower()],
        "creator": "Corner Grocer",
        "created_at": moment(product["class_id"] % 28, product["id"]),
        "price": price(product),
        "attributes": attributes(product),
        "media": [{"role": "image", "uri": f"images/{Path(product['file']).name}"}],
    }


def plan(item_id: str, board: Record, products: dict[int, Record], photos: list[Record]) -> Film:
    """Settle a storyboard. Photos are spread over each product's list, where neighbours are near duplicates."""
    shown = [products[class_id] for class_id in board["products"]]
    each, seconds = PHOTOS_AND_SECONDS[len(shown)]
    shots: list[Shot] = []
    for place, product in enumerate(shown, start=1):
        own = [row for row in photos if row["product_id"] == product["id"] and row["split"] == "train"]
        caption = board.get("caption", "").format(name=product["title"], price=f"{price(product):.2f} kr", place=place)
        for k in range(each):
            index = rng("photo", product["id"], k).randrange(k * len(own) // each, (k + 1) * len(own) // each)
            start_s, end_s = round(len(shots) * seconds, 3), round((len(shots) + 1) * seconds, 3)
            shots.append(Shot(product, own[index], start_s, end_s, caption))
    speech = board.get("speech", "").format(
        names=[product["title"] for product in shown],
        prices=[f"{price(product):.2f} kronor".replace(".", " ") for product in shown],
    )
    return Film(item_id, board, shots, speech)


def video_item(item_id: str, uri: str, created_at: str, board: Record) -> Record:
    return {
        "item_id": item_id,
        "kind": "video",
        "title": board["title"],
        "description": board.get("description", ""),
        "category": board["category"],
        "tags": board["tags"],
        "creator": board["creator"],
        "created_at": created_at,
        "media": [{"role": "video", "uri": uri}],
    }


def film_truth(film: Film) -> Record:
    captions: list[Record] = []
    for shot in film.shots:
        if captions and captions[-1]["text"] == shot.caption:
            captions[-1]["end_s"] = shot.end_s
        elif shot.caption:
            captions.append({"text": shot.caption, "start_s": shot.start_s, "end_s": shot.end_s})
    return {
        "item_id": film.item_id,
        "product_ids": list(dict.fromkeys(shot.product["id"] for shot in film.shots)),
        "shots": [
            {
                "product_id": shot.product["id"],
                "start_s": shot.start_s,
                "end_s": shot.end_s,
                "photo": shot.photo["source_path"],
            }
            for shot in film.shots
        ],
        "captions": captions,
        "speech": film.speech,
        "shows": "",
        "source": film.shots[0].photo["source"],
        "licence": film.shots[0].photo["licence"],
    }


def clip_truth(item_id: str, clip: Record) -> Record:
    cut = CLIPS[clip["id"]]
    return {
        "item_id": item_id,
        "product_ids": [],
        "shots": [],
        "captions": [],
        "speech": "",
        "shows": cut.shows,
        "source": f"{clip['source']}, {clip['source_path']}, {cut.start_s:g} to {cut.end_s:g} s, made smaller",
        "licence": clip["licence"],
    }


def render(film: Film, data: Path, path: Path) -> None:
    size = SHAPES[film.board["shape"]]
    views = [
        View(
            data / "grocery" / shot.photo["file"],
            shot.start_s,
            shot.end_s,
            caption_layer(size, shot.caption, film.board.get("style", "")),
            f"{SEED}/camera/{shot.photo['id']}",
        )
        for shot in film.shots
    ]
    sound = None
    if film.speech:
        sound = speak(film.speech, film.board["voice"], film.board["speed"], film.shots[-1].end_s)
    write_mp4(path, film_frames(views, size), FPS, sound)


def read_jsonl(path: Path) -> list[Record]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def write_jsonl(path: Path, rows: list[Record]) -> None:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def plans(data: Path) -> tuple[list[Film], list[tuple[str, Record]], list[Record], list[Record]]:
    """The films, the open clips with their item ids, and the rows of manifest and truth. Reads no media."""
    rows = read_jsonl(data / "grocery/products.jsonl")
    products = {row["class_id"]: row for row in rows}
    photos = read_jsonl(data / "grocery/images.jsonl")
    boards = yaml.safe_load((ROOT / "tools/sample_storyboards.yaml").read_text(encoding="utf-8"))
    films = [plan(f"clip-{number:02d}", board, products, photos) for number, board in enumerate(boards, start=1)]
    sources = {row["id"]: row for row in read_jsonl(data / "videos_real/videos.jsonl")}
    clips = [(f"clip-{number:02d}", sources[key]) for number, key in enumerate(CLIPS, start=len(films) + 1)]

    manifest, truth = [product_item(row) for row in rows], []
    for number, film in enumerate(films):
        uri = f"videos/{film.item_id}.mp4"
        manifest.append(video_item(film.item_id, uri, moment(30 + number, film.item_id), film.board))
        truth.append(film_truth(film))
    for number, (item_id, clip) in enumerate(clips, start=len(films)):
        creator = "Blender Foundation" if "Sintel" in clip["licence"] else "intel-iot-devkit"
        board = {"title": CLIPS[clip["id"]].title, "category": "other", "tags": [], "creator": creator}
        uri = f"videos/{item_id}{Path(clip['file']).suffix}"
        manifest.append(video_item(item_id, uri, moment(30 + number, item_id), board))
        truth.append(clip_truth(item_id, clip))
    return films, clips, manifest, truth


def main() -> None:
    data = Path(os.environ.get("COLDSTART_DATA", ROOT.parent / "shared/data"))
    if not (data / "grocery").is_dir():
        sys.exit(f"{data}: no grocery set there; set COLDSTART_DATA to the folder that holds it")
    films, clips, manifest, truth = plans(data)
    sample = ROOT / "coldstart/sample"
    for folder in ("images", "videos"):
        shutil.rmtree(sample / folder, ignore_errors=True)
        (sample / folder).mkdir()
    write_jsonl(sample / "manifest.jsonl", manifest)
    write_jsonl(sample / "truth.jsonl", truth)
    shutil.copy(data / "grocery/LICENSE", sample / "LICENSE.grocery")
    shutil.copy(data / "videos_real/LICENSE.intel-sample-videos.txt", sample / "LICENSE.cc-by-4.0")
    for icon in sorted((data / "grocery/iconic").iterdir()):
        shutil.copy(icon, sample / "images")
    for film in films:
        path = sample / f"videos/{film.item_id}.mp4"
        render(film, data, path)
        print(f"{path.name}  {path.stat().st_size / 1000:6.0f} kB  {film.board['title']}")
    for item_id, clip in clips:
        cut = CLIPS[clip["id"]]
        path = sample / f"videos/{item_id}{Path(clip['file']).suffix}"
        source = data / "videos_real" / clip["file"]
        if path.suffix == ".gif":
            write_gif(path, clip_frames(source, cut.start_s, cut.end_s, fps=6, width=240), fps=6)
        else:
            write_mp4(path, clip_frames(source, cut.start_s, cut.end_s, FPS, width=320), FPS)
        print(f"{path.name}  {path.stat().st_size / 1000:6.0f} kB  {CLIPS[clip['id']][0]}")
    print(f"in all  {sum(file.stat().st_size for file in sample.rglob('*.*')) / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
