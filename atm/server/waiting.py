"""WaitTask: many callers wait, one subscription hears for all of them."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Sequence

from atm.models import Task
from atm.service.task_service import TaskService
from atm.states import FINAL

#: How often SQL is looked at although nothing was heard: Redis may have lost
#: the word, and the ends that sweeps make are not announced.
LOOK_SECONDS = 1.0


class Waiting:
    """Those who wait, by task. Belongs to one event loop; only `hear` may be called from elsewhere."""

    def __init__(self, service: TaskService, loop: asyncio.AbstractEventLoop) -> None:
        self._service = service
        self._loop = loop
        self._waiting: dict[str, set[asyncio.Event]] = defaultdict(set)
        self._closed = False

    def hear(self, task_ids: Sequence[str]) -> None:
        """These may have ended. Safe to call from any thread."""
        if self._waiting:
            self._loop.call_soon_threadsafe(self._wake, task_ids)

    def close(self) -> None:
        """The server stops: everybody is answered now, with the task as it is."""
        self._closed = True
        self._wake(list(self._waiting))

    async def wait(self, task_id: str, seconds: float) -> Task:
        """The task once it has ended, or as it is after `seconds`. Raises TaskNotFoundError."""
        end = self._loop.time() + seconds
        # Before the first look, so that no word can be missed between the two.
        heard = asyncio.Event()
        self._waiting[task_id].add(heard)
        try:
            while True:
                answer: asyncio.Future[Task] = self._loop.create_future()
                self._service.get(task_id, answer)
                task = await answer
                left = end - self._loop.time()
                if task.status in FINAL or left <= 0 or self._closed:
                    return task
                await self._hear(heard, min(left, LOOK_SECONDS))
        finally:
            self._waiting[task_id].discard(heard)
            if not self._waiting[task_id]:
                del self._waiting[task_id]

    async def _hear(self, heard: asyncio.Event, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await heard.wait()
        except TimeoutError:
            return
        heard.clear()

    def _wake(self, task_ids: Sequence[str]) -> None:
        for task_id in task_ids:
            for heard in self._waiting.get(task_id, ()):
                heard.set()
