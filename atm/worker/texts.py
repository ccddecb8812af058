"""The text of things that a handler has made: it may be anything, and asking for it may do anything."""

from __future__ import annotations


def text_of(error: BaseException) -> str:
    """The text of an exception, or a word on why it has none. Raises nothing."""
    try:
        return str(error)
    except BaseException as unprintable:  # noqa: BLE001 - `__str__` is the user's code
        return f"(its text cannot be shown: {type(unprintable).__name__})"
