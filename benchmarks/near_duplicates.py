"""Copies of real videos and photos against everything else: what is found, what is wrongly found, and how fast.

    python -m benchmarks.near_duplicates [--short]

Needs the real data (`COLDSTART_DATA`, default `../shared/data`). Makes the copies of `tests/support/transformed.py` of
the first 10 s of each real video under `.bench/`, fingerprints all, and compares each copy with every original through
the screen, as `understand.duplicates` does. Videos are split in two halves by the digest of their id: thresholds were
chosen on the one (`tuning`), the figures are of the other (`test`). Pairs that the data's own links join count as true.
Photos (fashion shots, flickr8k, groceries) are each compared with all before them, and the fashion links with their
titles, and as if every tenth product had a placeholder for a photo. The search is timed against 100,000 made items of
14 frames: half are frames of the real videos with 37 % of their bits turned, which is as near as unrelated real videos
come, half are random bits. `--short` takes a sixth of the videos and 10,000 items.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from hashlib import sha256
from itertools import combinations
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.report import CACHE, Row
from coldstart.media.limits import Limits
from coldstart.metrics import intervals
from coldstart.understand.candidates import CANDIDATE_RULES, VIDEO, CandidateIndex, candidate_frames
from coldstart.understand.fingerprint import Fingerprints
from coldstart.understand.fingerprint_loader import DETAILED, SQUEEZED, LoadFingerprints, hash_picture
from coldstart.understand.item_facts import Facts, find_difference, read_facts
from coldstart.understand.local_features import LocalFeatures, compute_local_features
from coldstart.understand.near_duplicates import DuplicateRules, MatchRule, Sequence, match_items
from coldstart.understand.originals import Arrival, Originals
from coldstart.understand.second_look import Pictures, SecondLook

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "support"))
from transformed import BORDERED, CHANGES, UNSEEN, Change, write_copies

DATA = Path(os.environ.get("COLDSTART_DATA", Path(__file__).resolve().parents[2] / "shared/data"))
FOLDER = CACHE / "near_duplicates"
SHARES, BITS = (0.3, 0.4, 0.5, 0.6, 0.7), (16, 20, 24)
PHOTOS = (
    *("encoded poorly", "half size", "cropped 10 %", "mirrored", "caption bar", "half, cropped, captioned"),
    *("15 % brighter", "15 % darker", *BORDERED, *UNSEEN),
)
MOVING = ("encoded poorly", "mirrored", "caption bar", "15 % brighter", "15 % darker", *BORDERED, *UNSEEN)
MADE_FRAMES = 14
_NONE = Facts(frozenset(), frozenset(), None, "", {}, frozenset(), None)


def wilson(hits: int, of: int) -> list[float]:
    """Wilson's 95 % interval of a share."""
    return [round(value, 4) for value in intervals.wilson(hits, of)] if of else [0.0, 1.0]


def sequence_of(path: Path) -> Sequence:
    """Fingerprints as the stage takes them."""
    entry = {"role": "video", "uri": str(path.resolve()), "size_bytes": path.stat().st_size}
    row, _ = LoadFingerprints(Limits(), 4.0, 180.0, 4)({"media": [entry]})
    return Sequence(np.array(row["times_s"]), Fingerprints.from_bytes(row["hashes"], row["quality"], row["boxes"]))


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


class Catalogue:
    """Both looks at originals, as `understand.duplicates` takes them; nothing is stated of any item."""

    def __init__(self, media: str) -> None:
        self._rules, self._media = DuplicateRules(), media
        self._seen: dict[str, tuple[Sequence, Pictures]] = {}
        self._places: dict[str, int] = {}
        self._first = Originals(self._rules, self._places, lambda items: [self._seen[item][0] for item in items])
        self._second = SecondLook(
            self._rules.min_share, self._places, lambda items: [self._seen[item][1] for item in items]
        )

    def add(self, name: str, seen: tuple[Sequence, Pictures]) -> None:
        self._seen[name] = seen
        self._places[name] = len(self._places)
        arrival = self._arrival(name, seen)
        self._first.add(arrival)
        self._second.add(arrival, seen[1])

    def find(self, seen: tuple[Sequence, Pictures]) -> tuple[str | None, str]:
        """Original, and the look that found it: `whole` is what versions before borders and details compared."""
        self._seen["new"] = seen
        arrival = self._arrival("new", seen)
        copy = self._first.find_original(arrival).copy
        if copy is not None and copy.match.found_by == "border":
            pair = [_borderless(one) for one in (seen[0], self._seen[copy.original][0])]
            if match_items(*pair, self._rules.rule(self._media)).score >= self._rules.min_share:
                return copy.original, "whole"
        copy = copy or self._second.find_original(arrival, seen[1]).copy
        return (None, "") if copy is None else (copy.original, copy.match.found_by)

    def _arrival(self, name: str, seen: tuple[Sequence, Pictures]) -> Arrival:
        one = seen[0]
        return Arrival(
            name, self._media, candidate_frames(one.prints, one.times_s, CANDIDATE_RULES[self._media]), _NONE
        )


