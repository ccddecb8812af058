"""The life of one attempt in SQL: claimed, remarked on, and ended exactly once.

What several attempts want at the same time is one transaction. An attempt
that was given up on holds the task no longer; what it still reports is
refused, and the refusal is logged.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from enum import Enum, auto
from functools import partial
from typing import Any, NamedTuple

from atm.models import PROGRESS_MESSAGE_LENGTH, Task
from atm.retrying import MAX_TIMEOUT_MS
from atm.service.history_bound import HistoryBound
from atm.service.outcomes import Failed, HandedBack, Outcome, Succeeded, WorkerLost, decide
from atm.states import KNOWN, LogType, Status
from atm.store import logs, tasks, waiting
from atm.store.database import Connection, Database
from atm.store.logs import NewRow
from atm.store.tasks import Move
from atm.values import storable

#: By how much less than a worker the server that sent a message may know of the database's time.
_CLOCKS_AGREE = timedelta(seconds=1)
#: By how many characters of what it says an end is known again.
_SAME_WORDS = 500
#: Attempts that are ended in one transaction when their worker is gone.
_ENDED_TOGETHER = 100
_DIED = WorkerLost("its worker died")


@dataclass(frozen=True)
class Line:
    """Something that a handler logged."""

    message: str
    at: datetime


@dataclass(frozen=True)
class Progress:
    """How far a handler says it is: from 0 to 1, and in words."""

    fraction: float
    message: str = ""


class Report(NamedTuple):
    """What an attempt has to tell since its last report."""

    lines: Sequence[Line] = ()
    progress: Progress | None = None

    def __bool__(self) -> bool:
        return bool(self.lines) or self.progress is not None


@dataclass(slots=True)
class ClaimedTask:
    """What a worker knows of a task of which it has claimed an attempt. Carried whole, wherever it goes."""

    task_id: str
    task_type: str
    # The number of the attempt.
    attempt: int
    retry_count: int
    max_retry: int
    priority: int
    # Milliseconds; 0: as long as it takes.
    timeout_ms: int
    payload: Mapping[str, str]
    started_at: datetime

    @classmethod
    def of_row(cls, row: Mapping[str, Any], at: datetime) -> ClaimedTask:
        """The task of a row (tasks.START_COLUMNS) whose next attempt is claimed at this moment."""
        same = {name: row[name] for name in _SAME_COLUMNS}
        # No request and no handler asks for more, but an import may.
        same["timeout_ms"] = max(0, min(row["timeout_ms"], MAX_TIMEOUT_MS))
        return cls(**same, attempt=row["attempt"] + 1, started_at=at)


#: The fields of ClaimedTask that are columns and stay as they are.
_SAME_COLUMNS = [f.name for f in fields(ClaimedTask) if f.name not in ("attempt", "started_at")]


class Behind(Enum):
    """What a claim finds where the database has not got yet what another node of it has committed."""

    BEHIND = auto()


class Claim(NamedTuple):
    """A worker wants this attempt. The result is the task, None when the hint is out of date, or Behind."""

    task_id: str
    attempt: int


class End(NamedTuple):
    """This attempt is over. The result is the state that the task got, or None when it was refused."""

    task_id: str
    attempt: int
    outcome: Outcome
    report: Report = Report()


def size_of(change: Claim | End) -> int:
    """How many characters a change brings to SQL, where they can be many."""
    if isinstance(change, Claim):
        return 0
    said = sum(len(line.message) for line in change.report.lines)
    outcome = change.outcome
    if isinstance(outcome, Succeeded):
        return said + sum(map(len, (*outcome.result, *outcome.result.values())))
    if isinstance(outcome, Failed):
        # Two rows may have it.
        return said + 2 * min(logs.MAX_MESSAGE, len(outcome.error) + len(outcome.traceback))
    return said


#: What becomes of a `Claim` (the task, or Behind) and of an `End` (the state); None: it was refused.
ChangeResult = ClaimedTask | Behind | Status | None


def _is_behind(row: Mapping[str, Any] | None, claim: Claim) -> bool:
    """Whether the row is older than what the claim goes by: what a message asks for was committed before."""
    if row is None:
        return True
    missing: int = claim.attempt - row["attempt"] - 1
    return missing > 0 or (missing == 0 and row["status"] == str(Status.PROCESSING))


class AttemptService:
    """The attempts of one worker in SQL (or, for a server, those that it takes back)."""

    def __init__(self, database: Database, worker_id: str, bound: HistoryBound | None = None) -> None:
        self._database = database
        self._bound = bound or HistoryBound()
        self.worker_id = worker_id

    def claim(self, task_id: str, attempt: int) -> ClaimedTask | None:
        """The task, now held by this worker; None when the hint is out of date."""
        task = self._database.write(partial(self.apply, items=[Claim(task_id, attempt)]))[0]
        return task if isinstance(task, ClaimedTask) else None

    def holds(self, task_id: str, attempt: int) -> bool:
        """Whether the attempt is still this worker's."""
        task = self._database.read(lambda connection: tasks.get(connection, task_id))
        if task is None or task.attempt != attempt:
            return False
        return task.status == Status.PROCESSING and task.worker_id == self.worker_id

    def finish(
        self, task_id: str, attempt: int, outcome: Outcome, report: Report | None = None
    ) -> Status | None:
        """Ends the attempt, with its last report.

        The state that the task got, or None when the attempt held it no longer.
        """
        return self.finish_all([End(task_id, attempt, outcome, report or Report())])[0]

    def finish_all(self, ends: Sequence[End]) -> list[Status | None]:
        """Ends attempts in one transaction; see `finish`."""
        answers = self._database.write(partial(self.apply, items=ends))
        return [answer if isinstance(answer, Status) else None for answer in answers]

    def end_abandoned(self, unbegun: AbstractSet[tuple[str, int]], begun: Outcome = _DIED) -> int:
        """Ends what this worker still holds although it is gone; how many attempts that were.

        Those of `unbegun` (task and attempt number) are handed back and charged
        to nobody; the others end as `begun` says.
        """
        ended = 0
        while held := self._database.read(
            lambda connection: tasks.held_by(connection, self.worker_id, _ENDED_TOGETHER)
        ):
            ends = [
                End(
                    task.task_id,
                    task.attempt,
                    HandedBack("its worker stopped before it began")
                    if (task.task_id, task.attempt) in unbegun
                    else begun,
                )
                for task in held
            ]
            ended += sum(status is not None for status in self.finish_all(ends))
        return ended

    def report(self, task_id: str, attempt: int, report: Report) -> bool:
        """Adds what the attempt has to tell; False, and nothing, when it no longer holds the task."""

        def work(connection: Connection) -> bool:
            if not tasks.holds(connection, task_id, attempt):
                return False
            logs.add(connection, self._lines(connection, task_id, attempt, report))
            if report.progress is not None:
                self._touch_progress(connection, task_id, attempt, report.progress)
            return True

        return self._database.write(work)

    def apply(self, connection: Connection, items: Sequence[Claim | End]) -> list[ChangeResult]:
        """Makes these changes in this transaction; a result for each, see `Claim` and `End`.

        Raises LostRaceError when the transaction must be undone and tried again.
        """
        results: list[ChangeResult] = [None] * len(items)
        left = list(enumerate(items))
        while left:
            # Two of one task (a doubled message, say) are made one after the other.
            turn: dict[str, tuple[int, Claim | End]] = {}
            later = []
            for place, change in left:
                if change.task_id in turn:
                    later.append((place, change))
                else:
                    turn[change.task_id] = (place, change)
            self._apply_turn(connection, list(turn.values()), results, last=not later)
            left = later
        return results

    def _apply_turn(
        self,
        connection: Connection,
        turn: Sequence[tuple[int, Claim | End]],
        results: list[ChangeResult],
        *,
        last: bool,
    ) -> None:
        at = self._database.clock.now()
        # Optimistic path for batches: a plain success is written without reading
        # its row, guarded by the compare-and-set. If a guard fails, LostRaceError
        # rolls the batch back, and group commit splits it until the row is read.
        claims: list[tuple[int, Claim]] = []
        ends: list[tuple[int, End]] = []
        ending: list[tuple[int, End, Task]] = []
        together = len(turn) > 1
        for place, change in turn:
            if isinstance(change, Claim):
                claims.append((place, change))
            elif together and isinstance(change.outcome, Succeeded) and change.report.progress is None:
                task = Task.of_checked({"task_id": change.task_id, "attempt": change.attempt})
                ending.append((place, change, task))
            else:
                ends.append((place, change))
        moves: list[Move] = []
        refusals: list[NewRow] = []
        # Locked: a cancellation that came between reading and writing would be
        # overlooked, and leave a task that waits and must not start.
        pending = tasks.lock(connection, [claim.task_id for _, claim in claims], tasks.START_COLUMNS)
        early: list[str] = []
        for place, claim in claims:
            row = pending.get(claim.task_id)
            if _is_behind(row, claim):
                results[place] = Behind.BEHIND
            elif row is None or row["status"] != Status.PENDING or row["attempt"] + 1 != claim.attempt:
                continue
            elif row["due_at"] > at + _CLOCKS_AGREE:
                early.append(claim.task_id)
            else:
                claimed = ClaimedTask.of_row(row, at)
                moves.append(self._start(row, claimed, at))
                results[place] = claimed
        if early:
            # Their messages are done with: the relay sends others in time.
            waiting.dispatch_when_due(connection, early)
        running = tasks.lock(connection, [end.task_id for _, end in ends], tasks.END_COLUMNS)
        for place, end in ends:
            if end.task_id not in running:
                continue
            task = Task.of_checked(running[end.task_id])
            if task.status == Status.PROCESSING and task.attempt == end.attempt:
                ending.append((place, end, task))
                if end.report.progress is not None:
                    self._touch_progress(connection, end.task_id, end.attempt, end.report.progress)
            elif stored := self._stored(connection, end):
                results[place] = stored
            else:
                refusals.append(self._refusal(end, at))
        for place, end, task in ending:
            move = decide(task, end.outcome, at, self.worker_id)
            if end.report.lines:
                move = move._replace(before=self._lines(connection, end.task_id, end.attempt, end.report))
            moves.append(move)
            results[place] = move.to_status
        # Committed in the same packet only where no guard can fail.
        certain = last and len(claims) + len(ends) == len(turn)
        tasks.move_all(connection, moves, at, refusals, locked=certain)

    def _start(self, row: Mapping[str, Any], claimed: ClaimedTask, at: datetime) -> Move:
        attempt, timeout = claimed.attempt, timedelta(milliseconds=claimed.timeout_ms)
        values = {
            "attempt": attempt,
            "worker_id": self.worker_id,
            "started_at": at,
            "deadline_at": at + timeout if timeout else None,
            "dispatch_at": None,
            "progress": 0.0,
            "progress_message": "",
        }
        return Move(
            row["task_id"],
            Status.PENDING,
            row["attempt"],
            Status.PROCESSING,
            f"attempt {attempt} was claimed",
            self.worker_id,
            values=values,
        )

    def _stored(self, connection: Connection, end: End) -> Status | None:
        """The state that this very end has brought about already, where only the answer was lost."""
        for to_status, message in logs.ends_of(connection, end.task_id, end.attempt, self.worker_id):
            said = any(storable(words)[:_SAME_WORDS] in message for words in end.outcome.words)
            if said and to_status in KNOWN:
                return Status(to_status)
        return None

    def _refusal(self, end: End, at: datetime) -> NewRow:
        said = (
            f"{end.outcome.refused_as} of attempt {end.attempt} was refused: the attempt had been given up on"
        )
        return self._remark(end.task_id, end.attempt, said, at)

    def _lines(self, connection: Connection, task_id: str, attempt: int, report: Report) -> Sequence[NewRow]:
        lines = [self._remark(task_id, attempt, line.message, line.at) for line in report.lines]
        return self._bound.kept(connection, lines)

    def _touch_progress(self, connection: Connection, task_id: str, attempt: int, progress: Progress) -> None:
        words = progress.message[:PROGRESS_MESSAGE_LENGTH]
        told = {"progress": progress.fraction, "progress_message": words}
        tasks.touch(connection, task_id, attempt, told)

    def _remark(self, task_id: str, attempt: int, message: str, at: datetime) -> NewRow:
        return NewRow(task_id, LogType.INFO, message, at, worker_id=self.worker_id, attempt=attempt)
