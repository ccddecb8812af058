"""`host:port`, in the forms that people write it. Pure."""

from __future__ import annotations

from ipaddress import IPv6Address

from atm.errors import SettingsError

#: Where a server listens for clients, and where a client looks for one, unless they are told otherwise.
DEFAULT_PORT = 9090
DEFAULT_ADDRESS = f"localhost:{DEFAULT_PORT}"


def split_host_port(
    address: str, default_port: int, setting: str, *, is_secret: bool = False
) -> tuple[str, int]:
    """The host and the port of `host:port`, `[v6]:port`, or either without a port, or a bare IPv6 address.

    The host comes without brackets; no port, or an empty one, is
    `default_port`. Raises SettingsError, which begins with `setting`: what the
    address is called. It shows the address, unless it can hold a password.
    """
    host, port = address, ""
    if address.startswith("["):
        host, bracket, rest = address[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            host = ""
        port = rest[1:]
    elif address.count(":") == 1:
        host, _, port = address.partition(":")
    port = port or str(default_port)
    # int() refuses thousands of digits with an error of its own.
    valid_port = port.isascii() and port.isdigit() and 0 < int(port[:6]) < 65536
    valid_host = _is_ipv6(host) if ":" in host else host.isprintable() and not set(" /@") & set(host)
    if not host or not valid_host or not valid_port:
        shown = "" if is_secret or "@" in address else f" {address!r}"
        raise SettingsError(
            f"{setting}{shown} cannot be read; it takes HOST:PORT, like localhost:{default_port}"
        )
    return host, int(port)


def _is_ipv6(host: str) -> bool:
    try:
        IPv6Address(host)
    except ValueError:
        return False
    return True


def join_host_port(host: str, port: int) -> str:
    """`host:port`, with brackets around an IPv6 address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
