"""Whatever a handler, its model, its result or an executor does: its attempt ends once, and says why."""

# ruff: noqa: N818 - the exceptions are named for what they do

from __future__ import annotations

import asyncio
import concurrent.futures
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NoReturn

import pytest
from dramatiq.errors import RateLimitExceeded, Retry
from dramatiq.middleware import SkipMessage
from fake_worker import FakeWorker
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, computed_field, field_serializer, field_validator

from atm.errors import NonRetryableError, TaskCancelled, TaskInterrupted, TaskTimedOut, UnavailableError
from atm.service.outcomes import Failed, Succeeded
from atm.states import Reason
from atm.worker.attempt import Attempt, State
from atm.worker.executors.process import ChildDiedError, ChildError
from atm.worker.interruption import Kind, Stopped
from atm.worker.payloads import PayloadError, ResultError

# -- exceptions ---------------------------------------------------------------


class _Silent(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__


class _Exits(Exception):
    def __str__(self) -> str:
        sys.exit(3)

    __repr__ = __str__


class _NotText(Exception):
    def __str__(self) -> str:
        return 5  # type: ignore[return-value]

    __repr__ = __str__


class _Text(str):
    """Text that is not to be looked at."""

    def _no(self, *_: Any, **__: Any) -> NoReturn:
        raise RuntimeError("do not look")

    __len__ = __format__ = encode = replace = __add__ = __hash__ = __eq__ = _no  # type: ignore[assignment]


class _OddText(Exception):
    def __str__(self) -> str:
        return _Text("odd")


class _Nothing(Exception):
    """Falsy, as an exception with a length can be."""

    def __len__(self) -> int:
        return 0


class _Undecided(Exception):
    def __bool__(self) -> bool:
        raise RuntimeError("neither")


class _SecretTrace(Exception):
    @property
    def __traceback__(self) -> NoReturn:
        raise RuntimeError("no trace")

    @property
    def __cause__(self) -> NoReturn:
        raise RuntimeError("no cause")

    @property
    def __context__(self) -> NoReturn:
        raise RuntimeError("no context")


class _SecretClass(Exception):
    @property  # type: ignore[misc]
    def __class__(self) -> NoReturn:
        raise RuntimeError("no class")


class _NoNotes(Exception):
    @property
    def __notes__(self) -> NoReturn:
        raise KeyError("no notes")


class _Never(NonRetryableError):
    def __str__(self) -> str:
        raise RecursionError


class _Ends(BaseException):
    pass


class _Many(type):
    @property
    def __name__(cls) -> NoReturn:
        raise RuntimeError("no name")


class _Nameless(Exception, metaclass=_Many):
    pass


def _cyclic() -> Exception:
    first, second = ValueError("first"), KeyError("second")
    first.__cause__, second.__cause__ = second, first
    first.__context__, second.__context__ = second, first
    return first


def _long_chain() -> Exception:
    last = ValueError("0")
    for number in range(3000):
        last, last.__cause__ = ValueError(str(number)), last
    return last


def _deep_group() -> Exception:
    last: Exception = ValueError("the last")
    for _ in range(2000):
        last = ExceptionGroup("deep", [last])
    return last


def _with_frames() -> Exception:
    """It comes out of code whose module has no name that is a text."""
    try:
        exec("1 / 0", {"__name__": 5})
    except ZeroDivisionError as error:
        return error
    raise AssertionError


RAISED: dict[str, Callable[[], BaseException]] = {
    "plain": lambda: ValueError("plain"),
    "no text": _Silent,
    "exits when asked": _Exits,
    "a text that is none": _NotText,
    "a text that is odd": _OddText,
    "too large a number": lambda: ValueError(10**5000),
    "nothing": _Nothing,
    "undecided": _Undecided,
    "secret trace": _SecretTrace,
    "secret class": _SecretClass,
    "no notes": _NoNotes,
    "no name": _Nameless,
    "huge": lambda: ValueError("x" * 5_000_000),
    "surrogates": lambda: ValueError("\ud800\udfff"),
    "control characters": lambda: ValueError("".join(map(chr, range(32)))),
    "blank": lambda: ValueError(" \n\x1c\x85"),
    "odd name": lambda: type("a\nb\t", (Exception,), {})("x"),
    "cyclic": _cyclic,
    "long chain": _long_chain,
    "deep group": _deep_group,
    "group": lambda: BaseExceptionGroup("several", [ValueError("a"), KeyboardInterrupt()]),
    "frames": _with_frames,
    "syntax": lambda: SyntaxError("odd", ("file", -5, 10**9, "\0", 3, -7)),
    "exit": lambda: SystemExit(_Silent()),
    "interrupt": KeyboardInterrupt,
    "generator": GeneratorExit,
    "stop": lambda: StopIteration(3),
    "stop async": StopAsyncIteration,
    "base": _Ends,
    "memory": MemoryError,
    "recursion": RecursionError,
    "time": lambda: TimeoutError("too slow"),
    "cancelled future": lambda: concurrent.futures.CancelledError("gone"),
    "future's state": lambda: concurrent.futures.InvalidStateError("odd"),
    "loop's state": lambda: asyncio.InvalidStateError("odd"),
    "cancelled": lambda: asyncio.CancelledError("gone"),
    "skip": lambda: SkipMessage("skip"),
    "retry": lambda: Retry("again", delay=5),
    "rate": lambda: RateLimitExceeded("slow down"),
    "never": _Never,
    "never, plainly": lambda: NonRetryableError("never"),
    "ours": lambda: UnavailableError("SQL is away"),
    "ours: interrupted": lambda: TaskInterrupted("by nobody"),
    "ours: cancelled": lambda: TaskCancelled("by nobody"),
    "ours: timed out": lambda: TaskTimedOut("by nobody"),
    "ours: stopped": lambda: Stopped("by nobody"),
    "ours: payload": lambda: PayloadError("mine"),
    "ours: result": lambda: ResultError("mine"),
    "ours: child": lambda: ChildError("mine", ""),
    "ours: dead child": lambda: ChildDiedError("mine"),
    "assert": AssertionError,
    "unicode": lambda: UnicodeDecodeError("utf-8", b"\xff", 0, 1, "odd"),
    "os": lambda: OSError(24, "Too many open files"),
}


def _raising(error: BaseException) -> Callable[..., Any]:
    def function(context: Any, payload: Any) -> None:
        raise error

    return function


def _raising_coroutine(error: BaseException) -> Callable[..., Any]:
    async def function(context: Any, payload: Any) -> None:
        raise error

    return function


def _ended(worker: FakeWorker) -> None:
    assert len(worker.ends.items) == 1, "it ended once"
    assert worker.is_empty()
    assert len(worker.broker.acknowledged) == 1
    # What came out of it is told in texts that are texts, and can be stored.
    outcome = worker.outcome()
    texts = [outcome.error, outcome.traceback] if isinstance(outcome, Failed) else []
    assert {type(text) for text in texts} <= {str}


@pytest.mark.parametrize("kind", RAISED)
@pytest.mark.parametrize("how", ["plain", "async"])
def test_whatever_a_handler_raises_is_the_handlers_error(kind: str, how: str) -> None:
    worker = FakeWorker()
    error = RAISED[kind]()
    make = _raising if how == "plain" else _raising_coroutine
    worker.handle(make(error))
    attempt = worker.run()
    _ended(worker)
    failure = worker.failure()
    assert failure.reason is Reason.HANDLER_ERROR, failure.error
    assert failure.retryable is not issubclass(type(error), NonRetryableError)
    assert attempt.state is State.STORED
    assert attempt.raised is None, "it would keep the frames of the handler"
    worker.close()


@pytest.mark.parametrize("kind", RAISED)
def test_whatever_a_plain_handler_raises_when_it_is_told_to_stop_ends_its_attempt(kind: str) -> None:
    worker = FakeWorker()
    error = RAISED[kind]()

    def function(context: Any, payload: Any) -> None:
        attempt.interrupt(Kind.TIMEOUT)
        raise error

    worker.handle(function, cancel_grace=60.0)
    attempt = worker.attempt()
    worker.process(attempt)
    _ended(worker)


@given(st.text(), st.text(), st.sampled_from([ValueError, NonRetryableError, BaseException]))
@settings(max_examples=60, deadline=None)
def test_what_an_exception_says_is_in_its_end(text: str, note: str, kind: type[BaseException]) -> None:
    worker = FakeWorker()
    error = kind(text)
    error.add_note(note)
    worker.handle(_raising(error))
    worker.run()
    _ended(worker)
    failure = worker.failure()
    assert failure.reason is Reason.HANDLER_ERROR
    assert failure.error == f"{kind.__name__}: {error}"
    assert note in failure.traceback
    assert "atm/worker" not in failure.traceback, "frames of ATM say nothing about the handler"


# -- payloads -----------------------------------------------------------------


def _model(error: Callable[[], BaseException]) -> type[BaseModel]:
    class Payload(BaseModel):
        value: int

        @field_validator("value", mode="before")
        @classmethod
        def look(cls, value: Any) -> Any:
            raise error()

    return Payload


#: What pydantic itself makes a ValidationError of.
_VALIDATION = (ValueError, AssertionError)


@pytest.mark.parametrize("kind", RAISED)
def test_whatever_a_model_raises_ends_its_attempt(kind: str) -> None:
    worker = FakeWorker(payload={"value": "5"})
    called: list[Any] = []
    worker.handle(lambda context, payload: called.append(payload), payload_model=_model(RAISED[kind]))
    worker.run()
    _ended(worker)
    assert not called
    failure = worker.failure()
    assert failure.reason in (Reason.HANDLER_ERROR, Reason.INVALID_PAYLOAD), failure.error
    if kind != "ours: payload" and not issubclass(type(RAISED[kind]()), _VALIDATION):
        assert failure.reason is Reason.HANDLER_ERROR, failure.error


@pytest.mark.parametrize("kind", ["plain", "control characters", "huge", "assert", "blank"])
def test_a_validators_refusal_is_an_invalid_payload_and_names_the_field(kind: str) -> None:
    worker = FakeWorker(payload={"value": "5"})
    worker.handle(lambda context, payload: None, payload_model=_model(RAISED[kind]))
    worker.run()
    failure = worker.failure()
    assert (failure.reason, failure.retryable) == (Reason.INVALID_PAYLOAD, False)
    assert failure.error.startswith("the payload does not fit: value: ")


@given(st.dictionaries(st.text(), st.text(), max_size=4))
@settings(max_examples=60, deadline=None)
def test_any_payload_fits_its_model_or_is_refused(payload: dict[str, str]) -> None:
    class Payload(BaseModel):
        model_config = ConfigDict(extra="forbid")
        number: int = 0
        things: list[float] = []

    worker = FakeWorker(payload=payload)
    worker.handle(lambda context, payload: payload, payload_model=Payload)
    worker.run()
    _ended(worker)
    outcome = worker.outcome()
    assert isinstance(outcome, Succeeded) or outcome.reason is Reason.INVALID_PAYLOAD  # type: ignore[union-attr]


# -- results ------------------------------------------------------------------


class _Unreadable(Mapping[str, Any]):
    def __init__(self, error: BaseException) -> None:
        self._error = error

    def __getitem__(self, key: str) -> Any:
        raise self._error

    def __iter__(self) -> Iterator[str]:
        raise self._error

    def __len__(self) -> int:
        return 1


class _Odd(dict[str, Any]):
    def items(self) -> Any:
        raise RuntimeError("no items")


class _Key:
    def __repr__(self) -> str:
        raise RuntimeError("no text")


class _Holds(BaseModel):
    model_config = ConfigDict(arbitrary_types_allowed=True)
    thing: Any


class _Serializes(BaseModel):
    thing: int = 0

    @field_serializer("thing")
    def no(self, value: int) -> int:
        raise KeyError("no")


class _Computes(BaseModel):
    @computed_field  # type: ignore[prop-decorator]
    @property
    def thing(self) -> int:
        sys.exit("no")


def _circle() -> list[Any]:
    made: list[Any] = []
    made.append(made)
    return made


def _deep() -> list[Any]:
    made: list[Any] = []
    for _ in range(100_000):
        made = [made]
    return made


KEPT_NOT: dict[str, Callable[[], Any]] = {
    "a set": lambda: {"a": {1}},
    "a number as a key": lambda: {1: "x"},
    "a key without a text": lambda: {_Key(): "x"},
    "no number": lambda: {"a": float("nan")},
    "an object": object,
    "too long a number": lambda: {"a": 10**5000},
    "surrogates": lambda: {"a": "\ud800"},
    "surrogates in a key": lambda: {"\ud800": "a"},
    "too large": lambda: {"a": "x" * (1024 * 1024)},
    "a circle": _circle,
    "a depth": _deep,
    "a mapping that raises": lambda: _Unreadable(RuntimeError("no")),
    "a mapping that exits": lambda: _Unreadable(SystemExit(1)),
    "a dict without items": lambda: _Odd(a=1),
    "such a dict within": lambda: {"a": _Odd(a=1)},
    "a model that holds an object": lambda: _Holds(thing=object()),
    "a model that raises": _Serializes,
    "a model that exits": _Computes,
    "a class": lambda: _Holds,
    "a secret class": _SecretClass,
}


@pytest.mark.parametrize("kind", KEPT_NOT)
def test_a_result_that_cannot_be_kept_is_an_invalid_result(kind: str) -> None:
    worker = FakeWorker()
    value = KEPT_NOT[kind]()
    worker.handle(lambda context, payload: value)
    worker.run()
    _ended(worker)
    failure = worker.failure()
    assert (failure.reason, failure.retryable) == (Reason.INVALID_RESULT, False), failure.error
    assert failure.error.startswith("the result cannot be kept: ")


def test_a_result_is_kept_in_plain_texts() -> None:
    worker = FakeWorker()
    worker.handle(lambda context, payload: {"odd": _Text("text")})
    worker.run()
    _ended(worker)
    outcome = worker.outcome()
    if isinstance(outcome, Succeeded):
        assert {type(text) for item in outcome.result.items() for text in item} == {str}


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)


