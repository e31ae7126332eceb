"""Columns that count interactions are warned of before an import and in a run, in tables of all kinds."""

from __future__ import annotations

import json
from pathlib import Path

from coldstart.ingest.catalogue import plan_table
from coldstart.ingest.count_columns import count_column_warnings
from coldstart.ingest.manifest import Manifest

WARNING = (
    "n_ratings: its name says a count of interactions, or what follows from it: a new item has none yet, so "
    "recommendations do not learn from it; `align.behaviour.count_attributes: true` in the pipeline lets them"
)


def test_before_an_import(tmp_path: Path) -> None:
    table = tmp_path / "films.csv"
    table.write_text("id,name,n_ratings,genre\n1,Toy Story,215,Animation\n2,Jumanji,110,Adventure\n")
    plan = plan_table(str(table), table, {}, {}, ())
    assert plan.to_dict()["warnings"] == [WARNING]
    assert not any("n_ratings" in doubt for doubt in plan.doubts)  # `--strict` takes such a table


def test_in_a_manifest_of_our_names(tmp_path: Path) -> None:
    path = tmp_path / "manifest.jsonl"
    rows = [{"item_id": str(n), "title": "Toy", "attributes": {"n_ratings": n, "color": "red"}} for n in range(3)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert Manifest(path).summary() == [f"warning: {WARNING}"]


def test_texts_and_fields_are_no_counts() -> None:
    rows = [{"reviews": "It broke after a week.", "rating": "PG-13", "price": 3, "likes": "music", "sales": None}]
    assert count_column_warnings([*rows[0]], rows, taken={"sales"}) == []
    shown = count_column_warnings(
        ["views", "sold", "likes", "stars"], [{"views": "1,204", "sold": "3k+", "stars": 4.5}]
    )
    assert shown[0].startswith("views, sold, likes and 1 more: their names say counts of interactions")