def _borderless(one: Sequence) -> Sequence:
    return Sequence(one.times_s, Fingerprints.from_bytes(one.prints.to_bytes(), one.prints.quality.tolist()))


def seen_picture(picture: NDArray[np.uint8]) -> tuple[Sequence, Pictures]:
    """Fingerprint and local features of a picture, as the stage takes them."""
    image = Image.fromarray(picture)
    return (
        Sequence(None, hash_picture(SQUEEZED.apply(image))),
        Pictures(None, (compute_local_features(DETAILED.apply(image)),)),
    )


def seen_video(path: Path) -> tuple[Sequence, Pictures]:
    """Fingerprints and local features of a video, as the stage takes them."""
    entry = {"role": "video", "uri": str(path.resolve()), "size_bytes": path.stat().st_size}
    row, _ = LoadFingerprints(Limits(), 4.0, 180.0, 4)({"media": [entry]})
    features = tuple(LocalFeatures.from_bytes(data) for data in row["details"] or ())
    prints = Fingerprints.from_bytes(row["hashes"], row["quality"], row["boxes"])
    return Sequence(np.array(row["times_s"]), prints), Pictures(tuple(row["details_s"] or ()), features)


def tally(found: Iterable[tuple[str, str, str | None, str]]) -> dict[str, Any]:
    """Counts of (change, original, what was found, by which look), by change."""
    counts: dict[str, dict[str, int]] = {}
    for change, original, other, look in found:
        own = counts.setdefault(change, {"of": 0, "whole": 0, "border": 0, "details": 0, "wrong": 0})
        own["of"] += 1
        if other is not None:
            own[look if other == original else "wrong"] += 1
    return counts


def photo_paths(short: bool) -> list[Path]:
    """All photos of the fashion set and of flickr8k, the icons of the groceries, and every sixth photo of shelves."""
    fashion, flickr = (sorted((DATA / name).rglob("*.jpg")) for name in ("fashion_products", "flickr8k_1k"))
    grocery = sorted(path for path in (DATA / "grocery").rglob("*") if path.suffix in (".jpg", ".png"))
    shelves = [path for path in grocery if "icon" not in path.as_posix().lower()]
    icons = [path for path in grocery if path not in set(shelves)]
    return [*fashion, *flickr, *icons, *shelves[::6]][:: 20 if short else 1]


def photos(short: bool, log: Callable[[str], Any] = lambda text: None) -> dict[str, Any]:
    """Photos among themselves, each against those before it, and changed ones of 250 of the test half among all."""
    catalogue, linked, pictures = Catalogue("image"), [], {}
    paths = photo_paths(short)
    chosen = {str(path) for path in sorted((p for p in paths if _digest(p)[0] % 2), key=_digest)[:250]}
    for path in paths:
        name, picture = str(path.relative_to(DATA)), cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
        seen = seen_picture(np.asarray(picture, np.uint8))
        original, look = catalogue.find(seen)
        if original is not None:
            linked.append([name, original, look])
        catalogue.add(name, seen)
        if str(path) in chosen:
            pictures[name] = np.asarray(picture, np.uint8)
    same = {name: original for name, original, _ in linked}  # a copy of a linked one is rightly a copy of its original
    log(json.dumps({"photos": len(paths), "linked": linked}))
    found = []
    for name, picture in pictures.items():
        for change in PHOTOS:
            other, look = catalogue.find(seen_picture(_encoded(CHANGES[change], picture)))
            found.append((change, name, name if other == same.get(name, name) else other, look))
        log(json.dumps(tally(found)))
    return {"photos": len(paths), "linked": linked, "stated": stated(linked), "changes": tally(found)}


def video_copies(short: bool, log: Callable[[str], Any] = lambda text: None) -> dict[str, Any]:
    """Copies of all real videos, for the second look as well: at most 12 frames a second, 6 s long."""
    catalogue = Catalogue("video")
    given = sorted(videos(short), key=lambda video: sha256(video["id"].encode()).digest())
    group = {video["id"]: video["duplicate_of"] or video["id"] for video in given}
    linked = []
    for video in given:
        seen = seen_video(DATA / "videos_real" / video["file"])
        original, look = catalogue.find(seen)
        if original is not None:
            linked.append([video["id"], original, look])
        catalogue.add(video["id"], seen)
    log(json.dumps({"linked": linked}))
    found = []
    folder = FOLDER / "short"
    folder.mkdir(parents=True, exist_ok=True)
    for video in given:
        paths = {folder / f"{number}.mp4": CHANGES[name] for number, name in enumerate(MOVING)}
        write_copies(DATA / "videos_real" / video["file"], paths, max_s=6, max_rate=12)
        for path, change in zip(paths, MOVING, strict=True):
            other, look = catalogue.find(seen_video(path))
            same = other is not None and group[other] == group[video["id"]]
            found.append((change, video["id"], video["id"] if same else other, look))
        log(json.dumps(tally(found)))
    return {"videos": len(given), "linked": linked, "changes": tally(found)}


