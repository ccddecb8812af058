"""Exit codes, and the words on stderr for each error."""

from __future__ import annotations

from collections.abc import Sequence

from atm.errors import (
    AtmError,
    DeadlineError,
    InvalidArgumentError,
    PermissionDeniedError,
    PreconditionError,
    RequestReusedError,
    SettingsError,
    TaskNotFoundError,
    UnavailableError,
    WaitTimeoutError,
)
from atm.states import Status


class UsageError(AtmError):
    """The command line asks for something that cannot be; nothing was sent."""


class OutputError(AtmError):
    """What was found cannot be written to standard output. It is told unless nobody reads any more."""

    def __init__(self, error: OSError) -> None:
        super().__init__(f"standard output cannot be written to: {error.strerror or error}")
        self.is_told = not isinstance(error, BrokenPipeError)


OK = 0
ERROR = 1
USAGE = 2
NOT_FOUND = 3
PERMISSION = 4
CONFLICT = 5
UNAVAILABLE = 6
WAIT_TIMEOUT = 7
TASK_FAILED = 8
TASK_CANCELLED = 9
INTERRUPTED = 130

_CODES: Sequence[tuple[type[AtmError], int]] = (
    (UsageError, USAGE),
    (SettingsError, USAGE),
    (InvalidArgumentError, USAGE),
    (TaskNotFoundError, NOT_FOUND),
    (PermissionDeniedError, PERMISSION),
    (PreconditionError, CONFLICT),
    (RequestReusedError, CONFLICT),
    (UnavailableError, UNAVAILABLE),
    # No answer in time is no answer; 7 is kept for a wait that the user bounded.
    (DeadlineError, UNAVAILABLE),
    (WaitTimeoutError, WAIT_TIMEOUT),
)
_ENDS: dict[str, int] = {
    Status.SUCCESS: OK,
    Status.FAILED: TASK_FAILED,
    Status.TIMEOUT: TASK_FAILED,
    Status.CANCELLED: TASK_CANCELLED,
}


def code_of(error: AtmError) -> int:
    """The exit code for an error."""
    return next((code for kind, code in _CODES if isinstance(error, kind)), ERROR)


def code_of_end(status: str) -> int:
    """The exit code of a command that waited for a task which ended in `status`."""
    return _ENDS.get(status, ERROR)


def explain(error: AtmError, server: str | None = None) -> list[str]:
    """The lines that tell a person about `error`; `server` is the address that was asked, if one was.

    The text may be a server's, so it has yet to be made safe for a terminal.
    """
    if isinstance(error, UnavailableError):
        # Not at the top: it needs gRPC, which whoever raised this has loaded.
        from atm.client.errors import UNREACHABLE

        if error.reason == UNREACHABLE:
            advice = "start one with `atm up`, or name another with --server or ATM_SERVER"
            return [f"no ATM server answers at {server}; {advice}"]
        return [f"the server at {server} cannot answer now: {error.message}"] if server else [error.message]
    if isinstance(error, DeadlineError):
        return [f"the server at {server} did not answer in time; whether the call took effect is unknown"]
    if isinstance(error, InvalidArgumentError) and error.violations:
        return ["the request was refused", *(f"  {v.field}: {v.description}" for v in error.violations)]
    return [str(error)]
