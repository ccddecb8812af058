"""Whether calls can be answered, for the health service.

"" says that the process lives, `taskservice.TaskService` that it can answer
calls (it needs SQL), "sql" and "redis" what it can reach. Without Redis calls
are answered, and tasks wait in SQL.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from grpc_health.v1 import health_pb2

from atm.broker.broker import TaskBroker
from atm.errors import UnavailableError
from atm.store.database import Database

logger = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
_STATUS = health_pb2.HealthCheckResponse


class Readiness:
    """Looks once a second, and tells the health service what has changed."""

    def __init__(self, checker: Any, service: str, database: Database, broker: TaskBroker) -> None:
        self._checker = checker
        self._service = service
        self._database = database
        self._broker = broker
        self._known: dict[str, bool] = {}

    async def run(self) -> None:
        """Looks until it is cancelled."""
        await self._checker.set("", _STATUS.SERVING)
        while True:
            await self.run_once()
            await asyncio.sleep(LOOK_SECONDS)

    async def run_once(self) -> None:
        """One look."""
        sql, reachable = await asyncio.gather(
            asyncio.to_thread(_answers, self._database.ping), asyncio.to_thread(_answers, self._broker.ping)
        )
        for name, serving in ((self._service, sql), ("sql", sql), ("redis", reachable)):
            await self._tell(name, serving)

    async def _tell(self, name: str, serving: bool) -> None:
        if self._known.get(name) == serving:
            return
        if name in self._known:
            logger.warning("%s is %s", name, "serving again" if serving else "not serving")
        self._known[name] = serving
        await self._checker.set(name, _STATUS.SERVING if serving else _STATUS.NOT_SERVING)


def _answers(ping: Callable[[], object]) -> bool:
    try:
        ping()
    except UnavailableError:
        return False
    return True
