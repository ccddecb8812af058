"""How long the history of a task gets, whatever its handlers log and however often it is tried."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence

from atm.store import logs
from atm.store.database import Connection
from atm.store.logs import NewRow

#: The most rows of a history, and bytes of their messages.
MAX_ROWS = 200_000
MAX_BYTES = 64 * 1024 * 1024
#: The most lines that one attempt can add, and characters in them.
MAX_LINES = 1000
MAX_CHARACTERS = 1_000_000
#: The same in bytes: a character has four at the most, and the last line says that there were more.
_BYTES_OF_AN_ATTEMPT = 4 * MAX_CHARACTERS + 1000
#: After so many attempts a retry's row tells the beginning of what went wrong, in characters, not all of it.
DETAILED_RETRIES = 50
BRIEF_MESSAGE = 1000

#: How many tasks a process remembers to have counted.
_REMEMBERED = 1000
#: In place of an attempt's number: no attempt may add to it.
_FULL = 0


class HistoryBound:
    """Cuts what attempts log to what the histories of their tasks still have room for.

    Changes of state are always written: a twentieth of `max_rows`, and an
    eighth of `max_bytes`, are for them. Counting reads the whole history, so
    it is done only for tasks that were tried often, once for each of their
    attempts that logs something. Safe to use from several threads.
    """

    def __init__(self, max_rows: int = MAX_ROWS, max_bytes: int = MAX_BYTES) -> None:
        self._said = f"{max_rows} rows or {max_bytes / 2**20:g} MiB"
        self._room = logs.Size(max_rows - max_rows // 20, max_bytes - max_bytes // 8)
        #: So many attempts fit, whatever they have logged: nobody counts before.
        self.fit_in_any_case = min(self._room.rows // MAX_LINES, self._room.bytes // _BYTES_OF_AN_ATTEMPT)
        self._lock = threading.Lock()
        # By task: the attempt that has room for all that it may log, or _FULL.
        self._counted: OrderedDict[str, int] = OrderedDict()

    def kept(self, connection: Connection, lines: Sequence[NewRow]) -> Sequence[NewRow]:
        """Those of the lines of one attempt that may be added in this transaction.

        Where some may not, a row that says so takes their place, once in each
        attempt. The attempt must hold its task: nobody else adds lines then.
        """
        if not lines or lines[0].attempt <= self.fit_in_any_case:
            return lines
        task_id, attempt = lines[0].task_id, lines[0].attempt
        with self._lock:
            counted = self._counted.get(task_id)
        if counted == attempt:
            return lines
        room = logs.Size(0, 0)
        if counted != _FULL:
            size = logs.size(connection, task_id)
            room = logs.Size(self._room.rows - size.rows, self._room.bytes - size.bytes)
            if room.rows >= MAX_LINES and room.bytes >= _BYTES_OF_AN_ATTEMPT:
                self._remember(task_id, attempt)
                return lines
        said = (
            f"the history of this task is full ({self._said}): what else attempt {attempt} logs is not kept"
        )
        if logs.newest_message(connection, task_id) == said:
            return []
        fit = _how_many_fit(lines, room)
        if fit == len(lines):
            return lines
        if fit == 0:
            # By what is committed: it stays so, even if this transaction does not.
            self._remember(task_id, _FULL)
        return [*lines[:fit], lines[fit]._replace(message=said)]

    def _remember(self, task_id: str, counted: int) -> None:
        with self._lock:
            self._counted[task_id] = counted
            self._counted.move_to_end(task_id)
            if len(self._counted) > _REMEMBERED:
                self._counted.popitem(last=False)


def _how_many_fit(lines: Sequence[NewRow], room: logs.Size) -> int:
    rows, left = room
    for number, line in enumerate(lines):
        left -= len(line.message.encode(errors="surrogatepass"))
        if number >= rows or left < 0:
            return number
    return len(lines)
