"""Queries of the benchmark of languages: each has a product of the packaged sample, in six languages."""

from __future__ import annotations

import json

from benchmarks.languages import LANGUAGES, QUERIES, sample_titles


def test_every_query_of_a_grocery_has_its_product_in_the_packaged_sample() -> None:
    queries = [json.loads(line) for line in QUERIES.read_text("utf-8").splitlines()]
    own = [row for row in queries if row["set"] == "grocery"]
    titles = sample_titles()
    assert (len(own), len(titles), len({row["item"] for row in own})) == (30, 65, 30)
    assert {row["item"] for row in own} <= titles.keys()
    assert all(row[code].strip() for row in own for code in LANGUAGES)
    assert all(row["titles"][code].strip() for row in own for code in ("de", "fr"))
