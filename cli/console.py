"""Where text goes: data to stdout, words to stderr.

The consoles interpret no markup, so that brackets in a task's text stay
brackets. Rich is imported when the first of them is made.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import typer

from atm_cli import exits
from atm_cli.escape import visible

if TYPE_CHECKING:
    from rich.console import Console


def screen(*, stderr: bool = False) -> Console:
    """The console of stdout, or that of stderr."""
    from rich.console import Console

    return Console(stderr=stderr, markup=False, emoji=False, highlight=False)


def write(text: str) -> None:
    """Data for stdout, as it is. Ends the command quietly when nobody reads any more."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        # What is still buffered would be flushed at exit, and complain again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(exits.ERROR) from None


def words(text: str, *, label: str = "") -> None:
    """One line for a person, on stderr, whatever is in `text`; `label` stands before it in red."""
    from rich.text import Text

    line = Text.assemble((label, "bold red"), visible(text))
    screen(stderr=True).print(line, soft_wrap=True)


def error(lines: list[str]) -> None:
    """An error on stderr: its first line labelled, the others as they are."""
    words(lines[0], label="error: ")
    for line in lines[1:]:
        words(line)
