"""Copies of real videos and photos against everything else: what is found, what is wrongly found, and how fast.

    python -m benchmarks.near_duplicates [--short]

Needs the real data (`COLDSTART_DATA`, default `../shared/data`). Makes the copies of `tests/support/transformed.py` of
the first 10 s of each real video under `.bench/`, fingerprints all, and compares each copy with every original through
the screen, as `understand.duplicates` does. Videos are split in two halves by the digest of their id: thresholds were
chosen on the one (`tuning`), the figures are of the other (`test`). Pairs that the data's own links join count as true.
Photos are compared within the fashion set, many of whose shots differ in colour alone, with and without their titles,
and as if every tenth product had a placeholder for a photo. The search is timed against 100,000 made items of 14
frames: half are frames of the real videos with 37 % of their bits turned, which is as near as unrelated real videos
come, half are random bits. `--short` takes a sixth of the videos and 10,000 items.
"""

from __future__ import annotations

import json
import math
import os
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from hashlib import sha256
from itertools import combinations
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.report import CACHE, Row
from coldstart.media.limits import Limits
from coldstart.understand.candidates import VIDEO, CandidateIndex, candidate_frames
from coldstart.understand.fingerprint import SIDE, Fingerprints, compute_fingerprints
from coldstart.understand.fingerprint_loader import LoadFingerprints
from coldstart.understand.item_facts import Facts, find_difference, read_facts
from coldstart.understand.near_duplicates import DuplicateRules, MatchRule, Sequence, match_items

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "support"))
from transformed import CHANGES, UNSEEN, Change, write_copies

DATA = Path(os.environ.get("COLDSTART_DATA", Path(__file__).resolve().parents[2] / "shared/data"))
FOLDER = CACHE / "near_duplicates"
SHARES, BITS = (0.3, 0.4, 0.5, 0.6, 0.7), (16, 20, 24)
PHOTOS = (
    *("encoded poorly", "half size", "cropped 10 %", "mirrored", "caption bar", "half, cropped, captioned"),
    *("15 % brighter", "15 % darker", *UNSEEN),
)
MADE_FRAMES = 14
_Scores = dict[tuple[str, str], float]


def wilson(hits: int, of: int) -> list[float]:
    """Wilson's 95 % interval of a share."""
    if not of:
        return [0.0, 1.0]
    z, share = 1.96, hits / of
    middle, reach = share + z * z / 2 / of, z * math.sqrt(share * (1 - share) / of + z * z / 4 / of / of)
    return [round((middle + sign * reach) / (1 + z * z / of), 4) for sign in (-1, 1)]


def sequence_of(path: Path) -> Sequence:
    """Fingerprints as the stage takes them."""
    entry = {"role": "video", "uri": str(path.resolve()), "size_bytes": path.stat().st_size}
    row, _ = LoadFingerprints(Limits(), 4.0, 180.0, 4)({"media": [entry]})
    return Sequence(np.array(row["times_s"]), Fingerprints.from_bytes(row["hashes"], row["quality"]))


def videos(short: bool) -> list[dict[str, Any]]:
    lines = (DATA / "videos_real/videos.jsonl").read_text("utf-8").splitlines()
    return [json.loads(line) for line in lines][:: 6 if short else 1]


def copies_of(video: Mapping[str, Any]) -> dict[str, Path]:
    folder = FOLDER / video["id"]
    folder.mkdir(parents=True, exist_ok=True)
    paths = {name: folder / f"{number}.mp4" for number, name in enumerate(CHANGES)}
    if not all(path.exists() for path in paths.values()):
        partial = {path.with_suffix(".part.mp4"): CHANGES[name] for name, path in paths.items()}
        write_copies(DATA / "videos_real" / video["file"], partial, max_s=10)
        for path in partial:
            path.rename(path.with_name(path.name.replace(".part", "")))
    return paths


def half_of(name: str) -> str:
    return "tuning" if sha256(name.encode()).digest()[0] % 2 else "test"


def against_all(
    asked: Mapping[tuple[str, str], Sequence], originals: Mapping[str, Sequence], rule: MatchRule
) -> dict[tuple[str, str, str], float]:
    """(video, change, other video) -> score of every pair that the screen lets through."""
    names, screen = list(originals), CandidateIndex(VIDEO)
    for one in originals.values():
        screen.add(candidate_frames(one.prints, one.times_s, VIDEO))
    return {
        (video, change, names[place]): match_items(one, originals[names[place]], rule).score
        for (video, change), one in asked.items()
        for place in screen.find(candidate_frames(one.prints, one.times_s, VIDEO))
    }


