"""Ports that nobody listens on."""

from __future__ import annotations

import random
import socket

#: Below what systems give to connections that go out: none of those takes a port before its server does.
_FIRST, _LAST = 10_000, 32_000
_given: set[int] = set()


def free_port() -> int:
    """A port that was free a moment ago, and was not given to this process before."""
    while True:
        port = random.randint(_FIRST, _LAST)
        if port in _given:
            continue
        _given.add(port)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
