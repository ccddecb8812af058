"""The text of things that a handler has made: they may be anything, and asking for it may do anything."""

from __future__ import annotations

import traceback
from types import TracebackType


def plain(text: str) -> str:
    """The text as Python's own str: one of a class derived from it may do anything where it is stored."""
    return text if type(text) is str else str.__str__(text)


def text_of(thing: object) -> str:
    """The text of an exception, or of anything, or a word on why it has none. Raises nothing."""
    try:
        return plain(str(thing))
    except BaseException as unprintable:  # noqa: BLE001 - `__str__` is the user's code
        return f"(its text cannot be shown: {name_of(unprintable)})"


def name_of(error: BaseException) -> str:
    """The name of an exception's class. Raises nothing."""
    try:
        return plain(type(error).__name__)
    except BaseException:  # noqa: BLE001 - a metaclass is the user's code, too
        return "(an exception without a name)"


def traceback_of(error: BaseException, outside: tuple[str, ...] = ()) -> str:
    """The traceback of an exception from the first frame that is in none of these modules. Raises nothing.

    Empty where there is none that can be shown.
    """
    try:
        trace: TracebackType | None = error.__traceback__
        while trace is not None and str(trace.tb_frame.f_globals.get("__name__")).startswith(outside):
            trace = trace.tb_next
        shown = traceback.format_exception(type(error), error, trace or error.__traceback__)
        return "".join(shown)
    except BaseException:  # noqa: BLE001 - notes, causes and groups are the user's code; so may be too many of them
        return ""
