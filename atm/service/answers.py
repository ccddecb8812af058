"""What fits into an answer: in 4 MiB, which clients of gRPC take unless they are told otherwise. Pure.

Sizes are known before values are read, so that an answer costs a server no
more memory than it may have bytes, however large what was asked for is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from atm.models import Task

#: What an answer of several things may have, in bytes of the wire; the rest of 4 MiB is room for errors here.
ANSWER_BYTES = 3 * 1024 * 1024
#: What an answer of one task may have.
TASK_ANSWER_BYTES = 4 * 1024 * 1024 - 64 * 1024
#: Payloads and results of up to so many bytes are read with their tasks, others by themselves.
INLINE_BYTES = 64 * 1024
#: What is read costs this many times its bytes: as the database gives it, decoded, and as it is sent.
READ_FACTOR = 4

#: Reserves memory for so many bytes of a call. Raises ExhaustedError when there is none left.
Reserve = Callable[[int], None]


def unbounded(_size: int) -> None:
    """Reserves nothing, for callers that are few."""


#: What a task costs beside its texts: numbers, moments, and the frame of each field.
_TASK_FRAME = 300
_ENTRY_FRAME = 12
_TEXTS = ("task_type", "worker_id", "error_message", "progress_message", "cancel_requested_by")


def inline_bytes(count: int) -> int:
    """Up to which size values of so many tasks are read at once: at most half an answer together."""
    return min(INLINE_BYTES, ANSWER_BYTES // (4 * max(1, count)))


def size_of(task: Task) -> int:
    """About how many bytes of an answer a task takes, without what was not read of it."""
    values = task.__dict__
    size = _TASK_FRAME + sum(len(str(values[name]).encode()) for name in _TEXTS)
    for name in ("payload", "result"):
        for key, value in (values[name] or {}).items():
            size += len(str(key).encode()) + len(str(value).encode()) + _ENTRY_FRAME
    return size


def beginning(tasks: Sequence[Task]) -> int:
    """How many of these fit into an answer as a whole, with what is yet to be read; one always does."""
    room = ANSWER_BYTES
    for place, task in enumerate(tasks):
        room -= size_of(task) + task.unread
        if room < 0 and place:
            return place
    return len(tasks)


def to_read(tasks: Sequence[Task]) -> list[Task]:
    """Those whose unread values have room in an answer that has all of these tasks; the others are marked."""
    room = ANSWER_BYTES - sum(map(size_of, tasks))
    chosen = []
    for task in tasks:
        if not task.unread:
            continue
        if task.unread <= room:
            room -= task.unread
            chosen.append(task)
        else:
            task.omit_unread()
    return chosen
