"""What an attempt sets in a context variable, and decimal's precision, is gone with it."""

from __future__ import annotations

import asyncio
import contextvars
import decimal
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from beside import Beside
from pydantic import BaseModel, TypeAdapter, field_validator, model_serializer

from atm.service.outcomes import Failed, Succeeded

TENANT: contextvars.ContextVar[str] = contextvars.ContextVar("tenant", default="nobody")
FRESH = {"tenant": "nobody", "third": "0.3333333333333333333333333333"}


@pytest.fixture
def beside() -> Iterator[Beside]:
    made = Beside(payload={"value": "5"})
    for kind, function in HANDLERS.items():
        made.handle(kind, function)
    yield made
    made.close()


def _seen() -> dict[str, str]:
    return {"tenant": TENANT.get(), "third": str(decimal.Decimal(1) / 3)}


def _set() -> None:
    TENANT.set("somebody")
    decimal.getcontext().prec = 4


def _plain(context: Any, payload: Any) -> dict[str, str]:
    seen = _seen()
    _set()
    return seen


async def _async(context: Any, payload: Any) -> dict[str, str]:
    seen = _seen()
    _set()
    return seen


async def _in_a_task(context: Any, payload: Any) -> dict[str, str]:
    async def sets() -> None:
        _set()

    seen = _seen()
    await asyncio.create_task(sets())
    await asyncio.to_thread(_set)
    asyncio.get_running_loop().call_soon(_set)
    await asyncio.sleep(0)
    return seen


async def _in_the_threads_of_the_loop(context: Any, payload: Any) -> dict[str, str]:
    seen = await asyncio.to_thread(_seen)
    await asyncio.to_thread(_set)
    return seen


def _in_a_thread_of_its_own(context: Any, payload: Any) -> dict[str, str]:
    seen = _seen()
    thread = threading.Thread(target=_set)
    thread.start()
    thread.join()
    assert _seen() == seen, "threads have contexts of their own"
    return seen


class _Sets(BaseModel):
    value: int

    @field_validator("value")
    @classmethod
    def look(cls, value: int) -> int:
        _set()
        return value


class _SetsLate(BaseModel):
    seen: dict[str, str]

    @model_serializer
    def told(self) -> dict[str, str]:
        _set()
        return self.seen


def _serialized(context: Any, payload: Any) -> _SetsLate:
    return _SetsLate(seen=_seen())


def _fails(context: Any, payload: Any) -> None:
    seen = _seen()
    _set()
    raise ValueError(str(seen))


HANDLERS: dict[str, Callable[..., Any]] = {
    "plain": _plain,
    "async": _async,
    "in a task": _in_a_task,
    "in the loop's threads": _in_the_threads_of_the_loop,
    "in a thread": _in_a_thread_of_its_own,
    "serialized": _serialized,
    "fails": _fails,
}


def _run(beside: Beside, kind: str) -> str:
    """What an attempt saw when it began."""
    attempt = beside.attempt(kind)
    beside.worker.process(attempt)
    outcome = beside.outcome(attempt)
    if isinstance(outcome, Failed):
        return outcome.error.removeprefix("ValueError: ")
    assert isinstance(outcome, Succeeded), outcome
    return str(dict(outcome.result))


@pytest.mark.parametrize("second", HANDLERS)
@pytest.mark.parametrize("first", HANDLERS)
def test_an_attempt_sees_nothing_of_the_one_before_it(beside: Beside, first: str, second: str) -> None:
    assert [_run(beside, first), _run(beside, second)] == [str(FRESH)] * 2
    assert _seen() == FRESH, "nor does the worker's own thread"


@pytest.mark.parametrize("kind", ["plain", "async"])
def test_an_attempt_sees_what_its_own_payloads_model_has_set(beside: Beside, kind: str) -> None:
    beside.handle("model", HANDLERS[kind], payload_model=TypeAdapter(_Sets))
    assert _run(beside, "model") == str({"tenant": "somebody", "third": "0.3333"})
    assert _run(beside, kind) == str(FRESH)


def test_an_attempt_sees_nothing_of_what_its_worker_has_set(beside: Beside) -> None:
    def outside() -> None:
        _set()
        assert [_run(beside, kind) for kind in HANDLERS] == [str(FRESH)] * len(HANDLERS)

    contextvars.copy_context().run(outside)


def test_attempts_on_the_loop_at_the_same_time_have_contexts_of_their_own(beside: Beside) -> None:
    async def sets(context: Any, payload: Any) -> str:
        mine = context.task_id
        TENANT.set(mine)
        for _ in range(20):
            await asyncio.sleep(0)
            assert TENANT.get() == mine
        return "its own"

    beside.handle("sets", sets)
    attempts = [beside.attempt("sets") for _ in range(8)]
    threads = [threading.Thread(target=beside.worker.process, args=(attempt,)) for attempt in attempts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert {str(beside.outcome(attempt)) for attempt in attempts} == {str(Succeeded({"result": "its own"}))}
