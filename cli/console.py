"""Where text goes: data to stdout, words to stderr.

The consoles interpret no markup, so that brackets in a task's text stay
brackets. Rich is imported when the first of them is made.
"""

from __future__ import annotations

import errno
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, TextIO

from atm.escape import visible
from atm_cli.exits import OutputError

if TYPE_CHECKING:
    from rich.console import Console


def screen(*, stderr: bool = False) -> Console:
    """The console of stdout, or that of stderr."""
    from rich.console import Console

    return Console(stderr=stderr, markup=False, emoji=False, highlight=False)


class Stdout:
    """A standard output whose errors are OutputErrors, whoever writes. None stands for one that is closed."""

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Raises OutputError."""
        if self._stream is None:
            raise OutputError(OSError(errno.EBADF, "it is closed"))
        try:
            return self._stream.write(text)
        except OSError as error:
            raise self._lost(error) from None

    def flush(self) -> None:
        """Raises OutputError."""
        if self._stream is None:
            return
        try:
            self._stream.flush()
        except OSError as error:
            raise self._lost(error) from None

    def _lost(self, error: OSError) -> OutputError:
        # What is still buffered would be flushed at exit, and complain again.
        with suppress(OSError, ValueError):
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, self.fileno())
            os.close(null)
        return OutputError(error)

    def __getattr__(self, name: str) -> Any:
        stream = self._stream if self._stream is not None else io.StringIO()
        return getattr(stream, name)


def write(text: str) -> None:
    """Data for stdout, as it is. Raises OutputError."""
    sys.stdout.write(text)
    sys.stdout.flush()


@contextmanager
def said_if_lost(text: str) -> Iterator[None]:
    """Says this on stderr when what the block writes to stdout is lost."""
    try:
        yield
    except OutputError:
        words(text)
        raise


def words(text: str, *, label: str = "") -> None:
    """One line for a person, on stderr, whatever is in `text`; `label` stands before it in red."""
    from rich.text import Text

    line = Text.assemble((label, "bold red"), visible(text))
    with suppress(OSError):  # there is nowhere left to say it
        screen(stderr=True).print(line, soft_wrap=True)


def error(lines: list[str]) -> None:
    """An error on stderr: its first line labelled, the others as they are."""
    words(lines[0], label="error: ")
    for line in lines[1:]:
        words(line)
