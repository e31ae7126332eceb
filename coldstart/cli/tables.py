"""Lay out tables and lists of facts for the width at hand: aligned columns, or a list where columns cannot fit.

Widths are those of a terminal: a Chinese character or an emoji takes two cells. Cells are cut with an ellipsis and
never folded, so that a row is a line, but for one column of sentences, which goes below its row where it does not fit;
`--json` has them whole.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Collection, Iterator, Sequence
from typing import Any

PIPED_WIDTH = 160
"""Columns of output that is no terminal, the same everywhere."""
_NARROWEST = 20
_GAP = "  "
_ELLIPSIS = "…"
_LEAST = 10
"""Cells that a column of text keeps, unless its texts are shorter."""
_MAIN_LEAST = 20
"""The same for the column that tells the rows apart, such as the title."""
_NUMBER = re.compile(r"[+-]?[\d,]+(\.\d+)?%?")


def width() -> int:
    """Measure the columns to write in: COLUMNS where it is set, else those of the terminal, else `PIPED_WIDTH`."""
    if _is_measured():
        return max(shutil.get_terminal_size((PIPED_WIDTH, 24)).columns, _NARROWEST)
    return PIPED_WIDTH


def is_styled() -> bool:
    """Tell whether text may be bold: on a terminal that knows it, unless NO_COLOR forbids."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def table_lines(
    columns: Sequence[str],
    rows: Sequence[Sequence[Any]],
    most: int,
    main: str | None = None,
    whole: Collection[str] = (),
    spare: Sequence[str] = (),
    below: str | None = None,
) -> Iterator[str]:
    """Lay out rows as a table of at most `most` cells a line, or as a list where that is too narrow.

    Args:
        main: name of the column that tells the rows apart; by default the first one of text.
        whole: columns of text that are not cut, such as ids; numbers never are.
        spare: columns that are left out of a table that has no room for all, the first ones first; a list has them.
        below: column of sentences, which are wrapped below each row where they have no room in it.
    """
    cells = _columns_of_text(rows, columns)
    sentences = cells[columns.index(below)] if below in columns else None
    numeric = [bool(rows) and all(_is_number(cell) for cell in column if cell != "-") for column in cells]
    place = columns.index(main) if main in columns else next((i for i, is_one in enumerate(numeric) if not is_one), 0)
    natural = [max(map(cell_width, (name, *column))) for name, column in zip(columns, cells, strict=True)]
    fixed = [number or name in (*whole, below) for name, number in zip(columns, numeric, strict=True)]
    without = [(), (below,)] if sentences is not None and place != columns.index(below) else [()]
    layouts = [(*left_out, *spare[:count]) for left_out in without for count in range(len(spare) + 1)]
    for left_out in layouts:
        shown = [i for i, name in enumerate(columns) if name not in left_out]
        kept = [natural[i] if fixed[i] else min(natural[i], _MAIN_LEAST if i == place else _LEAST) for i in shown]
        widths = _fit([natural[i] for i in shown], kept, shown.index(place), most)
        if widths is not None and (len(shown) > 1 or not left_out):
            break
    else:
        yield from _list_lines(columns, list(zip(*cells, strict=True)), place, most, below)
        return
    indent = sum(widths[i] + len(_GAP) for i in range(shown.index(place)))
    columns, numeric = [columns[i] for i in shown], [numeric[i] for i in shown]
    lined = list(zip(*(cells[i] for i in shown), strict=True))
    last = len(columns) - 1
    for number, row in enumerate((columns, ["─" * wide for wide in widths], *lined)):
        line = _GAP.join(
            fit_cell(cell, widths[i], right=numeric[i], pad=i < last or numeric[i]) for i, cell in enumerate(row)
        ).rstrip()
        yield line if number else _bold(line)
        if sentences is not None and below not in columns and number > 1 and sentences[number - 2] != "-":
            yield from (" " * indent + text for text in wrap(sentences[number - 2], most - indent))


def fact_lines(facts: Sequence[tuple[str, str]], most: int) -> Iterator[str]:
    """Lay out named values, the values wrapped at words beside or, on a narrow terminal, below their names."""
    beside = max((cell_width(name) for name, _ in facts), default=0) + len(_GAP)
    below = most - beside < _MAIN_LEAST
    for name, value in facts:
        lines = list(wrap(value, most - (2 if below else beside))) or ["-"]
        if below:
            yield cut(name, most)
            yield from (f"  {line}" for line in lines)
        else:
            yield fit_cell(name, beside) + lines[0]
            yield from (" " * beside + line for line in lines[1:])


