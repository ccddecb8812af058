"""Where Redis is, in the forms that people write it.

``host:port``, ``host``, ``[::1]:6379``, or a ``redis://``, ``rediss://`` or
``unix://`` URL, or ``redis+sentinel://host:26379,host:26379/service``, or
``redis+cluster://host:6379,host:6379`` (``rediss+cluster://`` with TLS).
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import unquote

from redis import ConnectionPool

from atm.errors import SettingsError
from atm.host_port import join_host_port, split_host_port

SENTINEL_SCHEME = "redis+sentinel://"
#: Without TLS, and with it.
CLUSTER_SCHEMES = ("redis+cluster://", "rediss+cluster://")


@dataclass(frozen=True)
class SentinelAddress:
    """Where the Sentinels are, and what they watch."""

    sentinels: list[tuple[str, int]]
    service: str
    db: int = 0
    username: str | None = None
    password: str | None = None


def parse_sentinel_url(url: str) -> SentinelAddress:
    """`redis+sentinel://[user:password@]host[:port],…/service[/db]`, read. Raises SettingsError."""
    form = f"{SENTINEL_SCHEME}host:26379,host:26379/service"
    rest = url.removeprefix(SENTINEL_SCHEME)
    login, _, rest = rest.rpartition("@")
    hosts, _, path = rest.partition("/")
    service, _, db = path.partition("/")
    if not hosts or not service or not (db or "0").isdigit():
        raise SettingsError(f"--redis / REDIS_ADDR: Sentinels are named like {form}")
    sentinels = [
        split_host_port(host, 26379, "--redis / REDIS_ADDR", is_secret=True) for host in hosts.split(",")
    ]
    return SentinelAddress(sentinels, unquote(service), int(db or 0), *_read_login(login))


def _read_login(login: str) -> tuple[str | None, str | None]:
    """The user and the password of `user:password`, as they are in a URL; None for what is not there."""
    user, _, password = login.partition(":")
    return unquote(user) or None, unquote(password) or None


def is_cluster(url: str) -> bool:
    """Whether this is the URL of a Redis Cluster."""
    return url.startswith(CLUSTER_SCHEMES)


@dataclass(frozen=True)
class ClusterAddress:
    """Some nodes of a Redis Cluster: one that answers tells of the others."""

    nodes: list[tuple[str, int]]
    tls: bool = False
    username: str | None = None
    password: str | None = None


def parse_cluster_url(url: str) -> ClusterAddress:
    """`redis+cluster://[user:password@]host[:port],…`, read. Raises SettingsError."""
    scheme, _, rest = url.partition("://")
    login, _, rest = rest.rpartition("@")
    hosts, _, path = rest.partition("/")
    if not hosts or path not in ("", "0"):
        raise SettingsError(
            f"--redis / REDIS_ADDR: a cluster is named like {CLUSTER_SCHEMES[0]}host:6379,host:6379; "
            "it has no databases but 0"
        )
    nodes = [split_host_port(host, 6379, "--redis / REDIS_ADDR", is_secret=True) for host in hosts.split(",")]
    return ClusterAddress(nodes, scheme.startswith("rediss"), *_read_login(login))


def parse_redis_addr(addr: str) -> str:
    """The URL for redis-py of an address in either form. Raises SettingsError, which repeats none of it."""
    text = addr.strip()
    if text.startswith(("redis://", "rediss://", "unix://")):
        _check_url(text)
        return text
    if text.startswith(SENTINEL_SCHEME):
        parse_sentinel_url(text)
        return text
    if is_cluster(text):
        parse_cluster_url(text)
        return text
    if not text or "://" in text or "/" in text:
        raise SettingsError("--redis / REDIS_ADDR takes host:port, or a redis://, rediss:// or unix:// URL")
    if "@" in text:
        raise SettingsError(
            "--redis / REDIS_ADDR: a user and a password need a URL, redis://user:password@host:port/0"
        )
    host, port = split_host_port(text, 6379, "--redis / REDIS_ADDR", is_secret=True)
    return f"redis://{join_host_port(host, port)}/0"


def _check_url(url: str) -> None:
    try:
        # Not opened: it only takes its options.
        ConnectionPool.from_url(url).make_connection()
    except (ValueError, TypeError):
        # Their texts can hold a part of the password, one with a "/" in it for instance.
        raise SettingsError(
            "--redis / REDIS_ADDR cannot be read: the port is a number, options are redis-py's, "
            "and in a password / ? # @ : are written as %2F %3F %23 %40 %3A"
        ) from None
