"""This server in the registry of servers: there, alive, stopping, gone."""

from __future__ import annotations

import logging
import os
import secrets
import socket
from collections.abc import Callable
from datetime import timedelta

from atm._version import __version__
from atm.errors import UnavailableError
from atm.escape import visible
from atm.models import FAULT_LENGTH, Server
from atm.settings import Settings
from atm.states import WorkerStatus
from atm.store import servers
from atm.store.database import Connection, Database

logger = logging.getLogger(__name__)

#: A server that is silent for this long is taken out: it can still be seen as LOST before.
FORGET = timedelta(seconds=60)


class ServerRegistry:
    """The sign of life of one server; with it goes why Redis cannot be used (`redis_fault`; "": it can)."""

    def __init__(
        self, database: Database, settings: Settings, redis_fault: Callable[[], str] = lambda: ""
    ) -> None:
        self.interval = settings.heartbeat_seconds
        self._database = database
        self._redis_fault = redis_fault
        host, at = socket.gethostname(), database.clock.now()
        self._row = Server(
            instance_id=f"{settings.server_id}@{host[:40]}-{os.getpid()}-{secrets.token_hex(3)}",
            server_id=settings.server_id,
            host=host[:255],
            pid=os.getpid(),
            grpc_port=settings.grpc_port,
            worker_port=settings.worker_port,
            version=__version__,
            started_at=at,
            last_heartbeat_at=at,
        )

    @property
    def instance_id(self) -> str:
        """This server and no other, ever."""
        return self._row.instance_id

    def start(self) -> None:
        """Adds the server. Raises UnavailableError."""
        self._database.write(lambda connection: servers.register(connection, self._row))

    def run_once(self) -> bool:
        """Says that the server lives, and forgets those that have not for long."""
        server, clock = self._row, self._database.clock
        self._database.compare_clocks()
        server.last_heartbeat_at, server.clock_ahead_ms = clock.now(), clock.ahead_ms
        server.redis_fault = visible(self._redis_fault())[:FAULT_LENGTH]

        def work(connection: Connection) -> None:
            if not servers.beat(connection, server):
                servers.register(connection, server)
            servers.remove_unheard(connection, server.last_heartbeat_at - FORGET)

        self._database.write(work)
        return False

    def drain(self) -> None:
        """The server stops. What cannot be said is missed later."""
        self._row.status = WorkerStatus.DRAINING
        try:
            self.run_once()
        except UnavailableError as error:
            logger.warning("the registry cannot be told that this server stops: %s", error)

    def stop(self) -> None:
        """Takes the server out."""
        try:
            self._database.write(lambda connection: servers.remove(connection, self.instance_id))
        except UnavailableError as error:
            logger.warning("the server stays in the registry until it is missed: %s", error)
