"""The message that asks for an attempt of a task, and what a worker gets when it fetches one."""

from __future__ import annotations

import dataclasses
import functools
from datetime import UTC, datetime
from typing import Any, NamedTuple

from dramatiq import Message

from atm.broker import keys

#: Milliseconds since 1970 up to the year 9999.
_LAST_MOMENT = 253_370_764_800_000
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


def decoded(redis_id: bytes, data: bytes) -> Message[Any] | None:
    """The message that Redis has under this id; None where it does not ask for an attempt of a task.

    Others may write to the same Redis: nothing that they queue raises here.
    """
    try:
        name = redis_id.decode()
        task_id, _, number = name.rpartition(":")
        message = Message.decode(data)
        wanted = task_message(task_id, int(number), keys.QUEUES_BY_URGENCY.index(message.queue_name) == 0)
        sent_at = message.message_timestamp
        same = (message.actor_name, tuple(message.args), message.kwargs, message.options)
        if same != (wanted.actor_name, wanted.args, {}, wanted.options) or not 0 <= sent_at < _LAST_MOMENT:
            return None
    except Exception:  # noqa: BLE001 - bytes, JSON, types and depths of all kinds
        return None
    else:
        return message


def encoded(task_id: str, attempt: int, priority: int, at: str) -> str:
    """The same message as Dramatiq encodes it; `at` is when it is sent, in milliseconds.

    Filled into a template, because Dramatiq's encoder takes ten times as long.
    """
    # The id of the task last: it may hold any digits.
    text = _template(priority > 0).replace(_NUMBER, str(attempt)).replace(_MOMENT, at)
    return text.replace(_TASK, task_id)


@functools.cache
def _template(is_high: bool) -> str:
    message = task_message(_TASK, int(_NUMBER), is_high)
    return dataclasses.replace(message, message_timestamp=int(_MOMENT)).encode().decode()
