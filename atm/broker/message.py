"""The message that asks for an attempt of a task, and what a worker gets when it fetches one."""

from __future__ import annotations

import dataclasses
import functools
import json
import re
from datetime import UTC, datetime
from typing import Any, NamedTuple

from dramatiq import Message

from atm.broker import keys
from atm.lists import TaskList

#: Milliseconds since 1970 up to the year 9999.
_LAST_MOMENT = 253_370_764_800_000
#: What stands in a template: none of these is in what stands beside it.
_TASK, _NUMBER, _MOMENT, _TYPE = "the-task", "987654321", "1234567890", "the-type"


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


def task_message(task_id: str, attempt: int, of: TaskList) -> Message[Any]:
    """The message that asks for an attempt (by its number) of a task: a hint, free to be lost or doubled."""
    queue = keys.queue_of(of.priority)
    name = keys.message_id(task_id, attempt)
    return Message(
        queue_name=queue,
        actor_name=keys.actor_of(queue),
        args=(task_id, attempt),
        kwargs={},
        options={"redis_message_id": name, "task_type": of.task_type},
        message_id=name,
    )


def list_of(message: Message[Any]) -> TaskList:
    """The list in which a message waits."""
    return TaskList(message.options["task_type"], int(message.queue_name == keys.HIGH_QUEUE))


def decoded(redis_id: bytes, data: bytes) -> Message[Any] | None:
    """The message that Redis has under this id; None where it does not ask for an attempt of a task.

    Others may write to the same Redis: nothing that they queue raises here.
    """
    try:
        name = redis_id.decode()
        task_id, _, number = name.rpartition(":")
        message = Message.decode(data)
        of = list_of(message)
        wanted = task_message(task_id, int(number), of)
        sent_at = message.message_timestamp
        # A type is text, of which a key can be made.
        of.task_type.encode()
        if _asked(message) != _asked(wanted) or not 0 <= sent_at < _LAST_MOMENT:
            return None
    except Exception:  # noqa: BLE001 - bytes, JSON, types and depths of all kinds
        return None
    else:
        return message


def _asked(message: Message[Any]) -> tuple[Any, ...]:
    return message.queue_name, message.actor_name, message.args, message.kwargs, message.options


def encoded(task_id: str, attempt: int, of: TaskList, at: str) -> str:
    """The same message as Dramatiq encodes it; `at` is when it is sent, in milliseconds.

    Filled into a template, because Dramatiq's encoder takes ten times as long.
    """
    values = {_TASK: task_id, _NUMBER: str(attempt), _MOMENT: at}
    return "".join([values.get(part, part) for part in _template(of)])


@functools.lru_cache(maxsize=1024)
def _template(of: TaskList) -> list[str]:
    """What stands around the values, with a name in the place of each."""
    message = task_message(_TASK, int(_NUMBER), TaskList(_TYPE, of.priority))
    text = dataclasses.replace(message, message_timestamp=int(_MOMENT)).encode().decode()
    parts = re.split(f"({_TASK}|{_NUMBER}|{_MOMENT})", text)
    # Last: it may hold anything.
    return [part.replace(json.dumps(_TYPE), json.dumps(of.task_type)) for part in parts]