def stated(linked: list[list[str]]) -> dict[str, Any]:
    """Links of fashion shots that their titles rule out; and pairs of products that share a placeholder, and those of
    them that would be copies of one another."""
    lines = (DATA / "fashion_products/products.jsonl").read_text("utf-8").splitlines()
    facts = {Path(one["file"]).name: read_facts({"title": one["title"]}) for one in map(json.loads, lines)}
    pairs = [[facts[Path(name).name] for name in link[:2]] for link in linked if link[0].startswith("fashion")]
    common = [replace(one, digests=frozenset({"no photo yet"}), common=True) for one in [*facts.values()][::10]]
    shared = list(combinations(common, 2))
    return {
        "links": len(pairs), "told_apart": sum(_differ(*pair) for pair in pairs),
        "placeholder": [len(shared), sum(not _differ(*pair) for pair in shared)],
    }  # fmt: skip


def _differ(one: Facts, other: Facts) -> bool:
    digests = [facts.digests or frozenset({name}) for name, facts in (("one", one), ("other", other))]
    pair = [replace(facts, digests=own) for facts, own in zip((one, other), digests, strict=True)]
    return find_difference(*pair, still=False, plain=False) is not None


def _digest(path: Path) -> bytes:
    """Digest that splits photos in two halves: limits were chosen on the even ones."""
    return sha256(b"e20 whole " + path.name.encode()).digest()


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


def picture_times(items: int) -> dict[str, Any]:
    """Milliseconds to screen one new picture against made ones: fashion shots with 10 % of their bits turned."""
    random, rule = np.random.default_rng(0), DuplicateRules().candidate_rule("image")
    paths = sorted((DATA / "fashion_products").rglob("*.jpg"))[::20]
    seen = [seen_picture(np.asarray(cv2.imread(str(path))[..., ::-1])) for path in paths]
    real = np.concatenate([candidate_frames(one.prints, None, rule) for one, _ in seen])
    indexes = {"sorted": CandidateIndex(rule, 1), "compared": CandidateIndex(rule, 1, sorted_from=1 << 40)}
    for _ in range(items):
        turned = np.packbits(random.random((4, 64), dtype=np.float32) < 0.1, axis=-1).view(np.uint64)[..., 0]
        words = real[random.integers(0, len(real))] ^ turned
        for index in indexes.values():
            index.add(words[None])
    found: dict[str, Any] = {"items": items}
    for name, index in indexes.items():
        index.find(real[:1])  # sorts
        taken = [_ms(lambda words=words: index.find(words[None])) for words in real]  # noqa: B023
        found[name] = [round(value, 2) for value in (statistics.median(taken), min(taken), max(taken))]
    return found


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
        "both_looks": video_copies(short),
        "search": search_times(originals, 10_000 if short else 100_000),
        "picture_search": picture_times(10_000 if short else 100_000),
    }


def rows(result: dict[str, Any]) -> list[Row]:
    """The claim's lines in the table."""
    test, search = result["test"], result["search"]
    lines = []
    for change, (hits, of) in test["changes"].items():
        setting = f"{change}; first look, videos, test half"
        lines.append(Row("copies found", setting, f"{hits} of {of}", _range(wilson(hits, of))))
    for kind, part in (("photos, test half", result["photos"]), ("videos", result["both_looks"])):
        for change, own in part["changes"].items():
            hits = own["whole"] + own["border"] + own["details"]
            how = f"{own['whole']} by the whole picture, {own['border']} by its border, {own['details']} by details"
            setting = f"{change}; {kind}: {how}; {own['wrong']} linked wrongly"
            lines.append(Row("copies found", setting, f"{hits} of {own['of']}", _range(wilson(hits, own["of"]))))
    sums = "all changes that a view is made for; videos, test half"
    lines.append(Row("copies found", sums, f"{test['found']} of {test['of']}", _range(test["recall"])))
    wrong = f"{len(test['wrong'])}, of {test['wrong_pairs']} pairs of videos"
    setting = f"{test['other_pairs']} pairs of a video or copy with another video"
    lines.append(Row("found wrongly", setting, wrong, f"precision {_range(test['precision'])}"))
    found = sum(score >= DuplicateRules().min_share for score in result["links"].values())
    lines.append(Row("links of the data found", "all videos", f"{found} of {len(result['links'])}", ""))
    photos_, facts = result["photos"], result["photos"]["stated"]
    lines.append(
        Row(
            "photos linked to another", f"each of {photos_['photos']} to any before it", str(len(photos_["linked"])), ""
        )
    )
    left = facts["links"] - facts["told_apart"]
    lines.append(
        Row("photos linked to another", f"of {facts['links']} fashion shots, with their titles", str(left), "")
    )
    shared, linked = facts["placeholder"]
    lines.append(
        Row("placeholders taken for copies", f"{shared} pairs of products, with their titles", str(linked), "")
    )
    pictures = result["picture_search"]
    for way in ("sorted", "compared"):
        middle, *spread = pictures[way]
        setting = f"{pictures['items']} made items, {'sorted by parts' if way == 'sorted' else 'all compared'}"
        lines.append(Row("ms to screen one new picture", setting, str(middle), _range(spread), "below 150"))
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
