"""The kit for tests of handlers tells what ATM would make of them, and takes no time for it."""

from __future__ import annotations

import asyncio
import gc
import importlib
import os
import sqlite3
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import BaseModel, Field

import atm.testing
from atm import Context, NonRetryableError, Retry, TaskCancelled, TaskTimedOut, handler
from atm.errors import InvalidArgumentError, SettingsError
from atm.states import Reason, Status
from atm.testing import (
    HandlerEndedError,
    at_line,
    at_progress,
    at_seconds,
    run_handler,
    start_handler,
)
from atm.worker import interrupter


class Order(BaseModel):
    customer: str
    amounts: list[int] = Field(alias="of")
    note: str | None = None


@handler("kit_order", timeout=30, max_retry=2)
def order(context: Context, payload: Order) -> dict[str, Any]:
    context.logger.debug("not kept")
    context.logger.info("for %s", payload.customer)
    context.logger.warning("no note")
    for step, _ in enumerate(payload.amounts, 1):
        context.sleep(1)
        context.progress(step / len(payload.amounts), f"step {step}")
    return {"customer": payload.customer, "total": sum(payload.amounts), "note": payload.note}


@handler("kit_strings")
def strings(context: Context, payload: dict[str, str]) -> dict[str, str]:
    return payload


@handler("kit_about")
def about(context: Context, payload: dict[str, str]) -> dict[str, Any]:
    return {
        "attempt": context.attempt,
        "retry_count": context.retry_count,
        "max_retry": context.max_retry,
        "priority": context.priority,
        "id": context.task_id,
    }


@handler("kit_fails", max_retry=3, retry=Retry("EXPONENTIAL", delay=2, max_delay=5))
def fails(context: Context, payload: dict[str, str]) -> None:
    raise {"no": NonRetryableError, "yes": ValueError}[payload["retry"]]("it broke")


@handler("kit_result")
def unkeepable(context: Context, payload: dict[str, str]) -> Any:
    return {"file": object()}


@handler("kit_async", timeout=60)
async def waits(context: Context, payload: dict[str, str]) -> str:
    context.logger.info("begins")
    await asyncio.sleep(20)
    context.progress(0.5)
    await asyncio.to_thread(time.sleep, 0.01)
    await asyncio.sleep(20)
    return "done"


@handler("kit_cooperative", cancel_grace=10)
def cooperative(context: Context, payload: dict[str, str]) -> None:
    while not context.cancelled:
        context.progress(0.5)
    context.logger.info("tidied up")


@handler("kit_stubborn", timeout=10, max_retry=0)
def stubborn(context: Context, payload: dict[str, str]) -> None:
    context.logger.info("goes on")
    while True:
        time.sleep(0.005)


# -- how it ends ---------------------------------------------------------------


def test_a_plain_handler_gets_what_travelled_and_its_result_is_what_a_client_reads() -> None:
    run = run_handler(order, {"customer": "Ada", "of": [1, 2]})
    assert run.status == "SUCCESS"
    assert run.result == {"customer": "Ada", "total": 3, "note": None}
    assert run.raw_result == {"customer": "Ada", "total": "3", "note": "null"}
    assert (run.reason, run.error, run.raised, run.will_retry) == (None, "", None, False)
    assert run.check() is run


def test_values_that_are_not_strings_travel_as_json() -> None:
    assert run_handler(strings, {"n": 5, "list": [1], "text": "5"}).raw_result == {
        "n": "5",
        "list": "[1]",
        "text": "5",
    }


def test_a_model_is_a_payload_by_the_names_that_it_has_outside() -> None:
    run = run_handler(order, Order(customer="5", of=[4], note="x"))
    assert run.check().raw_result == {"customer": "5", "total": "4", "note": "x"}


def test_lines_and_progress_are_kept_as_in_the_history() -> None:
    run = run_handler(order, {"customer": "Ada", "of": [1, 2]})
    assert run.lines == ["for Ada", "WARNING: no note"]
    assert [(report.fraction, report.message) for report in run.progress] == [
        (0.5, "step 1"),
        (1.0, "step 2"),
    ]


def test_an_async_handler_is_run_too_and_its_sleeps_take_no_time() -> None:
    began = time.monotonic()
    run = run_handler(waits)
    assert (run.check().result, run.lines) == ({"result": "done"}, ["begins"])
    assert time.monotonic() - began < 20 <= 40 <= run.seconds


@handler("kit_exits", max_retry=0)
async def exits(context: Context, payload: dict[str, str]) -> None:
    async def inner() -> None:
        await asyncio.sleep(5)
        sys.exit(2)

    await asyncio.gather(inner(), asyncio.sleep(600))