def wrap(text: str, most: int, whole: bool = False) -> Iterator[str]:
    """Break a text at its words into lines of at most `most` cells.

    A longer word is broken, too; with `whole` one of ASCII letters, such as an address, is a line of its own.
    """
    line = ""
    for word in text.split():
        if line and cell_width(line) + 1 + cell_width(word) > most:
            yield line
            line = ""
        line = f"{line} {word}" if line else word
        while cell_width(line) > most and not (whole and word.isascii()):
            head = cut(line, most, ellipsis="")
            yield head
            line = line[len(head) :]
    if line:
        yield line


def cell_width(text: str) -> int:
    """Count the cells that a text takes on a terminal."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)


def cut(text: str, most: int, ellipsis: str = _ELLIPSIS) -> str:
    """Cut a text to `most` cells, the ellipsis among them."""
    if cell_width(text) <= most:
        return text
    if text.isascii():
        return text[: most - len(ellipsis)].rstrip() + ellipsis if ellipsis else text[:most]
    from rich.cells import set_cell_size

    head = set_cell_size(text, max(most - len(ellipsis), 0))
    if not ellipsis:  # the caller goes on behind it: a half character became a space, which the text does not have
        return head if text.startswith(head) else head[:-1] or text[0]
    return head.rstrip() + ellipsis


def fit_cell(text: str, wide: int, right: bool = False, pad: bool = True) -> str:
    """Cut or pad a text to `wide` cells."""
    text = cut(text, wide)
    fill = " " * (wide - cell_width(text)) if pad else ""
    return fill + text if right else text + fill


def one_line(text: str) -> str:
    """Put a text on one line, without characters that would steer the terminal."""
    return " ".join("".join(c if c.isprintable() or c == "\u200d" else " " for c in text).split())


def _columns_of_text(rows: Sequence[Sequence[Any]], columns: Sequence[str]) -> list[list[str]]:
    """Format the cells, column by column; numbers of one column have as many decimals as the most exact of them.

    Prices have two or none.
    """
    found = []
    for place, name in enumerate(columns):
        values = [row[place] for row in rows]
        exact = max((len(f"{one:g}".partition(".")[2]) for one in values if isinstance(one, float)), default=0)
        exact = 2 if name == "price" and exact == 1 else exact
        found.append([_text(value, exact) for value in values])
    return found


def _text(value: Any, decimals: int) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}" if "e" in f"{value:g}" else f"{value:,.{decimals}f}"
    return f"{value:,}" if isinstance(value, int) else one_line(str(value))


def _is_number(cell: str) -> bool:
    return _NUMBER.fullmatch(cell) is not None


def _fit(natural: Sequence[int], least: Sequence[int], main: int, most: int) -> list[int] | None:
    """Give each column its width, between the least and the natural one; None where the line is too short for all."""
    room = most - len(_GAP) * (len(natural) - 1)
    if sum(natural) <= room:
        return list(natural)
    if sum(least) > room:
        return None
    widths = list(least)
    spare = room - sum(least)
    while spare:  # the narrowest column that is cut grows first, the main one twice as fast
        short = [place for place, wide in enumerate(widths) if wide < natural[place]]
        place = min(short, key=lambda i: widths[i] / (2 if i == main else 1))
        widths[place] += 1
        spare -= 1
    return widths


def _list_lines(
    columns: Sequence[str], rows: Sequence[Sequence[str]], main: int, most: int, below: str | None
) -> Iterator[str]:
    """Lay out each row as a block: the main cell, then the others with their names, and the sentences last."""
    numbered = main != 0 and not columns[0].strip()
    for row in rows:
        yield _bold(cut(f"{row[0]}. {row[main]}" if numbered else row[main], most))
        line, sentences = "", ""
        for place, (name, cell) in enumerate(zip(columns, row, strict=True)):
            if place == main or cell in ("", "-") or (numbered and place == 0):
                continue
            if name == below:
                sentences = cell
                continue
            part = cut(f"{name} {cell}".strip(), most - 2)
            if line and cell_width(line) + 2 + cell_width(part) > most - 2:
                yield f"  {line}"
                line = ""
            line = f"{line}, {part}" if line else part
        if line:
            yield f"  {line}"
        yield from (f"  {text}" for text in wrap(sentences, most - 2))


def paragraph(text: str) -> str:
    """Wrap a text at words for the terminal at hand; unchanged where output is piped, so that a line stays a line.

    A word that is too long, such as an address, stays whole, so that it can be pasted.
    """
    return "\n".join(wrap(text, width(), whole=True)) if _is_measured() else text


def _is_measured() -> bool:
    return os.environ.get("COLUMNS", "").isdecimal() or sys.stdout.isatty()


def _bold(text: str) -> str:
    return f"\x1b[1m{text}\x1b[0m" if is_styled() else text
