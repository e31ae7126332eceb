"""The command line as typed: what it prints, where, and with which exit code."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import yaml
from catalogue import photo, write_manifest
from cli_commands import commands
from paths import ROOT
from typer.testing import CliRunner

from coldstart import __version__
from coldstart.cli import app, describe, evaluate_safety, output, status
from coldstart.core import pipeline as pipelines
from coldstart.core import settings as resources
from coldstart.errors import ColdstartError
from coldstart.store import Store

SCRIPT = Path(sys.executable).with_name("coldstart")
PACKAGED = resources.data_files("pipelines", "*.yaml")
HEAVY = {"torch", "lancedb", "lance", "pyarrow", "transformers", "open_clip", "av", "PIL", "pandas", "pydantic"}


def coldstart(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """The console script, as a shell runs it."""
    return subprocess.run([str(SCRIPT), *arguments], capture_output=True, text=True, timeout=120, **options)


def fault(*arguments: str) -> str:
    """The message of a command that fails in this process."""
    result = CliRunner().invoke(app, list(arguments))
    assert isinstance(result.exception, ColdstartError), result.output
    return str(result.exception)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a manifest of three good items and a bad one, a pipeline of a fake encoder, and their workspace."""
    folder = tmp_path_factory.mktemp("shop")
    items = [
        {"item_id": "a", "title": "red apple", "price": 1},
        {"item_id": "b", "title": "green apple", "price": 2},
        {"item_id": ":100: [bold]'c'", "title": "blue jeans <b>", "price": 3},
        {"item_id": "d", "title": "lamp", "price": -3},
    ]
    (folder / "items.jsonl").write_text("".join(f"{json.dumps(item)}\n" for item in items), "utf-8")
    settings = {
        "manifest": "items.jsonl",
        "max_failed": 0.5,
        "engine": {"workers": 1, "device": "cpu"},
        "stages": {"ingest": {}, "text": {"stage": "embed", "encoder": "fake:16", "input": "text"}, "index": {}},
    }
    (folder / "shop.yaml").write_text(yaml.safe_dump(settings, sort_keys=False), "utf-8")
    result = CliRunner().invoke(app, ["run", str(folder / "shop.yaml"), "-w", str(folder / "workspace"), "--json"])
    assert result.exit_code == 0, result.output
    assert [stage["balance"]["fresh"] for stage in json.loads(result.stdout)["stages"]] == [3, 3, 3]
    return folder


# -- help and version


def test_help_imports_nothing_heavy() -> None:
    result = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", "from coldstart.cli import main; main()", "--help"],
        capture_output=True,
        text=True,
        check=True,
    )
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in result.stderr.splitlines()}
    assert {"typer", "coldstart"} <= imported
    assert not HEAVY & imported


@pytest.mark.slow
def test_every_command_says_what_it_does() -> None:
    found = commands()
    assert {name for name, *_ in found} == {
        "run", "ingest", "understand", "embed", "index", "retry", "status", "check", "doctor", "search",
        "demo", "models", "show", "finetune", "evaluate", "label", "match", "describe", "export", "prompts",
        "recommend", "audience", "remove", "import", "init", "schema", "serve", "mcp", "ask", "review", "rank",
        "sids",
    }  # fmt: skip
    for path in found:
        result = CliRunner().invoke(app, [*path, "--help"])
        assert result.exit_code == 0, path
        usage, _, words = result.stdout.strip().partition("\n")
        assert usage.startswith(f"Usage: coldstart {' '.join(path)} ")
        assert words.strip()[:1].isupper(), f"coldstart {' '.join(path)} has no help"
        assert "[[" not in usage
        assert "--json" in words or path[0] in ("serve", "mcp")  # which answer by protocols of their own


def test_the_version_is_printed() -> None:
    result = coldstart("--version")
    assert (result.returncode, result.stdout, result.stderr) == (0, f"coldstart {__version__}\n", "")


