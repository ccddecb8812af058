"""The server of grpc.aio in a process, made anew in its place when it ends by itself.

Whatever goes wrong in grpc.aio's own loop, such as a request that it cannot
decode, shuts the whole server down, and nobody is told but those who wait for
its termination.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from atm.logs import Occasionally

logger = logging.getLogger(__name__)

#: How soon the end of a server is noticed, and how often its ports are tried until they are free.
_LOOK_SECONDS = 0.05
_LOG_SECONDS = 60.0


class Listener:
    """Keeps a server serving from `start` to `stop`.

    `make` gives a server that is not started and listens on its ports;
    `are_free` tells whether another one could. A server that ended takes no
    new calls, its successor does; calls that it has begun get `grace` seconds
    to end. `own_address` is a socket that only this process's user can reach.
    """

    def __init__(self, make: Callable[[], Any], are_free: Callable[[], bool], grace: float) -> None:
        """Listens on the ports already. Raises SettingsError."""
        self._make = make
        self._are_free = are_free
        self._grace = grace
        self._ending: dict[asyncio.Task[None], Any] = {}
        self._says = Occasionally(_LOG_SECONDS)
        self._server = make()
        self._watch: asyncio.Task[None] | None = None
        self._folder = _private_folder()
        self._count = 0
        self._open_own()

    @property
    def own_address(self) -> str:
        """The address that the present server has for this process alone; "" where there can be none."""
        # Each server has a name of its own: the one before removes its socket when it has ended.
        return f"unix:{self._folder}/{self._count}" if self._folder is not None else ""

    async def start(self) -> None:
        """Serves."""
        await self._server.start()
        self._watch = asyncio.create_task(self._replace_what_ends())

    async def stop(self, grace: float) -> None:
        """Takes no new calls, and returns when those in flight have ended, after `grace` seconds at most."""
        if self._watch is not None:
            self._watch.cancel()
        await asyncio.gather(*(_end(server, grace) for server in (self._server, *self._ending.values())))
        self.remove_socket()

    def remove_socket(self) -> None:
        """Removes what `own_address` leaves behind."""
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _open_own(self) -> None:
        self._count += 1
        if self.own_address:
            self._server.add_insecure_port(self.own_address)

    async def _replace_what_ends(self) -> None:
        while True:
            why = await self._end_of(self._server)
            if count := self._says.count():
                logger.warning("the gRPC server ended and is replaced (%d times by now): %s", count, why)
            ended = self._server
            while not self._are_free():  # noqa: ASYNC110 - the kernel does not tell
                await asyncio.sleep(_LOOK_SECONDS / 10)
            self._server = self._make()
            self._open_own()
            await self._server.start()
            task = asyncio.create_task(_end(ended, self._grace))
            self._ending[task] = ended
            task.add_done_callback(self._ending.pop)

    async def _end_of(self, server: Any) -> str:
        # In short turns: the call returns without a timeout only when the calls in flight have ended, too.
        try:
            while await server.wait_for_termination(_LOOK_SECONDS):
                pass
        except Exception as error:  # noqa: BLE001 - whatever it is that ended it
            return repr(error)
        return "it was stopped"


async def _end(server: Any, grace: float) -> None:
    try:
        await server.stop(grace)
    except Exception:  # noqa: BLE001
        # What ended its loop is raised to the first who stops it; the second time waits for its calls.
        await server.stop(grace)


def _private_folder() -> Path | None:
    try:
        return Path(tempfile.mkdtemp(prefix="atm-"))
    except OSError as error:
        logger.warning("no temporary folder, so this server cannot check whether it serves: %s", error)
        return None
