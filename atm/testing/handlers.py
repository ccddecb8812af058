"""Calls a handler with a payload that has travelled, and says how ATM would see its end."""

from __future__ import annotations

import dataclasses
import inspect
import os
import sys
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal, Protocol, TypedDict, Unpack

from pydantic import BaseModel, TypeAdapter

from atm.errors import SettingsError
from atm.models import TaskConfig, now
from atm.retrying import Retry
from atm.service.validation import NewTask, check_new_task
from atm.states import Status
from atm.testing.clock import Clock
from atm.testing.moments import Moment
from atm.testing.run import HandlerRun
from atm.values import encode_values
from atm.worker.handlers import REGISTRY, HandlerSpec, timeout_ms

Handler = Callable[..., Any] | str


class Dataclass(Protocol):
    """An instance of any dataclass."""

    __dataclass_fields__: ClassVar[dict[str, Any]]


Payload = Mapping[str, Any] | BaseModel | Dataclass | None

TASK_ID = "00000000-0000-7000-8000-000000000001"
_PRIORITIES = {"normal": 0, "high": 1}


class Options(TypedDict, total=False):
    """What can be said of the task and its attempt; None and what is not said: as the handler says."""

    task_id: str
    #: The number of the attempt, from 1.
    attempt: int
    #: How many attempts were followed by a retry that counts; as many as there were before this one.
    retry_count: int | None
    max_retry: int | None
    #: The seconds that the attempt may take; 0: no limit.
    timeout: float | None
    retry: Retry | None
    priority: Literal["normal", "high", 0, 1]
    #: When the task is cancelled: see atm.testing.moments.
    cancel_at: Moment | None
    #: When the attempt's time is over, beside `timeout`.
    time_out_at: Moment | None
    #: Who cancels it.
    requested_by: str
    #: Whether a handler with isolation="process" gets its process.
    isolate: bool


def run_handler(
    handler: Handler, payload: Payload = None, *, skip_sleeps: bool = True, **options: Unpack[Options]
) -> HandlerRun:
    """Runs one attempt of a handler in the calling thread, to its end.

    `handler` is a function with `@handler`, or the name of a type. `payload`
    holds Python values, as for `Client.create_task`, or is a pydantic model
    or a dataclass; it reaches the handler as if it had travelled. An async handler runs on an
    event loop of its own, in a thread of its own. One with
    isolation="process" runs in the calling thread, too, unless `isolate=True`:
    then its process imports the module that the handler is from, and sleeps
    are not skipped.

    With `skip_sleeps` neither `context.sleep` nor `asyncio.sleep` takes time,
    and the `timeout` counts what was slept. `time.sleep` takes its time, which
    does not count. An async handler that waits for a socket, a process or a
    thread is waited for, and that counts. Only a handler that does not react
    when it is told to stop takes its `cancel_grace` of real time.
    Other options: see `Options`.

    Raises InvalidArgumentError for what CreateTask would not accept,
    SettingsError for what is not a handler, and what is not the handler's own:
    KeyboardInterrupt, `pytest.fail` and the like, errors of the test's moments.
    A failure of the handler is told by what is returned.
    """
    return _new_run(handler, payload, skip_sleeps, options).perform()


def start_handler(
    handler: Handler, payload: Payload = None, *, skip_sleeps: bool = False, **options: Unpack[Options]
) -> HandlerRun:
    """Starts one attempt of a handler in a thread of its own, for a test that interferes.

        with start_handler(charge, {"customer": "Ada", "amount": 3}) as run:
            run.wait_for_line("charging")
            run.cancel()
            assert run.wait().status == "CANCELLED"

    Leaving the block cancels a handler that still runs. Sleeps are slept, and
    `timeout` is by the clock, unless `skip_sleeps`. The rest is as for
    `run_handler`; what is not the handler's own is raised by `wait`.
    """
    return _new_run(handler, payload, skip_sleeps, options).start()


def _new_run(handler: Handler, payload: Payload, skip_sleeps: bool, options: Options) -> HandlerRun:
    unknown = sorted(set(options) - set(Options.__annotations__))
    if unknown:
        known = ", ".join(("skip_sleeps", *Options.__annotations__))
        raise TypeError(f"no option {unknown[0]!r}; there are {known}")
    spec = _spec_of(handler)
    isolated = spec.isolation == "process" and options.get("isolate", False)
    if not isolated:
        spec = dataclasses.replace(spec, isolation="none")
    task = _task(spec, payload, options)
    limit = task["timeout_ms"] / 1000 if task["timeout_ms"] else None
    return HandlerRun(
        spec,
        task,
        # Another process has a clock of its own.
        Clock(limit, skips=skip_sleeps and not isolated),
        cancel_at=options.get("cancel_at"),
        time_out_at=options.get("time_out_at"),
        requested_by=options.get("requested_by", "test"),
        environment={
            "ATM_HANDLERS": spec.module,
            "PYTHONPATH": os.pathsep.join(path or str(os.curdir) for path in sys.path),
        },
    )


def _spec_of(handler: Handler) -> HandlerSpec:
    """What was said of it. Raises SettingsError."""
    if isinstance(handler, str):
        found = REGISTRY.get(handler)
        if found is None:
            raise SettingsError(f"no handler for the type {handler!r} has been imported")
        return found
    for spec in REGISTRY.specs():
        if spec.function is handler or inspect.unwrap(spec.function) is inspect.unwrap(handler):
            return spec
    raise SettingsError(f"{handler!r} is not a handler: `@handler` registers one")


def _task(spec: HandlerSpec, payload: Payload, options: Options) -> dict[str, Any]:
    """The columns of the task, while the attempt runs. Raises InvalidArgumentError."""
    config = TaskConfig(task_type=spec.task_type, updated_at=now(), **spec.defaults())
    values: Any = payload
    if isinstance(payload, BaseModel) or dataclasses.is_dataclass(payload):
        values = TypeAdapter(type(payload)).dump_python(payload, mode="json", by_alias=True)
    attempt = options.get("attempt", 1)
    retry_count = options.get("retry_count")
    max_retry = options.get("max_retry")
    timeout = options.get("timeout")
    # What a task brings goes over what the handler says, as CreateTask does it.
    retry = HandlerSpec(spec.task_type, spec.function, retry=options.get("retry")).defaults()
    policy = {name: retry.get(name, getattr(config, name)) for name in _POLICY}
    priority = options.get("priority", "normal")
    new = NewTask(
        spec.task_type,
        _PRIORITIES.get(priority, -1) if isinstance(priority, str) else priority,
        encode_values(values),
        config.max_retry if max_retry is None else max_retry,
        config.default_timeout_ms if timeout is None else timeout_ms(timeout),
    )
    check_new_task(new)
    return {
        "task_id": options.get("task_id", TASK_ID),
        "task_type": new.task_type,
        "status": Status.PROCESSING,
        "priority": new.priority,
        "payload": new.payload,
        "attempt": attempt,
        "retry_count": attempt - 1 if retry_count is None else retry_count,
        "max_retry": new.max_retry,
        "timeout_ms": new.timeout_ms,
        **policy,
    }


_POLICY = ("retry_strategy", "retry_delay_ms", "retry_backoff_rate", "retry_max_delay_ms")
