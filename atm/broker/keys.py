"""Every Redis key, and the names of queues and actors.

All keys begin with a prefix in braces, so that a cluster keeps them together,
and each script is told the keys that it uses.
"""

from __future__ import annotations

from collections.abc import Sequence

from atm.lists import TaskList

#: Queue and actor of each priority, for Dramatiq.
NORMAL_QUEUE = "normal"
HIGH_QUEUE = "high"


def queue_of(priority: int) -> str:
    """The queue for tasks of this priority (0 Normal, 1 High)."""
    return HIGH_QUEUE if priority > 0 else NORMAL_QUEUE


def actor_of(queue: str) -> str:
    """The actor that runs the tasks of a queue."""
    return f"run_{queue}"


def message_id(task_id: str, attempt: int) -> str:
    """The message of an attempt. The same each time, so that a second one is noticed."""
    return f"{task_id}:{attempt}"


def tagged(prefix: str) -> str:
    """What every key begins with: the prefix in braces, unless it has some already."""
    return prefix if "{" in prefix else f"{{{prefix}}}"


def waiting(prefix: str, of: TaskList) -> str:
    """List of the ids of messages that wait, of one type and priority, the oldest first."""
    return f"{tagged(prefix)}:waiting:{of.priority}:{of.task_type}"


def full(prefix: str) -> str:
    """Set of the names of lists that were full: what comes is sent by the relay, in its order."""
    return f"{tagged(prefix)}:full"


def wake(prefix: str, of: TaskList) -> str:
    """List of tokens: a consumer of this list with nothing to do blocks on it."""
    return f"{tagged(prefix)}:wake:{of.priority}:{of.task_type}"


def own_wake(prefix: str, consumer: str) -> str:
    """List of tokens for one consumer only: something other than a message has come up."""
    return f"{tagged(prefix)}:own:{consumer}"


def messages(prefix: str) -> str:
    """Hash of message id → message, waiting or fetched and not acknowledged."""
    return f"{tagged(prefix)}:messages"


def fetched(prefix: str) -> str:
    """Hash of message id → the consumer that has fetched it and not acknowledged it."""
    return f"{tagged(prefix)}:fetched"


def given(prefix: str, consumer: str) -> str:
    """List of the number of a consumer's last fetch and the ids that it gave out; it expires."""
    return f"{tagged(prefix)}:given:{consumer}"


def consumers(prefix: str) -> str:
    """Sorted set of consumers by when they last spoke, in milliseconds."""
    return f"{tagged(prefix)}:consumers"


def cancelled(prefix: str) -> str:
    """Hash of the ids of tasks that shall end → who asked: their cancel flags."""
    return f"{tagged(prefix)}:cancelled"


def cancelled_until(prefix: str) -> str:
    """Sorted set of the same ids by when their flags are of no use any more, in seconds."""
    return f"{tagged(prefix)}:cancelled-until"


def cancel_channel(prefix: str) -> str:
    """Channel of the ids of tasks whose flag was just raised."""
    return f"{tagged(prefix)}:cancel"


def ended_channel(prefix: str) -> str:
    """Channel of the ids of tasks that have just ended, a space between them."""
    return f"{tagged(prefix)}:ended"


def marker(prefix: str) -> str:
    """Set once. When it is missing, Redis has lost what it held."""
    return f"{tagged(prefix)}:marker"


def probe(prefix: str) -> str:
    """Written to see whether Redis can be; it expires."""
    return f"{tagged(prefix)}:probe"


class FetchKeys:
    """The keys of the lists that a consumer takes from, put together once for all its calls."""

    def __init__(self, prefix: str, consumer: str, lists: Sequence[TaskList]) -> None:
        high, normal = ([waiting(prefix, of) for of in lists if of.priority == n] for n in (1, 0))
        wakes = [wake(prefix, of) for of in lists]
        held = [consumers(prefix), messages(prefix), fetched(prefix), cancelled(prefix)]
        held.append(given(prefix, consumer))
        #: fetch.lua: consumers, messages, fetched, cancelled, given, High and Normal lists, wakes.
        self.fetch = [*held, *high, *normal, *wakes]
        #: How many lists of each there are.
        self.counts = len(high), len(normal)
        #: What the consumer blocks on.
        self.wait = [*wakes, own_wake(prefix, consumer)]
