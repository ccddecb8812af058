"""What a real gRPC client sends, recorded between it and a server."""

from __future__ import annotations

import socket
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import grpc

from atm.client import Client
from atm.rpc import task_service_pb2 as pb

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
END_STREAM, ACK = 1, 1
#: A value that every recorded call has in its metadata.
NOTE = b"said by the caller"
#: The streams of the two calls of a recording.
CALLS = (1, 3)
_HEAD = 9


@dataclass(frozen=True)
class Frame:
    """One frame of HTTP/2."""

    kind: int
    flags: int
    stream: int
    payload: bytes

    def encode(self) -> bytes:
        """As it is on the wire."""
        return (
            len(self.payload).to_bytes(3, "big")
            + bytes([self.kind, self.flags])
            + self.stream.to_bytes(4, "big")
            + self.payload
        )


@dataclass(frozen=True)
class Recording:
    """One connection on which a client made the same call twice: the second has its headers by number."""

    path: bytes
    frames: Sequence[Frame]


def record(address: str) -> list[Recording]:
    """A recording of every method of a server, which has nothing to do but these calls."""
    with Client(address) as client:
        task_id = client.create_task("echo", {"a": "1"}).task_id
        client.wait_for_task(task_id, 60)
    return [_record(address, path, request) for path, request in _requests(task_id)]


def _requests(task_id: str) -> list[tuple[str, Any]]:
    new = pb.CreateTaskRequest(task_type="echo", payload={"a": "1", "ö": "2"}, delay_ms=3_600_000)
    large = pb.CreateTaskRequest(task_type="echo", payload={"a": "x" * 12_000}, delay_ms=3_600_000)
    methods = {
        "CreateTask": [new, large],
        "GetTask": [pb.GetTaskRequest(task_id=task_id)],
        "CancelTask": [pb.CancelTaskRequest(task_id=task_id, requested_by="me")],
        "GetTaskLogs": [pb.GetTaskLogsRequest(task_id=task_id)],
        "ListTasks": [pb.ListTasksRequest(status="PENDING", priority=-1, page_size=3)],
        "BatchCreateTasks": [pb.BatchCreateTasksRequest(tasks=[new] * 3)],
        "WaitTask": [pb.WaitTaskRequest(task_id=task_id, timeout_ms=50)],
        "ListWorkers": [pb.ListWorkersRequest()],
        "GetStatistics": [pb.GetStatisticsRequest()],
        "ListServers": [pb.ListServersRequest()],
    }
    service = pb.DESCRIPTOR.services_by_name["TaskService"]
    assert set(methods) == set(service.methods_by_name), "every method is recorded"
    calls = [(f"/{service.full_name}/{name}", one) for name, all_of in methods.items() for one in all_of]
    # The same message as that of a health check: a string that is field 1.
    return [*calls, ("/grpc.health.v1.Health/Check", pb.GetTaskRequest())]


def _record(address: str, path: str, request: Any) -> Recording:
    with _Tap(address) as tap:
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0)]
        with grpc.insecure_channel(tap.address, options) as channel:
            call = channel.unary_unary(path)
            for _ in CALLS:
                metadata = [("x-note", NOTE.decode()), ("x-trace-bin", b"\0\1\2\xff")]
                call(request.SerializeToString(), timeout=60, metadata=metadata, wait_for_ready=True)
            sent = tap.sent()
    # An acknowledgement is an answer: whoever plays the recording gives its own.
    said = [
        f for f in frames_of(sent) if f.kind not in (PING, GOAWAY) and not (f.kind == SETTINGS and f.flags)
    ]
    return Recording(path.encode(), said)


def frames_of(sent: bytes) -> list[Frame]:
    """The whole frames of what a client has sent."""
    assert sent.startswith(PREFACE)
    frames, at = [], len(PREFACE)
    while at + _HEAD <= len(sent):
        end = at + _HEAD + int.from_bytes(sent[at : at + 3], "big")
        if end > len(sent):
            break
        stream = int.from_bytes(sent[at + 5 : at + _HEAD], "big")
        frames.append(Frame(sent[at + 3], sent[at + 4], stream, sent[at + _HEAD : end]))
        at = end
    return frames


class _Tap:
    """Stands between one client and a server, and keeps what the client sends."""

    def __init__(self, server: str) -> None:
        self._server = server
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._sent = bytearray()
        self._thread = threading.Thread(target=self._run)

    def sent(self) -> bytes:
        """What the client has sent so far."""
        return bytes(self._sent)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.join()
        self._listener.close()

    def _run(self) -> None:
        ours, _ = self._listener.accept()
        host, _, port = self._server.rpartition(":")
        with ours, socket.create_connection((host, int(port))) as theirs:
            back = threading.Thread(target=self._copy, args=(theirs, ours, bytearray()))
            back.start()
            self._copy(ours, theirs, self._sent)
            back.join()

    @staticmethod
    def _copy(source: socket.socket, target: socket.socket, kept: bytearray) -> None:
        try:
            while data := source.recv(65536):
                kept += data
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # the other side has ended it
