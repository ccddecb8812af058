"""The message that asks for an attempt of a task, and what a worker gets when it fetches one."""

from __future__ import annotations

import dataclasses
import functools
from datetime import UTC, datetime
from typing import Any, NamedTuple

from dramatiq import Message

from atm.broker import keys

#: What stands in a template: none of these is in what stands beside it.
_TASK, _NUMBER, _MOMENT = "the-task", "987654321", "1234567890"


class FetchedMessage(NamedTuple):
    """A message that was fetched. `cancelled`: the cancel flag of its task was up at that moment."""

    message: Message[Any]
    cancelled: bool = False

    @property
    def sent_at(self) -> datetime:
        """When it was sent, in the database's time."""
        return datetime.fromtimestamp(self.message.message_timestamp / 1000, UTC)

    @property
    def redis_id(self) -> str:
        """The name under which Redis knows the message."""
        return str(self.message.options["redis_message_id"])


def task_message(task_id: str, attempt: int, priority: int) -> Message[Any]:
    """The message that asks for an attempt (by its number) of a task: a hint, free to be lost or doubled."""
    queue = keys.queue_of(priority)
    name = keys.message_id(task_id, attempt)
    return Message(
        queue_name=queue,
        actor_name=keys.actor_of(queue),
        args=(task_id, attempt),
        kwargs={},
        options={"redis_message_id": name},
        message_id=name,
    )


def encoded(task_id: str, attempt: int, priority: int, at: str) -> str:
    """The same message as Dramatiq encodes it; `at` is when it is sent, in milliseconds.

    Filled into a template, because Dramatiq's encoder takes ten times as long.
    """
    # The id of the task last: it may hold any digits.
    text = _template(priority).replace(_NUMBER, str(attempt)).replace(_MOMENT, at)
    return text.replace(_TASK, task_id)


@functools.cache
def _template(priority: int) -> str:
    message = task_message(_TASK, int(_NUMBER), priority)
    return dataclasses.replace(message, message_timestamp=int(_MOMENT)).encode().decode()
