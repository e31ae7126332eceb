"""Ranked union of channels on Amazon Scientific and films: each channel, reciprocal rank fusion, the ranker; warm, new.

    python -m benchmarks.rank_union [--short] [scientific|films] [cold]
    python -m benchmarks.rank_union auto [films|scientific]

Data in `COLDSTART_INTERACTIONS` and `COLDSTART_DATA`. The last item of each history is asked for; `cold`: a tenth of
the items, by a hash of their ids, is read by nothing. The ranker and its channels are fitted on what lies before, by
the product's own fit, which chooses and judges on last items of its own; then channels as they are used name candidates
for the test, once. Nothing but the history is left out of the lists. Short: the first 1,500 users of Scientific.

`auto`: what `recommend --rank auto` says by the product's own commands, without and with a fit of behaviour, on titles
and texts; the fit of behaviour gets 30 processor seconds, since `finetune rank` repeats it up to four times.
"""

from __future__ import annotations

import json
import sys
from hashlib import sha1
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.report import CACHE, Row
from coldstart.metrics.ranking import bootstrap, paired
from coldstart.rank.union import Items, gather, union_features
from coldstart.rank.union_fit import CUT, Requests, UnionRecipe, channel_scores, fit_union, gains, new_exposure

SETS = ("scientific", "films")


def codes(values: list[str | None]) -> NDArray[np.int64]:
    """Number names; -1 for none."""
    known: dict[str, int] = {}
    return np.array([-1 if not one else known.setdefault(one, len(known)) for one in values], np.int64)


def read(name: str) -> dict[str, Any]:
    """Item ids, histories and times, vectors of texts, attributes."""
    if name == "films":
        from benchmarks import films_data
        from coldstart.rank.union_stage import timed_histories

        films = films_data.films()
        histories, times = timed_histories(films_data.ratings(films).positive(films_data.LIKED))
        kept = [place for place, own in enumerate(histories) if len(own) >= 5]
        return {
            "ids": [film["id"] for film in films],
            "histories": [histories[place] for place in kept],
            "times": [times[place] for place in kept],
            "content": films_data.content(films).blocks["text"],
            "attributes": (codes([(film["genres"] or [None])[0] for film in films])[:, None], ("category",)),
        }
    from benchmarks.recall import DATA, texts_of
    from coldstart import encoders

    folder = DATA / "amazon_scientific"
    records = texts_of("scientific")
    count = max(map(int, records)) + 1
    rows = [records.get(str(place), {}) for place in range(count)]
    given = json.loads((folder / "Scientific.inter.json").read_text("utf-8"))
    histories = [np.array(list(reversed(dict.fromkeys(reversed([int(one) for one in own]))))) for own in given.values()]
    kept_file = CACHE / "scientific-text.npy"
    if not kept_file.exists():
        texts = [
            ". ".join(str(row[part]) for part in ("title", "category", "description") if row.get(part)) for row in rows
        ]
        CACHE.mkdir(exist_ok=True)
        np.save(kept_file, encoders.load("starter").encode_documents(texts))
    attributes = np.stack([codes([row.get(part) for row in rows]) for part in ("category", "creator")], 1)
    return {
        "ids": [f"i{place}" for place in range(count)],
        "histories": histories,
        "times": [86_400 * 30 * np.arange(len(own)) for own in histories],  # the set states an order alone
        "content": np.load(kept_file).astype(np.float32),
        "attributes": (attributes, ("category", "creator")),
    }


def measure(name: str, cold: bool, users: int | None = None) -> dict[str, Any]:
    """Fit on all but the last items, and look at them once."""
    data = read(name)
    ids, content = data["ids"], data["content"]
    held = np.array([cold and int(sha1(f"cold:{one}".encode()).hexdigest(), 16) % 10 == 0 for one in ids], bool)
    past, seconds, targets = [], [], []
    for own, at in list(zip(data["histories"], data["times"], strict=True))[:users]:
        kept = ~held[own[:-1]]
        if len(own) >= 3 and kept.any():
            past.append(own[:-1][kept])
            seconds.append(at[:-1][kept])
            targets.append((int(own[-1]), int(at[-1])))
    fit = fit_union(past, seconds, ids, content, data["attributes"], UnionRecipe())
    return {"report": fit.report, **judge(fit, past, np.array(targets), content, data["attributes"])}


def judge(fit: Any, past: Any, asked: NDArray[np.int64], content: Any, attributes: Any) -> dict[str, Any]:
    """Rank the candidates of the test, and measure every order of them."""
    from coldstart.rank.channels import CONTENT, ContentNeighbours

    channels = {**fit.channels, CONTENT: ContentNeighbours(content)}
    channels = {one: channels[one] for one in fit.channels}
    items = Items(content, fit.counts, fit.counts == 0, *attributes)
    known = gather(channels, past, items, asked[:, 1])
    features = union_features(known, channels, past, items, asked[:, 1])
    positive = known.places == asked[known.requests, 0]
    requests = Requests(np.arange(len(past)), asked[:, 0], items.cold[asked[:, 0]], known, features, positive)
    orders = {**channel_scores(known), "rrf": known.fused(), "ranked": fit.order(features, known.cold)}
    best = gains(orders[fit.report["best"]], requests)
    sets = {"all": np.ones(len(past), bool), "warm": ~requests.new, "new": requests.new}
    rows: dict[str, Any] = {}
    for order, scores in orders.items():
        own = gains(scores, requests)
        rows[order] = {"exposure": new_exposure(scores, known, sets["all"])}
        for part, chosen in sets.items():
            if chosen.any():
                ndcg, gain = bootstrap(own[chosen]), paired(best[chosen], own[chosen])
                rows[order][part] = {
                    "n": int(chosen.sum()), "hr": float((own[chosen] > 0).mean()),
                    "ndcg": [ndcg.value, ndcg.low, ndcg.high], "gain": [gain.value, gain.low, gain.high],
                }  # fmt: skip
    return {
        "best": fit.report["best"],
        "rows": rows,
        "candidates": len(known) / len(past),
        "found": float(positive.sum() / len(past)),
        "new": {"share_of_actions": float(requests.new.mean()), "share_of_items": float(items.cold.mean())},
    }


