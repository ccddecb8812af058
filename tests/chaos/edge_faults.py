"""Faults at the edges: a Redis that is away, full or refuses, an SQL that refuses, requests that are none."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import redis
from raw_http2 import BAD_PATHS, RawConnection

from atm.errors import ServiceError
from chaos.installation import Installation

Fault = Callable[[Installation, random.Random], None]
#: Beyond it a value makes more than one packet, with what stands around it.
_SMALL_PACKET = 1 << 20


def redis_away(installation: Installation, rng: random.Random, seconds: float = 6.0) -> None:
    """Redis is away for longer than anything waits for it; tasks run meanwhile."""
    installation.valkey.stop()
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        installation.probe(15)
        time.sleep(0.5)
    installation.valkey.start()


def redis_full(installation: Installation, rng: random.Random) -> None:
    """Redis takes nothing more; tasks run meanwhile."""
    with _redis(installation) as client:
        client.config_set("maxmemory-policy", "noeviction")
        client.config_set("maxmemory", "1")
        time.sleep(2)
        installation.probe(15)
        time.sleep(2)
        client.config_set("maxmemory", "0")


def redis_rights_taken(installation: Installation, rng: random.Random) -> None:
    """The user of Redis loses its channels, then INFO, then the keys, and gets them back."""
    with _redis(installation) as client:
        for taken in ("resetchannels", "-info", "resetkeys"):
            client.execute_command("ACL", "SETUSER", "default", taken)
            time.sleep(1.5)
            installation.probe(15)
        client.execute_command("ACL", "SETUSER", "default", "allkeys", "allchannels", "+@all")


def server_asked_for_bad_paths(installation: Installation, rng: random.Random) -> None:
    """Every server gets calls whose paths are no text, on many connections."""
    for address in installation.addresses:
        for path in (*BAD_PATHS, *(rng.randbytes(12) for _ in range(20))):
            with suppress(OSError), RawConnection(address) as connection:
                connection.call(path)


def mariadb_read_only(installation: Installation, rng: random.Random) -> None:
    """The server is read-only for a while, as the old one is after a failover."""
    _sql(installation, "SET GLOBAL read_only = 1")
    time.sleep(4)
    _sql(installation, "SET GLOBAL read_only = 0")


def mariadb_takes_small_packets(installation: Installation, rng: random.Random) -> None:
    """New connections take packets of a megabyte at most, and payloads come that are near it."""
    assert installation.mariadb is not None
    (before,) = _sql(installation, "SELECT @@GLOBAL.max_allowed_packet")
    _sql(installation, f"SET GLOBAL max_allowed_packet = {_SMALL_PACKET}")
    _kill_connections(installation)
    with installation.client() as client:
        end = time.monotonic() + 4
        while time.monotonic() < end:
            size = rng.choice([1000, _SMALL_PACKET // 4, _SMALL_PACKET - 1000])
            with suppress(ServiceError):
                client.create_task("chaos_quick", {"large": rng.choice(["x", "'", "ü"]) * size}, deadline=5)
    _sql(installation, f"SET GLOBAL max_allowed_packet = {before}")
    _kill_connections(installation)


def mariadb_kills_connections(installation: Installation, rng: random.Random) -> None:
    """Connections end wherever they are, those that wait in pools too, again and again."""
    for _ in range(15):
        _kill_connections(installation)
        time.sleep(rng.random() * 0.6)


EVERYWHERE: tuple[Fault, ...] = (redis_away, redis_full, redis_rights_taken, server_asked_for_bad_paths)
OF_MARIADB: tuple[Fault, ...] = (mariadb_read_only, mariadb_takes_small_packets, mariadb_kills_connections)


@contextmanager
def _redis(installation: Installation) -> Iterator[redis.Redis]:
    """A connection past the proxies."""
    client = redis.Redis.from_url(installation.valkey.url)
    try:
        yield client
    finally:
        client.close()


def _sql(installation: Installation, statement: str) -> tuple[object, ...]:
    assert installation.mariadb is not None
    with installation.mariadb.root() as connection, connection.cursor() as cursor:
        cursor.execute(statement)
        return tuple(cursor.fetchone() or ())


def _kill_connections(installation: Installation) -> None:
    assert installation.mariadb is not None
    with installation.mariadb.root() as connection, connection.cursor() as cursor:
        cursor.execute("SELECT id FROM information_schema.processlist WHERE user = 'atm'")
        for (number,) in cursor.fetchall():
            with suppress(Exception):  # it has just ended
                cursor.execute(f"KILL {number}")
