"""A TCP proxy that can delay, cut and swallow: the network between two parts of an installation."""

from __future__ import annotations

import asyncio
import contextlib
import threading

from ports import free_port


class Proxy:
    """Listens on a port of its own and passes everything on to `target` (host, port).

    `delay` is the seconds that each piece waits, each way. While `cut`, no
    connection is let through; those that are open are reset. While
    `swallowing`, pieces go nowhere and nobody is told.
    """

    def __init__(self, target_port: int) -> None:
        self.port = free_port()
        self.delay = 0.0
        self._target_port = target_port
        self._cut = False
        self._swallowing = False
        self._writers: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    @property
    def address(self) -> str:
        """Where to connect instead."""
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        """Listens."""
        self._thread.start()
        assert self._started.wait(10)

    def stop(self) -> None:
        """Ends every connection and listens no more."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    def lead_to(self, target_port: int) -> None:
        """New connections go there; those that are open stay where they are."""
        self._target_port = target_port

    def cut(self) -> None:
        """Resets all connections, and lets no new one through."""
        self._cut = True
        self._loop.call_soon_threadsafe(self._reset)

    def swallow(self) -> None:
        """Open connections stay open, and nothing gets through."""
        self._swallowing = True

    def heal(self) -> None:
        """Back to normal; connections that have lost something are reset."""
        if self._swallowing:
            self._loop.call_soon_threadsafe(self._reset)
        self.delay, self._cut, self._swallowing = 0.0, False, False

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(asyncio.start_server(self._accept, "127.0.0.1", self.port))
        self._started.set()
        self._loop.run_forever()
        server.close()
        self._reset()
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        # Of its callback that looks at a task which was cancelled asyncio would tell as of an error.
        self._loop.set_exception_handler(lambda _loop, _context: None)
        self._loop.run_until_complete(asyncio.sleep(0.05))
        self._loop.close()

    def _reset(self) -> None:
        for writer in list(self._writers):
            writer.transport.abort()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._cut:
            writer.transport.abort()
            return
        try:
            other_reader, other_writer = await asyncio.open_connection("127.0.0.1", self._target_port)
        except OSError:
            writer.transport.abort()
            return
        pair = {writer, other_writer}
        self._writers |= pair
        try:
            await asyncio.gather(self._pass_on(reader, other_writer), self._pass_on(other_reader, writer))
        finally:
            self._writers -= pair
            for one in pair:
                one.transport.abort()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                if self.delay:
                    await asyncio.sleep(self.delay)
                if not self._swallowing:
                    writer.write(data)
                    await writer.drain()
        writer.transport.abort()
