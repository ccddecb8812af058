"""Whatever an error says, it reaches a client with gRPC's defaults: its code, its reason and its fields."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest
from door import serving
from hypothesis import given, settings
from hypothesis import strategies as st

from atm.client.errors import translate
from atm.errors import (
    DatabaseRefusedError,
    ExhaustedError,
    FieldViolation,
    InvalidArgumentError,
    PreconditionError,
    RequestReusedError,
    ServiceError,
    TaskNotFoundError,
    UnavailableError,
)
from atm.rpc import task_service_pb2 as pb
from atm.rpc.task_service_pb2_grpc import (
    TaskServiceServicer,
    TaskServiceStub,
    add_TaskServiceServicer_to_server,
)
from atm.server.admission import Admission
from atm.server.error_boundary import BoundedServer
from atm.server.errors import MAX_SENT, status_of
from atm.service.validation import NewTask, check_new_task, check_new_tasks

#: Texts whose characters cost most, or mean something to HTTP, to gRPC or to a terminal.
PIECES = [
    "a",
    "😀",
    "\x00",
    "\x1b[2J",
    "\r\n",
    "%",
    "%41",
    "é",
    "\u202e",
    "\U000e0001",
    "\ud800",
    " ",
    "\x7f",
    "字",
]
texts = st.one_of(
    st.text(st.characters(), max_size=50),
    st.builds(lambda piece, count: piece * count, st.sampled_from(PIECES), st.integers(0, 6000)),
)
fields = st.lists(st.builds(FieldViolation, texts, texts), max_size=60)
metadata = st.dictionaries(st.sampled_from(["task_type", "suggestions", "task_id", "request_id"]), texts)
errors = st.one_of(
    st.builds(InvalidArgumentError, fields, texts),
    st.builds(InvalidArgumentError, fields),
    st.builds(TaskNotFoundError, texts, texts),
    *(
        st.builds(kind, texts, metadata=metadata, retry_after=st.none() | st.floats(0, 3600))
        for kind in (
            PreconditionError,
            RequestReusedError,
            ExhaustedError,
            UnavailableError,
            DatabaseRefusedError,
        )
    ),
)


class _Refusing(TaskServiceServicer):
    """Answers GetTask with the error that it holds."""

    error: ServiceError

    async def GetTask(  # noqa: N802
        self, request: pb.GetTaskRequest, context: object
    ) -> pb.GetTaskResponse:
        raise self.error


@pytest.fixture(scope="module")
def answered() -> Iterator[Callable[[ServiceError], ServiceError]]:
    """What a client with gRPC's defaults makes of an error of the server."""
    servicer = _Refusing()

    def register(server: object) -> None:
        admission = Admission(calls=1, waits=1, memory=0)
        bounded: Any = BoundedServer(server, admission, registers=True)
        add_TaskServiceServicer_to_server(servicer, bounded)

    with serving(register) as address, grpc.insecure_channel(address) as channel:
        stub = TaskServiceStub(channel)

        def ask(error: ServiceError) -> ServiceError:
            servicer.error = error
            with pytest.raises(grpc.RpcError) as caught:
                stub.GetTask(pb.GetTaskRequest(task_id="t"), timeout=30)
            return translate(caught.value)

        yield ask


@settings(max_examples=300, deadline=None)
@given(error=errors)
def test_whatever_an_error_says_it_arrives(
    answered: Callable[[ServiceError], ServiceError], error: ServiceError
) -> None:
    heard = answered(error)
    assert (heard.code, heard.reason) == (error.code, error.reason)
    assert set(heard.metadata) == set(error.metadata)
    if error.retry_after is not None:
        assert heard.retry_after == pytest.approx(error.retry_after, abs=0.001)
    if isinstance(error, InvalidArgumentError) and error.violations:
        assert isinstance(heard, InvalidArgumentError)
        named = [violation for violation in heard.violations if "wrong" not in violation.description]
        assert len(heard.violations) == len(error.violations) or len(heard.violations) <= 11
        assert len(named) >= 1 or "wrong" in error.violations[0].description


@settings(max_examples=300, deadline=None)
@given(error=errors)
def test_no_error_is_sent_as_more_bytes_than_a_client_takes(error: ServiceError) -> None:
    from urllib.parse import quote

    status = status_of(error)
    ((_, packed),) = status.trailing_metadata or ()
    safe = "".join(map(chr, range(0x20, 0x7F))).replace("%", "")
    assert len(quote(status.details, safe=safe)) + 4 * (len(packed) + 2) // 3 <= MAX_SENT


def _refusal(check: Callable[[], object]) -> InvalidArgumentError:
    with pytest.raises(InvalidArgumentError) as caught:
        check()
    return caught.value


def test_forty_bad_keys_of_emoji_are_named_as_far_as_they_fit_and_counted(
    answered: Callable[[ServiceError], ServiceError],
) -> None:
    keys = {f"{'😀' * 300}{number}": "v" for number in range(40)}
    heard = answered(_refusal(lambda: check_new_task(NewTask("echo", payload=keys))))
    assert isinstance(heard, InvalidArgumentError)
    *named, last = heard.violations
    assert 1 <= len(named) <= 10
    assert all(violation.field == "payload" for violation in named)
    assert (last.field, last.description) == ("", f"{40 - len(named)} more fields are wrong")


def test_of_a_thousand_wrong_tasks_ten_are_named_and_the_others_counted(
    answered: Callable[[ServiceError], ServiceError],
) -> None:
    heard = answered(_refusal(lambda: check_new_tasks([NewTask("echo", priority=7)] * 1000)))
    assert isinstance(heard, InvalidArgumentError)
    assert [violation.field for violation in heard.violations] == [
        *(f"tasks[{place}].priority" for place in range(10)),
        "",
    ]
    assert heard.violations[-1].description == "990 more fields are wrong"


def test_names_of_the_longest_that_are_stored_are_not_cut(
    answered: Callable[[ServiceError], ServiceError],
) -> None:
    longest = "😀" * 128
    facts = {"task_type": longest, "suggestions": ",".join([longest] * 3)}
    assert answered(PreconditionError(longest * 9, metadata=facts)).metadata == facts
