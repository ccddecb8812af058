"""How either client connects: the address, balancing, keepalive, retries of UNAVAILABLE, and how often.

The retries are gRPC's own (a service config), so that they work the same in
both clients and end with the call's deadline. A call whose connection broke
after it was sent may be carried out twice; a CreateTask brings an id for that,
so that it makes one task.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Generic, TypeVar

import grpc

from atm.host_port import DEFAULT_PORT, join_host_port, split_host_port
from atm.rpc import task_service_pb2_grpc as rpc

#: Where a name has several addresses, each call goes to the next of those that can be reached.
_BALANCED: dict[str, Any] = {"loadBalancingConfig": [{"round_robin": {}}]}
_RETRIED = {
    "methodConfig": [
        {
            "name": [{"service": "taskservice.TaskService"}],
            "retryPolicy": {
                "maxAttempts": 5,
                "initialBackoff": "0.1s",
                "maxBackoff": "2s",
                "backoffMultiplier": 2,
                "retryableStatusCodes": ["UNAVAILABLE"],
            },
        }
    ]
}
Stub = TypeVar("Stub")

#: Calls that wait on one connection; a server takes 100 of all kinds (ATM_MAX_STREAMS_PER_CONNECTION).
WAITS_PER_CONNECTION = 64
#: The options of a connection that gRPC shall not share with another channel.
_APART = (("grpc.use_local_subchannel_pool", 1),)
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "[::1]"})
#: The schemes of gRPC's targets that are passed on as they are.
_SCHEMES = ("dns:", "unix:", "unix-abstract:", "ipv4:", "ipv6:", "xds:")


def target_of(address: str) -> str:
    """The gRPC target of `host`, `host:port`, `[v6]:port`, a bare IPv6 address or a gRPC URI.

    Without a port it is 9090: gRPC would take 443. Raises SettingsError.
    """
    text = address.strip()
    if text.startswith(_SCHEMES):
        return text
    return join_host_port(*split_host_port(text, DEFAULT_PORT, "the server's address"))


def channel_options(target: str, *, retries: bool) -> list[tuple[str, Any]]:
    """The options of a channel to `target`, for either client."""
    options: list[tuple[str, Any]] = [
        # A peer that vanished is noticed within 80 s while a call is open. Idle
        # connections are left alone: a server may punish pings without calls.
        ("grpc.keepalive_time_ms", 60_000),
        ("grpc.keepalive_timeout_ms", 20_000),
        ("grpc.keepalive_permit_without_calls", 0),
        # A server that has just restarted is found again within the retries.
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 2_000),
        ("grpc.enable_retries", int(retries)),
        ("grpc.service_config", json.dumps(_BALANCED | (_RETRIED if retries else {}))),
    ]
    if target.rpartition(":")[0] in _LOOPBACK:
        # http_proxy is meant for other machines than this one.
        options.append(("grpc.enable_http_proxy", 0))
    return options


class _Line(Generic[Stub]):
    """One HTTP/2 connection, and how many waits are on it."""

    def __init__(self, channel: Any, stub: Stub) -> None:
        self.channel = channel
        self.stub = stub
        self.waits = 0


class _Lines(Generic[Stub]):
    """The connections of a client: the first for every call, more for waits where there are many.

    A server takes no more than so many calls at a time on one connection;
    gRPC holds back what is more, so that waits would hold up everything else.
    """

    def __init__(self, open_line: Callable[[bool], _Line[Stub]]) -> None:
        self._open = open_line
        self._lock = threading.Lock()
        self._lines: list[_Line[Stub]] = []

    @property
    def stub(self) -> Stub:
        """For calls that do not wait."""
        with self._lock:
            return self._line(0).stub

    @contextmanager
    def for_wait(self) -> Iterator[Stub]:
        """For one call that waits, within the block."""
        with self._lock:
            places = range(len(self._lines) + 1)
            line = next(line for place in places if (line := self._line(place)).waits < WAITS_PER_CONNECTION)
            line.waits += 1
        try:
            yield line.stub
        finally:
            with self._lock:
                line.waits -= 1

    def take_all(self) -> list[Any]:
        """The channels, which are to be closed: they are forgotten here."""
        with self._lock:
            lines, self._lines = self._lines, []
        return [line.channel for line in lines]

    def _line(self, place: int) -> _Line[Stub]:
        if place == len(self._lines):
            self._lines.append(self._open(place > 0))
        return self._lines[place]


class Connection:
    """The connection of a Client, opened at once. Raises SettingsError for an address that cannot be read."""

    def __init__(self, address: str, *, retries: bool) -> None:
        target = target_of(address)
        options = channel_options(target, retries=retries)

        def open_line(another: bool) -> _Line[rpc.TaskServiceStub]:
            channel = grpc.insecure_channel(target, options=[*options, *_APART] if another else options)
            return _Line(channel, rpc.TaskServiceStub(channel))

        self._lines = _Lines(open_line)
        self.for_wait = self._lines.for_wait
        # Not one that the lines open: what is called after `close` raises ValueError.
        self.stub = self._lines.stub

    def close(self) -> None:
        """Ends the calls that are open. What is called afterwards raises ValueError."""
        for channel in self._lines.take_all():
            channel.close()


class AsyncConnection:
    """That of an AsyncClient, opened by the first call: a channel of grpc.aio takes the loop it is made on.

    Raises SettingsError for an address that cannot be read.
    """

    def __init__(self, address: str, *, retries: bool) -> None:
        target = target_of(address)
        options = channel_options(target, retries=retries)

        def open_line(another: bool) -> _Line[rpc.TaskServiceAsyncStub]:
            channel = grpc.aio.insecure_channel(target, options=[*options, *_APART] if another else options)
            return _Line(channel, rpc.TaskServiceStub(channel))

        self._lines = _Lines(open_line)
        self.for_wait = self._lines.for_wait

    @property
    def stub(self) -> rpc.TaskServiceAsyncStub:
        """Only for use on the event loop."""
        return self._lines.stub

    async def close(self) -> None:
        """Ends the calls that are open, if any; the next call opens it again."""
        for channel in self._lines.take_all():
            await channel.close()
