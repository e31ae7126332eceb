"""MovieLens films as contents and ratings: what the benchmarks of recommendation share.

Contents are what is known of a film when it comes out, and no field that viewers made: genres, year, title, overview
and poster. Two kinds of field of the set are left out, for they tell what viewers did: users' tags, and the number of
ratings. `states`: the hidden state of SmolLM2 at the end of a film's title and year. It is no such field, yet it knows
what was written of films until the model was trained, which is after they came out; figures are given without it too.
Vectors are kept under `.bench/`.
"""

from __future__ import annotations

import csv
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.report import CACHE
from coldstart import encoders
from coldstart.core.interactions import Interactions, interactions
from coldstart.generators import _smollm2
from coldstart.media.image import load_image
from coldstart.media.limits import Limits
from coldstart.recommend.model.fusion import Content

DATA = Path(os.environ.get("COLDSTART_DATA", Path(__file__).resolve().parents[2] / "shared/data"))
FOLDER = DATA / "movielens_posters"
LAYERS = (12, 22, 30)
LIKED = 4.0
_Floats = NDArray[np.float32]


def films() -> list[dict[str, Any]]:
    return [json.loads(line) for line in (FOLDER / "items.jsonl").read_text("utf-8").splitlines()]


def ratings(films: list[dict[str, Any]]) -> Interactions:
    """All ratings, as weights; over the films in their order."""
    with (FOLDER / "ratings.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    found = interactions(
        [row["userId"] for row in rows],
        [f"ml-{row['movieId']}" for row in rows],
        [int(row["timestamp"]) for row in rows],
        np.array([float(row["rating"]) for row in rows], np.float32),
    )
    return found.over([film["id"] for film in films])


def content(films: list[dict[str, Any]]) -> Content:
    """`genres`, `period`, `title`, `text` (title, genres and overview), `poster` and `states-LAYER` of each film."""
    names = [plain(film["title"]) for film in films]
    genres = sorted({genre for film in films for genre in film["genres"]})
    years = np.array([film["year"] for film in films], np.float64)
    starter = encoders.load("starter")
    states = _kept("states", lambda: title_states(names, [film["year"] for film in films]))
    blocks: dict[str, _Floats] = {
        "genres": np.array([[genre in film["genres"] for genre in genres] for film in films], np.float32),
        "period": np.exp(-(((years[:, None] - np.arange(1890, 2030, 4)) / 12) ** 2) / 2).astype(np.float32),
        "title": _kept("title", lambda: starter.encode_documents([re.sub(YEAR, "", film["title"]) for film in films])),
        "text": text_vectors(films),
        "poster": _kept("poster", lambda: posters(films)),
        **{f"states-{layer}": states[:, place] for place, layer in enumerate(LAYERS)},
    }
    records = tuple({"category": film["genres"][0] if film["genres"] else None} for film in films)
    return Content(tuple(film["id"] for film in films), blocks, records)


def text_vectors(films: list[dict[str, Any]]) -> _Floats:
    """Vectors of title, genres and overview by the starter encoder."""
    texts = [f"{re.sub(YEAR, '', film['title'])}. {', '.join(film['genres'])}. {film['text'] or ''}" for film in films]
    return _kept("text", lambda: encoders.load("starter").encode_documents(texts))


YEAR = r"\s*\(\d{4}\)\s*$"


def plain(title: str) -> str:
    """`Shining, The (1980)` as `The Shining`; other names in brackets are dropped."""
    bare = re.sub(YEAR, "", title)
    moved = re.match(r"^(.*?), (The|A|An|La|Le|Les|El|Il|Das|Der|Die)( \(.*\))?$", bare)
    return f"{moved[2]} {moved[1]}" if moved else re.sub(r"\s*\(.*\)$", "", bare)


def posters(films: list[dict[str, Any]]) -> _Floats:
    encoder = encoders.load("starter")
    assert encoder.image_transform is not None
    blocks = []
    for start in range(0, len(films), 64):
        paths = [FOLDER / film["file"] for film in films[start : start + 64]]
        blocks.append(encoder.encode_images([load_image(path, Limits(), encoder.image_transform) for path in paths]))
    return np.concatenate(blocks)


def title_states(names: list[str], years: list[int]) -> _Floats:
    """SmolLM2's hidden states at the last token of `… "TITLE" (YEAR)`: float32 [films, layers, 576]."""
    import torch

    tokenizer, model = _smollm2.load_tokenizer(), _smollm2.load_model(torch.device("cpu"), torch.float32)
    ids = [
        tokenizer('One of the most popular films is "').input_ids + tokenizer(f'{name}" ({year})').input_ids
        for name, year in zip(names, years, strict=True)
    ]
    found = np.zeros((len(ids), len(LAYERS), model.config.hidden_size), np.float32)
    order = sorted(range(len(ids)), key=lambda place: len(ids[place]))
    for start in range(0, len(order), 32):
        chosen = order[start : start + 32]
        longest = max(len(ids[place]) for place in chosen)
        padded = torch.tensor([ids[place] + [0] * (longest - len(ids[place])) for place in chosen])
        mask = torch.tensor([[1] * len(ids[place]) + [0] * (longest - len(ids[place])) for place in chosen])
        with torch.inference_mode():
            states = model(input_ids=padded, attention_mask=mask, output_hidden_states=True).hidden_states
        for row, place in enumerate(chosen):
            for layer, depth in enumerate(LAYERS):
                found[place, layer] = states[depth][row, len(ids[place]) - 1].numpy()
    return found


def _kept(name: str, make: Callable[[], _Floats]) -> _Floats:
    path = CACHE / f"films-{name}.npy"
    if not path.exists():
        CACHE.mkdir(exist_ok=True)
        np.save(path, make())
    return np.asarray(np.load(path), np.float32)
