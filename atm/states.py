"""The states of a task, the moves between them, and why a task ended. Pure: no I/O, no framework.

Nobody else writes these down a second time: the tables, the wire, the client
and the command line take them from here.
"""

from __future__ import annotations

from enum import StrEnum


class Status(StrEnum):
    """The states of a task, as clients see them."""

    PENDING = "PENDING"
    PROCESSING = "PROCESSING"
    SUCCESS = "SUCCESS"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    TIMEOUT = "TIMEOUT"


#: Every move that a task can make. A state without moves is final.
TRANSITIONS: dict[Status, frozenset[Status]] = {
    Status.PENDING: frozenset({Status.PROCESSING, Status.CANCELLED}),
    Status.PROCESSING: frozenset(
        {Status.PENDING, Status.SUCCESS, Status.FAILED, Status.CANCELLED, Status.TIMEOUT}
    ),
    Status.SUCCESS: frozenset(),
    Status.FAILED: frozenset(),
    Status.CANCELLED: frozenset(),
    Status.TIMEOUT: frozenset(),
}
#: A state that is stored may be none of these: a row may have come by an import, or by hand.
KNOWN: frozenset[str] = frozenset(Status)
#: The states in which a task stays.
FINAL = frozenset(status for status, moves in TRANSITIONS.items() if not moves)


class LogType(StrEnum):
    """What a row of a task's history says."""

    STATE_CHANGE = "STATE_CHANGE"
    RETRY = "RETRY"
    ERROR = "ERROR"
    INFO = "INFO"


class Reason(StrEnum):
    """Why a task ended other than in SUCCESS, for programs."""

    # The handler raised an exception.
    HANDLER_ERROR = "HANDLER_ERROR"
    # The worker that took the task has no handler for its type.
    NO_HANDLER = "NO_HANDLER"
    # The payload does not fit the model that the handler asks for.
    INVALID_PAYLOAD = "INVALID_PAYLOAD"
    # What the handler returned cannot be stored.
    INVALID_RESULT = "INVALID_RESULT"
    # Something went wrong around the handler, in ATM or in code that it calls: a validator, say.
    INTERNAL_ERROR = "INTERNAL_ERROR"
    # The last attempt ran out of time.
    TIMED_OUT = "TIMED_OUT"
    # The worker, or the handler's own process, died with the last attempt.
    WORKER_LOST = "WORKER_LOST"
    # Somebody cancelled the task.
    CANCELLED = "CANCELLED"


class WorkerStatus(StrEnum):
    """What a worker or a server is doing, in its registry."""

    RUNNING = "RUNNING"
    DRAINING = "DRAINING"
    # Not stored: what a worker is called whose heartbeats stopped.
    LOST = "LOST"
