"""Calls of methods that do not exist, whatever bytes their names are.

grpc.aio decodes the path of each such call as UTF-8 in the server's main loop,
and the loop ends with the first one that is none. Methods that are registered
are told apart by gRPC's core, so here whatever comes by another path is
answered UNIMPLEMENTED before its name is looked at.
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
#: What is used of gRPC beside its public names. A version that lacks any of it ends its loop and is
#: replaced in place (see listener.py).
_PARTS = ("_handle_rpc", "_schedule_rpc_coro", "_MethodResolver", "_ServicerContext")
_CAN_TELL_APART = (
    hasattr(cygrpc.AioServer, "_request_call")
    and hasattr(cygrpc.AioServer, "add_registered_method_handlers")
    and all(hasattr(cygrpc, part) for part in _PARTS)
)


def new_server(options: Sequence[tuple[str, Any]], max_calls: int) -> tuple[Any, bool]:
    """A server of grpc.aio, and whether it lives on when somebody calls a method that it does not have.

    If so, its methods have to be registered; if not, they should not be: a
    call of a registered method can get lost when the loop ends.
    """
    server: Any = grpc.aio.server(options=options, maximum_concurrent_rpcs=max_calls)
    if not _CAN_TELL_APART:
        return server, False
    try:
        server._server = _Server(asyncio.get_running_loop(), None, (), (), tuple(options), max_calls)
    except TypeError as error:
        logger.info("calls of unknown methods are gRPC's own matter in this version of it: %s", error)
        return server, False
    return server, True


class _Server(cygrpc.AioServer if _CAN_TELL_APART else object):  # type: ignore[misc]
    """Answers all calls that are for no registered method itself."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._says = Occasionally(_LOG_SECONDS)
        self._none = cygrpc._MethodResolver([], {})
        self._refusals: set[asyncio.Task[None]] = set()

    async def _request_call(self) -> None:
        """Never returns: gRPC's loop hears of registered methods only."""
        while True:
            self._refuse(await super()._request_call())

    def _refuse(self, call: Any) -> None:
        loop = asyncio.get_running_loop()
        if count := self._says.count():
            peer = cygrpc._ServicerContext(call, None, None, loop).peer()
            logger.warning("%d calls of methods that do not exist were refused; the last by %s", count, peer)
        refusal = cygrpc._handle_rpc("", self._none, (), call, loop, False)
        task = loop.create_task(cygrpc._schedule_rpc_coro(refusal, call, loop, ""))
        # The loop itself holds no task.
        self._refusals.add(task)
        task.add_done_callback(self._refusals.discard)
