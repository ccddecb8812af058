"""Where Redis is, in the forms that people write it.

``host:port``, ``host``, ``[::1]:6379``, or a ``redis://``, ``rediss://`` or
``unix://`` URL, or ``redis+sentinel://host:26379,host:26379/service``.
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import unquote

from atm.errors import SettingsError
from atm.host_port import join_host_port, split_host_port

SENTINEL_SCHEME = "redis+sentinel://"


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
    sentinels = [split_host_port(host, 26379, "--redis / REDIS_ADDR") for host in hosts.split(",")]
    user, _, password = login.partition(":")
    return SentinelAddress(
        sentinels, unquote(service), int(db or 0), unquote(user) or None, unquote(password) or None
    )


def parse_redis_addr(addr: str) -> str:
    """The URL for redis-py of an address in either form. Raises SettingsError."""
    text = addr.strip()
    if text.startswith(("redis://", "rediss://", "unix://")):
        return text
    if text.startswith(SENTINEL_SCHEME):
        parse_sentinel_url(text)
        return text
    if not text or "://" in text or "/" in text:
        raise SettingsError("--redis / REDIS_ADDR takes host:port, or a redis://, rediss:// or unix:// URL")
    return f"redis://{join_host_port(*split_host_port(text, 6379, '--redis / REDIS_ADDR'))}/0"
