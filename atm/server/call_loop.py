"""The part of grpc.aio's server that takes calls, with two differences.

grpc.aio decodes the path of each call of a method that is not registered as
UTF-8 in the server's main loop, and the loop ends with the first one that is
none. Methods that are registered are told apart by gRPC's core, so here
whatever comes by another path is answered UNIMPLEMENTED before its name is
looked at. And the main loop waits for all methods anew at each call, which
costs a tenth of one; here each method has a task that takes its calls.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any

import grpc
from grpc._cython import cygrpc  # type: ignore[attr-defined]

from atm.logs import Occasionally

logger = logging.getLogger(__name__)

_LOG_SECONDS = 60.0
_PAUSE_SECONDS = 0.01
#: What is used of gRPC beside its public names. A version that lacks any of it ends its loop and is
#: replaced in place (see listener.py).
_PARTS = ("_handle_rpc", "_schedule_rpc_coro", "_MethodResolver", "_ServicerContext", "_RequestCallError")
_METHODS = (
    "_request_call",
    "_request_registered_call",
    "_make_request_call_future",
    "add_registered_method_handlers",
    "is_running",
)
_CAN_TAKE_CALLS = all(hasattr(cygrpc.AioServer, name) for name in _METHODS) and all(
    hasattr(cygrpc, part) for part in _PARTS
)


def new_server(options: Sequence[tuple[str, Any]]) -> tuple[Any, bool]:
    """A server of grpc.aio, and whether it lives on when somebody calls a method that it does not have.

    If so, its methods have to be registered; if not, they should not be: a
    call of a registered method can get lost when the loop ends. How many calls
    there may be is not bounded here: see admission.py.
    """
    server: Any = grpc.aio.server(options=options)
    if not _CAN_TAKE_CALLS:
        return server, False
    try:
        server._server = _Server(asyncio.get_running_loop(), None, (), (), tuple(options), None)
    except TypeError as error:
        logger.info("calls of unknown methods are gRPC's own matter in this version of it: %s", error)
        return server, False
    return server, True


class _Server(cygrpc.AioServer if _CAN_TAKE_CALLS else object):  # type: ignore[misc]
    """Takes all calls itself: gRPC's main loop hears only that there are no more."""

    def __init__(self, loop: asyncio.AbstractEventLoop, *arguments: Any) -> None:
        super().__init__(loop, *arguments)
        self._event_loop = loop
        self._says = Occasionally(_LOG_SECONDS)
        self._handlers: dict[str, Any] = {}
        # The calls in flight, and what takes new ones: the loop itself holds no task.
        self._calls: set[asyncio.Task[None]] = set()
        self._takers: list[asyncio.Task[None]] = []
        self._over: asyncio.Future[None] = loop.create_future()

    def add_registered_method_handlers(self, handlers: dict[str, Any]) -> None:
        """Adds methods, by their full names, before the server starts."""
        self._handlers.update(handlers)
        super().add_registered_method_handlers(handlers)

    def _make_request_call_future(self, method: bytes | None) -> asyncio.Future[None]:
        """What gRPC's main loop waits for, once for each method at its start: here the end of all calls."""
        resolver = cygrpc._MethodResolver([], self._handlers)
        self._takers.append(self._event_loop.create_task(self._take(method, resolver)))
        return self._over

    async def _take(self, method: bytes | None, resolver: Any) -> None:
        name = "" if method is None else method.decode()
        while True:
            try:
                if method is None:
                    call = await self._request_call()
                    self._note_unknown(call)
                else:
                    call = await self._request_registered_call(method)
            except Exception as error:  # noqa: BLE001 - whatever it is, gRPC's main loop knows what to do
                if isinstance(error, cygrpc._RequestCallError) and self.is_running():
                    # Whatever it is, others get their turn.
                    await asyncio.sleep(_PAUSE_SECONDS)
                    continue
                if not self._over.done():
                    self._over.set_exception(error)
                return
            self._begin(call, name, resolver)

    def _begin(self, call: Any, name: str, resolver: Any) -> None:
        loop = self._event_loop
        handling = cygrpc._handle_rpc(name, resolver, (), call, loop, False)
        task = loop.create_task(cygrpc._schedule_rpc_coro(handling, call, loop, name))
        self._calls.add(task)
        task.add_done_callback(self._calls.discard)

    def _note_unknown(self, call: Any) -> None:
        if count := self._says.count():
            peer = cygrpc._ServicerContext(call, None, None, self._event_loop).peer()
            logger.warning("%d calls of methods that do not exist were refused; the last by %s", count, peer)
