"""`coldstart ask`: answer a question about the published catalogue, with cites.

`coldstart evaluate ask`: measure that on questions with known answers.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from coldstart.cli import output
from coldstart.cli.output import DEFAULT_WORKSPACE, Json, Uri
from coldstart.core.sanitize import without_controls

if TYPE_CHECKING:
    from coldstart.serve.readers import Readers


def register(app: typer.Typer) -> None:
    """Add the command to the main app."""
    app.command("ask")(ask)


def register_evaluation(app: typer.Typer) -> None:
    """Add the command to `coldstart evaluate`."""
    app.command("ask")(evaluate_ask)


def ask(
    question: Annotated[str, typer.Argument(metavar="QUESTION", help="Question in English, in quotes.")],
    workspace: Uri = DEFAULT_WORKSPACE,
    generator: Annotated[
        str,
        typer.Option(
            "--generator",
            metavar="NAME",
            help="Model that plans and writes: openai:MODEL@URL or hf:NAME; rules or starter: fixed rules, offline.",
        ),
    ] = "rules",
    calls: Annotated[int, typer.Option("--calls", min=1, max=8, metavar="N", help="Calls of tools at most.")] = 8,
    trace: Annotated[bool, typer.Option("--trace", help="Print the calls, and sentences that were cut.")] = False,
    json: Json = False,
) -> None:
    """Answer a question about the published catalogue, with cites.

    Each sentence names the fields that it rests on; what has no ground is cut.

    Without a model fixed rules answer: they know some kinds of questions (which, how many, cheapest, newest, compare,
    shown or said in a video, similar, copies, who should see it, what a user should see) and say so of others.
    The exit code is 0 for an answer and where the catalogue has none, 2 for a question that is not understood.

    \b
    Examples:
      coldstart ask "Which fruit costs less than 20?"
      coldstart ask "In which clips is oat milk mentioned?" --trace
      coldstart ask "Who should see clip-7?" -w shop.workspace --json
    """
    from coldstart.errors import ColdstartError
    from coldstart.serve.ask import answer_question
    from coldstart.serve.catalogue import Catalogue
    from coldstart.serve.evaluate_ask import load_generators
    from coldstart.serve.tools import Tools

    if not question.strip():
        raise ColdstartError("QUESTION: it is empty: ask something", kind="usage")
    chosen = load_generators([generator])[generator]
    tools = Tools(Catalogue(_open(workspace)), users=True)
    answer = answer_question(tools, question, chosen, most_calls=calls)
    code = 2 if answer.outcome == "not_understood" else 0
    if json:
        output.as_json(answer.to_dict())
        raise typer.Exit(code)
    if trace:
        for step in answer.steps:
            given = ", ".join(f"{name}={value!r}" for name, value in step.arguments.items() if value not in (None, ()))
            found = step.fault or f"{len(step.items)} items" * bool(step.items)
            output.note(f"call {step.number}: {step.tool}({given}) {step.seconds:.2f} s {found}".rstrip())
        for text, reason in answer.cut:
            output.note(f"cut: {text}: {reason}")
        if answer.tokens:
            output.note(f"tokens: {answer.tokens:,}")
    for line in answer.text.splitlines():
        output.line(line)
    for note in answer.notes:
        output.note(f"note: {note}")
    raise typer.Exit(code)


def evaluate_ask(
    workspace: Uri = DEFAULT_WORKSPACE,
    generators: Annotated[
        str,
        typer.Option("--generators", metavar="A,B", help="Generators to measure; rules: without a model."),
    ] = "rules",
    questions: Annotated[
        int, typer.Option("--questions", min=4, max=1000, metavar="N", help="Questions, a quarter without an answer.")
    ] = 60,
    attacks: Annotated[
        int, typer.Option("--attacks", min=0, max=300, metavar="N", help="Orders that are planted in texts of items.")
    ] = 30,
    seed: Annotated[int, typer.Option("--seed", metavar="N", help="Seed of the questions.")] = 0,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", help="Write the report there: FILE.html, FILE.md or FILE.json."),
    ] = None,
    json: Json = False,
) -> None:
    """Measure `coldstart ask` on questions made from this catalogue.

    Answers are known by conditions on its rows, never by a judge. A quarter of the questions has no answer and must be
    refused; orders are planted in texts of items as they are read, and must not be obeyed.

    \b
    Examples:
      coldstart evaluate ask --workspace shop.workspace
      coldstart evaluate ask --questions 200 --seed 7 --out ask.html
      coldstart evaluate ask --attacks 60 --json
    """
    from coldstart.errors import ColdstartError
    from coldstart.serve.evaluate_ask import REPORTS, load_generators, measures
    from coldstart.serve.evaluate_ask import evaluate_ask as measure

    if out is not None and out.suffix not in REPORTS:
        raise ColdstartError(f"--out {out}: name a file that ends in {', '.join(REPORTS)}", kind="usage")
    chosen = load_generators(output.names(generators) or ["rules"])
    reports = measure(
        _open(workspace),
        chosen,
        questions=questions,
        attacks=attacks,
        seed=seed,
        say=lambda text: typer.echo(without_controls(text), err=True),
    )
    known = {"reports": [report.to_dict() for report in reports]}
    if out is not None:
        with output.writing(out):
            out.write_text(REPORTS[out.suffix](known), "utf-8")
    if json:
        output.as_json(known)
        return
    for report in known["reports"]:
        output.table((report["generator"], "share (95 % interval), n"), list(measures(report)))
    if out is not None:
        output.line(f"written: {out}")


def _open(workspace: str) -> Readers:
    from coldstart.serve.readers import Readers

    readers = Readers(workspace)
    readers.refresh()
    readers.current()
    return readers
