"""Columns of text: aligned and whole in a file or a pipe, coloured and cut to fit on a terminal."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

from atm.escape import visible, visible_lines
from atm_cli import console

T = TypeVar("T")

_GAP = "  "
_MIN_FREE_WIDTH = 8


@dataclass(frozen=True)
class Column(Generic[T]):
    """One column: its title, the cell of an item, the style of that cell.

    `wide` columns are shown by `-o wide` only. On a terminal that is too narrow
    the `free` ones, which hold names and texts of any length, are cut, or with
    `wraps` continued below.
    """

    title: str
    cell: Callable[[T], str]
    style: Callable[[T], str] = lambda _item: ""
    wide: bool = False
    free: bool = False
    wraps: bool = False


@dataclass(frozen=True)
class Field:
    """One line of the details of an item; the text may have several lines of its own."""

    label: str
    text: str
    style: str = ""


def write_table(columns: Sequence[Column[T]], items: Sequence[T]) -> None:
    """The items on stdout, a line each."""
    terminal = console.screen()
    cells = [[visible(column.cell(item)) for column in columns] for item in items]
    if not terminal.is_terminal:
        console.write(_plain([[column.title for column in columns], *cells]))
        return
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column, width in zip(columns, _widths(columns, cells, terminal.width), strict=True):
        overflow: Literal["fold", "ellipsis"] = "fold" if column.wraps else "ellipsis"
        table.add_column(column.title, width=width, no_wrap=not column.wraps, overflow=overflow)
    for row, item in zip(cells, items, strict=True):
        table.add_row(
            *(Text(cell, style=column.style(item)) for cell, column in zip(row, columns, strict=True))
        )
    terminal.print(table)


def write_details(fields: Sequence[Field]) -> None:
    """One item on stdout, a field a line, empty ones left out."""
    from rich.text import Text

    terminal = console.screen()
    shown = [field for field in fields if field.text]
    width = max((len(field.label) for field in shown), default=0) + 2
    for field in shown:
        first, *others = visible_lines(field.text)
        line = Text(f"{field.label}:".ljust(width), style="bold")
        line.append(first, style=f"not bold {field.style}")
        terminal.print(line, soft_wrap=True)
        for other in others:
            terminal.print(Text(" " * width + other), soft_wrap=True)


def _widths(columns: Sequence[Column[T]], cells: Sequence[Sequence[str]], room: int) -> list[int]:
    """The width of each column: what it needs, with the widest free ones cut until all fit into `room`."""
    widths = [min(width, room) for width in _natural_widths([[column.title for column in columns], *cells])]
    free = [index for index, column in enumerate(columns) if column.free]
    while free and sum(widths) + len(_GAP) * (len(widths) - 1) > room:
        widest = max(free, key=lambda index: widths[index])
        if widths[widest] <= _MIN_FREE_WIDTH:
            break
        widths[widest] -= 1
    return widths


def _natural_widths(rows: Sequence[Sequence[str]]) -> list[int]:
    from rich.cells import cell_len

    return [max(cell_len(cell) for cell in column) for column in zip(*rows, strict=True)]


def _plain(rows: Sequence[Sequence[str]]) -> str:
    from rich.cells import cell_len

    widths = _natural_widths(rows)
    lines = (
        _GAP.join(cell + " " * (width - cell_len(cell)) for cell, width in zip(row, widths, strict=True))
        for row in rows
    )
    return "".join(f"{line.rstrip()}\n" for line in lines)
