"""The claim ledger: which claimed attempts no thread has begun with, in memory that outlives the process."""

from __future__ import annotations

import mmap
import os
import struct
import sys
import tempfile
from collections import deque

#: In use, attempt, task. A slot is filled before it is in use.
_SLOT = struct.Struct("<Bq36s")
_FREE = b"\0"
_USED = b"\1"
#: Far more than a process claims ahead (see `atm.worker.prefetcher.MOST_AHEAD`).
SLOTS = 1024
_SIZE = 1 + SLOTS * _SLOT.size


class ClaimLedger:
    """A set of attempts, shared with the processes that are forked after it was made.

    When this process was killed, they read from it which of its claims had
    begun, and are charged, and which had only waited. Safe to use from several
    threads. On a file (see `ledger_file`) it is shared with processes that get
    that, too, and read `all` and `closed`.
    """

    def __init__(self, fd: int = -1) -> None:
        #: The file; -1: none.
        self.fd = fd
        # The first byte says that the ledger is closed.
        self._memory = mmap.mmap(fd, _SIZE)
        self._free = deque(range(SLOTS))
        self._slots: dict[tuple[str, int], int] = {}

    def add(self, task_id: str, attempt: int) -> bool:
        """Adds one before it is claimed; False when there is no place for it, or it is here already.

        Ids and numbers that are not of ATM's making, but came with an import, may have no place.
        """
        try:
            name = task_id.encode()
            filled = _SLOT.pack(0, attempt, name)
        except (struct.error, UnicodeError):
            return False
        if len(name) != 36 or (task_id, attempt) in self._slots:
            return False
        try:
            slot = self._free.pop()
        except IndexError:
            return False
        place = 1 + slot * _SLOT.size
        self._memory[place : place + _SLOT.size] = filled
        self._memory[place : place + 1] = _USED
        self._slots[task_id, attempt] = slot
        return True

    def remove(self, task_id: str, attempt: int) -> bool:
        """Takes one out, to begin with it or to hand it back; False when another thread has."""
        slot = self._slots.pop((task_id, attempt), None)
        if slot is None:
            return False
        place = 1 + slot * _SLOT.size
        self._memory[place : place + 1] = _FREE
        self._free.append(slot)
        return True

    def all(self) -> set[tuple[str, int]]:
        """The task and the number of each, whichever process added it."""
        found = set()
        for used, attempt, name in _SLOT.iter_unpack(self._memory[1:]):
            if used:
                found.add((name.decode(), attempt))
        return found

    def __len__(self) -> int:
        """How many this process has added and not removed."""
        return len(self._slots)

    @property
    def closed(self) -> bool:
        """Whether the process that made it has ended in an orderly way."""
        return self._memory[:1] == _USED

    def close(self) -> None:
        """The process ends in an orderly way: nobody need tidy up after it."""
        self._memory[:1] = _USED


def ledger_file() -> int:
    """An empty file for a ledger, without a name, in memory where the system has such."""
    if sys.platform == "linux":
        fd = os.memfd_create("atm-claim-ledger")
    else:
        with tempfile.TemporaryFile() as file:
            fd = os.dup(file.fileno())
    os.ftruncate(fd, _SIZE)
    return fd