@given(_json)
@settings(max_examples=60, deadline=None)
def test_any_value_is_kept_or_refused(value: Any) -> None:
    worker = FakeWorker()
    worker.handle(lambda context, payload: value)
    worker.run()
    _ended(worker)
    outcome = worker.outcome()
    assert isinstance(outcome, Succeeded) or outcome.reason is Reason.INVALID_RESULT  # type: ignore[union-attr]


# -- executors ----------------------------------------------------------------


class _Broken:
    """An executor with a defect."""

    def __init__(self, error: BaseException) -> None:
        self._error = error

    def run(self, attempt: Attempt, payload: Any) -> Any:
        raise self._error

    def close(self) -> None:
        return None


_OWN = ("ours: payload", "ours: result", "ours: child", "ours: dead child")


@pytest.mark.parametrize("kind", [kind for kind in RAISED if kind not in _OWN])
def test_whatever_an_executor_raises_by_itself_is_an_internal_error(kind: str) -> None:
    worker = FakeWorker(executors={"thread": _Broken(RAISED[kind]())})
    worker.handle(lambda context, payload: None)
    worker.run()
    _ended(worker)
    failure = worker.failure()
    assert (failure.reason, failure.retryable) == (Reason.INTERNAL_ERROR, True)


def test_a_process_that_cannot_be_forked_costs_an_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    from atm.worker.executors import process

    def no(*_: Any, **__: Any) -> NoReturn:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(process.subprocess, "Popen", no)
    worker = FakeWorker(executors={"process": process.ProcessExecutor()})
    worker.handle(lambda context, payload: None, isolation="process")
    worker.run()
    _ended(worker)
    assert worker.failure().reason is Reason.INTERNAL_ERROR
    assert "Resource temporarily unavailable" in worker.failure().error


