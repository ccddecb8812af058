"""The standard streams of a worker, and of the processes of isolated handlers.

Dramatiq gives its workers a stream that sends each piece of text to the main
process as one frame of a pipe. Frames over 16 KB are two writes, and the pipe
mixes up what several threads or processes write at once beyond PIPE_BUF
(dramatiq#888): after that the main process reads no frame any more, the pipe
fills, and whoever prints or logs stands still. Here a frame is one write of at
most PIPE_BUF, which the kernel never mixes with another.
"""

from __future__ import annotations

import fcntl
import io
import logging
import os
import select
import sys
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from multiprocessing.connection import Connection
from multiprocessing.util import Finalize
from typing import Any, TextIO

from atm.processes import open_standard_streams

#: What a frame may hold beside its length: then it is written at once, or not at all.
_FRAME_BYTES = select.PIPE_BUF - 4
#: An unfinished line is not held back beyond this, plus what was written last.
_HELD_BYTES = 64 * 1024
_STDERR = 2
#: The pipe of this process, until it has booted.
_IN_BOOT: list[FramedPipe] = []


class Output(io.TextIOBase):
    """A text stream for many threads: lines come out whole, and nothing that is written to it fails.

    Each thread has a line of its own, which is sent when it is finished, when
    it is flushed, and when its thread ends. Characters that the encoding does
    not have are written as escapes; what cannot be delivered, because the
    reader is gone or the disk is full, is dropped. `send` gets the bytes of
    one or several lines, from one thread at a time.
    """

    encoding = "utf-8"
    errors = "backslashreplace"

    def __init__(self, send: Callable[[bytes], object], descriptor: int, encoding: str = "utf-8") -> None:
        self.encoding = encoding
        self.buffer = _Buffer(self)
        self._send = send
        self._descriptor = descriptor
        # A signal's handler may write while its thread does.
        self._lock = threading.RLock()
        self._own = threading.local()
        self._lines: weakref.WeakSet[_Line] = weakref.WeakSet()

    def write(self, text: str) -> int:
        """Writes all of it. Raises TypeError for what is no text, and nothing else."""
        if not isinstance(text, str):
            raise TypeError(f"write() takes a str, not {type(text).__name__}")
        self.write_bytes(str.encode(text, self.encoding, self.errors))
        return len(text)

    def write_bytes(self, data: bytes) -> None:
        """Sends what is finished with this, and holds back the rest."""
        line = self._line()
        end = data.rfind(b"\n") + 1
        if end or line.size > _HELD_BYTES:
            end = end or len(data)
            self.send(line.take() + data[:end])
        if end < len(data):
            line.add(data[end:])

    def send(self, data: bytes) -> None:
        """Sends bytes, whole."""
        with self._lock, suppress(OSError, ValueError):
            self._send(data)

    def flush(self) -> None:
        """Sends the unfinished line of this thread."""
        line: _Line | None = getattr(self._own, "line", None)
        if line is not None and line.size:
            self.send(line.take())

    def close(self) -> None:
        """Sends the unfinished lines of all threads. Stays open: others write to it."""
        with self._lock:
            for line in list(self._lines):
                self.send(line.take())

    def fileno(self) -> int:
        """Where a process that gets this stream as its own may write: not into Dramatiq's pipe."""
        return self._descriptor

    def writable(self) -> bool:
        """True."""
        return True

    def isatty(self) -> bool:
        """False, so that nothing is coloured."""
        return False

    def reconfigure(self, **_options: Any) -> None:
        """Changes nothing: it takes every character, and sends by the line."""

    def _line(self) -> _Line:
        line: _Line | None = getattr(self._own, "line", None)
        if line is None:
            line = self._own.line = _Line(self)
            with self._lock:
                self._lines.add(line)
        return line

    def survive_forks(self) -> None:
        """A fork copies what is held back, and a lock that no thread of the new process would release."""
        os.register_at_fork(before=self.flush, after_in_child=self._begin_anew)

    def _begin_anew(self) -> None:
        self._lock = threading.RLock()
        for line in list(self._lines):
            line.take()


