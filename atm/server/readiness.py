"""Whether calls can be answered, for the health service.

"" says that the process lives, `taskservice.TaskService` that it can answer
calls (it needs SQL), "sql" and "redis" what it can write to. Without Redis calls
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
        #: Why Redis cannot be used, as of the last look; "": it can.
        self.redis_fault = ""

    async def run(self) -> None:
        """Looks until it is cancelled."""
        await self._checker.set("", _STATUS.SERVING)
        while True:
            await self.run_once()
            await asyncio.sleep(LOOK_SECONDS)

    async def run_once(self) -> None:
        """One look."""
        sql, redis = await asyncio.gather(
            asyncio.to_thread(_fault, self._database.ping), asyncio.to_thread(_fault, self._broker.probe)
        )
        self.redis_fault = redis
        for name, fault in ((self._service, sql), ("sql", sql), ("redis", redis)):
            await self._tell(name, fault)

    async def _tell(self, name: str, fault: str) -> None:
        serving = not fault
        if self._known.get(name) == serving:
            return
        if fault:
            logger.warning("%s is not serving: %s", name, fault)
        elif name in self._known:
            logger.warning("%s is serving again", name)
        self._known[name] = serving
        await self._checker.set(name, _STATUS.SERVING if serving else _STATUS.NOT_SERVING)


def _fault(look: Callable[[], object]) -> str:
    """Why something does not serve; "": it does."""
    try:
        look()
    except UnavailableError as error:
        return str(error) or "it is away"
    return ""
