"""What an error of the database means: a conflict, an outage, a refusal, or a fault of the statement."""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from enum import Enum
from typing import Any

from sqlalchemy import exc

from atm.errors import DatabaseRefusedError, PacketTooLargeError, UnavailableError

logger = logging.getLogger(__name__)

#: An outage that goes on is told again after this many seconds.
TELL_AGAIN_SECONDS = 60.0

#: The transaction is rolled back and may be tried again.
_CONFLICTS = {
    # Deadlock found; lock wait timeout; a table that an upgrade is just changing, or has just changed.
    *(1213, 1205, 1684, 1412),
    # Group Replication: another member had changed the same rows.
    3101,
    # TiDB: such conflicts, and a schema that has just changed.
    *(8002, 8005, 8022, 8028, 9007),
    # OceanBase: a transaction that it has rolled back, or knows no longer.
    *(6002, 6211, 6213, 6223, 6224),
}
#: The same when a statement gets it. At a COMMIT nobody knows what has become of the transaction:
#: Galera's errors of certification and of its network; OceanBase's timeout of a statement.
_CONFLICTS_OF_STATEMENTS = {1180, 4012}
#: The server, its session or its transaction may only be read: it has become a replica, say.
_READ_ONLY = {1290, 1792, 1836}
#: 1290 is said of other options of the server, too.
_READ_ONLY_WORDS = ("read-only", "read_only", "read only")
#: A member of a cluster that has lost the others: Galera's, Group Replication's.
_WITHOUT_QUORUM = {1047, 3100}
#: A server that is just being stopped.
_STOPPING = {1053}
#: Of the server, of an account.
_TOO_MANY_CONNECTIONS = {1040, 1203, 1226}
#: Vitess has one number for everything, and says the rest in words.
_VITESS = 1105
_VITESS_CONFLICT_WORDS = ("code = aborted", "code = deadlineexceeded")
_VITESS_NOT_PRIMARY_WORDS = (
    *("not serving", "not_serving", "shutting_down", "reparent", "no healthy tablet"),
    *("code = clusterevent", "wrong tablet type", "operation not allowed in state"),
)
#: More than the server takes in one packet.
_TOO_LARGE = {1153}
#: What somebody has to mend: access, accounts and rights; a database, a table or a
#: column that is not there; a disk or a table that is full.
_REFUSALS = {
    *(1044, 1045, 1130, 1142, 1143, 1227, 1370, 1396, 1410, 1698, 1820, 1862, 3118, 3159, 4151),
    *(1049, 1054, 1146),
    *(3, 1021, 1026, 1030, 1114),
}
#: The same, in the words of SQLite and of the driver.
_REFUSED_WORDS = (
    *("disk is full", "disk i/o error", "unable to open", "not a database", "malformed", "no such table"),
    *("no such column", "cryptography"),
)


#: What `bulk.run` calls the statement of an error that its COMMIT got.
COMMIT = "COMMIT"


class Failure(Enum):
    """What an error means for whoever asked."""

    # Another transaction was in the way: this one may be tried again.
    CONFLICT = "a conflict"
    # This server does not take writes (any more): another one may.
    NOT_PRIMARY = "not the primary"
    # Somebody has to mend something before it works.
    REFUSED = "refused"
    # Out of reach, or no answer.
    OUTAGE = "out of reach"
    # More than the server takes.
    TOO_LARGE = "too large"


class NoConnectionError(Exception):
    """The pool has no connection to give; the cause says why."""


def failure_of(error: BaseException) -> Failure | None:
    """What it means; None: the statement, or what ran it, is wrong."""
    if isinstance(error, NoConnectionError):
        cause = error.__cause__
        found = failure_of(cause) if cause is not None else None
        return Failure.OUTAGE if found in (None, Failure.TOO_LARGE) else found
    if isinstance(error, exc.TimeoutError | exc.DisconnectionError | OSError):
        return Failure.OUTAGE
    if isinstance(error, RuntimeError):
        return Failure.REFUSED if _mentions(error, _REFUSED_WORDS) else None
    if not isinstance(error, exc.DBAPIError):
        return None
    cause = error.orig
    if isinstance(cause, sqlite3.Error):
        return _of_sqlite(error, cause)
    return _of_code(error, code_of(error))


def _of_sqlite(error: exc.DBAPIError, cause: sqlite3.Error) -> Failure | None:
    if isinstance(error, exc.OperationalError) and "locked" in str(cause):
        return Failure.CONFLICT
    if "readonly" in str(cause):
        return Failure.NOT_PRIMARY
    if _mentions(cause, _REFUSED_WORDS):
        return Failure.REFUSED
    return Failure.OUTAGE if isinstance(error, exc.OperationalError) else None


def _of_code(error: exc.DBAPIError, code: Any) -> Failure | None:
    if _is_conflict(error, code):
        return Failure.CONFLICT
    if is_read_only(error) or _is_without_cluster(error, code):
        return Failure.NOT_PRIMARY
    if code in _TOO_LARGE:
        return Failure.TOO_LARGE
    if code in _REFUSALS:
        return Failure.REFUSED
    # A driver that has lost its place in what the server says raises InternalError.
    lost = exc.OperationalError | exc.InterfaceError | exc.InternalError
    return Failure.OUTAGE if isinstance(error, lost) or error.connection_invalidated else None