@handler("kit_leaves", max_retry=0)
async def leaves(context: Context, payload: dict[str, str]) -> str:
    started = asyncio.create_task(asyncio.sleep(600))
    await asyncio.sleep(1)
    return started.get_name()


def test_an_exit_of_a_part_of_an_async_handler_is_its_failure() -> None:
    run = run_handler(exits)
    assert (run.status, run.reason, run.error) == (Status.FAILED, Reason.HANDLER_ERROR, "SystemExit: 2")
    assert run.seconds == 5


def test_what_an_async_handler_leaves_running_is_told() -> None:
    run = run_handler(leaves)
    assert run.status is Status.SUCCESS
    (line,) = run.lines
    assert f"left tasks running, which are cancelled: {run.result['result']} (" in line


def test_a_payload_that_does_not_fit_is_never_tried_again() -> None:
    run = run_handler(order, {"customer": "Ada", "of": "many"})
    assert (run.status, run.reason, run.will_retry) == (Status.FAILED, Reason.INVALID_PAYLOAD, False)
    assert "of:" in run.error
    assert run.lines == []


def test_a_payload_that_create_task_refuses_is_refused() -> None:
    with pytest.raises(InvalidArgumentError, match=r"payload\.of"):
        run_handler(order, {"of": object()})
    with pytest.raises(InvalidArgumentError, match="max_retry"):
        run_handler(order, {}, max_retry=-1)


def test_a_result_that_cannot_be_kept_fails_the_task() -> None:
    run = run_handler(unkeepable)
    assert (run.status, run.reason, run.will_retry) == ("FAILED", "INVALID_RESULT", False)
    assert run.result == {}


def test_an_error_that_forbids_a_retry_is_the_end() -> None:
    run = run_handler(fails, {"retry": "no"})
    assert (run.status, run.reason, run.will_retry) == ("FAILED", "HANDLER_ERROR", False)
    assert (run.error, run.retry_wait) == ("NonRetryableError: it broke", None)


def test_what_is_left_of_the_retries_and_the_wait_are_told_by_the_policy() -> None:
    runs = [run_handler(fails, {"retry": "yes"}, attempt=attempt) for attempt in (1, 2, 3, 4)]
    assert [run.will_retry for run in runs] == [True, True, True, False]
    assert [run.retry_wait for run in runs] == [2.0, 4.0, 5.0, None]
    assert {run.status for run in runs} == {Status.FAILED}
    assert "retry 1 of 3 in 2.0 s" in runs[0].message


def test_a_task_can_bring_a_policy_of_its_own() -> None:
    run = run_handler(fails, {"retry": "yes"}, attempt=9, retry_count=0, max_retry=1, retry=Retry("FIXED", 7))
    assert (run.will_retry, run.retry_wait) == (True, 7.0)


def test_check_raises_the_error_of_the_handler_with_its_traceback() -> None:
    with pytest.raises(ValueError, match="it broke") as caught:
        run_handler(fails, {"retry": "yes"}).check()
    assert traceback.extract_tb(caught.value.__traceback__)[-1].name == "fails"


def test_the_context_is_that_of_the_attempt() -> None:
    run = run_handler(about, attempt=3, max_retry=8, priority="high", task_id="mine")
    assert run.result == {"attempt": 3, "retry_count": 2, "max_retry": 8, "priority": 1, "id": "mine"}


def test_a_plain_handler_runs_in_the_thread_of_the_test() -> None:
    database = sqlite3.connect(":memory:")  # of this thread only

    @handler("kit_thread")
    def uses(context: Context, payload: dict[str, str]) -> int:
        return int(database.execute("SELECT 7").fetchone()[0])

    try:
        assert run_handler(uses).check().result == {"result": 7}
    finally:
        database.close()


def test_a_handler_is_known_by_its_type_and_what_is_none_is_refused() -> None:
    assert run_handler("kit_about").result["attempt"] == 1
    with pytest.raises(SettingsError, match="no_such_type"):
        run_handler("no_such_type")
    with pytest.raises(SettingsError, match="@handler"):
        run_handler(len)
    with pytest.raises(TypeError, match="max_retries"):
        run_handler(about, max_retries=1)  # type: ignore[call-arg]


def test_what_the_test_itself_raises_in_a_handler_is_no_failure_of_it() -> None:
    @handler("kit_outcomes")
    def checks(context: Context, payload: dict[str, str]) -> None:
        raise {"stop": KeyboardInterrupt, "fail": pytest.fail.Exception}[payload["how"]]

    for how, error in {"stop": KeyboardInterrupt, "fail": pytest.fail.Exception}.items():
        with pytest.raises(error):
            run_handler(checks, {"how": how})


