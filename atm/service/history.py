"""The history of a task, as much of it as fits into an answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from atm.errors import FieldViolation, InvalidArgumentError, TaskNotFoundError
from atm.models import TaskLog
from atm.service.answers import ANSWER_BYTES, READ_FACTOR, Reserve
from atm.states import LogType
from atm.store import logs, tasks
from atm.store.database import Connection

#: Rows of a page.
MAX_LOG_PAGE = 1000
#: Rows of an answer without pages: more would not fit, whatever is in them.
_MOST = ANSWER_BYTES // 100
#: What a row costs beside its texts.
_ROW_FRAME = 160
#: Kept free for the rows that stand for others, and for the newest.
_SPARE = 128 * 1024


@dataclass(frozen=True)
class LogPage:
    """Rows of a history, oldest first, and what asks for those that follow ("": there are none)."""

    rows: Sequence[TaskLog]
    next_token: str = ""


@dataclass(frozen=True)
class LogListing:
    """Which rows of which history; `page_size` 0 and no token: all of them, without pages."""

    task_id: str
    page_size: int = 0
    page_token: str = ""

    @property
    def has_pages(self) -> bool:
        return bool(self.page_size or self.page_token)

    def after(self) -> int:
        """The id of the row that they come after. Raises InvalidArgumentError."""
        token = self.page_token
        if token and not (token.isascii() and token.isdigit() and len(token) < 19):
            raise InvalidArgumentError([FieldViolation("page_token", "is not one that GetTaskLogs gave")])
        return int(token or 0)


def read_history(connection: Connection, listing: LogListing, reserve: Reserve) -> LogPage:
    """Some rows of a history, or all. Raises TaskNotFoundError, and ExhaustedError of `reserve`."""
    if tasks.get_basic(connection, [listing.task_id]) == {}:
        raise TaskNotFoundError(listing.task_id)
    after = listing.after()
    limit = (listing.page_size or MAX_LOG_PAGE) if listing.has_pages else _MOST
    sizes = logs.sizes(connection, listing.task_id, after, limit + 1)
    last, used, count = after, 0, 0
    for log_id, size in sizes[:limit]:
        if used + size + _ROW_FRAME > ANSWER_BYTES - _SPARE and count:
            break
        last, used, count = log_id, used + size + _ROW_FRAME, count + 1
    reserve(READ_FACTOR * used)
    rows = logs.between(connection, listing.task_id, after, last)
    if count == len(sizes):
        return LogPage(rows)
    if listing.has_pages:
        return LogPage(rows, str(last))
    return LogPage([*rows, *_rest(connection, rows[-1])])


def _rest(connection: Connection, last: TaskLog) -> list[TaskLog]:
    """What stands for the rows after `last`: a row that says how many they are, and the newest change."""
    assert last.log_id is not None
    change = logs.newest_change(connection, last.task_id, last.log_id)
    newest = [] if change is None else [change]
    left_out = logs.count_after(connection, last.task_id, last.log_id) - len(newest)
    if not left_out:
        return newest
    gap = TaskLog.model_construct(
        log_id=last.log_id + 1,
        task_id=last.task_id,
        log_type=LogType.INFO,
        message=f"{left_out} rows are left out here: the answer would be too large; with a page_size "
        "GetTaskLogs gives them page by page",
        created_at=last.created_at,
    )
    return [gap, *newest]
