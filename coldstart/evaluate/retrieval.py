"""Rows of what finds items: searches, matching of videos with products, the approximate index against exact search."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from coldstart.embed.spaces import spaces_of
from coldstart.evaluate.capability import Context
from coldstart.evaluate.rows import Baseline, Row, exactly, interval_of, judged
from coldstart.metrics import ranking
from coldstart.search.index import Settings as IndexSettings

QUERIES = 200
"""Stored vectors by which an index is measured, drawn anew: not those by which its effort was chosen."""

_TEXTS_S = 8.0  # of processor time to encode the queries of one space by its texts
_CLIPS_S = 10.0  # to make clips and to search for them


# -- search

_QUESTIONS = {
    "text": ("A search by text finds the item that it was made of", "Search by text finds a right item"),
    "image": ("A search by picture finds an item of the same sort", "Search by picture finds a right item"),
    "item": ("A search by item finds an item of the same sort", "Search by item finds a right item"),
}
"""Kind of query -> question and statement."""


def search_rows(context: Context) -> list[Row]:
    """Measure searches by text, picture and item on queries made of the catalogue, as `evaluate_search` does."""
    from coldstart.search.calibrate_catalog import apart_of, inputs_of
    from coldstart.search.evaluate import evaluate_search
    from coldstart.search.pseudo_queries import held_out_items, sample_catalog

    catalog, pipeline = context.published(), context.pipeline
    found = evaluate_search(
        catalog,
        sample_catalog(catalog, inputs_of(pipeline, catalog)),
        context.encoder_for,
        held_out_items(context.store),
        apart_of(pipeline),
    )
    rows = [row for one in found["kinds"] for row in _search_rows(one, found["gallery"], context)]
    why = "a video is searched for by its frames, as a picture is; for products in videos see the matching of videos"
    return [*rows, Row("search", "A search by video finds an item of the same sort", why=why)]


def _search_rows(found: Mapping[str, Any], gallery: int, context: Context) -> list[Row]:
    question, statement = _QUESTIONS[found["kind"]]
    question = f"{question}, among {gallery:,}"
    command = context.command("evaluate all --only search")
    if not found["queries"]:
        return [Row("search", question, verdict="few", why=found["why"], command=command, headline=True)]
    rankings = {one["name"]: one for one in found["rankings"]}
    baseline, own = rankings[found["baseline"]], rankings["default"]
    method = (
        f"queries are {found['made_of']}; spaces are weighed, and the best of them is chosen, by "
        f"{found['calibrated_on']} queries of other items"
    )
    return [
        judged(
            Row(
                "search",
                f"{question}: {'first' if cut == 1 else f'among the first {cut}'}",
                f"{statement} {'first' if cut == 1 else f'among the first {cut}'} in",
                f"recall@{cut}",
                found["queries"],
                "queries",
                None,
                interval_of(own[f"recall_{cut}"]),
                Baseline(f"the best single space ({found['baseline']})", interval_of(baseline[f"recall_{cut}"])),
                interval_of(found["difference"][f"recall_{cut}"]),
                method=method,
                command=command,
                headline=cut == 1,
            )
        )
        for cut in (1, 5)
    ]


def search_seconds(context: Context) -> float:
    """Estimate searches: texts are encoded in each space that holds texts."""
    texts: int = sum(spec.settings.input == "text" for spec in context.pipeline.of_kind("embed"))
    return 5.0 + _TEXTS_S * texts


# -- match


def match_rows(context: Context) -> list[Row]:
    """Measure the products that are found in videos, as `evaluate_match` does."""
    from coldstart.search.evaluate_match import evaluate_match
    from coldstart.search.match_service import Matcher

    question = "Products that a video shows are found in it"
    command = context.command("evaluate all --only match")
    if not context.kinds.get("product"):
        return [Row("match", question, why="the catalogue has no products", command=command)]
    matcher = Matcher(context.store, lambda: context.pipeline, context.published, context.encoder_for)
    found = evaluate_match(matcher)
    return [row for one in found["sets"] for row in _match_rows(one, found["products"], command)]


_CLIPS = {
    "known": (
        "in the videos of the packaged sample, whose products are known",
        "Products that the sample's videos show",
    ),
    "made": ("in clips made of the catalogue's own vectors, two products each", "Products of made clips"),
}
"""Sort of videos -> words of the question, and beginning of the statement."""


def _match_rows(found: Mapping[str, Any], products: int, command: str) -> list[Row]:
    where, start = _CLIPS[found["name"]]
    question = f"Products that a video shows are found among {products:,}, {where}"
    if not found["clips"] or "baseline" not in found:
        known = found["name"] == "known"
        verdict: Any = "not_applicable" if known else "few"
        return [Row("match", question, verdict=verdict, why=found["why"], command=command)]
    rankings = {one["name"]: one for one in found["rankings"]}
    baseline, own = rankings[found["baseline"]], rankings["default"]
    return [
        judged(
            Row(
                "match",
                f"{question}: among the first {cut}",
                f"{start} are among the first {cut} in",
                f"recall@{cut}",
                found["clips"],
                "videos",
                None,
                interval_of(own[f"recall_{cut}"]),
                Baseline(f"the best single space ({found['baseline']})", interval_of(baseline[f"recall_{cut}"])),
                interval_of(found["difference" if cut == 5 else "difference_1"]),
                method=f"{found['shown']:,} products shown in {found['clips']:,} videos; spaces are weighed by other "
                "products, and the best single space is chosen by these same videos",
                command=command,
                headline=cut == 5,
            )
        )
        for cut in (5, 1)
    ]


def match_seconds(context: Context) -> float:
    """Estimate matching of made clips."""
    return _CLIPS_S if context.kinds.get("product") else 0.0


# -- index


def index_rows(context: Context) -> list[Row]:
    """Measure each index on stored vectors: the share of their ten true nearest that it finds."""
    question = "The index finds the ten nearest items that an exact search finds"
    command = context.command("index")
    published = context.published()
    specs = context.pipeline.of_kind("index")
    target = specs[-1].settings.target_recall if specs else IndexSettings().target_recall
    rows = []
    for report in published.publication.indexes:
        if report.index_type == "exact":
            continue
        found = published.recall_of_queries(report.space, context.sample(QUERIES))
        rows.append(
            judged(
                Row(
                    "index",
                    f"{question}, in space {report.space}",
                    f"Of the ten nearest items in space {report.space}, the index finds",
                    "recall@10",
                    len(found),
                    "stored vectors",
                    None,
                    ranking.bootstrap(found),
                    Baseline("the target of the settings", exactly(target)),
                    method=f"{report.rows:,} vectors, index {report.index_type}; queries drawn at random",
                    command=command,
                )
            )
        )
    if rows:
        return rows
    spaces = len(spaces_of(context.pipeline))
    why = f"all {spaces} spaces are searched exactly, so that nothing can be missed"
    return [Row("index", question, why=why, command=command)]


def index_seconds(context: Context) -> float:
    """Estimate exact searches for a sample of vectors."""
    return 1.0 + context.store.count("items") / 50_000