def auto(name: str) -> dict[str, Any]:
    """Let the product compare its ranker with the lists that it replaces: by content, then by a fit of behaviour."""
    import coldstart

    folder = CACHE / f"union-auto-{name}"
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "done").exists():
        _write_catalogue(name, folder)
        opened = coldstart.open(folder / "workspace", create=True)
        texts = {"stage": "embed", "encoder": "starter", "input": "text"}
        fit = {"spaces": ["title", "text"], "budget_s": AUTO_BUDGET_S}
        stages = {"ingest": {}, "title": {**texts, "prompt": "title"}, "text": texts,
                  "align": {"text_image": False, "behaviour": fit}, "behaviour": {}, "index": {}}  # fmt: skip
        opened.run({"manifest": str(folder / "items.jsonl"), "stages": stages})
        opened.ingest_interactions(folder / "log.csv")
        (folder / "done").touch()
    opened, found = coldstart.open(folder / "workspace"), {}
    user = str(opened._listing().interactions().user_ids[0])
    for base in ("content", "behaviour"):
        if base == "behaviour":
            opened.finetune_behaviour()
            opened.run()
        notes = opened.finetune_rank().stages[-1].notes
        found[base] = {"notes": notes, "recommend": dict(opened.recommend(user, reasons=False).ranked or {})}
    return found


AUTO_BUDGET_S = 30


def _write_catalogue(name: str, folder: Path) -> None:
    """Write `items.jsonl` and `log.csv` of a set."""
    if name == "films":
        from benchmarks import films_data

        films = films_data.films()
        items = [
            {"item_id": film["id"], "title": film["title"], "description": film["text"],
             "category": (film["genres"] or [None])[0]}
            for film in films
        ]  # fmt: skip
        log = films_data.ratings(films)
        rows = [
            f"{log.user_ids[user]},{log.item_ids[item]},{at},{weight:g}"
            for user, item, at, weight in zip(log.users, log.items, log.times, log.weights, strict=True)
        ]
        header = "user_id,item_id,timestamp,rating"
    else:
        from benchmarks.recall import DATA, texts_of

        items = [{"item_id": f"i{item}", **row} for item, row in texts_of("scientific").items()]
        histories = json.loads((DATA / "amazon_scientific" / "Scientific.inter.json").read_text("utf-8"))
        month, start = 86_400 * 30, 1_400_000_000  # the set states an order alone
        rows = [
            f"u{user},i{item},{start + month * place}"
            for user, own in histories.items()
            for place, item in enumerate(own)
        ]
        header = "user_id,item_id,timestamp"
    (folder / "items.jsonl").write_text("".join(json.dumps(item) + "\n" for item in items), "utf-8")
    (folder / "log.csv").write_text("\n".join([header, *rows]) + "\n", "utf-8")


def run(short: bool) -> dict[str, Any]:
    """Measure both sets, warm and with new items."""
    from benchmarks.recall import DATA

    if not (DATA / "amazon_scientific").is_dir():
        return {}
    if short:
        return {"scientific, cold": measure("scientific", True, 1500)}
    return {f"{name}{', cold' if cold else ''}": measure(name, cold) for name in SETS for cold in (False, True)}


def rows(result: dict[str, Any]) -> list[Row]:
    """The claim's lines in the table."""
    if not result:
        return [Row("ranked union of channels", "no data", "not run", "set COLDSTART_INTERACTIONS")]
    found = []
    for name, known in result.items():
        for order, own in known["rows"].items():
            for part in ("warm", "new"):
                if part in own:
                    one = own[part]
                    value, low, high = one["ndcg"]
                    gain, least, most = one["gain"]
                    found.append(
                        Row(
                            f"union of channels, {name}: {order}",
                            f"{part}, {one['n']:,} users",
                            f"NDCG@{CUT} {value:.4f} ({low:.4f} to {high:.4f}), HR {one['hr']:.4f}",
                            f"against {known['best']} {gain:+.4f} ({least:+.4f} to {most:+.4f})",
                        )
                    )
    return found


if __name__ == "__main__":
    from benchmarks.report import table

    given = [word for word in sys.argv[1:] if word != "--short"]
    if given[:1] == ["auto"]:
        for one in given[1:] or SETS[::-1]:
            print(json.dumps({one: auto(one)}, indent=1))
        sys.exit()
    if given:
        is_cold = "cold" in given
        measured = {f"{given[0]}{', cold' if is_cold else ''}": measure(given[0], is_cold)}
    else:
        measured = run("--short" in sys.argv)
    CACHE.mkdir(exist_ok=True)
    (CACHE / "rank_union.json").write_text(json.dumps(measured, indent=1, default=float))
    print(table(rows(measured)))
