"""`evaluate all`: figures of the separate commands, a fault of one capability, a budget, the command and the page."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import behaviour_shop
import numpy as np
import pyarrow as pa
import pytest
from catalogue import coldstart as command
from catalogue import settings, write_manifest
from hostile_page import HOSTILE
from page_checks import unknown_classes

import coldstart
from coldstart import sample
from coldstart.core.progress import SilentProgress
from coldstart.errors import ColdstartError, MachineFault, NotFitted
from coldstart.evaluate import behaviour, media, retrieval, workspace
from coldstart.evaluate.capability import Capability, Context
from coldstart.evaluate.page import evaluation_html
from coldstart.evaluate.rows import Baseline, Row, exactly, judged
from coldstart.media.limits import Limits
from coldstart.metrics.ranking import Interval
from coldstart.recommend.evaluate.splits import NothingToEvaluate
from coldstart.store import Store


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory: pytest.TempPathFactory) -> coldstart.Workspace:
    """Forty products of the packaged sample, their copies looked for."""
    folder = tmp_path_factory.mktemp("catalogue")
    lines = (sample.path() / "manifest.jsonl").read_text("utf-8").splitlines()
    products = [row for row in map(json.loads, lines) if row["kind"] == "product"][:40]
    for row in products:
        for medium in row["media"]:
            medium["uri"] = str(sample.path() / medium["uri"])
    pipeline = settings(write_manifest(folder / "items.jsonl", products), workers=1)
    off = dict.fromkeys(("quality", "shots", "speech", "screen", "evidence", "safety"), False)
    stages = {name: pipeline["stages"][name] for name in ("image", "index")}
    pipeline["stages"] = {"ingest": {}, "understand": {"duplicates": {}, **off}, **stages}
    opened = coldstart.open(folder / "w", create=True)
    assert not opened.run(pipeline, media_roots=[sample.path()]).over_budget
    return opened


def row_of(name: str, **changes: Any) -> Row:
    return Row(
        name, f"Is {name} good?", f"{name} is right in", "recall@1", 40, value=Interval(0.6, 0.5, 0.7), **changes
    )


def measuring(found: Callable[[Context], list[Row]], seconds: float = 0.0) -> Any:
    return Capability("copies", "Near copies", found, lambda context: seconds)


def raising(error: Exception) -> Callable[[Context], list[Row]]:
    def measure(context: Context) -> list[Row]:
        raise error

    return measure


@pytest.fixture
def one(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Any], None]]:
    """Puts one capability in the place of `copies`."""
    yield lambda capability: monkeypatch.setitem(workspace.CAPABILITIES, "copies", capability)


@pytest.mark.parametrize(
    ("error", "verdict", "why"),
    [
        (ColdstartError("the space is gone: run it"), "failed", "the space is gone: run it"),
        (KeyError("vector"), "failed", "KeyError: 'vector'"),
        (NotFitted("it waits for a fit"), "not_fitted", "it waits for a fit"),
    ],
)
def test_a_fault_of_one_capability_is_a_row(
    catalogue: coldstart.Workspace, one: Any, error: Exception, verdict: str, why: str
) -> None:
    one(measuring(raising(error)))
    report = catalogue.evaluate_all(only=["copies", "index"])
    assert [(row.capability, row.verdict) for row in report.rows] == [("copies", verdict), ("index", "not_applicable")]
    assert report.rows[0].why == why
    assert report.failed == (["copies"] if verdict == "failed" else [])


def test_a_fault_of_the_machine_ends_the_run(catalogue: coldstart.Workspace, one: Any) -> None:
    one(measuring(raising(MachineFault("the disk is full"))))
    with pytest.raises(MachineFault):
        catalogue.evaluate_all(only=["copies"])


def test_what_takes_longer_than_the_budget_is_left_out(catalogue: coldstart.Workspace, one: Any) -> None:
    said: list[str] = []
    one(measuring(lambda context: [judged(row_of("copies"))], seconds=500))
    left = catalogue.evaluate_all(only=["copies"], budget_s=499, say=said.append)
    assert left.rows[0].verdict == "left_out"
    assert "about 500 s" in left.rows[0].why
    assert said == ["1 of 1, Near copies: about 500 s of processor time, 500 s to the end"]
    assert catalogue.evaluate_all(only=["copies"], budget_s=501).rows[0].verdict == "level"


def test_unknown_names_and_none_left_are_errors(catalogue: coldstart.Workspace) -> None:
    with pytest.raises(ColdstartError, match=r"no capability 'copys' \(did you mean 'copies'\?\)"):
        catalogue.evaluate_all(only=["copys"])
    with pytest.raises(ColdstartError, match="no capability is left"):
        catalogue.evaluate_all(only=["copies"], skip=["copies"])


def test_a_workspace_without_items_is_an_error(tmp_path: Path) -> None:
    coldstart.open(tmp_path / "w", create=True)
    done = command("evaluate", "all", "--workspace", tmp_path / "w")
    assert done.returncode == 1
    assert "has no items yet" in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.slow
def test_made_copies_are_found_and_others_are_not(catalogue: coldstart.Workspace) -> None:
    found, right = catalogue.evaluate_all(only=["copies"]).rows
    assert found.value is not None
    assert found.n + 15 < 40 < 2 * found.n + 15  # about half have their original beside them
    assert found.value.value > 0.5
    assert right.value is not None
    assert right.value.value > 0.9


@pytest.mark.slow
def test_figures_are_those_of_the_separate_commands(tmp_path: Path) -> None:
    shop = behaviour_shop.shop(tmp_path)
    content, chance, rest = shop.evaluate_all(only=["recommend"]).rows
    assert "evaluate recommend --split items --methods" in content.command  # by time five likes are of new items
    alone = shop.evaluate_recommend(split="items", methods=behaviour.METHODS).to_dict()
    name = next(iter(alone["counts"]["sets"]))
    values = {method: alone["methods"][method]["sets"][name]["ndcg@20"] for method in behaviour.METHODS}
    row = content
    assert row.value == Interval(*(values["chosen"][key] for key in ("value", "low", "high")))
    assert row.baseline is not None
    assert row.baseline.interval.value == values["content_mean"]["value"]
    assert row.difference is not None
    assert row.difference.value == values["chosen"]["difference"]["value"]
    assert row.n == alone["counts"]["sets"][name]["relevant"]
    assert chance.baseline is not None
    assert chance.value == row.value
    assert chance.baseline.interval.value == values["random"]["value"]
    assert rest.question.startswith("The same without the 5 most liked, which have ")
    assert rest.n == alone["most_liked"][name]["relevant"]

    fitted = shop.evaluate_all(only=["behaviour"]).rows[0]
    report = shop._store.artifacts.newest("align.behaviour")
    assert report is not None
    assert fitted.value is not None
    assert fitted.value.value == report.report["candidates"][report.report["chosen"]]["ndcg@20"]["value"]


def test_too_few_interactions_are_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    def evaluate_store(*_: Any, **__: Any) -> Any:
        raise NothingToEvaluate("split items leaves no interactions for test: of 6 users …")

    monkeypatch.setattr("coldstart.recommend.evaluate.workspace.evaluate_store", evaluate_store)
    context: Any = SimpleNamespace(
        interactions=6, pipeline=None, quick=False, store=None, progress=SilentProgress(), command=lambda text: text
    )
    (row,) = behaviour.recommend_rows(context)
    assert (row.verdict, row.why) == ("few", "split items leaves no interactions for test: of 6 users …")
    assert row.command.startswith("evaluate recommend --split items ")


# -- the command and the page


def test_the_command_prints_sentences_and_writes_a_page(catalogue: coldstart.Workspace, tmp_path: Path) -> None:
    page = tmp_path / "out" / "all.html"
    done = command("evaluate", "all", "-w", catalogue.uri, "--only", "speech,index", "--out", page)
    assert done.returncode == 0
    assert done.stdout.splitlines()[-1] == f"page: {page}"
    assert "searched exactly" in done.stdout
    assert page.read_text("utf-8").startswith("<!doctype html>")


def test_as_json_it_is_one_object_and_a_failure_is_an_error_beside_it(
    catalogue: coldstart.Workspace, one: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    one(measuring(raising(KeyError("vector"))))
    done = command("evaluate", "all", "-w", catalogue.uri, "--only", "copies", "--json")
    found = json.loads(done.stdout)
    assert done.returncode == 1
    assert found["error"]["message"] == "1 capability failed: copies"
    assert found["rows"][0]["verdict"] == "failed"
    assert found["publication"] == "pub-000001"
    assert list(tmp_path.iterdir()) == []
    opened = coldstart.open(catalogue.uri)
    kept = opened.evaluations()
    assert kept[0]["rows"] == found["rows"]
    with Store(catalogue.uri).lock():  # another process writes
        again = command("evaluate", "all", "-w", catalogue.uri, "--only", "copies", "--json")
    assert (again.returncode, "not kept" in again.stderr) == (1, True)
    assert opened.evaluations() == kept


def known(*found: Row) -> dict[str, Any]:
    done = [workspace.Done(name, name.title(), 1.0, 2.0) for name in dict.fromkeys(row.capability for row in found)]
    return workspace.EvaluationReport(
        "w", {"product": 65}, "2026-11-30T01:00:00+00:00", "pub-000001", "2026-11-29T01:00:00+00:00", "abc", True,
        found, done,
    ).to_dict()  # fmt: skip


def test_the_page_escapes_every_text_and_styles_every_class() -> None:
    hostile = dict.fromkeys(("question", "statement", "why", "method", "command", "of", "measure"), HOSTILE)
    row = Row("copies", n=40, value=Interval(0.6, 0.5, 0.7), baseline=Baseline(HOSTILE, exactly(0.2)), **hostile)
    source = evaluation_html({**known(judged(row), row), "workspace": HOSTILE})
    assert "<script" not in source
    assert "<img" not in source
    assert unknown_classes(source) == set()


def test_detail_pages_are_linked_from_the_section_of_their_capability() -> None:
    source = evaluation_html(known(judged(row_of("align"))), {"align": "details/a b.html"})
    assert '<a href="details/a%20b.html">in detail</a>' in source
    assert "in detail" not in evaluation_html(known(judged(row_of("align"))))


def test_the_page_colours_only_what_was_judged_and_puts_headlines_on_top() -> None:
    good = judged(row_of("search", baseline=Baseline("chance", exactly(0.1)), headline=True))
    bad = judged(row_of("search", baseline=Baseline("chance", exactly(0.9)), headline=True))
    few = judged(row_of("index", baseline=Baseline("chance", exactly(0.1)), groups=4))
    source = evaluation_html(known(good, bad, few))
    assert source.count('class="verdict better"') == source.count('class="verdict worse"') == 1
    assert 'class="verdict grey">too few to judge' in source
    top = source.partition('<section id="search">')[0]
    assert [row.sentence in top for row in (good, bad, few)] == [True, True, True]
    assert "Of 3 questions" in top


def test_charts_hold_values_within_their_width() -> None:
    from coldstart.pages.charts import STRIP_WIDTH, strip

    drawn = strip({"value": 1.2, "low": -0.5, "high": 2.0}, {"value": 0.5, "low": 0.5, "high": 0.5})
    places = [mark[key] for mark in drawn["marks"] for key in ("x", "low", "high")]
    assert all(0 <= place <= STRIP_WIDTH for place in places)
    assert drawn["marks"][1]["x"] == pytest.approx(np.mean([drawn["ends"][0], drawn["ends"][2]]))


# -- adapters


def context(rows: list[dict[str, Any]], evidence: list[dict[str, Any]] | None = None, **changes: Any) -> Any:
    """A context over rows of items, and of evidence."""
    tables = {"items": pa.Table.from_pylist(rows), "evidence": pa.Table.from_pylist(evidence or [])}
    store: Any = SimpleNamespace(uri="w", read=lambda name, columns, **_: tables[name].select(columns), has=tables.get)
    pipeline: Any = SimpleNamespace(of_kind=lambda kind: [SimpleNamespace(name="evidence", settings=None)])
    nothing: Any = None
    made: Any = Context(store, pipeline, SilentProgress(), nothing, nothing, nothing, Limits(), **changes)
    made.__dict__["state"] = SimpleNamespace(stage=lambda name: SimpleNamespace(table="evidence"))
    return made


def test_speech_is_measured_by_transcripts_that_items_state_against_their_titles() -> None:
    items = [
        {
            "item_id": f"v{n}",
            "title": "Soup",
            "description": None,
            "attributes": json.dumps({"transcript": "Soup, hot!"}),
        }
        for n in range(30)
    ] + [{"item_id": "w", "title": "x", "description": None, "attributes": "{}"}]
    evidence = [{"item_id": f"v{n}", "transcript": "hot soup today"} for n in range(30)]
    (row,) = media.speech_rows(context(items, evidence))
    assert (row.n, row.verdict) == (30, "better")
    assert row.value is not None
    assert row.baseline is not None
    assert (row.value.value, row.baseline.interval.value) == (1.0, 0.5)
    (row,) = media.screen_rows(context(items, evidence))
    assert row.why == "no truth to compare with: no item states an attribute 'screen_text'"


def test_an_index_is_held_against_the_target_of_the_settings() -> None:
    reports = [
        SimpleNamespace(space="image", index_type="IVF_RQ", rows=9),
        SimpleNamespace(space="t", index_type="exact"),
    ]
    found = np.tile([0.9, 1.0], 100)
    made = context([])
    specs = [SimpleNamespace(settings=SimpleNamespace(target_recall=0.97))]
    object.__setattr__(made, "pipeline", SimpleNamespace(of_kind=lambda kind: specs))
    published = SimpleNamespace(
        publication=SimpleNamespace(indexes=reports), recall_of_queries=lambda space, count: found[:count]
    )
    object.__setattr__(made, "published", lambda: published)
    (row,) = retrieval.index_rows(made)
    assert (row.n, row.verdict) == (200, "worse")
    assert row.value is not None
    assert row.value.value == pytest.approx(0.95)
    object.__setattr__(made, "quick", True)
    assert retrieval.index_rows(made)[0].n == 100


@pytest.mark.slow
def test_labels_are_held_against_the_most_frequent_category(catalogue: coldstart.Workspace) -> None:
    rows = catalogue.evaluate_all(only=["labels"]).rows
    categories = [row["category"] for row in catalogue.table("items", ["category"]).to_pylist()]
    assert rows[0].n == len(categories) == 40
    most = max(categories, key=categories.count)
    assert rows[0].baseline is not None
    assert rows[0].baseline.name == f"always {most!r}"
    assert rows[0].baseline.interval.value == categories.count(most) / 40
