"""`--json`: one object of a documented shape for every command, and for every error its kind, place and next step."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from catalogue import coldstart
from cli_commands import commands
from jsonschema import Draft202012Validator
from shapes_of import check, modes_of

from coldstart.cli import faults, run
from coldstart.cli.shapes import COMMANDS, schema
from coldstart.core import error_fields
from coldstart.errors import ColdstartError, MachineFault

SERVERS = ("serve", "mcp")
"""Commands that answer others as long as they run, and print nothing."""


def error_of(*arguments: object) -> tuple[int, dict[str, Any]]:
    """Exit code and error of a command line; stdout holds that one object and nothing else."""
    done = coldstart(*arguments, "--json")
    found = json.loads(done.stdout)
    check(found, None)
    assert done.stderr
    return done.returncode, found["error"]


def test_every_command_has_a_shape_and_every_shape_a_command() -> None:
    names = [" ".join(path) for path in commands()]
    assert [name for name in names if not modes_of(name) and name not in SERVERS] == []
    described = {mode for name in ("models", *names) for mode in modes_of(name)}
    assert COMMANDS.keys() - described == set()


def test_the_schema_is_one() -> None:
    Draft202012Validator.check_schema(schema())


def test_the_schema_is_printed() -> None:
    assert json.loads(coldstart("schema", "--of", "output").stdout) == schema()
    assert error_of("schema", "--of", "ouput")[1]["next"] == "give pipeline or output"


def test_a_wrong_shape_is_seen() -> None:
    with pytest.raises(AssertionError, match="search"):
        check({"hits": [{"item_id": 5}], "notes": []}, "search")


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (
            ("search", "--txt", "a"),
            {"kind": "usage", "where": "--txt", "next": "see `coldstart search --help`"},
        ),
        (("search", "--text", "a", "--top-k", "0"), {"kind": "usage", "where": "--top-k"}),
        (("serch",), {"kind": "usage", "where": None, "next": "see `coldstart --help`"}),
    ],
)
def test_an_error_of_usage_is_an_object(arguments: tuple[str, ...], error: dict[str, Any]) -> None:
    code, found = error_of(*arguments)
    assert code == 2
    assert {name: found[name] for name in error} == error


@pytest.mark.slow
@pytest.mark.parametrize("path", commands(), ids=" ".join)
def test_every_command_answers_a_wrong_option_with_an_object(path: tuple[str, ...]) -> None:
    code, found = error_of(*path, "--nope")
    assert (code, found["kind"], found["where"]) == (2, "usage", "--nope")
    assert found["next"] == f"see `coldstart {' '.join(path)} --help`"


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (
            ("search", "--text", "a", "--item", "b"),
            {"kind": "usage", "next": "give exactly one of --text, --image, --video, --item and --queries"},
        ),
        (("status", "-w", "{here}/none"), {"kind": "not_found", "where": "{here}/none"}),
        (("check", "nope"), {"kind": "not_found"}),
        (("check", "{here}/bad.yaml"), {"kind": "settings", "next": "mend and check again"}),
        (("ingest", "--interactions", "{here}/none.csv"), {"kind": "not_found", "where": "{here}/none.csv"}),
        (("show", "a", "--out", "x.html", "--no-html"), {"kind": "usage", "where": None}),
    ],
)
def test_an_error_names_kind_place_and_next_step(
    arguments: tuple[str, ...], error: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "bad.yaml").write_text("stages: {text: {stage: embd}}\n", "utf-8")
    code, found = error_of(*(word.format(here=tmp_path) for word in arguments))
    assert code == 1
    assert {name: found[name] for name in error} == {
        name: value and value.format(here=tmp_path) for name, value in error.items()
    }
    assert found["kind"] in error_fields.KINDS


def raising(error: BaseException) -> Any:
    def command(*_: object, **__: object) -> None:
        raise error

    return command


@pytest.mark.parametrize(
    ("error", "code", "kind"),
    [
        (OSError(28, "No space left on device"), 3, "machine"),
        (MachineFault("the disk is full: free some space"), 3, "machine"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (ColdstartError("workspace w is being written by 7: wait until it ends, or stop it"), 1, "busy"),
        (ColdstartError("shop.yaml: odd: mend it", kind="input", where="shop.yaml"), 1, "input"),
    ],
)
def test_exit_codes_stay_and_the_object_says_why(
    error: BaseException, code: int, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "run_and_report", raising(error))
    found = error_of("run", "starter")
    assert (found[0], found[1]["kind"]) == (code, kind)
    assert found[1]["next"]


def test_a_fault_of_the_program_is_an_object_and_a_trace(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setattr(run, "run_and_report", raising(ZeroDivisionError("by zero")))
    monkeypatch.setattr(sys, "argv", ["coldstart", "run", "starter", "--json"])
    from coldstart.cli import main

    with pytest.raises(ZeroDivisionError):
        main()
    error = json.loads(capsys.readouterr().out)["error"]
    assert error == {"kind": "internal", "message": "ZeroDivisionError: by zero", "where": None, "next": None}


def test_what_was_found_before_a_fault_stands_beside_it(monkeypatch: pytest.MonkeyPatch) -> None:
    fault = ColdstartError("3 of 4 queries have no answer: mend them", kind="failed", result={"faults": [], "a": 1})
    monkeypatch.setattr(run, "run_and_report", raising(fault))
    assert json.loads(coldstart("run", "starter", "--json").stdout) | {"error": {}} == {
        "faults": [],
        "a": 1,
        "error": {},
        "notes": [],
    }


@pytest.mark.parametrize(
    ("message", "where", "following"),
    [
        ("--columns a=b: f has no such column; did you mean c?", "--columns a=b", "did you mean c?"),
        ("items.jsonl line 3: price=-1: below 0; mend it", "items.jsonl line 3", "mend it"),
        ("no workspace at /w: make one with `coldstart run`", "/w", "make one with `coldstart run`"),
        ("device 'x' is unknown: use cpu", None, "use cpu"),
        ("the model answered nothing", None, None),
    ],
)
def test_place_and_next_step_follow_from_the_message(message: str, where: str | None, following: str | None) -> None:
    found = error_fields.error_fields(ColdstartError(message))
    assert (found["message"], found["where"], found["next"]) == (message, where, following)


def test_secrets_of_urls_stay_out_of_errors() -> None:
    found = error_fields.error_fields(ValueError("http://me:secret@host/x?token=abc"))
    assert "secret" not in str(found) and "abc" not in str(found)


def test_json_is_asked_for_by_an_option_and_not_by_a_value() -> None:
    assert faults.wants_json(["search", "--json"])
    assert not faults.wants_json(["show", "--", "--json"])
