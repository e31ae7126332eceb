"""Claim: `starter:multilingual` finds English titles by queries in five other languages, where `starter` finds few.

    python -m benchmarks languages [--full]

Thirty groceries among the 65 titles of the packaged sample catalogue, so that anyone can run it, and where
`COLDSTART_DATA` has them thirty photos of Flickr8k among 764 captions (the second of each), each with one query in
English, German, French, Spanish, Chinese and Hindi: `benchmarks/data/languages.jsonl`, written before anything was
measured, by one author who is no native speaker of all of them. Besides, the thirty groceries under German and
French titles, found by the English queries. An item is found where no other title is as near; by vectors alone, words
take no part. Intervals are 95 % bootstraps over queries; both encoders answer the same ones. Time is processor time of
one thread for all titles, in turns with the matrix products that the layers must do at least.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.report import Row, against, ratio
from coldstart import encoders, sample
from coldstart.encoders import Encoder
from coldstart.metrics.ranking import bootstrap, paired, ranks

DATA = Path(os.environ.get("COLDSTART_DATA", Path(__file__).resolve().parents[2] / "shared/data"))
PHOTOS = DATA / "flickr8k_1k" / "images.jsonl"
QUERIES = Path(__file__).resolve().parent / "data" / "languages.jsonl"
LANGUAGES = {"en": "English", "de": "German", "fr": "French", "es": "Spanish", "zh": "Chinese", "hi": "Hindi"}
SETS = {"grocery": "groceries", "flickr8k": "photos"}
ENCODERS = {"starter": "MiniLM", "starter:multilingual": "multilingual"}
WEIGHTS = {"starter": 6 * 12 * 384**2, "starter:multilingual": 12 * 12 * 384**2}
"""Numbers in the matrices of the layers, each multiplied once a token."""
CUTS = (1, 5)
ROUNDS = 5


def run(short: bool) -> dict[str, Any]:
    """Ranks of the right title for every query by both encoders, and their time."""
    galleries = {"grocery": sample_titles()} | ({"flickr8k": _captions()} if PHOTOS.is_file() else {})
    queries = [json.loads(line) for line in QUERIES.read_text("utf-8").splitlines()]
    loaded = {name: encoders.load(name, device="cpu") for name in ENCODERS}
    found: dict[str, dict[str, dict[str, list[int]]]] = {}
    for name, encoder in loaded.items():
        found[name] = {code: {} for code in (*LANGUAGES, "titles_de", "titles_fr")}
        for kind, titles in galleries.items():
            own = [row for row in queries if row["set"] == kind]
            for code in LANGUAGES:
                found[name][code][kind] = _ranks(encoder, [row[code] for row in own], [r["item"] for r in own], titles)
        own = [row for row in queries if "titles" in row]
        for code in ("de", "fr"):
            translated = dict(galleries["grocery"]) | {row["item"]: row["titles"][code] for row in own}
            asked = [row["en"] for row in own]
            found[name][f"titles_{code}"]["grocery"] = _ranks(encoder, asked, [row["item"] for row in own], translated)
    texts = [text for titles in galleries.values() for text in titles.values()]
    return {"ranks": found, **_times(loaded, texts, 2 if short else ROUNDS)}


def rows(result: dict[str, Any]) -> list[Row]:
    """The claim's lines in the table."""
    made = []
    for code in result["ranks"]["starter"]:
        by_set = {name: result["ranks"][name][code] for name in ENCODERS}
        known = LANGUAGES.get(code)
        claim = f"queries in {known}, English titles" if known else f"English queries, {LANGUAGES[code[-2:]]} titles"
        for cut in CUTS:
            hits = {name: _hits(one, cut) for name, one in by_set.items()}
            kinds = " and ".join(f"{len(one)} {SETS[kind]}" for kind, one in by_set["starter"].items())
            for name, short_name in ENCODERS.items():
                interval = bootstrap(hits[name])
                parts = ", ".join(
                    f"{SETS[kind]} {np.mean(np.array(one) <= cut):.2f}" for kind, one in by_set[name].items()
                )
                spread = f"{interval.low:.2f} to {interval.high:.2f}; {parts}"
                made.append(Row(f"{claim}: {short_name} R@{cut}", kinds, f"{interval.value:.3f}", spread))
            gain = paired(hits["starter"], hits["starter:multilingual"])
            made.append(
                Row(
                    f"{claim}: multilingual less MiniLM, R@{cut}",
                    kinds,
                    f"{gain.value:+.3f}",
                    f"{gain.low:+.3f} to {gain.high:+.3f}",
                )
            )
    setting = f"{result['texts']} titles, {result['dtype']}, one thread, cpu"
    for name, short_name in ENCODERS.items():
        seconds, limit = result["seconds"][name], result["limit"][name]
        made.append(against("limit", f"{short_name}: encoding against its GEMM limit", setting, limit, seconds))
    figure, spread = ratio(result["seconds"]["starter:multilingual"], result["seconds"]["starter"])
    made.append(Row("processor time of multilingual to that of MiniLM", setting, figure, spread))
    return made


def sample_titles() -> dict[str, str]:
    """Title of each product of the packaged sample catalogue."""
    rows = [json.loads(line) for line in (sample.path() / "manifest.jsonl").read_text("utf-8").splitlines()]
    return {row["item_id"]: row["title"] for row in rows if row["kind"] == "product"}


def _captions() -> dict[str, str]:
    """Second caption of each photo."""
    rows = [json.loads(line) for line in PHOTOS.read_text("utf-8").splitlines()]
    return {row["id"]: row["captions"][1] for row in rows}


def _ranks(encoder: Encoder, texts: Sequence[str], items: Sequence[str], titles: Mapping[str, str]) -> list[int]:
    """Rank of the right title of each query, 1 for the nearest; those as near as the right one come before it."""
    places = {item: place for place, item in enumerate(titles)}
    right = [np.array([places[item]], np.intp) for item in items]
    found = ranks(encoder.encode_queries(texts), encoder.encode_documents(list(titles.values())), right)
    return [int(rank) for rank in found]


def _hits(by_set: Mapping[str, Sequence[int]], cut: int) -> np.ndarray[Any, Any]:
    return np.concatenate([np.array(one) <= cut for one in by_set.values()]).astype(float)


def _times(loaded: Mapping[str, Any], texts: Sequence[str], rounds: int) -> dict[str, Any]:
    """Processor seconds of encoding, and of the products alone, round by round."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        tokens = {name: sum(encoder.count_tokens(texts)) for name, encoder in loaded.items()}
        dtype = loaded["starter"].dtype
        states, weights = torch.randn(4096, 384, dtype=dtype), torch.randn(1536, 384, dtype=dtype)
        seconds: dict[str, list[float]] = {name: [] for name in loaded}
        limit: dict[str, list[float]] = {name: [] for name in loaded}
        for turn in range(rounds + 1):  # the first warms up
            began = time.process_time()
            for _ in range(20):
                torch.nn.functional.linear(states, weights)
            each = (time.process_time() - began) / (20 * states.numel() * len(weights))
            for name, encoder in loaded.items():
                began = time.process_time()
                encoder.encode_documents(texts)
                if turn:
                    seconds[name].append(time.process_time() - began)
                    limit[name].append(each * tokens[name] * WEIGHTS[name])
    finally:
        torch.set_num_threads(threads)
    return {"seconds": seconds, "limit": limit, "tokens": tokens, "texts": len(texts), "dtype": str(dtype)}