# -- cancelled, or out of time -------------------------------------------------


def test_a_handler_that_sleeps_is_cancelled_at_the_chosen_moment() -> None:
    run = run_handler(order, {"customer": "Ada", "of": [1] * 10}, cancel_at=at_progress(0.5))
    assert (run.status, run.reason, run.error) == ("CANCELLED", "CANCELLED", "cancelled by test")
    assert run.progress[-1].message == "step 5"
    assert isinstance(run.raised, TaskCancelled)


@pytest.mark.parametrize("moment", [at_line("no note"), at_seconds(1), lambda run: len(run.lines) == 2])
def test_a_moment_is_a_line_a_time_or_whatever_the_test_says(moment: Any) -> None:
    run = run_handler(order, {"customer": "Ada", "of": [1] * 10}, cancel_at=moment, requested_by="Eve")
    assert (run.status, run.error, run.progress) == ("CANCELLED", "cancelled by Eve", [])


def test_a_cooperative_handler_may_tidy_up() -> None:
    run = run_handler(cooperative, cancel_at=at_progress(0.5))
    assert (run.status, run.lines) == ("CANCELLED", ["tidied up"])
    assert "noticed and returned" in run.message


def test_a_stubborn_handler_gets_an_exception() -> None:
    run = run_handler(stubborn, cancel_at=at_line("goes on"))
    assert run.status == "CANCELLED"
    assert "exception was raised in its thread" in run.message
    with pytest.raises(TaskCancelled):
        run.check()


@pytest.mark.parametrize(("seconds", "reports"), [(10, 0), (30, 1)])
def test_an_async_handler_is_cancelled_while_it_sleeps(seconds: float, reports: int) -> None:
    run = run_handler(waits, cancel_at=at_seconds(seconds))
    assert (run.status, len(run.progress)) == ("CANCELLED", reports)
    with pytest.raises(HandlerEndedError, match="its coroutine was cancelled"):
        run.check()


def test_a_handler_that_ignores_its_cancellation_keeps_its_success() -> None:
    @handler("kit_ignores", cancel_grace=10)
    def ignores(context: Context, payload: dict[str, str]) -> str:
        context.progress(1)
        return "done anyway"

    assert run_handler(ignores, cancel_at=at_progress(1)).result == {"result": "done anyway"}


def test_a_failure_after_a_cancellation_is_not_tried_again() -> None:
    @handler("kit_fails_then", cancel_grace=10)
    def fails_then(context: Context, payload: dict[str, str]) -> None:
        context.progress(1)
        raise ValueError("too late")

    run = run_handler(fails_then, cancel_at=at_progress(1))
    assert (run.status, run.will_retry) == ("CANCELLED", False)


@pytest.mark.parametrize(("which", "done"), [(order, 2), (waits, 0)])
def test_the_time_runs_out_by_what_is_slept(which: Any, done: int) -> None:
    run = run_handler(which, {"customer": "Ada", "of": [1] * 10}, timeout=3)
    assert (run.status, run.reason, run.will_retry) == ("TIMEOUT", "TIMED_OUT", True)
    assert (len(run.progress), run.seconds) == (done, 3.0)


def test_the_time_runs_out_at_a_chosen_moment_too() -> None:
    run = run_handler(order, {"customer": "Ada", "of": [1]}, time_out_at=at_line("for Ada"), max_retry=0)
    assert (run.status, run.will_retry) == ("TIMEOUT", False)
    assert isinstance(run.raised, TaskTimedOut)


def test_a_limit_of_the_handlers_own_is_met_in_the_order_of_the_clock() -> None:
    @handler("kit_limits")
    async def limits(context: Context, payload: dict[str, str]) -> list[str]:
        order = []
        try:
            async with asyncio.timeout(5):
                await asyncio.sleep(3)
                order.append("slept")
                await asyncio.sleep(3)
        except TimeoutError:
            order.append("late")
        return order

    assert run_handler(limits).check().result == {"result": ["slept", "late"]}


def test_what_an_async_handler_waits_for_outside_is_waited_for() -> None:
    @handler("kit_outside", timeout=60)
    async def outside(context: Context, payload: dict[str, str]) -> str:
        loop, answer = asyncio.get_running_loop(), asyncio.Event()
        thread = threading.Thread(
            target=lambda: (time.sleep(0.05), loop.call_soon_threadsafe(answer.set)), name="theirs"
        )
        thread.start()
        async with asyncio.timeout(30):
            await answer.wait()
        thread.join()
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", "print(1)", stdout=-1)
        async with asyncio.timeout(30):
            said, _ = await process.communicate()
        return said.decode().strip()

    run = run_handler(outside)
    assert run.check().result == {"result": 1}
    assert run.seconds < 30


