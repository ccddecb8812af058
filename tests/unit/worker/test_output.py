"""What is printed in a worker arrives whole, whoever prints beside it, and printing never fails."""

from __future__ import annotations

import os
import random
import select
import subprocess
import sys
import threading
from collections import Counter
from multiprocessing import Pipe
from multiprocessing.connection import Connection

import pytest

from atm.worker.output import FramedPipe, Output, frames, use_in_worker

THREADS = 8


class _Reader:
    """Reads frames as Dramatiq's main process does, each decoded alone, until every writer is gone."""

    def __init__(self) -> None:
        self.end, self.writer = Pipe(duplex=False)
        self._said: list[str] = []
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while True:
            try:
                data = self.end.recv_bytes()
            except EOFError:
                return
            assert len(data) + 4 <= select.PIPE_BUF
            self._said.append(data.decode("utf-8", errors="replace"))

    def said(self) -> str:
        self.writer.close()
        self._thread.join(60)
        assert not self._thread.is_alive(), "it still waits for the rest of a frame"
        return "".join(self._said)


def _into(pipe: Connection) -> Output:
    return Output(lambda data: [pipe.send_bytes(frame) for frame in frames(data)], descriptor=2)


def _in_threads(*calls: object) -> None:
    threads = [threading.Thread(target=call) for call in calls]  # type: ignore[arg-type]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()


def test_lines_of_any_size_come_out_whole_from_any_number_of_threads() -> None:
    reader, rng = _Reader(), random.Random(1)
    output = _into(reader.writer)
    sizes = [0, 1, 4091, 4092, 4093, 16_383, 16_384, 16_385, 65_537, 1_000_000]
    lines = [
        [
            chr(rng.choice([97 + number, 0xE4, 0x20AC, 0x1F600])) * size
            for size in rng.sample(sizes, len(sizes))
        ]
        for number in range(THREADS)
    ]
    _in_threads(*(lambda own=own: [print(line, file=output) for line in own] for own in lines))
    said = reader.said()
    assert Counter(said.split("\n")[:-1]) == Counter(line for own in lines for line in own)


def test_processes_that_share_the_pipe_do_not_mix_up_its_frames() -> None:
    reader = _Reader()
    output = _into(reader.writer)
    output.survive_forks()
    children = []
    for number in range(3):
        child = os.fork()
        if child == 0:
            for _ in range(20):
                print(str(number) * 50_000, file=output)
            os._exit(0)
        children.append(child)
    for child in children:
        os.waitpid(child, 0)
    counted = Counter(reader.said())
    assert counted == {"0": 10**6, "1": 10**6, "2": 10**6, "\n": 60}


def test_a_fork_while_another_thread_prints_can_print() -> None:
    read, write = os.pipe()
    entered, leave = threading.Event(), threading.Event()

    def send(data: bytes) -> None:
        if b"slow" in data:
            entered.set()
            leave.wait(60)
        os.write(write, data)

    output = Output(send, descriptor=2)
    output.survive_forks()
    slow = threading.Thread(target=lambda: print("slow", file=output))
    slow.start()
    entered.wait(60)
    child = os.fork()
    if child == 0:
        print("from the child", file=output)
        os._exit(0)
    os.waitpid(child, 0)
    leave.set()
    slow.join(60)
    os.close(write)
    with os.fdopen(read) as said:
        assert sorted(said.read().splitlines()) == ["from the child", "slow"]


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8", "cp1252", "koi8-r", "utf-16-le"])
def test_text_that_does_not_encode_is_written_as_escapes(encoding: str) -> None:
    sent: list[bytes] = []
    print("\ud800 😀 ok", file=Output(sent.append, 2, encoding), flush=True)
    assert "\\ud800" in b"".join(sent).decode(encoding)
    assert b"".join(sent).decode(encoding).endswith(" ok\n")


def test_bytes_and_text_keep_their_order() -> None:
    sent: list[bytes] = []
    output = Output(sent.append, descriptor=2)
    output.write("a")
    output.buffer.write(b"\xff\xfe")
    output.buffer.write(memoryview(b"b\n"))
    output.write("c")
    assert b"".join(sent) == b"a\xff\xfeb\n"
    output.flush()
    assert sent[-1] == b"c"


def test_an_unfinished_line_comes_when_its_thread_ends_and_is_not_kept_without_bound() -> None:
    sent: list[bytes] = []
    output = Output(sent.append, descriptor=2)
    _in_threads(lambda: output.write("no line break"))
    assert sent == [b"no line break"]
    for _ in range(100):
        output.write("." * 10_000)
    assert sum(map(len, sent)) > 800_000
    output.close()
    assert sum(map(len, sent)) == len("no line break") + 10**6


@pytest.mark.parametrize("error", [BrokenPipeError(), OSError(28, "disk full"), ValueError("closed file")])
def test_what_cannot_be_delivered_fails_nobody(error: Exception) -> None:
    def send(_data: bytes) -> None:
        raise error

    output = Output(send, descriptor=2)
    print("x" * 100_000, file=output, flush=True)
    output.close()


def test_a_handler_that_closes_its_standard_output_closes_it_for_nobody() -> None:
    sent: list[bytes] = []
    output = Output(sent.append, descriptor=2)
    output.close()
    output.buffer.close()
    print("still here", file=output)
    assert sent == [b"still here\n"]
    assert not output.closed
    with pytest.raises(TypeError):
        output.write(b"bytes")  # type: ignore[arg-type]


def test_a_process_that_is_given_the_stream_does_not_write_into_the_frames() -> None:
    reader = _Reader()
    output = _into(reader.writer)
    print("before", file=output)
    subprocess.run([sys.executable, "-c", "pass"], stdout=output, stderr=output.buffer, check=True)
    print("after", file=output)
    assert output.fileno() == output.buffer.fileno() == 2
    assert reader.said() == "before\nafter\n"


def test_in_the_boot_nothing_waits_for_a_main_process_that_does_not_read_yet() -> None:
    reading, writing = Pipe(duplex=False)
    pipe = FramedPipe(writing)
    output = Output(pipe.send, descriptor=2)
    lines = [str(number) * 100_000 for number in range(10)]
    for line in lines:
        print(line, file=output)
    said: list[bytes] = []
    thread = threading.Thread(target=lambda: said.extend(iter(reading.recv_bytes, b"end\n")))
    thread.start()
    pipe.end_boot()
    print("the first after the boot", file=output)
    writing.send_bytes(b"end\n")
    thread.join(60)
    assert b"".join(said).decode().splitlines() == [*lines, "the first after the boot"]


def test_what_waits_for_a_reader_that_is_gone_is_not_kept() -> None:
    reading, writing = Pipe(duplex=False)
    pipe = FramedPipe(writing)
    output = Output(pipe.send, descriptor=2)
    print("x" * 1_000_000, file=output)
    reading.close()
    pipe.end_boot()
    print("x" * 1_000_000, file=output)
    assert not pipe._waiting


def test_streams_that_are_not_dramatiqs_are_left_alone() -> None:
    before = sys.stdout, sys.stderr
    use_in_worker()
    assert (sys.stdout, sys.stderr) == before
