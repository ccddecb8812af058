"""A client of a Redis Cluster: of the node that has ATM's keys, all of which have the same hash tag."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from typing import Any

import redis
from redis.cluster import ClusterNode, RedisCluster
from redis.connection import Connection, ConnectionPool, SSLConnection
from redis.exceptions import (
    AskError,
    ClusterDownError,
    MovedError,
    ReadOnlyError,
    RedisClusterException,
    ResponseError,
    TryAgainError,
)

from atm.broker.address import ClusterAddress
from atm.broker.keys import tagged

Owner = Callable[[], tuple[str, int]]


class SlotOwner:
    """Asks a cluster which of its nodes has the keys of a prefix. Safe to use from several threads.

    redis-py's RedisCluster knows the cluster; its way of sending commands, which
    looks for the slot of each, would take longer than Redis takes to run them.
    """

    def __init__(self, address: ClusterAddress, prefix: str, options: dict[str, Any]) -> None:
        self._address = address
        self._key = tagged(prefix)
        self._options = options
        self._lock = threading.Lock()
        self._cluster: RedisCluster | None = None

    def __call__(self) -> tuple[str, int]:
        """The host and port of the node, as the cluster says now. Raises redis.ConnectionError."""
        with self._lock:
            try:
                self._cluster = cluster = self._asked()
                slot = cluster.keyslot(self._key)  # type: ignore[no-untyped-call]
                node = cluster.nodes_manager.get_node_from_slot(slot)
            except (redis.RedisError, RedisClusterException) as error:
                # Where the nodes that it knew are gone, those of the address may be there.
                self._cluster = None
                raise redis.ConnectionError(f"{error}") from error
            # The next time may be days away.
            cluster.disconnect_connection_pools()  # type: ignore[no-untyped-call]
        return str(node.host), int(node.port)

    def _asked(self) -> RedisCluster:
        """The cluster, which has just told what is where."""
        if self._cluster is not None:
            self._cluster.nodes_manager.initialize()
            return self._cluster
        nodes = [ClusterNode(*node) for node in self._address.nodes]  # type: ignore[no-untyped-call]
        return RedisCluster(startup_nodes=nodes, require_full_coverage=False, **self._options)


class _OfOwner:
    """A connection to the owner of the slot, which is asked for whenever it connects."""

    def __init__(self, *, owner: Owner, **options: Any) -> None:
        self._owner = owner
        super().__init__(**options)

    def _connect(self) -> socket.socket:
        self.host, self.port = self._owner()
        made: socket.socket = super()._connect()  # type: ignore[misc]
        return made

    def read_response(self, *arguments: Any, **options: Any) -> Any:
        """What the node answers. Raises redis.ConnectionError where it is not the owner (any more)."""
        try:
            return super().read_response(*arguments, **options)  # type: ignore[misc]
        except (MovedError, ClusterDownError, ReadOnlyError) as error:
            self.disconnect()  # type: ignore[attr-defined]
            raise redis.ConnectionError(f"this node does not have ATM's keys (any more): {error}") from error
        except (AskError, TryAgainError) as error:
            # MovedError is an AskError, too.
            raise ResponseError(f"the cluster is moving ATM's keys to another node: {error}") from error


class ClusterConnection(_OfOwner, Connection):
    """The same over TCP."""


class SslClusterConnection(_OfOwner, SSLConnection):
    """The same over TLS."""


def connect_to_cluster(address: ClusterAddress, prefix: str, options: dict[str, Any]) -> redis.Redis:
    """A pooled client of the node that has the keys of `prefix`. Connects when first used.

    `options` are redis-py's of a connection.
    """
    login: dict[str, Any] = {"username": address.username, "password": address.password}
    # Neither retries of its own nor a redirection while it looks: who connects has those.
    asking = {name: value for name, value in options.items() if not name.startswith("retry")}
    owner = SlotOwner(address, prefix, {**asking, **login, **({"ssl": True} if address.tls else {})})
    kind = SslClusterConnection if address.tls else ClusterConnection
    return redis.Redis(connection_pool=ConnectionPool(kind, owner=owner, **options, **login))
