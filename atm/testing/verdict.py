"""What becomes of a task whose attempt ended: decided as it is in SQL, without one."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from atm.models import Task, now
from atm.service.outcomes import Outcome, decide
from atm.states import Reason, Status
from atm.values import decode_values

#: Who ran it, for the texts of the history.
WORKER_ID = "test"


@dataclass(frozen=True)
class Verdict:
    """How an attempt ended, and what follows. See `HandlerRun` for the fields."""

    outcome: Outcome
    status: Status
    reason: Reason | None
    error: str
    message: str
    raw_result: dict[str, str]
    will_retry: bool
    retry_wait: float | None

    @property
    def result(self) -> dict[str, Any]:
        """The result, with JSON text decoded."""
        return decode_values(self.raw_result)

    @classmethod
    def of(cls, task: Mapping[str, Any], outcome: Outcome) -> Verdict:
        """The verdict on a running attempt of a task with these columns."""
        at = now()
        move = decide(Task.of_checked(task), outcome, at, WORKER_ID, _NoJitter())
        will_retry = move.to_status is Status.PENDING
        end = move
        if will_retry:
            # The same attempt, if it were the last.
            last = {**task, "max_retry": task["retry_count"]}
            end = decide(Task.of_checked(last), outcome, at, WORKER_ID)
        values = end.values
        due_at: datetime | None = move.values.get("due_at")
        return cls(
            outcome,
            end.to_status,
            Reason(values["error_reason"]) if values.get("error_reason") else None,
            values.get("error_message", ""),
            move.message,
            values.get("result", {}),
            will_retry,
            (due_at - at).total_seconds() if will_retry and due_at is not None else None,
        )


class _NoJitter(random.Random):
    """The policy's own wait: none of it is taken off."""

    def random(self) -> float:
        """See `wait_ms`."""
        return 0.0
