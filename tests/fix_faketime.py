"""Processes whose clock is off: what libfaketime, where it is installed, is told by its variables."""

from __future__ import annotations

import functools
import os
from pathlib import Path

import pytest


@functools.cache
def _library() -> Path | None:
    found = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
    return found[0] if found else None


def missing_reason() -> str:
    """Why no clock is shifted, and what to do about it."""
    return "libfaketime is not installed (Debian: apt-get install faketime), so no clock was shifted"


def has_faketime() -> bool:
    """Whether clocks can be shifted here."""
    return _library() is not None


def require_faketime() -> None:
    """Skips the test where no clock can be shifted, or fails it where that must be."""
    if not has_faketime():
        if os.environ.get("ATM_REQUIRE_FAKETIME"):
            pytest.fail(missing_reason())
        pytest.skip(missing_reason())


def clock_off_by(seconds: float) -> dict[str, str]:
    """Environment of a process whose clock is ahead by so much, but for the monotonic one."""
    return {
        "LD_PRELOAD": str(_library()),
        "FAKETIME": f"{seconds:+g}s",
        # For the processes that it starts, too: counted from now on, not from their start.
        "FAKETIME_DONT_RESET": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "NO_FAKE_STAT": "1",
    }
