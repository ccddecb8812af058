"""Every Redis key, and the names of queues and actors.

The layout of the queues is Dramatiq's own (see its dispatch.lua); the keys
that ATM adds are at the end.
"""

from __future__ import annotations

from collections.abc import Iterable

#: Queue and actor of each priority. High comes first in a fetch.
NORMAL_QUEUE = "normal"
HIGH_QUEUE = "high"
QUEUES_BY_URGENCY = (HIGH_QUEUE, NORMAL_QUEUE)


def queue_of(priority: int) -> str:
    """The queue for tasks of this priority (0 Normal, 1 High)."""
    return HIGH_QUEUE if priority > 0 else NORMAL_QUEUE


def actor_of(queue: str) -> str:
    """The actor that runs the tasks of a queue."""
    return f"run_{queue}"


def message_id(task_id: str, attempt: int) -> str:
    """The message of an attempt. The same each time, so that a second one is noticed."""
    return f"{task_id}:{attempt}"


def waiting(prefix: str, queue: str) -> str:
    """List of the ids of messages that wait."""
    return f"{prefix}:{queue}"


def messages(prefix: str, queue: str) -> str:
    """Hash of message id → message, waiting or fetched and not acknowledged."""
    return f"{prefix}:{queue}.msgs"


def fetched(prefix: str, consumer: str, queue: str) -> str:
    """Set of the ids that a consumer has fetched and not acknowledged."""
    return f"{prefix}:__acks__.{consumer}.{queue}"


def heartbeats(prefix: str) -> str:
    """Sorted set of consumers by when they last spoke, in milliseconds."""
    return f"{prefix}:__heartbeats__"


def wake(prefix: str, queue: str) -> str:
    """List of tokens: a consumer with nothing to do blocks on it."""
    return f"{prefix}:{queue}.wake"


def own_wake(prefix: str, consumer: str) -> str:
    """List of tokens for one consumer only: something other than a message has come up."""
    return f"{prefix}:{consumer}.wake"


def cancel_flag(prefix: str, task_id: str) -> str:
    """Says that a task shall end; the value is who asked. fetch.lua puts the id at its end, too."""
    return f"{prefix}:cancel:{task_id}"


def cancel_channel(prefix: str) -> str:
    """Channel of the ids of tasks whose flag was just raised."""
    return f"{prefix}:cancel"


def ended_channel(prefix: str) -> str:
    """Channel of the ids of tasks that have just ended, a space between them."""
    return f"{prefix}:ended"


def marker(prefix: str) -> str:
    """Set once. When it is missing, Redis has lost what it held."""
    return f"{prefix}:marker"


def probe(prefix: str) -> str:
    """Written to see whether Redis can be; it expires."""
    return f"{prefix}:probe"


class QueueKeys:
    """What each script of the broker takes as KEYS, put together once: they are the same in every call."""

    def __init__(self, prefix: str, consumer: str) -> None:
        self._heartbeats = heartbeats(prefix)
        self._own_wake = own_wake(prefix, consumer)
        #: Of each queue, most urgent first: waiting, messages, fetched, wake.
        self._names = {
            queue: (
                *(waiting(prefix, queue), messages(prefix, queue)),
                *(fetched(prefix, consumer, queue), wake(prefix, queue)),
            )
            for queue in QUEUES_BY_URGENCY
        }
        names = self._names.items()
        #: enqueue.lua: for each queue waiting, messages, wake.
        self.enqueue = [key for _, (list_, hash_, _, wake_) in names for key in (list_, hash_, wake_)]
        #: acknowledge.lua: fetched, messages.
        self.acknowledge = {queue: [set_, hash_] for queue, (_, hash_, set_, _) in names}
        #: requeue.lua: fetched, messages, waiting, wake.
        self.requeue = {queue: [set_, hash_, list_, wake_] for queue, (list_, hash_, set_, wake_) in names}
        #: recover.lua: heartbeats, then as for enqueue.lua; and what stands around a consumer in `fetched`.
        self.recover = [self._heartbeats, *self.enqueue]
        self.fetched_by = [
            part for queue in QUEUES_BY_URGENCY for part in fetched(prefix, "\0", queue).split("\0")
        ]
        #: What stands before the id of a task in its cancel flag.
        self.cancel_flags = cancel_flag(prefix, "")

    def fetch(self, queues: Iterable[str]) -> list[str]:
        """fetch.lua: heartbeats, then for each queue, most urgent first: waiting, messages, fetched, wake."""
        found = [self._heartbeats]
        for queue, names in self._names.items():
            if queue in queues:
                found += names
        return found

    def wait(self, queues: Iterable[str]) -> list[str]:
        """What a consumer of these queues blocks on."""
        return [*(self._names[queue][-1] for queue in queues), self._own_wake]
