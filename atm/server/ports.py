"""The addresses that a server listens on: which they are, whether they are free, and opening them."""

from __future__ import annotations

import errno
import logging
import socket
from typing import Any

from atm.errors import SettingsError
from atm.host_port import join_host_port
from atm.settings import Settings

logger = logging.getLogger(__name__)

#: Every interface, with IPv6 and without.
ANY, ANY_IPV4 = "[::]", "0.0.0.0"  # noqa: S104 - what `[::]` is where there is no IPv6
_NO_IPV6 = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL, errno.EPROTONOSUPPORT)


def with_usable_host(settings: Settings) -> Settings:
    """The settings, with every IPv4 interface for `[::]` on a machine that has no IPv6."""
    if settings.host.strip("[]") != "::" or _has_ipv6():
        return settings
    logger.info("this machine has no IPv6: listening on %s instead of %s", ANY_IPV4, ANY)
    return settings.model_copy(update={"host": ANY_IPV4})


class Ports:
    """The two ports of a server. One that is 0 keeps the number that it got when it was first opened."""

    def __init__(self, settings: Settings) -> None:
        self._host = settings.host.strip("[]")
        self._is_shared = settings.share_ports
        self._numbers = {"--grpc-port": settings.grpc_port, "--worker-port": settings.worker_port}

    def open(self, server: Any) -> None:
        """Lets a server of gRPC listen on both. Raises SettingsError."""
        for option, number in self._numbers.items():
            address = join_host_port(self._host, number)
            try:
                bound = server.add_insecure_port(address)
            except RuntimeError as error:
                raise _not_listening(option, address) from error
            if not bound:
                raise _not_listening(option, address)
            self._numbers[option] = bound

    def are_free(self) -> bool:
        """Whether they could be opened now. Ports that are shared always can."""
        if self._is_shared:
            return True
        try:
            self.check()
        except SettingsError:
            return False
        return True

    def check_numbers(self) -> None:
        """Raises SettingsError for a port that is 0, which several processes cannot share."""
        for option, number in self._numbers.items():
            if not number:
                raise SettingsError(f"{option}: processes that share a port need its number, not 0")

    def check(self) -> None:
        """Raises SettingsError for a port that somebody listens on."""
        for option, number in self._numbers.items():
            family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
            try:
                with socket.socket(family) as trial:
                    trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    trial.bind((self._host, number))
            except OSError as error:
                raise _not_listening(option, join_host_port(self._host, number)) from error


def _has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as trial:
            trial.bind(("::", 0))
    except OSError as error:
        return error.errno not in _NO_IPV6
    return True


def _not_listening(option: str, address: str) -> SettingsError:
    return SettingsError(f"{option}: {address} cannot be listened on; is it in use?")
