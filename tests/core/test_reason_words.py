"""Reason codes in plain words: every code that the package writes has an entry, and every entry is of such a code."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from paths import ROOT

from coldstart.core import reasons
from coldstart.ingest.load_interactions import REMOVED_USER

PACKAGE = ROOT / "coldstart"
CONSTANTS = {
    found[1]: found[2]
    for path in PACKAGE.rglob("*.py")
    for found in re.finditer(r'^([A-Z_]+) = "([a-z_]+)"$', path.read_text("utf-8"), re.MULTILINE)
}
"""Constant -> text, of the package."""
CODE = re.compile(r"[a-z]+(_[a-z]+)*")


def _strings(node: ast.AST) -> Iterator[str]:
    """Literals that an expression may come to."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    elif isinstance(node, ast.IfExp):
        yield from _strings(node.body)
        yield from _strings(node.orelse)


def _arguments(tree: ast.AST, places: dict[str, int]) -> Iterator[str]:
    """Literals at a place among the arguments of calls."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            place = places.get(getattr(node.func, "id", ""))
            if place is not None and len(node.args) > place:
                yield from _strings(node.args[place])
                if isinstance(node.args[place], ast.Name):
                    yield from filter(None, [CONSTANTS.get(node.args[place].id)])


def _firsts(tree: ast.AST, length: int) -> Iterator[str]:
    """First literals of tuples of a length."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Tuple) and len(node.elts) == length:
            yield from _strings(node.elts[0])


def _returned(path: Path, function: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.FunctionDef) and node.name == function:
            for inner in ast.walk(node):
                if isinstance(inner, ast.Return) and inner.value is not None:
                    yield from _strings(inner.value)


def _items() -> set[str]:
    found: set[str] = set()
    for path in PACKAGE.rglob("*.py"):
        found |= set(_arguments(ast.parse(path.read_text("utf-8")), {"Reject": 0, "LedgerRow": 4}))
    quality = ast.parse((PACKAGE / "understand/stages/quality.py").read_text("utf-8"))
    return (found | set(_firsts(quality, 5)) | {"decoder_fault", "out_of_memory"}) - {""}


def _claims() -> set[str]:
    found: set[str] = set()
    for path in (PACKAGE / "describe/checks").glob("*.py"):
        tree = ast.parse(path.read_text("utf-8"))
        found |= set(_arguments(tree, {"UngroundedClaim": 0, "Cut": 2}))
        for node in ast.walk(tree):
            if isinstance(node, ast.Assign) and any(getattr(t, "id", "") in ("fault", "reason") for t in node.targets):
                found |= {code for code in _strings(node.value) if CODE.fullmatch(code)} | set(_firsts(node, 2))
            elif (
                isinstance(node, ast.FunctionDef)
                and node.returns
                and re.search(r"Fault|tuple\[str, str\]", ast.unparse(node.returns))
            ):
                found |= {
                    code for inner in ast.walk(node) if isinstance(inner, ast.Return) for code in _firsts(inner, 2)
                }
    return {code for code in found if CODE.fullmatch(code)}


def _interactions() -> set[str]:
    found: set[str] = set()
    for name in ("interaction_file.py", "log_file.py"):
        tree = ast.parse((PACKAGE / "ingest" / name).read_text("utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.Subscript) and getattr(node.value, "id", "") == "faults":
                found |= set(_strings(node.slice))
            elif isinstance(node, ast.For) and ast.unparse(node.target) == "(name, reason)":
                found |= {pair.elts[1].value for pair in node.iter.elts}  # type: ignore[attr-defined]
    return found | {REMOVED_USER}


def _impressions() -> set[str]:
    """Reasons of impressions, besides those of interactions."""
    found: set[str] = set()
    for name in ("ingest/impression_file.py", "store/impressions.py"):
        for node in ast.walk(ast.parse((PACKAGE / name).read_text("utf-8"))):
            if isinstance(node, ast.Subscript) and getattr(node.value, "id", "") == "faults":
                found |= set(_strings(node.slice))
            elif isinstance(node, ast.For) and ast.unparse(node.target) == "(reason, wrong)":
                found |= {pair.elts[0].value for pair in node.iter.elts}  # type: ignore[attr-defined]
    return {code for code in found if CODE.fullmatch(code)} - reasons.INTERACTIONS.keys() - {"timestamp"}


def _speech() -> set[str]:
    path = PACKAGE / "understand/speech.py"
    return set(_returned(path, "_fault")) | set(_arguments(ast.parse(path.read_text("utf-8")), {"Dropped": 3}))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("written", "table"),
    [
        (_items, reasons.ITEMS),
        (_claims, reasons.CLAIMS),
        (_interactions, reasons.INTERACTIONS),
        (_impressions, reasons.IMPRESSIONS),
        (_speech, reasons.SPEECH),
    ],
)
def test_every_code_has_plain_words(written, table) -> None:  # type: ignore[no-untyped-def]
    codes = written()
    assert len(codes) >= 5
    assert codes - table.keys() == set()
    assert table.keys() - codes == set()


def test_a_code_is_read_after_its_number() -> None:
    assert (
        reasons.counted({"no_sound": 83, "no_picture": 1_012}) == "83 without sound, 1,012 without a readable picture"
    )


def test_a_code_of_another_package_is_shown_as_it_is() -> None:
    assert (reasons.plain("acme_says_no"), reasons.remedy("acme_says_no")) == ("acme says no", "")