def test_without_a_command_help_is_shown() -> None:
    result = coldstart()
    assert result.returncode == 2
    assert "Usage: coldstart [OPTIONS] COMMAND" in result.stdout + result.stderr


def test_a_wrong_command_or_option_is_a_usage_error() -> None:
    result = CliRunner().invoke(app, ["frob"])
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.splitlines()[-1] == "Error: No such command 'frob'."
    result = CliRunner().invoke(app, ["search", "--text", "x", "--top-k", "0"])
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.splitlines()[-1] == (
        "Error: Invalid value for '--top-k' / '-k': Input should be greater than or equal to 1"
    )


# -- errors


@pytest.mark.slow
def test_an_error_is_one_line_on_stderr() -> None:
    result = coldstart("check", "starer")
    message = (
        "no pipeline file starer (did you mean 'starter'?): give a path or one of aligned, demo, gpu, product, "
        "recommend, starter, video"
    )
    assert (result.returncode, result.stdout, result.stderr) == (1, "", f"error: {message}\n")


@pytest.mark.slow
def test_debug_shows_the_trace() -> None:
    result = coldstart("--debug", "check", "starer")
    lines = result.stderr.splitlines()
    assert (result.returncode, result.stdout) == (1, "")
    assert lines[0] == "Traceback (most recent call last):"
    assert lines[-1].startswith("coldstart.errors.ColdstartError: no pipeline file starer ")


@pytest.mark.slow
def test_names_in_errors_are_printed_as_they_are() -> None:
    name = ":100: [red]a\nb[/red] \\" + "x" * 300
    result = coldstart("check", name)
    shown = name.replace("\n", " ")
    known = "aligned, demo, gpu, product, recommend, starter, video"
    assert result.stderr == f"error: no pipeline file {shown}: give a path or one of {known}\n"


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_an_interrupt_says_that_nothing_is_lost(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "items.jsonl")
    command = [str(SCRIPT), "ingest", str(tmp_path / "items.jsonl"), "-w", str(tmp_path / "w"), "-p", "starter"]
    kept = signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background would pass on "ignore"
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    signal.signal(signal.SIGINT, kept)
    with process:
        assert process.stderr is not None
        with (tmp_path / "items.jsonl").open("w"):  # opens once the command reads; to close it would end the manifest
            process.send_signal(signal.SIGINT)
            said = process.stderr.read().splitlines()
    assert said[-1] == "stopped; finished rows are stored: run the same command again to go on"
    assert process.returncode == 130


def test_a_missing_workspace_names_the_next_step(tmp_path: Path) -> None:
    uri = str(tmp_path / "none")
    message = f"no workspace at {uri}: make one with `coldstart run PIPELINE --workspace {uri}`"
    for arguments in (["status"], ["search", "--text", "x"], ["index", "--rollback"], ["index", "--history"]):
        assert fault(*arguments, "-w", uri) == message
    assert not Path(uri).exists()


def test_a_missing_manifest_names_the_next_step(tmp_path: Path) -> None:
    assert fault("run", "starter", "-w", str(tmp_path / "w")) == (
        f"{PACKAGED['starter']} names no manifest: give one with --manifest FILE"
    )
    path = tmp_path / "none.csv"
    said = fault("ingest", str(path), "-p", "starter", "-w", str(tmp_path / "w"))
    assert said.startswith(f"no manifest at {path}: give a .csv, ") and "or a folder of media" in said


@pytest.mark.slow
def test_a_second_writer_is_refused(shop: Path) -> None:
    uri = str(shop / "workspace")
    with Store(uri).lock():
        holder = (shop / "workspace" / ".coldstart.writer").read_text("utf-8")
        message = f"workspace {uri} is being written by {holder}: wait until it ends, or stop it"
        assert fault("run", "-w", uri) == message
        assert fault("index", "--rollback", "-w", uri) == message
        assert CliRunner().invoke(app, ["status", "-w", uri]).exit_code == 0
        assert CliRunner().invoke(app, ["search", "-w", uri, "--text", "apple"]).exit_code == 0


