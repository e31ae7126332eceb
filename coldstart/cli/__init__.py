"""The command line: parse, call one function, print. Heavy libraries are imported inside the commands alone."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from typing import Annotated, Any

import typer

from coldstart import __version__
from coldstart.cli import (
    ask,
    complete,
    demo,
    describe,
    evaluate,
    export,
    faults,
    finetune,
    import_catalogue,
    init,
    label,
    mcp,
    models,
    output,
    rank,
    recommend,
    remove,
    review,
    run,
    search,
    serve,
    show,
    sids,
    status,
)
from coldstart.core import arrow
from coldstart.core.error_fields import error_fields
from coldstart.core.extras import missing_extra
from coldstart.errors import ColdstartError, machine_fault

_INTERRUPTED = 130
"""Exit code that Typer makes of Ctrl-C."""
_MACHINE_FAULT = 3
"""Exit code for a fault of the machine, such as a full disk; 1 is a fault that the user can mend, 2 one of usage."""
_STORED, _GO_ON = "finished rows are stored", "run the same command again to go on"
_NOTHING, _AGAIN = "an evaluation stores no part of it", "run the same command again"
_UsageError: Any = typer.BadParameter.__mro__[2]
"""`ClickException`, of the click that Typer brings along, or of click itself."""

app = typer.Typer(
    name="coldstart",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.add_typer(models.app, name="models")
app.add_typer(finetune.app, name="finetune")
app.add_typer(evaluate.app, name="evaluate")
app.add_typer(review.app, name="review")
ask.register_evaluation(evaluate.app)
rank.register_fit(finetune.app)
rank.register_evaluation(evaluate.app)
for family in (
    init,
    import_catalogue,
    run,
    status,
    search,
    label,
    describe,
    rank,
    recommend,
    sids,
    show,
    remove,
    export,
    serve,
    mcp,
    ask,
    demo,
):
    family.register(app)


def _version(wanted: bool) -> None:
    if wanted:
        output.line(f"coldstart {__version__}")
        raise typer.Exit


_READING = ("search", "match", "status", "show", "check", "recommend", "audience", "sids")
"""Commands that have no use for pandas."""


@app.callback()
def options(
    context: typer.Context,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the trace of an error, and warnings of libraries.")
    ] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None:
    """Understand new videos and products before their first click: embed, index, find and recommend them.

    `coldstart COMMAND --help` shows the options of a command and three examples.
    """
    if debug:
        os.environ["COLDSTART_DEBUG"] = "1"
    if context.invoked_subcommand in _READING:
        arrow.leave_pandas_out()


def _silence_libraries() -> None:
    """Silence warnings of libraries, which no user can mend; those of this package stay.

    A library says that one of its names goes away where that name is used, so in a module of this package too: such
    warnings are for the tests, where they are errors.
    """
    warnings.simplefilter("ignore")
    warnings.filterwarnings("default", module=r"coldstart(\.|$)")
    for category in (DeprecationWarning, PendingDeprecationWarning, FutureWarning):
        warnings.simplefilter("ignore", category)
    os.environ["PYTHONWARNINGS"] = "ignore"  # of the processes that a command starts
    os.environ.setdefault("RUST_BACKTRACE", "0")
    for name in ("LANCEDB_LOG", "TRANSFORMERS_VERBOSITY", "HF_HUB_VERBOSITY"):
        os.environ.setdefault(name, "error")
    if isinstance(logging.lastResort, logging.Handler):  # it writes the records of loggers without a handler
        logging.lastResort.setLevel(logging.ERROR)


def main() -> None:
    """Run the command line.

    A fault that the user can mend is one line on stderr and exit code 1; one of the machine, exit code 3. With --json
    it is an object on stdout, too.
    """
    if not sys.warnoptions and not os.environ.get("COLDSTART_DEBUG") and "--debug" not in sys.argv:
        _silence_libraries()
    complete.prepare()
    json = faults.wants_json(sys.argv[1:])
    try:
        code = app(prog_name="coldstart", standalone_mode=False)
    except (SystemExit, KeyboardInterrupt):
        raise
    except _UsageError as error:
        error.show()
        if json:
            path = ctx.command_path if (ctx := getattr(error, "ctx", None)) else "coldstart"
            faults.print_json_error(faults.usage_fields(error.format_message(), path))
        sys.exit(error.exit_code)
    except typer.Abort:
        sys.stderr.write("Aborted!\n")
        sys.exit(1)
    except BaseException as error:  # LanceDB's native part panics with one that is no Exception
        fault = machine_fault(error)
        shown = fault or missing_extra(error) or error
        if json:
            faults.print_json_error(error_fields(shown), getattr(shown, "result", None))
        if os.environ.get("COLDSTART_DEBUG") or not isinstance(shown, ColdstartError):
            raise
        faults.print_error(shown)
        sys.exit(_MACHINE_FAULT if fault else 1)
    if code == _INTERRUPTED:
        stored, after = (_NOTHING, _AGAIN) if sys.argv[1:2] == ["evaluate"] else (_STORED, _GO_ON)
        sys.stderr.write(f"stopped; {stored}: {after}\n")
        if json:
            faults.print_json_error({"kind": "interrupted", "message": stored, "where": None, "next": after})
    sys.exit(code if isinstance(code, int) else 0)