def counted(
    scores: Mapping[tuple[str, str, str], float],
    asked: Mapping[tuple[str, str], Sequence],
    group: Mapping[str, str],
    half: str,
    min_share: float,
) -> dict[str, Any]:
    """Counts of one half; changes that no view is made for are left out of the sums."""
    found: dict[str, list[int]] = {change: [0, 0] for change in CHANGES}
    for video, change in asked:
        if half_of(video) == half and change in found:
            found[change][1] += 1
            found[change][0] += scores.get((video, change, video), 0.0) >= min_share
    inside = {key: score for key, score in scores.items() if half_of(key[0]) == half and score >= min_share}
    wrong = {key: round(score, 2) for key, score in inside.items() if group[key[0]] != group[key[2]]}
    counts = [count for change, count in found.items() if change not in UNSEEN]
    hits, of = sum(count[0] for count in counts), sum(count[1] for count in counts)
    return {
        "changes": found, "found": hits, "of": of, "recall": wilson(hits, of),
        "wrong": [[*key, score] for key, score in wrong.items()],
        "wrong_pairs": len({frozenset((key[0], key[2])) for key in wrong}),
        "precision": wilson(hits, hits + len(wrong)),
        "other_pairs": sum(
            group[video] != group[other] for video, _ in asked if half_of(video) == half for other in group
        ),
    }  # fmt: skip


