"""What processes share: standard streams, an end with their parent, a garbage collector with little to do."""

from __future__ import annotations

import ctypes
import gc
import os
import signal
import sys

#: How a worker ends whose settings or handlers cannot be used: started again, it would end so again.
UNUSABLE_SETTINGS = os.EX_CONFIG
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


def open_standard_streams() -> None:
    """Opens the null device where this process was started with a standard stream closed (`>&-`).

    Otherwise the next file or connection would get that number, and whatever
    C code or a child process writes to its standard output would go into it.
    """
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        if getattr(sys, f"__{name}__") is not None:
            continue
        null = os.open(os.devnull, os.O_RDWR)
        if null != number:
            os.dup2(null, number)
            os.close(null)
        os.set_inheritable(number, True)
        stream = open(number, mode, encoding="utf-8", closefd=False)  # noqa: SIM115 - open as long as the process
        setattr(sys, f"__{name}__", stream)
        if getattr(sys, name) is None:
            setattr(sys, name, stream)