# -- all the rest -------------------------------------------------------------


def test_a_type_that_the_worker_does_not_know_ends_its_attempt_for_good() -> None:
    worker = FakeWorker()
    worker.run()
    _ended(worker)
    assert (worker.failure().reason, worker.failure().retryable) == (Reason.NO_HANDLER, False)


def test_a_handler_that_returns_succeeds_and_what_it_said_is_stored_with_its_end() -> None:
    worker = FakeWorker()

    def function(context: Any, payload: Any) -> dict[str, int]:
        context.logger.info("half way")
        context.progress(0.5, "half")
        assert worker.attempts.load == 1
        return {"a": 1}

    worker.handle(function)
    attempt = worker.run()
    _ended(worker)
    assert worker.outcome() == Succeeded({"a": "1"})
    report = worker.ends.items[0].report
    assert [line.message for line in report.lines] == ["half way"]
    assert report.progress.message == "half"
    assert worker.broker.ended == [attempt.id.task_id]


def test_what_was_cancelled_while_it_waited_is_skipped_and_its_message_acknowledged() -> None:
    from fake_worker import fetched

    worker = FakeWorker()
    worker.handle(lambda context, payload: None)
    attempt = worker.run(fetched(cancelled=True))
    assert attempt.state is State.DROPPED
    assert not worker.starts.items
    assert not worker.ends.items
    assert worker.broker.acknowledged == [attempt.fetched]
    assert not worker.broker.ended
    assert worker.is_empty()
