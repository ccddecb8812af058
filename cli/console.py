"""Where text goes: data to stdout, words to stderr.

The consoles interpret no markup, so that brackets in a task's text stay
brackets. Rich is imported when the first of them is made.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, TextIO

import typer

from atm_cli import exits
from atm_cli.escape import visible

if TYPE_CHECKING:
    from rich.console import Console


def _console(stream: TextIO) -> Console:
    from rich.console import Console

    return Console(file=stream, markup=False, emoji=False, highlight=False)


def out() -> Console:
    """The console of stdout."""
    return _console(sys.stdout)


def err() -> Console:
    """The console of stderr."""
    return _console(sys.stderr)


def write(text: str) -> None:
    """Data for stdout, as it is. Ends the command quietly when nobody reads any more."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        # What is still buffered would be flushed at exit, and complain again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(exits.ERROR) from None


def words(text: str, *, label: str = "", style: str = "") -> None:
    """One line for a person, on stderr, whatever is in `text`."""
    from rich.text import Text

    line = Text()
    if label:
        line.append(f"{label}: ", style=style)
    line.append(visible(text))
    err().print(line, soft_wrap=True)


def error(lines: list[str]) -> None:
    """An error on stderr: its first line labelled, the others as they are."""
    words(lines[0], label="error", style="bold red")
    for line in lines[1:]:
        words(line)
