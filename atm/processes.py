"""How processes notice that the one that started them is gone."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def die_with_parent(signal_number: int = signal.SIGKILL) -> None:
    """This process gets the signal when its parent ends (the parent's thread that started it).

    On Linux by the kernel; elsewhere nothing happens here, and the process has
    to look at `os.getppid()` itself.
    """
    if sys.platform != "linux":
        return
    parent = os.getppid()
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal_number, 0, 0, 0)
    if os.getppid() != parent:
        # It ended before the kernel was told.
        os.kill(os.getpid(), signal_number)
