"""Moments of a run at which a test has its handler cancelled, or its time run out.

A moment is a function of the run as it is so far, which is called whenever the
handler logs, tells its progress, sleeps, or asks whether it was cancelled; the
first time that it is true is the moment. A test can bring its own:
`cancel_at=lambda run: len(run.lines) == 3`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from atm.testing.run import HandlerRun

Moment = Callable[["HandlerRun"], object]


def at_line(text: str) -> Moment:
    """As soon as the handler has logged a line with `text` in it."""
    return lambda run: any(text in line for line in run.lines)


def at_progress(fraction: float) -> Moment:
    """As soon as the handler has told that it is at least so far, from 0 to 1."""
    return lambda run: any(report.fraction >= fraction for report in run.progress)


def at_seconds(seconds: float) -> Moment:
    """As soon as the attempt is this old: see `HandlerRun.seconds`."""
    return lambda run: run.seconds >= seconds
