"""How either client connects: the address, keepalive, retries of UNAVAILABLE, and when it does.

The retries are gRPC's own (a service config), so that they work the same in
both clients and end with the call's deadline. A call whose connection broke
after it was sent may be carried out twice; a CreateTask brings an id for that,
so that it makes one task.
"""

from __future__ import annotations

import json
from typing import Any

import grpc

from atm.host_port import DEFAULT_PORT, join_host_port, split_host_port
from atm.rpc import task_service_pb2_grpc as rpc

_SERVICE_CONFIG = json.dumps(
    {
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
)
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
        # A page of 500 tasks with payloads is larger than gRPC's 4 MB.
        ("grpc.max_receive_message_length", 256 * 1024 * 1024),
        ("grpc.enable_retries", int(retries)),
    ]
    if retries:
        options.append(("grpc.service_config", _SERVICE_CONFIG))
    if target.rpartition(":")[0] in _LOOPBACK:
        # http_proxy is meant for other machines than this one.
        options.append(("grpc.enable_http_proxy", 0))
    return options


class Connection:
    """The connection of a Client, opened at once. Raises SettingsError for an address that cannot be read."""

    def __init__(self, address: str, *, retries: bool) -> None:
        target = target_of(address)
        self._channel = grpc.insecure_channel(target, options=channel_options(target, retries=retries))
        self.stub = rpc.TaskServiceStub(self._channel)

    def close(self) -> None:
        """Ends the calls that are open. What is called afterwards raises ValueError."""
        self._channel.close()


class AsyncConnection:
    """That of an AsyncClient, opened by the first call: a channel of grpc.aio takes the loop it is made on.

    Raises SettingsError for an address that cannot be read.
    """

    def __init__(self, address: str, *, retries: bool) -> None:
        self._target = target_of(address)
        self._options = channel_options(self._target, retries=retries)
        self._channel: grpc.aio.Channel | None = None
        self._stub: rpc.TaskServiceAsyncStub | None = None

    @property
    def stub(self) -> rpc.TaskServiceAsyncStub:
        """Only for use on the event loop."""
        if self._stub is None:
            self._channel = grpc.aio.insecure_channel(self._target, options=self._options)
            self._stub = rpc.TaskServiceStub(self._channel)
        return self._stub

    async def close(self) -> None:
        """Ends the calls that are open, if any; the next call opens it again."""
        channel, self._channel, self._stub = self._channel, None, None
        if channel is not None:
            await channel.close()
