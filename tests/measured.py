"""What a process needs for its coverage to be measured.

Python before 3.12, when it traces, stands still from the moment at which an
exception is raised in another thread until that thread takes it: each call of
a function in each thread waits for that. It is for ever if the exception is
taken back, and as long as a call into C if the thread is in one.
"""

from __future__ import annotations

import ctypes
import os
import sys
from typing import Any

MEASURED = "COVERAGE_PROCESS_CONFIG" in os.environ
#: The environment of a process that is not measured.
UNMEASURED = {"COVERAGE_PROCESS_CONFIG": ""}


class _Nothing(BaseException):
    """Instead of no exception."""


def take_back_what_is_raised() -> None:
    """Lets a thread take back an exception that was raised in it, where Python would stand still."""
    if not os.environ.get("COVERAGE_PROCESS_CONFIG") or sys.version_info >= (3, 12):
        return
    original = ctypes.pythonapi.PyThreadState_SetAsyncExc

    def raise_in(thread_id: ctypes.c_ulong, exception: Any) -> int:
        if exception is not None:
            return int(original(thread_id, exception))
        try:
            # In the place of what was raised before, in this thread ...
            original(thread_id, ctypes.py_object(_Nothing))
            while True:
                # ... it comes with the next instruction.
                pass
        except _Nothing:
            return 1

    setattr(ctypes.pythonapi, "PyThreadState_SetAsyncExc", raise_in)  # noqa: B010 - typed as a function of C
