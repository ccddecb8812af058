"""What long-running processes share: an end with their parent, a garbage collector that looks at little."""

from __future__ import annotations

import ctypes
import gc
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1
#: New objects that make the collector look for cycles. Requests and tasks make
#: hardly any; the default, 700, had it look after every few of them.
_COLLECT_AFTER = 20_000


def freeze_heap() -> None:
    """What the process has made so far stays: the garbage collector need not look at it again.

    To be called when it has started. A full collection over the libraries'
    objects would take 50 ms, in the middle of the work.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_COLLECT_AFTER, 10, 10)


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
