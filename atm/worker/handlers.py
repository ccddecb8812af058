"""The registry of handlers: which function runs which type of task."""

from __future__ import annotations

import functools
import importlib
import reprlib
import sys
import traceback
import typing
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Literal, TypeGuard, TypeVar

from pydantic import TypeAdapter

from atm.errors import SettingsError
from atm.models import TASK_TYPE_LENGTH
from atm.retrying import MAX_RETRIES, MAX_TIMEOUT_MS, Retry, is_number
from atm.worker.callables import Definition, Function, check_callable, is_async
from atm.worker.payload_types import payload_model
from atm.worker.texts import name_of, text_of

ENTRY_POINT_GROUP = "atm.handlers"
BUILT_IN = "atm.worker.builtin"
#: How long a plain handler may take to notice `context.cancelled` before an
#: exception is raised in its thread, in seconds.
CANCEL_GRACE = 0.1
MAX_GRACE = 60

Isolation = Literal["none", "process"]
F = TypeVar("F", bound=Function)


@dataclass(frozen=True)
class HandlerSpec:
    """One registered handler and what was said of it. None: not said."""

    task_type: str
    function: Function
    payload_model: TypeAdapter[Any] | None = None
    timeout: float | None = None
    max_retry: int | None = None
    retry: Retry | None = None
    isolation: Isolation = "none"
    cancel_grace: float = CANCEL_GRACE
    #: The names of the module in which it is registered.
    frame_globals: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def module(self) -> str:
        """The name of the module that has to be imported for it."""
        return str(self.frame_globals.get("__name__", self.function.__module__))

    @functools.cached_property
    def defined(self) -> Definition:
        """Which of several definitions it is."""
        return Definition(self.function, self.frame_globals)

    @functools.cached_property
    def is_async(self) -> bool:
        """Whether calling the handler makes a coroutine."""
        return is_async(self.function)

    @functools.cached_property
    def executor(self) -> str:
        """How it is run: in its own process, on the event loop, or in a thread."""
        if self.isolation == "process":
            return "process"
        return "async" if self.is_async else "thread"

    def defaults(self) -> dict[str, Any]:
        """The columns of task_config that the handler decides."""
        columns: dict[str, Any] = {"executor": self.executor}
        if self.timeout is not None:
            columns["default_timeout_ms"] = timeout_ms(self.timeout)
        if self.max_retry is not None:
            columns["max_retry"] = self.max_retry
        if self.retry is not None:
            columns |= {
                "retry_strategy": self.retry.strategy,
                "retry_delay_ms": round(self.retry.delay * 1000),
                "retry_backoff_rate": self.retry.backoff_rate,
                "retry_max_delay_ms": round(self.retry.max_delay * 1000),
            }
        return columns


class HandlerRegistry:
    """The handler registry: which function runs which type of task."""

    def __init__(self) -> None:
        self._specs: dict[str, HandlerSpec] = {}

    def add(self, spec: HandlerSpec) -> None:
        """Adds a handler.

        Raises SettingsError when the type has another one. The same one, of a
        module that is imported again, takes the place of its former self.
        """
        # At once: when its module is run again, nothing tells the former run.
        definition = spec.defined
        other = self._specs.get(spec.task_type)
        if other is not None and not definition.is_again(other.defined):
            raise SettingsError(
                f"two handlers for the task type {spec.task_type!r}: {other.defined} and {definition}; "
                "give each a type of its own"
            )
        self._specs[spec.task_type] = spec

    def get(self, task_type: str) -> HandlerSpec | None:
        """The handler of a type, or None."""
        return self._specs.get(task_type)

    def specs(self) -> list[HandlerSpec]:
        """Every handler, by the name of its type."""
        return [self._specs[name] for name in sorted(self._specs)]


#: What `@handler` fills and a worker runs.
REGISTRY = HandlerRegistry()


def handler(
    task_type: str,
    *,
    timeout: float | None = None,
    max_retry: int | None = None,
    retry: Retry | None = None,
    isolation: Isolation = "none",
    cancel_grace: float = CANCEL_GRACE,
) -> Callable[[F], F]:
    """Registers a function `(context, payload)`, plain or async, for a type of task.

    The payload is a `dict[str, str]`, or what its parameter is annotated with:
    a pydantic model, a dataclass, a named tuple, a union of these.
    `timeout` is how many seconds one attempt may run (0: without limit),
    `max_retry` how often a failed one is tried again, `retry` when. They are
    defaults: a task can bring its own. `isolation="process"` runs each attempt
    in a process of its own, which can be killed. `cancel_grace` is how many
    seconds a plain handler may take to notice `context.cancelled` before an
    exception is raised in it.

    What is returned becomes the result: a mapping, a pydantic model, None, or
    any other JSON value (under the key "result"). Raises SettingsError when
    the function or an option cannot be used.
    """
    where = f"@handler({_brief(task_type)})"
    _check_options(where, task_type, timeout, max_retry, retry, cancel_grace, isolation)

    def register(function: F) -> F:
        # The names that its annotations may use, and which run of which module this is.
        frame = sys._getframe(1)  # noqa: SLF001 - as dataclasses and pydantic look at their caller
        try:
            check_callable(function)
            model = payload_model(function, frame.f_locals)
        except SettingsError as error:
            raise SettingsError(f"{where}: {error}") from error
        spec = HandlerSpec(
            task_type,
            function,
            payload_model=model,
            timeout=timeout,
            max_retry=max_retry,
            retry=retry,
            isolation=isolation,
            cancel_grace=cancel_grace,
            frame_globals=frame.f_globals,
        )
        REGISTRY.add(spec)
        return function

    return register