def _is_conflict(error: exc.DBAPIError, code: Any) -> bool:
    if code in _CONFLICTS:
        return True
    if is_of_commit(error):
        return False
    return code in _CONFLICTS_OF_STATEMENTS or (
        code == _VITESS and _mentions(error.orig, _VITESS_CONFLICT_WORDS)
    )


def is_of_commit(error: exc.DBAPIError) -> bool:
    """Whether a COMMIT got it."""
    # SQLAlchemy knows of no statement then; `bulk.run` names it.
    return error.statement is None or error.statement == COMMIT


def is_read_only(error: BaseException) -> bool:
    """Whether the server, or this session of it, may only be read."""
    code = code_of(error)
    return code in _READ_ONLY and (code != 1290 or _mentions(getattr(error, "orig", None), _READ_ONLY_WORDS))


def _is_without_cluster(error: exc.DBAPIError, code: Any) -> bool:
    """Whether what is behind the connection is just no primary, and may not become one again."""
    if code == _VITESS:
        return _mentions(error.orig, _VITESS_NOT_PRIMARY_WORDS)
    return code in _WITHOUT_QUORUM or code in _STOPPING


def is_undecodable(error: BaseException) -> bool:
    """Whether SQLite holds a text that is not UTF-8."""
    return isinstance(error, exc.OperationalError) and _mentions(error.orig, ("could not decode to utf-8",))


def _mentions(error: BaseException | None, words: tuple[str, ...]) -> bool:
    text = str(error).lower()
    return any(word in text for word in words)


def code_of(error: BaseException | None) -> Any:
    """The database's own number for it, where it has one."""
    arguments = getattr(getattr(error, "orig", None), "args", ())
    return arguments[0] if arguments and isinstance(arguments[0], int) else None


def words_of(error: BaseException) -> str:
    """The database's own code and words."""
    while isinstance(error, NoConnectionError) and error.__cause__ is not None:
        error = error.__cause__
    cause: BaseException = getattr(error, "orig", None) or error
    return f"{type(cause).__name__}{cause.args}" if len(cause.args) > 1 else f"{cause}"


def answer_to(failure: Failure, error: BaseException) -> Exception:
    """What is raised for it: in words for anybody. Those of the database are for the log."""
    error = error.__cause__ or error if isinstance(error, NoConnectionError) else error
    code = code_of(error)
    number = f" (error {code})" if code is not None else ""
    match failure:
        case Failure.NOT_PRIMARY if is_read_only(error) or code is None:
            said = f"the database is read-only{number}: another one may have taken its place"
            return UnavailableError(said, reason="DATABASE_READ_ONLY", retry_after=1.0)
        case Failure.NOT_PRIMARY:
            said = f"the database is not the primary of its cluster{number}"
        case Failure.REFUSED:
            return DatabaseRefusedError(
                f"the database refuses what ATM needs{number}: its operator finds why in the log"
            )
        case Failure.TOO_LARGE:
            return PacketTooLargeError(f"more than the database takes{number}")
        case Failure.CONFLICT:
            said = f"other transactions were in the way, again and again{number}"
        case _ if code in _TOO_MANY_CONNECTIONS:
            said = (
                f"the database takes no more connections{number}: raise max_connections, or have fewer "
                "servers and workers; each server has up to 26, each worker 9 (docs/operations.md)"
            )
        case _:
            said = f"the database cannot be reached or does not answer{number}"
    return UnavailableError(said, reason="DATABASE_UNAVAILABLE", retry_after=1.0)


class OutageLog:
    """Tells of failures of one database: each once when it changes, and again while it lasts.

    Nothing before its first answer: who opens it says what came of that.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._has_answered = False
        self._known: tuple[Failure, Any] | None = None
        self._told_at = 0.0
        self._since = 0.0
        self._count = 0

    def note(self, failure: Failure, error: BaseException) -> None:
        """It has failed like this."""
        if not self._has_answered:
            return
        cause = error.__cause__ if isinstance(error, NoConnectionError) else error
        kind = (failure, code_of(cause))
        now = time.monotonic()
        with self._lock:
            if self._known is None:
                self._since = now
            self._count += 1
            if kind == self._known and now - self._told_at < TELL_AGAIN_SECONDS:
                return
            self._known, self._told_at = kind, now
            count, since = self._count, now - self._since
        level = logging.ERROR if failure is Failure.REFUSED else logging.WARNING
        again = f" ({count} times in {since:.0f} s)" if count > 1 else ""
        logger.log(level, "the database is %s%s: %s", failure.value, again, words_of(error))

    def over(self) -> None:
        """It has answered."""
        self._has_answered = True
        if self._known is None:
            return
        with self._lock:
            if self._known is None:
                return
            self._known, self._count = None, 0
            lasted = time.monotonic() - self._since
        logger.info("the database answers again, after %.1f s", lasted)
