"""Rows of what finds items: the approximate index against exact search."""

from __future__ import annotations

from coldstart.embed.spaces import spaces_of
from coldstart.evaluation.capability import Context
from coldstart.evaluation.rows import Baseline, Row, exactly, judged
from coldstart.metrics import ranking
from coldstart.search.index import Settings as IndexSettings

QUERIES = 200
"""Stored vectors by which an index is measured, drawn anew: not those by which its effort was chosen."""


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