@pytest.mark.slow
def test_a_stage_that_is_not_there_is_named(shop: Path) -> None:
    for options in (["--only", "imgae"], ["--from", "imgae"]):
        assert fault("run", str(shop / "shop.yaml"), "-w", str(shop / "workspace"), *options) == (
            f"no stage 'imgae' in {shop / 'shop.yaml'}: it has ingest, text, index"
        )


def test_options_that_need_each_other() -> None:
    assert fault("embed", "--encoder", "fake:8") == "--encoder need one --space NAME to apply to"
    assert fault("search") == "give exactly one of --text, --image, --video, --item and --queries"
    assert fault("search", "--text", "a", "--item", "b") == (
        "give exactly one of --text, --image, --video, --item and --queries"
    )


# -- check


@pytest.mark.slow
def test_check_lists_all_faults_with_the_nearest_names(tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(
        "stage: {}\nmax_failed: 2\nengine: {workres: 2}\nstages:\n  ingest: {}\n  text: {stage: embd}\n"
        "  image: {stage: embed, frames: 0}\n",
        "utf-8",
    )
    faults = {
        "--set image.frames=[: not YAML: expected the node content, but found '<stream end>'": None,
        "unknown setting 'stage' (did you mean 'stages'?)": (1, 1),
        "unknown setting engine.workres (did you mean 'workers'?)": (3, 10),
        "max_failed=2: give a share between 0 and 1": (2, 13),
        "stage 'text': unknown kind 'embd' (did you mean 'embed'?)": (6, 17),
        "image.encoder is missing": (7, 3),
        "image.frames=0: give one that is greater than or equal to 1": (7, 33),
    }
    result = coldstart("check", str(path), "--set", "image.frames=[")
    assert result.returncode == 1
    assert result.stdout == "".join(
        f"- {f'{place[0]}:{place[1]}: ' if place else ''}{fault}\n" for fault, place in faults.items()
    )
    assert result.stderr == f"error: {path} has 7 faults: mend and check again\n"
    result = coldstart("check", str(path), "--set", "image.frames=[", "--json")
    message = f"{path} has 7 faults: mend and check again"
    error = {"kind": "settings", "message": message, "where": None, "next": "mend and check again"}
    found = json.loads(result.stdout)
    places = {fault["fault"]: fault["line"] and (fault["line"], fault["column"]) for fault in found.pop("faults")}
    assert (result.returncode, found, places) == (1, {"pipeline": str(path), "error": error, "notes": []}, faults)


@pytest.mark.slow
def test_check_of_a_good_pipeline_says_so(shop: Path) -> None:
    path = str(shop / "shop.yaml")
    result = CliRunner().invoke(app, ["check", path])
    assert (result.exit_code, result.stdout) == (0, f"{path}: no faults in 3 stages: ingest, text, index\n")
    result = CliRunner().invoke(app, ["check", path, "--json"])
    assert (result.exit_code, json.loads(result.stdout)) == (0, {"pipeline": path, "faults": [], "notes": []})


def test_check_names_an_encoder_that_does_not_exist(shop: Path) -> None:
    result = CliRunner().invoke(app, ["check", str(shop / "shop.yaml"), "--set", "text.encoder=nope:x"])
    assert result.exit_code == 1
    assert result.stdout.startswith("- text: ")
    assert "nope" in result.stdout


# -- pipeline files as commands


def test_the_packaged_pipelines_are_those_counted_here() -> None:
    assert len(PACKAGED) == 7


@pytest.mark.parametrize("name", PACKAGED)
def test_a_pipeline_file_opens_with_a_command_that_parses(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    header = PACKAGED[name].read_text("utf-8").splitlines()[0]
    program, *arguments = shlex.split(header.removeprefix("# "))
    assert program == "coldstart"
    ran: list[Any] = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("coldstart.cli.run.run_and_report", lambda *given, **others: ran.append(given))
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    ((_, _, _, settings, _, _),) = ran
    assert settings["source"] == name


# -- what commands print


@pytest.mark.slow
def test_status_gives_the_balance_and_the_failed(shop: Path) -> None:
    uri = str(shop / "workspace")
    result = CliRunner().invoke(app, ["status", "-w", uri, "--json"])
    balances = {report["stage"]: report["balance"] for report in json.loads(result.stdout)["stages"]}
    assert balances["ingest"] == {
        "fresh": 3, "failed": 1, "filtered": 0, "duplicate": 0, "pending": 0, "reasons": {"bad_row": 1},
    }  # fmt: skip
    assert set(balances) == {"ingest", "text", "index"}
    result = CliRunner().invoke(app, ["status", "-w", uri, "--failed", "--json"])
    (row,) = json.loads(result.stdout)["items"]
    assert (row["item_id"], row["reason"]) == ("d", "bad_row")
    assert row["detail"] == "items.jsonl#4: price=-3: Input should be greater than or equal to 0"
    for options, said in (([], "ingest: 1 with an unreadable row"), (["--failed"], "1 failed, with an unreadable row")):
        result = CliRunner().invoke(app, ["status", "-w", uri, *options])
        assert result.exit_code == 0
        assert said in result.stdout


def test_failures_come_first_and_what_a_kind_cannot_have_is_not_listed(capsys: pytest.CaptureFixture[str]) -> None:
    row = {"item_id": "p1", "state": "filtered", "row_key": "", "detail": "no medium of role video"}
    rows = [
        {
            **row,
            "stage": "duplicates",
            "item_id": "c",
            "state": "duplicate",
            "reason": "near_duplicate",
            "detail": "of a",
        },
        {**row, "stage": "shots", "reason": "no_video"},
        {**row, "stage": "shots", "item_id": "c", "state": "duplicate", "reason": "near_duplicate", "detail": "of a"},
        *({**row, "stage": "speech", "item_id": name, "reason": "no_sound"} for name in ("p1", "v1", "v2")),
        {**row, "stage": "clip", "item_id": "p2", "state": "failed", "reason": "corrupt_image", "detail": "cut"},
    ]

    class Opened:
        uri = "shop"

        def failures(self) -> list[dict[str, str]]:
            return rows

        def table(self, name: str, columns: list[str], where: str) -> pa.Table:
            if "kind" in where:
                return pa.table({"item_id": ["p1", "p2"]})
            entry = {"role": "image", "uri": "x.jpg", "reason": "not_found", "detail": "x.jpg: No such file"}
            return pa.table({"item_id": ["p3"], "bad_media": [[entry]]})

    opened: Any = Opened()
    status._list_failures(opened, None, json=False)
    shown = capsys.readouterr().out
    places = [shown.index(part) for part in ("clip: 1 failed", "p2", "media that cannot be read: 1", "p3", "copies: 1")]
    assert places == sorted(places)
    assert shown.rstrip().splitlines()[-1] == "speech: 2 items without sound (no_sound); --stage speech lists them"
    assert (shown.count("of a"), shown.count("no_video"), shown.count("p1")) == (1, 0, 0)
    status._list_failures(opened, "shots", json=False)
    shown = capsys.readouterr().out
    assert "p1" in shown and "p2" not in shown
    with pytest.raises(ColdstartError, match=r"stage 'shot' \(did you mean 'shots'\?\)"):
        status._list_failures(opened, "shot", json=True)


def test_describe_prints_the_descriptions_of_the_chosen_items(capsys: pytest.CaptureFixture[str]) -> None:
    class Opened:
        rows = (
            {"item_id": "it's", "row_key": "1", "summary": "A cup."},
            {"item_id": "b", "row_key": "2", "summary": None},
        )

        def pipeline(self) -> Any:
            return pipelines.load("product")

        def tables(self) -> list[str]:
            return ["stage.describe.check"]

        def table(self, name: str, columns: list[str], where: str) -> pa.Table:
            assert (name, where) == ("stage.describe.check", "item_id = 'it''s' OR item_id = 'b' OR item_id = 'c'")
            return pa.Table.from_pylist(list(self.rows))

    opened: Any = Opened()
    describe._print_chosen(opened, ["it's", "b", "c"], {"b": {"row_key": "2"}, "it's": {"row_key": "0"}})
    shown = capsys.readouterr().out
    assert [" ".join(line.split()) for line in shown.splitlines()] == [
        "it's written now: A cup.",
        "b as before: no sentence is left",
        "c no description: `coldstart show c` says why",
    ]


def test_evaluate_safety_lists_what_was_measured_alone(capsys: pytest.CaptureFixture[str]) -> None:
    none = {"closed": 0, "n": 0, "value": None, "low": None, "high": None}
    closed = {"closed": 0, "n": 98, "value": 0.0, "low": 0.0, "high": 0.0377}
    measures = dict.fromkeys(("picture_alarms", "alarms", "picture_recall", "recall"), none) | {"unlabelled": closed}
    evaluate_safety._print({"policy": "safety 1", "classifier": None, "wrong": {}, **measures})
    shown = capsys.readouterr().out
    assert "closed without a label" in shown and "98 items" in shown
    assert "false alarms by pictures" not in shown and "recall in all" not in shown
    assert "understand.safety.classifier=auto" in shown
    assert "not measured: false alarms: no item is known to be harmless; recall: none to be unsafe" in shown


def test_advice_names_workspaces_and_models_that_one_may_mean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "coldstart").mkdir()  # a folder of sources
    assert "did you mean" not in fault("search", "--text", "x")
    (tmp_path / "coldstart/items.lance").mkdir()
    assert "(did you mean 'coldstart'?)" in fault("search", "--text", "x")
    with pytest.raises(ColdstartError, match=r"@missing\.txt: No such file or directory: give a text file") as error:
        output.item_ids(["@missing.txt"])
    assert "Errno" not in str(error.value)


@pytest.mark.slow
def test_losses_beyond_the_budget_exit_with_1(shop: Path) -> None:
    uri = str(shop / "workspace")
    command = ["run", str(shop / "shop.yaml"), "-w", uri, "--only", "ingest"]
    assert CliRunner().invoke(app, command).exit_code == 0
    result = CliRunner().invoke(app, [*command, "--set", "max_failed=0.2"])
    assert result.exit_code == 1
    assert result.stderr.splitlines()[-3:] == [
        "error: more failed than max_failed 20.0% allows: ingest 25.0%",
        "  ingest: 1 with an unreadable row, such as d: items.jsonl#4: price=-3: Input should be greater than or equal "
        "to 0 -> mend the rows, or name their columns in the pipeline: ingest.map, our field: your column",
        f"see all of them: coldstart status --failed --workspace {uri}",
    ]


@pytest.mark.slow
def test_a_run_that_lost_most_rows_stops_there_and_says_why(shop: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (tmp_path / "in").mkdir()
    entries: list[Any] = [{"item_id": f"o{n}", "image": str(photo(outside / f"{n}.jpg", n))} for n in range(3)]
    entries += [{"item_id": f"n{n}", "title": "lamp", "image": f"gone{n}.jpg"} for n in range(2)]
    entries += [{"item_id": "p", "price": -1}, {"item_id": "a", "title": "apple"}, {"item_id": "b", "title": "pear"}]
    manifest = write_manifest(tmp_path / "in" / "items.jsonl", entries)
    command = ["run", str(shop / "shop.yaml"), "-w", str(tmp_path / "w"), "-m", str(manifest)]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 1
    real = (outside / "0.jpg").resolve()
    assert result.stderr.splitlines()[-5:-1] == [
        "error: more failed than max_failed 50.0% allows, so the run stopped after ingest: ingest 75.0%",
        f"  ingest: 3 outside the allowed folders, such as o0: {outside / '0.jpg'} leads to {real}, outside the "
        "manifest's folder and media roots -> allow that folder with --media-root",
        f"  ingest: 2 not found, such as n0: {manifest.parent.resolve() / 'gone0.jpg'}: No such file or directory -> "
        "paths count from the manifest's folder on: mend them, or put the manifest beside its media",
        "  ingest: 1 with an unreadable row, such as p: items.jsonl#6: price=-1: Input should be greater than or equal "
        "to 0 -> mend the rows, or name their columns in the pipeline: ingest.map, our field: your column",
    ]
    assert not any(name.startswith("stage.") for name in Store(tmp_path / "w").tables())
    again = CliRunner().invoke(app, [*command, "--media-root", str(outside)])
    assert again.exit_code == 0, again.stderr
    assert any(name.startswith("stage.") for name in Store(tmp_path / "w").tables())


@pytest.mark.slow
def test_a_dry_run_writes_nothing(shop: Path, tmp_path: Path) -> None:
    uri = tmp_path / "w"
    result = CliRunner().invoke(app, ["run", str(shop / "shop.yaml"), "-w", str(uri), "--dry-run"])
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[-1] == "dry run: nothing was written"
    assert not uri.exists()


@pytest.mark.slow
def test_search_prints_hits_as_they_are(shop: Path) -> None:
    uri = str(shop / "workspace")
    result = CliRunner().invoke(app, ["search", "-w", uri, "--text", "blue jeans <b>", "--top-k", "2"])
    assert result.exit_code == 0, result.output
    assert ":100: [bold]'c'" in result.stdout
    assert "blue jeans <b>" in result.stdout
    result = CliRunner().invoke(app, ["search", "-w", uri, "--text", "blue jeans <b>", "--top-k", "2", "--json"])
    assert json.loads(result.stdout)["hits"][0]["item_id"] == ":100: [bold]'c'"
    assert "item 'nope' is not in the published catalog" in fault("search", "-w", uri, "--item", "nope")


def test_many_queries_are_answered_as_json_lines(shop: Path, tmp_path: Path) -> None:
    path = tmp_path / "queries.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"query_id": "q1", "text": "red apple"}\n\n{"query_id": 2, "item_id": "b"}\n')
    result = CliRunner().invoke(app, ["search", "-w", str(shop / "workspace"), "--queries", str(path)])
    assert result.exit_code == 0, result.output
    answers = [json.loads(line) for line in result.stdout.splitlines()]
    assert [answer["query_id"] for answer in answers] == ["q1", "2"]
    assert answers[0]["hits"][0]["item_id"] == "a"
    assert "b" not in [hit["item_id"] for hit in answers[1]["hits"]]
    assert {"item_id", "score", "kind", "title"} <= set(answers[0]["hits"][0])


@pytest.mark.slow
def test_pictures_of_a_file_of_queries_lie_beside_it(
    shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = str(shop / "workspace")
    given, elsewhere = tmp_path / "given", tmp_path / "elsewhere"
    for folder, number in ((given, 2), (elsewhere, 5)):
        folder.mkdir()
        photo(folder / "x.jpg", number)
    queries = write_manifest(given / "queries.jsonl", [{"query_id": "q", "image": "x.jpg"}])
    monkeypatch.chdir(elsewhere)
    result = CliRunner().invoke(app, ["search", "-w", uri, "--queries", str(queries)])
    assert result.exit_code == 0, result.output
    beside, other = (
        json.loads(CliRunner().invoke(app, ["search", "-w", uri, "--image", str(path), "--json"]).stdout)
        for path in (given / "x.jpg", elsewhere / "x.jpg")
    )
    assert json.loads(result.stdout)["hits"] == beside["hits"] != other["hits"]


def test_a_missing_query_file_is_named(shop: Path, tmp_path: Path) -> None:
    path = tmp_path / "none.jsonl"
    assert fault("search", "-w", str(shop / "workspace"), "--queries", str(path)) == (
        f"no query file at {path}: give JSONL with query_id and one of text, image, video, item_id"
    )


def test_publications_are_listed(shop: Path) -> None:
    result = CliRunner().invoke(app, ["index", "-w", str(shop / "workspace"), "--history", "--json"])
    (publication,) = json.loads(result.stdout)["publications"]
    assert (publication["rows"], publication["spaces"]) == (3, ["text"])


# -- warnings

SPEAKING = """
import sys, warnings, logging
import coldstart.cli as cli

def speak(**_):
    for said in (UserWarning("of a library"), FutureWarning("a name goes away")):
        warnings.warn_explicit(said, None, "library.py", 1, module="library")
    logging.getLogger("library").warning("a library logs")
    ours = "coldstart.media.image"
    warnings.warn_explicit(FutureWarning("our call's name goes away"), None, "ours.py", 1, module=ours)
    warnings.warn_explicit(UserWarning("of this package"), None, "ours.py", 2, module=ours)
    import subprocess
    subprocess.run([sys.executable, "-c", "import warnings; warnings.warn('of a process')"], check=True)

cli.app = speak
cli.main()
"""
OURS = {"of this package"}
THEIRS = {"of a library", "a name goes away", "our call's name goes away", "a library logs", "of a process"}


@pytest.mark.parametrize(
    ("arguments", "environment", "seen"),
    [
        ([], {}, OURS),
        (["--debug"], {}, OURS | THEIRS),
        ([], {"COLDSTART_DEBUG": "1"}, OURS | THEIRS),
        ([], {"PYTHONWARNINGS": "default"}, OURS | THEIRS),
    ],
)
def test_warnings_of_libraries_stay_off_the_screen(
    arguments: list[str], environment: dict[str, str], seen: set[str]
) -> None:
    inherited = {name: value for name, value in os.environ.items() if name not in ("PYTHONWARNINGS", "COLDSTART_DEBUG")}
    said = subprocess.run(
        [sys.executable, "-c", SPEAKING, *arguments],
        env=inherited | environment, capture_output=True, text=True, timeout=120, check=True,
    ).stderr  # fmt: skip
    assert {words for words in OURS | THEIRS if words in said} == seen


TESTED = """
import warnings

def said_of(module, category=UserWarning):
    warnings.warn_explicit(category("said"), None, "a.py", 1, module=module)

def test_of_a_library():
    for category in (UserWarning, DeprecationWarning, FutureWarning, RuntimeWarning):
        said_of("torch.nn.modules.module", category)
        said_of("coldstarting", category)

def test_of_this_package():
    said_of("coldstart.media.image", FutureWarning)

def test_of_a_helper():
    said_of("behaviour_shop", DeprecationWarning)

def test_of_a_test():
    warnings.warn("said", DeprecationWarning, stacklevel=1)

def test_of_a_file_left_open():
    said_of("library", ResourceWarning)
"""


@pytest.mark.slow
def test_warnings_of_libraries_fail_no_test_and_ours_do(tmp_path: Path) -> None:
    (tmp_path / "test_cli.py").write_text(TESTED, "utf-8")  # named as a module of the tests, as `test_of_a_test` needs
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONWARNINGS"}
    environment["PYTHONPATH"] = str(ROOT / "tests")
    told = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-rA", "-p", "conftest", "test_cli.py"],
        cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120,
    ).stdout  # fmt: skip
    passed = re.findall(r"^PASSED test_cli.py::(\w+)", told, re.MULTILINE)
    failed = re.findall(r"^FAILED test_cli.py::(\w+)", told, re.MULTILINE)
    assert passed == ["test_of_a_library"], told
    assert sorted(failed) == [
        "test_of_a_file_left_open", "test_of_a_helper", "test_of_a_test", "test_of_this_package",
    ]  # fmt: skip


def test_the_workspace_is_found_by_its_name_in_the_folder_at_hand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("COLDSTART_WORKSPACE", raising=False)
    assert fault("status").startswith("no workspace at coldstart.workspace: make one with ")