def timeout_ms(seconds: float) -> int:
    """A timeout as it is stored. Only 0 is no limit: the shortest is a millisecond."""
    return max(1, round(seconds * 1000)) if seconds else 0


def load(modules: Iterable[str], registry: HandlerRegistry = REGISTRY) -> HandlerRegistry:
    """Imports the built-in handlers, those of installed packages, and these modules.

    Raises SettingsError, which names the module, for one that cannot be imported.
    """
    _import(BUILT_IN, "the built-in handlers")
    for entry in entry_points(group=ENTRY_POINT_GROUP):
        _import(entry.module, f"the entry point {entry.name} of the group {ENTRY_POINT_GROUP}")
    for module in modules:
        _look_here_last()
        _import(module, "ATM_HANDLERS")
    return registry


def _look_here_last() -> None:
    """The current folder can hold handlers; what it holds hides no installed module."""
    with suppress(OSError):  # it is gone
        here = str(Path.cwd())
        if not {here, "", "."} & set(sys.path):
            sys.path.append(here)


def _import(module: str, source: str) -> None:
    try:
        importlib.import_module(module)
    except KeyboardInterrupt:
        raise
    except SettingsError as error:
        raise SettingsError(f"{source}: {module}: {error}") from error
    except ModuleNotFoundError as error:
        if error.name and (module == error.name or module.startswith(f"{error.name}.")):
            raise SettingsError(
                f"{source}: there is no module {module!r} on the Python path ({text_of(error)})"
            ) from error
        raise SettingsError(_not_imported(source, module, error)) from error
    except BaseException as error:
        # SystemExit, too: nobody would know which module ended the worker.
        raise SettingsError(_not_imported(source, module, error)) from error


def _not_imported(source: str, module: str, error: BaseException) -> str:
    what = f"{name_of(error)}: {text_of(error)}"
    if isinstance(error, SystemExit):
        what = f"it exits when it is imported (SystemExit: {text_of(error)})"
    # The last frame is where it happened; the first ones are those of the import.
    frames = traceback.extract_tb(error.__traceback__)
    place = f"{frames[-1].filename}, line {frames[-1].lineno}" if frames else "nowhere"
    return f"{source}: {module} cannot be imported: {what} ({place})"


def _check_options(
    where: str,
    task_type: object,
    timeout: object,
    max_retry: object,
    retry: object,
    cancel_grace: object,
    isolation: object,
) -> None:
    plain = isinstance(task_type, str) and task_type.isprintable() and not any(c.isspace() for c in task_type)
    if not isinstance(task_type, str) or not plain or not 0 < len(task_type) <= TASK_TYPE_LENGTH:
        raise SettingsError(
            f"{where}: the type is a name of at most {TASK_TYPE_LENGTH} characters without spaces, "
            "e.g. @handler('send_email')"
        )
    if timeout is not None and not (is_number(timeout) and 0 <= timeout * 1000 <= MAX_TIMEOUT_MS):
        limit = MAX_TIMEOUT_MS // 1000
        raise SettingsError(
            f"{where}: timeout is a number of seconds from 0 (no limit) to {limit}, not {_brief(timeout)}"
        )
    if max_retry is not None and not (_is_whole(max_retry) and 0 <= max_retry <= MAX_RETRIES):
        raise SettingsError(
            f"{where}: max_retry is a whole number from 0 to {MAX_RETRIES}, not {_brief(max_retry)}"
        )
    if retry is not None and not isinstance(retry, Retry):
        raise SettingsError(f"{where}: retry is a Retry, e.g. Retry('FIXED', delay=5), not {_brief(retry)}")
    if not (is_number(cancel_grace) and 0 <= cancel_grace <= MAX_GRACE):
        raise SettingsError(
            f"{where}: cancel_grace is a number of seconds from 0 to {MAX_GRACE}, not {_brief(cancel_grace)}"
        )
    if not isinstance(isolation, str) or isolation not in typing.get_args(Isolation):
        raise SettingsError(f"{where}: isolation is 'none' or 'process', not {_brief(isolation)}")


def _is_whole(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def _brief(value: object) -> str:
    """What was said, short enough for a line."""
    return reprlib.repr(value)
