"""Flags in Redis that say: this task shall end. SQL has the same; a flag is how it is told at once."""

from __future__ import annotations

from collections.abc import Sequence

import redis

from atm.broker import keys
from atm.broker.connection import Refusals, Subscription, translated
from atm.broker.notifications import notify_ended
from atm.broker.scripts import Scripts

#: A flag outlives any wait in a queue that is still of interest; SQL remembers for good.
FLAG_SECONDS = 24 * 3600
#: How many flags that are older are taken away when one is raised.
_TAKEN_AWAY = 100


class CancelFlags:
    """Raises and reads the flags. Methods raise BrokerUnavailableError when Redis is out of reach."""

    def __init__(self, client: redis.Redis, prefix: str) -> None:
        self._client = client
        self._prefix = prefix
        self._scripts = Scripts(client)
        self._refusals = Refusals()

    @translated
    def set(self, task_id: str, requested_by: str) -> None:
        """Raises the flag of a task; tells every worker, and whoever waits for it: it may have ended."""
        self._scripts.run(
            "flag",
            [keys.cancelled(self._prefix), keys.cancelled_until(self._prefix)],
            [task_id, requested_by, FLAG_SECONDS, _TAKEN_AWAY],
        )
        with self._client.pipeline(transaction=False) as pipeline:
            pipeline.publish(keys.cancel_channel(self._prefix), task_id)
            notify_ended(pipeline, self._prefix, [task_id])
            told = pipeline.execute(raise_on_error=False)
        # Who is not told reads the flag a moment later.
        for answer in told:
            self._refusals.note("messages about cancelled tasks", answer)

    @translated
    def of(self, task_ids: Sequence[str]) -> dict[str, str]:
        """Of these tasks those whose flag is up, with who asked."""
        if not task_ids:
            return {}
        values: list[bytes | str | None] = self._client.hmget(keys.cancelled(self._prefix), list(task_ids))
        return {
            task_id: str(value, "utf-8", "replace") if isinstance(value, bytes) else str(value)
            for task_id, value in zip(task_ids, values, strict=True)
            if value is not None
        }

    def subscription(self) -> Subscription:
        """The ids of tasks whose flag is raised from its first reading on."""
        return Subscription(self._client, keys.cancel_channel(self._prefix))
