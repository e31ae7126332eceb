"""Options that commands share, and their printing: text and tables for people, JSON for programs.

Reports of runs, states of items and estimates are laid out here; all other output is laid out by its command.
"""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from coldstart.cli import complete, tables
from coldstart.core.reasons import NEW, counted, plain, remedy
from coldstart.core.sanitize import without_controls
from coldstart.core.spelling import similar_path
from coldstart.errors import ColdstartError, redact_urls

if TYPE_CHECKING:
    from coldstart.engine.estimate.report import Comparison, Estimate, StageEstimate
    from coldstart.engine.report import RunReport, StageReport

DEFAULT_WORKSPACE = "coldstart.workspace"
MAX_TOP_K = 10_000
"""As `coldstart.store.published.MAX_TOP_K`, which the help does not import."""
_REST = "\n"
"""Separates what a terminal shows of a note from what only JSON has, such as the summary of an earlier fit."""
_LEAST_RATE = 0.05
"""Items per second below which a rate would read 0.0."""
_LONG_S = 10.0
"""Seconds from which it is worth to say that a stage waited for data."""

Uri = Annotated[
    str,
    typer.Option(
        "--workspace",
        "-w",
        envvar="COLDSTART_WORKSPACE",
        metavar="URI",
        help="Folder or LanceDB URI of the workspace.",
    ),
]
PipelineName = Annotated[
    str | None,
    typer.Option(
        "--pipeline",
        "-p",
        metavar="FILE",
        autocompletion=complete.pipelines,
        help="Pipeline file, or the name of a packaged one; by default the one of this workspace's last run.",
    ),
]
Manifest = Annotated[
    Path | None,
    typer.Option("--manifest", "-m", metavar="PATH", help="JSON, CSV, TSV or Parquet file, or a folder of media."),
]
MediaRoots = Annotated[
    list[Path] | None,
    typer.Option("--media-root", metavar="DIR", help="Another folder that media may come from; repeatable."),
]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="STAGE.KEY=VALUE", help="Change one setting, the value in YAML; repeatable."),
]
Kind = Annotated[
    str | None,
    typer.Option("--kind", metavar="video|product", autocompletion=complete.kinds, help="Only items of this kind."),
]
Where = Annotated[
    str | None,
    typer.Option(
        "--where", metavar="SQL", help="A condition on the items, such as \"price < 20 AND category = 'Fruit'\"."
    ),
]
Index = Annotated[
    str,
    typer.Option(
        "--index",
        metavar="disk|memory",
        help="Search the index of the workspace, or an HNSW graph in memory: fast, once it is built or opened.",
    ),
]
Split = Annotated[
    str,
    typer.Option("--split", metavar="NAME", help="Items of this split: test, held out from the fit; valid or train."),
]
MinWeight = Annotated[
    float | None,
    typer.Option(
        "--min-weight", metavar="W", help="Count interactions of at least W as positive; by default as the fit does."
    ),
]
Limit = Annotated[int | None, typer.Option("--limit", min=0, metavar="N", help="At most N items a stage.")]
Items = Annotated[
    list[str] | None,
    typer.Option(
        "--items", metavar="ID,ID|@FILE", help="Only these items, or those of a file, an id a line; repeatable."
    ),
]
Explain = Annotated[
    bool, typer.Option("--explain", help="Show in the table where each score comes from: spaces, ranks, parts.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]


def names(text: str | None) -> list[str] | None:
    """Split `a,b` into its names; None where the option was not given."""
    return None if text is None else [name.strip() for name in text.split(",") if name.strip()]


def counts(text: str | None, option: str) -> list[int] | None:
    """Split `256,256` into its numbers; None where the option was not given.

    Raises:
        ColdstartError: a part is no number.
    """
    parts = names(text)
    if parts is None:
        return None
    if not parts or not all(part.isascii() and part.isdecimal() and len(part) < 10 for part in parts):
        raise ColdstartError(f"{option} {text}: give numbers with commas between, such as 256,256,256")
    return [int(part) for part in parts]


def item_ids(texts: Iterable[str] | None) -> list[str] | None:
    """Read ids of items from `a,b` and `@FILE`, an id a line; None where the option was not given.

    Raises:
        ColdstartError: a file that cannot be read.
    """
    if texts is None:
        return None
    found: list[str] = []
    for text in texts:
        if text.startswith("@"):
            found += read_lines(text[1:])
        else:
            found += names(text) or ()
    return found


def read_lines(path: str) -> list[str]:
    """Read the lines of a text file that are not blank.

    Raises:
        ColdstartError: it cannot be read, or is no UTF-8 text.
    """
    from coldstart.errors import ColdstartError

    try:
        lines = Path(path).read_text("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        why = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise ColdstartError(
            f"--items @{path}: {why}{similar_path(path)}: give a text file with an id a line"
        ) from error
    return [stripped for line in lines if (stripped := line.strip())]


def line(text: str) -> None:
    """Print one line on stdout; control characters, which would steer the terminal, become spaces.

    Half a character, which no encoding has, is escaped.
    """
    _write(without_controls(text))


def _write(text: str) -> None:
    sys.stdout.write(text.encode("utf-8", "backslashreplace").decode() + "\n")


def as_json(value: Mapping[str, Any], notes: Sequence[str] = ()) -> None:
    """Print the result of a command as one JSON object on stdout, with its remarks under `notes`."""
    _write(_json_text({**value, "notes": [*(value.get("notes") or ()), *notes]}, indent=2))


def failed(message: str, next: str | None = None) -> dict[str, str | None]:
    """Describe work that was done with a result below the limit, as the field `error` of the command's own object."""
    return {"kind": "failed", "message": without_controls(message), "where": None, "next": next}


def as_json_line(value: Any) -> None:
    """Print one JSON document on one line of stdout."""
    _write(_json_text(value))
    sys.stdout.flush()


def _json_text(value: Any, indent: int | None = None) -> str:
    text = json.dumps(_redacted(value), ensure_ascii=False, indent=indent, default=str)
    return _JSON_CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", text)  # JSON itself escapes those below a space


def _redacted(value: Any, key: str = "") -> Any:
    """Leave the secrets of URLs out of the places of media, and of what is said of them; ids and texts stay."""
    if isinstance(value, Mapping):
        return {name: _redacted(inner, str(name)) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_redacted(inner, key) for inner in value]
    return redact_urls(value) if isinstance(value, str) and key in _PLACES else value


_PLACES = ("uri", "detail", "media", "medium", "manifest", "path", "value", "error", "note", "notes", "workspace")

_JSON_CONTROL = re.compile("[\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def check_page(out: Path | None) -> None:
    """Check the name of a page that is written after long work.

    Raises:
        ColdstartError: it ends in something else than `.html`.
    """
    if out is not None and out.suffix.lower() not in (".html", ".htm"):
        raise ColdstartError(f"--out {out}: the page is HTML: give a name that ends in .html")


def check_folder(out: Path | None) -> None:
    """Check the folder that files are written into after long work.

    Raises:
        ColdstartError: it is a file.
    """
    if out is not None and out.exists() and not out.is_dir():
        raise ColdstartError(f"--out {out} is a file: name a folder")


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn a failed write of a page or picture into an error that names another `--out` as the next step."""
    try:
        yield
    except OSError as error:
        raise ColdstartError(f"cannot write {path}: {error.strerror or error}; name another file with --out") from error


def write_files(folder: Path | None, texts: Mapping[str, str], *, quiet: bool) -> None:
    """Write the files of a report into a folder, by default this one, and name each on stdout unless `quiet`."""
    for name, text in texts.items():
        path = (folder or Path()) / name
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        if not quiet:
            line(f"written: {path}")


def write_report(
    folder: Path | None,
    name: str,
    found: Mapping[str, Any],
    html: Callable[[Mapping[str, Any]], str],
    markdown: Callable[[], str],
    *,
    json_on_stdout: bool,
) -> None:
    """Write the page NAME.html of an evaluation, and into a named folder its NAME.json and NAME.md.

    With `json_on_stdout` prints what was found and no names of files, and writes only into a named folder.
    """
    if not json_on_stdout or folder is not None:
        texts = {f"{name}.html": html(found)}
        if folder is not None:
            texts[f"{name}.json"] = json.dumps(found, ensure_ascii=False, indent=2) + "\n"
            texts[f"{name}.md"] = markdown()
        write_files(folder, texts, quiet=json_on_stdout)
    if json_on_stdout:
        as_json(found)


def table(
    columns: Sequence[str],
    rows: Sequence[Sequence[Any]],
    main: str | None = None,
    whole: Collection[str] = (),
    spare: Sequence[str] = (),
    below: str | None = None,
) -> None:
    """Print a table on stdout that fits the terminal; a list of the rows where that is too narrow for the columns.

    Columns of numbers are aligned to the right, and cells are cut with an ellipsis. Cells are plain text.

    Args:
        main: name of the column that tells the rows apart, such as the title; by default the first one of text.
        whole: columns of text that are not cut, such as ids.
        spare: columns that a table without room for all leaves out, the first ones first.
        below: column of sentences, which are wrapped below each row where they have no room in it.
    """
    for text in tables.table_lines(columns, rows, tables.width(), main, whole, spare, below):
        _write(text)


def table_of(
    columns: Mapping[str, Sequence[Any]],
    main: str,
    whole: Collection[str] = (),
    spare: Sequence[str] = (),
    below: str | None = None,
) -> None:
    """Print columns, without those that have no value in any row; see `table`."""
    shown = {name: values for name, values in columns.items() if any(value is not None for value in values)}
    chosen = shown or dict.fromkeys((main,), ())
    table(list(chosen), list(zip(*chosen.values(), strict=True)), main, whole, spare, below)


def facts(values: Sequence[tuple[str, Any]]) -> None:
    """Print named values, one below the other; long ones are wrapped at words."""
    lines = [(name, "" if value is None else tables.one_line(str(value))) for name, value in values]
    for text in tables.fact_lines(lines, tables.width()):
        _write(text)


def note(text: str) -> None:
    """Print a remark on stdout, wrapped at words on a terminal and one line elsewhere."""
    _write(tables.paragraph(without_controls(text).rstrip()))


def size(size_bytes: float | None) -> str:
    """Format bytes as B, kB, MB, GB or TB; `-` for none."""
    if size_bytes is None:
        return "-"
    for unit in ("B", "kB", "MB", "GB"):
        if size_bytes < 1000:
            return f"{size_bytes:,.0f} {unit}"
        size_bytes /= 1000
    return f"{size_bytes:,.1f} TB"


def duration(seconds: float | None) -> str:
    """Format seconds as s, min or h; `-` for none."""
    if seconds is None:
        return "-"
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def print_run(report: RunReport) -> None:
    """Print a finished run: the balance of each stage, its notes, the time."""
    print_balance(report.stages, ran=True)
    for stage in report.stages:
        if waited := _waited(stage):
            note(f"{stage.stage}: {waited}")
        for text in stage.notes:
            note(f"{stage.stage}: {text.partition(_REST)[0]}")
    upkeep = report.maintenance
    sizes = f"; disk {size(upkeep.bytes_before)} -> {size(upkeep.bytes_after)}" if upkeep else ""
    line(f"done in {duration(report.seconds)}{sizes}")
    if report.estimated is not None:
        print_comparison(report.estimated)


def _waited(stage: StageReport) -> str | None:
    """Advise more workers where the model had no data for most of a long stage."""
    seconds = stage.ran.seconds
    if seconds < _LONG_S or stage.ran.wait_s < seconds / 2:
        return None
    return f"the model waited {stage.ran.wait_s / seconds:.0%} of the time for data; more engine.workers may help"


def print_comparison(comparison: Comparison) -> None:
    """Print the estimate against the time that the run took: in all, and of the stages with the greatest error."""
    without = f" without {', '.join(comparison.left_out)}" if comparison.left_out else ""
    off = sorted(comparison.stages, key=lambda stage: -abs(stage.estimated_s - stage.took_s))[:3]
    stages = ", ".join(f"{stage.stage} {duration(stage.estimated_s)} for {duration(stage.took_s)}" for stage in off)
    line(
        f"estimated {duration(comparison.estimated_s)} for {duration(comparison.took_s)}{without}, "
        f"{comparison.ratio:.2f} of it; furthest off: {stages}"
    )


def print_balance(reports: Iterable[StageReport], ran: bool = False) -> None:
    """Print the items in each state, a row a stage, and why items are skipped; with `ran` also the work done now.

    States in which no item is have no column. Items that a fit is without because they are new are filtered in the
    ledger, and stand in a column of their own.
    """
    stages = list(reports)
    values: dict[str, list[Any]] = {"stage": [stage.stage for stage in stages]}
    if ran:
        values["done now"] = [stage.ran.done for stage in stages]
        values["rate"] = [_rate(stage) for stage in stages]
    values["items"] = [stage.balance.total for stage in stages]
    values["fresh"] = [stage.balance.fresh for stage in stages]
    new = [sum(stage.balance.reasons.get(reason, 0) for reason in NEW) for stage in stages]
    for state in ("new", "failed", "filtered", "duplicate", "pending"):
        counts = new if state == "new" else [getattr(stage.balance, state) for stage in stages]
        if state == "filtered":
            counts = [count - of_new for count, of_new in zip(counts, new, strict=True)]
        if any(counts):
            values[state] = counts
    table(
        list(values),
        list(zip(*values.values(), strict=True)),
        "stage",
        whole=("stage", "rate"),
        spare=("rate", "items"),
    )
    everywhere = _shared_reasons(stages)
    if everywhere:
        note(f"in every stage after the one that keeps them out: {counted(everywhere)}")
    for stage in stages:
        own = {reason: count for reason, count in stage.balance.reasons.items() if everywhere.get(reason) != count}
        if own:
            note(f"{stage.stage}: {counted(own)}")


_OFTEN = 3
"""Stages in which the same number of items has the same reason, from which it is said once."""


def _shared_reasons(stages: Sequence[StageReport]) -> dict[str, int]:
    """Find the reasons of items that a gate keeps out of all later stages, with the number that most of these have."""
    found: dict[str, int] = {}
    for reason in ("rejected_by_review", "near_duplicate"):
        counts = Counter(stage.balance.reasons[reason] for stage in stages if reason in stage.balance.reasons)
        for count, times in counts.most_common(1):
            if times >= _OFTEN:
                found[reason] = count
    return found


def _rate(stage: StageReport) -> str:
    rate = (stage.ran.done + stage.ran.lost) / stage.ran.seconds if stage.ran.seconds else 0.0
    return f"{rate:,.1f}/s" if rate >= _LEAST_RATE else "-"


def print_failures(rows: Sequence[Mapping[str, Any]]) -> None:
    """Print items without a row in a stage, stage by stage and reason by reason, with the next step of each reason."""
    groups: dict[tuple[str, str, str], list[Mapping[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["stage"], row["state"], row["reason"]), []).append(row)
    for (stage, state, reason), group in groups.items():
        step = f"; {remedy(reason)}" if remedy(reason) else ""
        note(f"{stage}: {len(group):,} {state}, {plain(reason)} ({reason}){step}")
        table(("item", "detail"), [[row["item_id"], row["detail"]] for row in group], "item", ("item",), below="detail")
        line("")


def print_estimate(estimate: Estimate, json: bool) -> None:
    """Print an estimate, a row a stage; for the other machine too, where one is named."""
    if json:
        as_json(estimate.to_dict())
        return
    rows = [
        [
            *(stage.stage, stage.rows, stage.probed, stage.lost),
            _time(stage.seconds, stage.low, stage.high),
            *([_hours(stage.gpu_hours)] if any(one.gpu_hours for one in estimate.stages) else []),
            size(stage.memory_bytes),
            size(stage.bytes),
            _bottleneck(stage),
        ]
        for stage in estimate.stages
    ]
    gpu = ["GPU-hours"] if any(one.gpu_hours for one in estimate.stages) else []
    columns = ["stage", "rows to do", "probed", "skipped", "time", *gpu, "memory", "disk", "bottleneck"]
    table(columns, rows, "stage", whole=("stage", "time", "bottleneck"), spare=("probed", "skipped", "memory", "disk"))
    if estimate.on is not None:
        _print_on_other(estimate)
    line("this rests on")
    facts([(one.what, f"{one.value} ({one.source})") for one in estimate.assumptions])
    for stage in estimate.stages:
        if stage.note:
            note(f"{stage.stage}: {stage.note}")
    low, high = estimate.range
    memory = max((stage.memory_bytes or 0 for stage in estimate.stages), default=0)
    disk = sum(stage.bytes or 0 for stage in estimate.stages)
    note(
        f"in all {_time(estimate.seconds, low, high)}{_without(estimate)}; memory {size(memory or None)}, "
        f"disk {size(disk)}"
    )
    if estimate.on is not None:
        line(_total_on_other(estimate))
    line("dry run: nothing was written")


def _print_on_other(estimate: Estimate) -> None:
    assert estimate.on is not None
    rows = [
        [
            stage.stage,
            _time(stage.other.seconds, stage.other.low, stage.other.high) if stage.other else "-",
            _hours(stage.other.gpu_hours) if stage.other else "-",
            (stage.other.bottleneck if stage.other.fits else "DOES NOT FIT its memory") if stage.other else "-",
        ]
        for stage in estimate.stages
    ]
    table((f"on {estimate.on.name}", "time", "GPU-hours", "bottleneck"), rows)


def _total_on_other(estimate: Estimate) -> str:
    assert estimate.on is not None
    seconds = estimate.seconds_there or 0.0
    used = sum(stage.other.gpu_hours for stage in estimate.stages if stage.other)
    price = (
        ""
        if estimate.on.price is None
        else f", {seconds / 3600 * estimate.on.price:.2f} at {estimate.on.price:g} an hour"
    )
    return f"on {estimate.on.name} {duration(seconds)}{_without(estimate)}: {_hours(used)} GPU-hours{price}"


def _without(estimate: Estimate) -> str:
    return f" without {', '.join(estimate.left_out)}, which could not be estimated" if estimate.left_out else ""


def _bottleneck(stage: StageEstimate) -> str:
    """The bottleneck of a stage."""
    return "nothing to do" if not stage.rows else stage.bottleneck or "not estimated"


def _time(seconds: float | None, low: float | None, high: float | None) -> str:
    """A time with its range, where the two ends differ after rounding: `3.1 h (2.6 h to 3.9 h)`."""
    text = duration(seconds)
    ends = duration(low), duration(high)
    return text if low is None or high is None or ends[0] == ends[1] else f"{text} ({ends[0]} to {ends[1]})"


def _hours(hours: float | None) -> str:
    return "-" if not hours else f"{hours:.2g}"
