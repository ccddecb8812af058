"""What processes share: standard streams, an end with their parent, exit codes, a heap seldom read."""

from __future__ import annotations

import ctypes
import gc
import multiprocessing
import os
import signal
import sys

import psutil

#: How a worker ends whose settings or handlers cannot be used: started again, it would end so again.
UNUSABLE_SETTINGS = os.EX_CONFIG
#: The exit code of a worker that has done its share of work (ATM_MAX_TASKS, ATM_MAX_MEMORY_MB):
#: its parent starts it anew, and nothing is wrong. EX_TEMPFAIL in sysexits.h.
EXIT_RECYCLED = 75
#: The exit code of a worker whose threads are held by handlers that do not return. EX_SOFTWARE.
EXIT_STUCK = 70

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


def python_command(module: str, *arguments: str) -> list[str]:
    """The command that runs an installed module in another process of this Python.

    Unlike `python -m` alone it does not look for modules in the current
    folder, which anybody may have written to.
    """
    return [sys.executable, "-P", "-m", module, *arguments]


class Parent:
    """The process that this one shall not outlive; `pid` is its id.

    In a process of multiprocessing, as Dramatiq's workers are, that id was
    told when it was made: a parent that died before anything was looked at is
    noticed, too.
    """

    def __init__(self) -> None:
        seen = os.getppid()
        told = multiprocessing.parent_process()
        self.is_told = told is not None
        self.pid = seen if told is None or told.pid is None else told.pid
        #: Whose child this process is while its parent lives: the parent's, or that of a fork server
        #: which the parent has started.
        self.nearest = seen if seen != self.pid and _parent_of(seen) == self.pid else self.pid

    @property
    def is_gone(self) -> bool:
        """Whether it has ended."""
        return os.getppid() != self.nearest

    def has_others(self) -> bool:
        """Whether it has other children than this process; those that ended until it has waited for them."""
        try:
            return any(one.pid != os.getpid() for one in psutil.Process(self.pid).children())
        except psutil.Error:
            return False


def die_with_parent(signal_number: int = signal.SIGKILL, parent: int | None = None) -> None:
    """This process gets the signal when its parent ends (the parent's thread that started it).

    On Linux by the kernel; elsewhere nothing happens here, and the process has
    to look at `os.getppid()` itself. `parent` is who it should be, where that
    is known: it may have ended before.
    """
    if sys.platform != "linux":
        return
    if parent is None:
        parent = os.getppid()
    _set_death_signal(signal_number)
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


def outlive_parent() -> None:
    """Undoes `die_with_parent`: the process looks at its parent itself, and stops in order."""
    if sys.platform == "linux":
        _set_death_signal(0)


def _set_death_signal(number: int) -> None:
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0)


def _parent_of(pid: int) -> int | None:
    try:
        return psutil.Process(pid).ppid()
    except psutil.Error:
        return None