class _Line:
    """What one thread has written since its last line break; sent when the thread ends."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._held: list[bytes] = []
        self._process = os.getpid()
        self.size = 0

    def add(self, data: bytes) -> None:
        self._held.append(data)
        self.size += len(data)

    def take(self) -> bytes:
        held, self._held, self.size = self._held, [], 0
        return b"".join(held)

    def __del__(self) -> None:
        # The copies in a forked process are not its own to send.
        if self._held and self._process == os.getpid():
            self._output.send(self.take())


class _Buffer(io.RawIOBase):
    """The bytes behind an Output, for `sys.stdout.buffer`."""

    def __init__(self, output: Output) -> None:
        self._output = output

    def write(self, data: Any) -> int:
        """Writes all of it."""
        taken = bytes(data)
        self._output.write_bytes(taken)
        return len(taken)

    def flush(self) -> None:
        """As the text stream does."""
        self._output.flush()

    def close(self) -> None:
        """As the text stream does."""
        self._output.close()

    def writable(self) -> bool:
        """True."""
        return True

    def fileno(self) -> int:
        """As the text stream does."""
        return self._output.fileno()


def frames(data: bytes) -> Iterator[bytes]:
    """Pieces of at most `_FRAME_BYTES`; no character of UTF-8 is cut, for each piece is decoded alone."""
    start = 0
    while start < len(data):
        end = start + _FRAME_BYTES
        # At most three bytes of a character follow its first one.
        for _ in range(3):
            if end < len(data) and data[end] & 0xC0 == 0x80:
                end -= 1
        yield data[start:end]
        start = end


class FramedPipe:
    """Dramatiq's pipe, written frame by frame.

    The main process reads it only when its workers have booted, or have not
    for 30 s. Until then what does not fit into the pipe is kept here.
    """

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe
        self._poll = select.poll()
        self._poll.register(pipe.fileno(), select.POLLOUT)
        self._waiting: deque[bytes] = deque()
        self._boots = True

    def send(self, data: bytes) -> None:
        """Sends what there is, in order. Waits for room, except in the boot. Raises OSError."""
        self._waiting.extend(frames(data))
        while self._waiting and (not self._boots or self._poll.poll(0)):
            try:
                self._pipe.send_bytes(self._waiting.popleft())
            except OSError:
                self._waiting.clear()
                raise

    def end_boot(self) -> None:
        """From the next piece on it waits for room: the boot is over in a moment, and the pipe is read."""
        self._boots = False

    def begin_anew(self) -> None:
        """In a forked process: what waits is its parent's to send."""
        self._waiting.clear()
        self._boots = False


def use_in_worker() -> None:
    """Puts an Output in the place of the stream that Dramatiq has set up in this process, if it has."""
    theirs = sys.stderr
    pipe = getattr(theirs, "pipe", None)
    if not isinstance(pipe, Connection):
        return
    # Without a standard error and --log-file the main process has nowhere to write, and reads nothing.
    is_read = sys.__stderr__ is not None or any(argument.startswith("--l") for argument in sys.argv)
    # Where the process was started without one of the standard streams, the pipe may have its number.
    number = fcntl.fcntl(pipe.fileno(), fcntl.F_DUPFD_CLOEXEC, _STDERR + 1)
    open_standard_streams()
    ours = FramedPipe(Connection(number, readable=False))
    output = sys.stdout = sys.stderr = Output(ours.send if is_read else lambda _data: None, _STDERR)
    output.survive_forks()
    os.register_at_fork(after_in_child=ours.begin_anew)
    _IN_BOOT.append(ours)
    # Where the boot fails, multiprocessing calls this before it tells the reason.
    Finalize(None, _send_the_rest, (output,), exitpriority=0)
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logging.StreamHandler) and handler.stream is theirs:
            handler.setStream(output)


def end_boot() -> None:
    """To be called when the worker has booted."""
    while _IN_BOOT:
        _IN_BOOT.pop().end_boot()


def _send_the_rest(output: Output) -> None:
    end_boot()
    output.close()
    output.send(b"")


def use_in_child() -> tuple[Output, Output]:
    """Makes the standard streams of this process, which runs one handler, take whatever it prints."""
    open_standard_streams()
    sys.stdout, sys.stderr = streams = _over(sys.stdout), _over(sys.stderr)
    return streams


def _over(stream: TextIO) -> Output:
    """An Output that writes where the stream does, in its encoding."""
    descriptor = stream.fileno()

    def send(data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(descriptor, rest) :]

    output = Output(send, descriptor, stream.encoding)
    output.survive_forks()
    return output