def photos(short: bool) -> dict[str, Any]:
    """Fashion photos among themselves, and changed ones among all."""
    paths = sorted((DATA / "fashion_products").rglob("*.jpg"))[:: 10 if short else 1]
    pictures = [cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB) for path in paths]
    rule, look = DuplicateRules().rule("image"), DuplicateRules().candidate_rule("image")

    def seen(picture: NDArray[np.uint8]) -> Sequence:
        small = cv2.resize(picture, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
        return Sequence(None, compute_fingerprints(np.asarray(small, np.uint8)[None]))

    known, screen = [seen(picture) for picture in pictures], CandidateIndex(look)
    lines = (DATA / "fashion_products/products.jsonl").read_text("utf-8").splitlines()
    stated = {Path(product["file"]).name: read_facts({"title": product["title"]}) for product in map(json.loads, lines)}
    facts = [replace(stated[path.name], digests=frozenset({path.name})) for path in paths]
    pairs, told_apart = [], 0
    for place, one in enumerate(known):
        for other in screen.find(candidate_frames(one.prints, None, look)):
            if match_items(one, known[other], rule).score >= DuplicateRules().min_share:
                pairs.append([paths[other].name, paths[place].name])
                told_apart += find_difference(facts[place], facts[other], still=False, plain=False) is not None
        screen.add(candidate_frames(one.prints, None, look))
    found = {}
    for name in PHOTOS:
        hits, sample = 0, range(0, len(known), 20)
        for place in sample:
            one = seen(_encoded(CHANGES[name], pictures[place]))
            hits += (
                place in screen.find(candidate_frames(one.prints, None, look))
                and match_items(one, known[place], rule).score > 0
            )
        found[name] = [hits, len(sample)]
    return {
        "photos": len(known), "pairs": len(known) * (len(known) - 1) // 2, "alike": pairs, "told_apart": told_apart,
        "placeholder": placeholder(facts), "changes": found,
    }  # fmt: skip


def placeholder(facts: list[Facts]) -> list[int]:
    """Pairs of products that share a placeholder, and those of them that would be copies of one another."""
    common = [replace(one, digests=frozenset({"no photo yet"}), common=True) for one in facts[::10]]
    pairs = list(combinations(common, 2))
    return [len(pairs), sum(find_difference(one, other, still=False, plain=False) is None for one, other in pairs)]


def _encoded(change: Change, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    quality = 40 if change.crf > 30 else 85
    changed = np.ascontiguousarray(change.picture(picture.copy()))
    _, data = cv2.imencode(".jpg", changed, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)


def search_times(originals: Mapping[str, Sequence], items: int) -> dict[str, Any]:
    """Milliseconds to screen one new video against made items, and to score its candidates."""
    random = np.random.default_rng(0)
    real = {name: candidate_frames(one.prints, one.times_s, VIDEO) for name, one in originals.items()}
    frames = np.concatenate(list(real.values()))
    screen = CandidateIndex(VIDEO)
    for number in range(items):
        if number % 2:
            words = random.integers(0, 2**64, (MADE_FRAMES, *frames.shape[1:]), dtype=np.uint64)
        else:
            turned = random.random((MADE_FRAMES, *frames.shape[1:], 64), dtype=np.float32) < 0.37
            words = frames[random.integers(0, len(frames), MADE_FRAMES)]
            words = words ^ np.packbits(turned, axis=-1).view(np.uint64)[..., 0]
        screen.add(words)
    for words in real.values():
        screen.add(words)
    taken, scored, candidates = [], [], []
    for name, words in real.items():
        taken.append(_ms(lambda words=words: screen.find(words)))
        candidates.append(len(screen.find(words)))
        scored.append(_ms(lambda name=name: match_items(originals[name], originals[name], MatchRule())))
    return {
        "items": items, "frames": (items * MADE_FRAMES) + len(frames),
        "screen_ms": [round(value, 1) for value in (statistics.median(taken), min(taken), max(taken))],
        "candidates": [statistics.median(candidates), max(candidates)],
        "score_ms": [round(value, 2) for value in (statistics.median(scored), min(scored), max(scored))],
    }  # fmt: skip


def _ms(work: Callable[[], Any]) -> float:
    start = time.perf_counter()
    work()
    return 1000 * (time.perf_counter() - start)


def run(short: bool = False) -> dict[str, Any]:
    """Counts by change and half, what was wrongly found, what of the data's links was found, and times."""
    given = videos(short)
    ids = {video["id"] for video in given}
    group = {video["id"]: video["duplicate_of"] or video["id"] for video in given}
    sources = {video["id"]: DATA / "videos_real" / video["file"] for video in given}
    began = time.process_time()
    originals = {name: sequence_of(path) for name, path in sources.items()}
    spent_s = time.process_time() - began
    length_s = sum(float(one.times_s[-1]) for one in originals.values() if one.times_s is not None)
    asked = {(name, "itself"): one for name, one in originals.items()}
    for video in given:
        asked |= {(video["id"], change): sequence_of(path) for change, path in copies_of(video).items()}
    tuning = []
    for bits in (20,) if short else BITS:
        scores = against_all(asked, originals, MatchRule(max_bits=bits))
        for share in SHARES:
            part = counted(scores, asked, group, "tuning", share)
            tuning.append([bits, share, part["found"], part["of"], part["wrong_pairs"]])
        if bits == DuplicateRules().max_bits:
            shipped = scores
    links = {
        name: round(shipped.get((name, "itself", other), 0.0), 2)
        for name, other in group.items()
        if other != name and other in ids
    }
    return {
        "videos": len(given),
        "real_time": round(length_s / spent_s, 1),
        "tuning": tuning,
        "test": counted(shipped, asked, group, "test", DuplicateRules().min_share),
        "links": links,
        "photos": photos(short),
        "search": search_times(originals, 10_000 if short else 100_000),
    }


def rows(result: dict[str, Any]) -> list[Row]:
    """The claim's lines in the table."""
    test, search, fashion = result["test"], result["search"], result["photos"]
    lines = []
    for kind, changes in (("videos, test half", test["changes"]), ("fashion shots", fashion["changes"])):
        for change, (hits, of) in changes.items():
            lines.append(Row("copies found", f"{change}; {kind}", f"{hits} of {of}", _range(wilson(hits, of))))
    sums = "all changes that a view is made for; videos, test half"
    lines.append(Row("copies found", sums, f"{test['found']} of {test['of']}", _range(test["recall"])))
    wrong = f"{len(test['wrong'])}, of {test['wrong_pairs']} pairs of videos"
    setting = f"{test['other_pairs']} pairs of a video or copy with another video"
    lines.append(Row("found wrongly", setting, wrong, f"precision {_range(test['precision'])}"))
    found = sum(score >= DuplicateRules().min_share for score in result["links"].values())
    lines.append(Row("links of the data found", "all videos", f"{found} of {len(result['links'])}", ""))
    alike_pairs = f"{fashion['pairs']} pairs of fashion shots"
    lines.append(Row("photos taken for copies", alike_pairs, str(len(fashion["alike"])), ""))
    left = len(fashion["alike"]) - fashion["told_apart"]
    lines.append(Row("photos taken for copies", f"{alike_pairs}, with their titles", str(left), ""))
    shared, linked = fashion["placeholder"]
    lines.append(
        Row("placeholders taken for copies", f"{shared} pairs of products, with their titles", str(linked), "")
    )
    made = f"{search['items']} made items, {search['frames']} frames"
    middle, *spread = search["screen_ms"]
    lines.append(Row("ms to screen one new video", made, str(middle), _range(spread), "below 100"))
    middle, *spread = search["score_ms"]
    candidates = "{:g} candidates a video, at most {}".format(*search["candidates"])
    lines.append(Row("ms to score one candidate", candidates, str(middle), _range(spread)))
    lines.append(Row("video over processor seconds", "fingerprinting, decoding included", str(result["real_time"]), ""))
    return lines


def _range(pair: list[float]) -> str:
    return "{} to {}".format(*pair)


if __name__ == "__main__":
    print(json.dumps(run(short="--short" in sys.argv[1:]), indent=2))