def test_an_error_in_the_tests_own_moment_is_the_tests() -> None:
    with pytest.raises(ZeroDivisionError):
        run_handler(cooperative, cancel_at=lambda run: 1 / 0)


# -- in the background ---------------------------------------------------------


def test_a_handler_that_blocks_is_followed_and_cancelled() -> None:
    with start_handler(stubborn) as run:
        assert run.wait_for_line("goes") == "goes on"
        assert (run.status, run.ended) == ("PROCESSING", False)
        with pytest.raises(RuntimeError, match="wait"):
            _ = run.result
        run.cancel("Eve")
        assert run.wait().error == "cancelled by Eve"


def test_a_handler_in_the_background_is_timed_out_by_hand_or_by_the_clock() -> None:
    with start_handler(waits) as run:
        run.wait_for_line("begins")
        run.time_out()
        assert run.wait().status == "TIMEOUT"
    with start_handler(stubborn, timeout=0.05) as run:
        assert run.wait().status == "TIMEOUT"


@pytest.fixture
def _untraced() -> Iterator[None]:
    """No thread of the test is traced: with coverage it would stand still for ever (see `measured`)."""
    before, of_threads = sys.gettrace(), threading.gettrace()
    sys.settrace(None)
    threading.settrace(None)  # type: ignore[arg-type]
    yield
    sys.settrace(before)
    threading.settrace(of_threads)  # type: ignore[arg-type]


@pytest.mark.usefixtures("_untraced")
def test_a_handler_that_cannot_be_stopped_is_given_up_on_when_its_time_is_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(interrupter, "GIVE_UP_SECONDS", 0.05)
    done = threading.Event()

    @handler("kit_stuck")
    def stuck(context: Context, payload: dict[str, str]) -> None:
        done.wait()  # a call into C, which no exception interrupts

    with start_handler(stuck) as run:
        run.time_out()
        assert run.wait().status == "TIMEOUT"
        assert "did not react" in run.message
        done.set()


def test_leaving_the_block_cancels_what_still_runs() -> None:
    with start_handler(stubborn) as run:
        run.wait_for_line("goes on")
    assert run.status == "CANCELLED"


def test_waiting_for_what_does_not_come_says_what_came() -> None:
    payload = {"customer": "Ada", "of": []}
    with start_handler(order, payload) as run, pytest.raises(HandlerEndedError, match="no note"):
        run.wait_for_line("never said")
    with start_handler(stubborn) as run, pytest.raises(TimeoutError, match="goes on"):
        run.wait_for_line("never said", timeout=0.05)


def test_nothing_is_left_of_a_run() -> None:
    before = set(threading.enumerate())
    run_handler(waits, cancel_at=at_progress(0.5))
    run_handler(stubborn, cancel_at=at_line("goes on"))
    with start_handler(waits) as run:
        run.wait_for_line("begins")
    gc.collect()  # a loop or a socket that was not closed would warn now
    assert set(threading.enumerate()) <= before


# -- isolation="process" -------------------------------------------------------

ISOLATED = """
import os
from atm import handler

@handler("kit_isolated", isolation="process")
def isolated(context, payload):
    context.logger.info("in %s", os.getpid())
    return {"pid": os.getpid()}
"""


def test_an_isolated_handler_runs_here_unless_the_test_asks_for_its_process(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "kit_isolated_module.py").write_text(ISOLATED)
    monkeypatch.syspath_prepend(tmp_path)
    isolated = importlib.import_module("kit_isolated_module").isolated

    assert run_handler(isolated).result == {"pid": os.getpid()}
    run = run_handler(isolated, isolate=True)
    assert run.check().result["pid"] != os.getpid()
    assert run.lines == [f"in {run.result['pid']}"]


# -- the plugin ----------------------------------------------------------------


def test_every_name_of_the_package_can_be_imported() -> None:
    assert [getattr(atm.testing, name).__name__ for name in atm.testing.__all__] == atm.testing.__all__


def test_the_plugin_costs_nothing_until_it_is_used() -> None:
    code = (
        "import sys, atm.testing.plugin; "
        "print([m for m in ('grpc', 'sqlalchemy', 'redis', 'dramatiq', 'pydantic') if m in sys.modules])"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


def test_a_run_of_a_handler_does_not_bring_grpc() -> None:
    code = "import sys; from atm.testing import run_handler; print('grpc' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "False"
