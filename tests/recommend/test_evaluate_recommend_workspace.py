"""`coldstart evaluate recommend` over a workspace: what it reads, writes and prints."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from behaviour_shop import FIT, batch, entries, met, settings, small_world, teach
from typer.testing import CliRunner

import coldstart
from coldstart.cli import app
from coldstart.core.interactions import interactions
from coldstart.errors import ColdstartError
from coldstart.recommend.evaluate import EvaluateSettings, evaluate, workspace
from coldstart.store.interactions import InteractionTable

METHODS = "random,popularity,content_mean"
LACKS = "1 of 1207 interactions are with items that the catalogue lacks"
KINDS = "choose one of time, items, coldrec, or name a folder"


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The shop with its interactions and none of its fits."""
    folder, known = tmp_path_factory.mktemp("shop"), small_world()
    opened = coldstart.open(folder / "w", create=True)
    opened.run(settings(folder / "media", entries(folder / "media", known)), only=["ingest", "picture", "text"])
    teach(opened, known)
    elsewhere = interactions(["user-0001"], ["not ours"], [5])
    InteractionTable(opened._store).append([batch(met(known)), batch(elsewhere)])
    return str(folder / "w")


def run(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["evaluate", "recommend", *arguments])


@pytest.mark.slow
def test_a_workspace_is_evaluated_like_its_plain_data(uri: str) -> None:
    found = coldstart.open(uri).evaluate_recommend(split="items", methods=METHODS.split(","), seeds=2).to_dict()
    known = small_world()
    plain = evaluate(
        met(known),
        known.content,
        "items",
        EvaluateSettings(methods=tuple(METHODS.split(",")), seeds=2, fusing={"weights": FIT["weights"]}),
    ).to_dict()
    assert found["split"]["counts"] == plain["split"]["counts"]
    for method in ("random", "content_mean"):
        ours, theirs = (one["methods"][method]["sets"]["cold"]["ndcg@20"]["value"] for one in (found, plain))
        assert ours == pytest.approx(theirs, abs=1e-4)
    assert found["notes"] == [LACKS]


@pytest.mark.slow
def test_the_command_writes_page_record_table_and_split(uri: str, tmp_path: Path) -> None:
    done = run("-w", uri, "--split", "coldrec", "--methods", METHODS, "--seeds", "2", "--out", str(tmp_path / "out"))
    assert done.exit_code == 0, done.output
    record = json.loads((tmp_path / "out" / "recommend.json").read_text())
    digest = record["split"]["digest"]
    assert json.loads((tmp_path / "out" / "split" / "split.json").read_text())["digest"] == digest
    assert f"digest `{digest}`" in (tmp_path / "out" / "recommend.md").read_text()
    assert digest in (tmp_path / "out" / "recommend.html").read_text()
    lines = done.stdout.splitlines()
    users, without = record["counts"]["users"], record["counts"]["users_without_history"]
    assert lines[0] == (
        f"split coldrec, part test, digest {digest}: {users} users evaluated, {without} more without a history"
    )
    assert lines[1] == f"note: {LACKS}"
    assert lines[-6] == (
        "in brackets: 95 % intervals by bootstrap over users or items, the wider; less reference: than content, mean "
        "of the history, * where p < 0.05 after Holm's correction"
    )
    assert lines[-5] == "no leak found; 15 kinds checked"
    assert lines[-4:] == [
        f"written: {tmp_path / 'out' / name}" for name in ("recommend.html", "recommend.json", "recommend.md")
    ] + [f"written: {tmp_path / 'out' / 'split'}"]


@pytest.mark.slow
def test_a_stored_split_is_evaluated_again(uri: str, tmp_path: Path) -> None:
    first = coldstart.open(uri).evaluate_recommend(split="items", methods=["random"], folder=tmp_path / "split")
    again = run("-w", uri, "--split", str(tmp_path / "split"), "--methods", "random", "--json")
    assert again.exit_code == 0, again.output
    assert json.loads(again.stdout)["split"]["digest"] == first.split["digest"]
    rows = tmp_path / "split" / "rows.parquet"
    rows.write_bytes(rows.read_bytes()[:-1])
    broken = run("-w", uri, "--split", str(tmp_path / "split"), "--methods", "random")
    assert isinstance(broken.exception, ColdstartError)
    assert str(broken.exception).startswith(f"the split in {tmp_path / 'split'} cannot be read: ")


@pytest.mark.slow
def test_json_alone_writes_nothing(uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = run("-w", uri, "--split", "items", "--methods", "random", "--json")
    assert done.exit_code == 0, done.output
    assert set(json.loads(done.stdout)["methods"]) == {"random"}
    assert list(tmp_path.iterdir()) == []
    assert run("-w", uri, "--split", "items", "--methods", "random").exit_code == 0
    assert [path.name for path in tmp_path.iterdir()] == ["recommend.html"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--split", "last"], f"there is no split 'last': {KINDS}"),
        (["--part", "train"], "there is no part 'train' to evaluate: choose one of valid, test"),
        (["--spaces", "smell"], "no space 'smell': the pipeline embeds in picture, text"),
    ],
)  # fmt: skip
def test_faults_are_one_line(uri: str, arguments: list[str], message: str) -> None:
    done = run("-w", uri, "--methods", "random", *arguments)
    assert isinstance(done.exception, ColdstartError)
    assert str(done.exception) == message


@pytest.mark.slow
def test_without_interactions_the_error_names_the_next_step(tmp_path: Path) -> None:
    opened = coldstart.open(tmp_path / "w", create=True)
    known = small_world()
    opened.run(settings(tmp_path / "media", entries(tmp_path / "media", known)[:3]), only=["ingest", "picture", "text"])
    with pytest.raises(ColdstartError) as caught:
        opened.evaluate_recommend()
    step = f"run `coldstart ingest --workspace {opened.uri} --interactions FILE`"
    assert str(caught.value) == f"workspace {opened.uri} has no interactions: {step}"
    InteractionTable(opened._store).append([batch(interactions(["a", "b"], ["x", "y"]))])
    with pytest.raises(ColdstartError) as caught:
        opened.evaluate_recommend()
    assert str(caught.value) == f"workspace {opened.uri} has 2 interactions, none with its 3 items: {step}"


@pytest.mark.slow
def test_the_selected_mapper_uses_the_settings_of_the_pipeline(uri: str) -> None:
    pipeline = coldstart.open(uri).pipeline()
    own = workspace._filled(EvaluateSettings(), pipeline)
    assert own.choice is not None
    assert own.choice.dim == 16
    assert set(own.choice.candidates) == {"knn", "ridge"}
    assert own.min_weight is None
    assert workspace._filled(own, pipeline) is own
    assert np.isclose(own.choice.weights["labels"], 0.2)  # type: ignore[index]
