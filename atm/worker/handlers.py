"""The registry of handlers: which function runs which type of task."""

from __future__ import annotations

import importlib
import inspect
import typing
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Any, Literal, TypeVar

from pydantic import BaseModel

from atm.errors import SettingsError
from atm.models import TASK_TYPE_LENGTH
from atm.retrying import Retry
from atm.service.validation import MAX_RETRIES, MAX_TIMEOUT_MS

ENTRY_POINT_GROUP = "atm.handlers"
BUILT_IN = "atm.worker.builtin"
#: How long a plain handler may take to notice `context.cancelled` before an
#: exception is raised in its thread, in seconds.
CANCEL_GRACE = 0.1

Isolation = Literal["none", "process"]
Function = Callable[..., Any]
F = TypeVar("F", bound=Function)


@dataclass(frozen=True)
class HandlerSpec:
    """One registered handler and what was said of it. None: not said."""

    task_type: str
    function: Function
    payload_model: type[BaseModel] | None = None
    timeout: float | None = None
    max_retry: int | None = None
    retry: Retry | None = None
    isolation: Isolation = "none"
    cancel_grace: float = CANCEL_GRACE

    @property
    def is_async(self) -> bool:
        """Whether the handler is a coroutine function."""
        return inspect.iscoroutinefunction(self.function)

    @property
    def executor(self) -> str:
        """How it is run: in its own process, on the event loop, or in a thread."""
        if self.isolation == "process":
            return "process"
        return "async" if self.is_async else "thread"

    def defaults(self) -> dict[str, Any]:
        """The columns of task_config that the handler decides."""
        columns: dict[str, Any] = {"executor": self.executor}
        if self.timeout is not None:
            columns["default_timeout_ms"] = round(self.timeout * 1000)
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
        """Adds a handler. Raises SettingsError when another function has the type already."""
        other = self._specs.get(spec.task_type)
        if other is not None and _origin(other) != _origin(spec):
            raise SettingsError(
                f"two handlers for the task type {spec.task_type!r}: {_origin(other)} and {_origin(spec)}"
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
    _check_options(task_type, timeout, max_retry, cancel_grace, isolation)

    def register(function: F) -> F:
        spec = HandlerSpec(
            task_type,
            function,
            payload_model=_payload_model(task_type, function),
            timeout=timeout,
            max_retry=max_retry,
            retry=retry,
            isolation=isolation,
            cancel_grace=cancel_grace,
        )
        REGISTRY.add(spec)
        return function

    return register


def load(modules: Iterable[str], registry: HandlerRegistry = REGISTRY) -> HandlerRegistry:
    """Imports the built-in handlers, those of installed packages, and these modules.

    Raises SettingsError, which names the module, for one that cannot be imported.
    """
    _import(BUILT_IN, "the built-in handlers")
    for entry in entry_points(group=ENTRY_POINT_GROUP):
        _import(entry.module, f"the entry point {entry.name} of the group {ENTRY_POINT_GROUP}")
    for module in modules:
        _import(module, "ATM_HANDLERS")
    return registry


def _import(module: str, source: str) -> None:
    try:
        importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name and (module == error.name or module.startswith(f"{error.name}.")):
            raise SettingsError(f"{source}: there is no module {module!r} on the Python path") from error
        raise SettingsError(f"{source}: {module} cannot be imported: {error}") from error
    except SettingsError:
        raise
    except Exception as error:
        raise SettingsError(f"{source}: {module} cannot be imported: {error!r}") from error


def _check_options(
    task_type: str, timeout: float | None, max_retry: int | None, cancel_grace: float, isolation: str
) -> None:
    plain = isinstance(task_type, str) and task_type.isprintable() and not any(c.isspace() for c in task_type)
    if not plain or not 0 < len(task_type) <= TASK_TYPE_LENGTH:
        raise SettingsError(f"@handler({task_type!r}): the type is a name without spaces, e.g. 'send_email'")
    if timeout is not None and not 0 <= timeout * 1000 <= MAX_TIMEOUT_MS:
        raise SettingsError(f"@handler({task_type!r}): timeout is from 0 to {MAX_TIMEOUT_MS // 1000} seconds")
    if max_retry is not None and not 0 <= max_retry <= MAX_RETRIES:
        raise SettingsError(f"@handler({task_type!r}): max_retry is from 0 to {MAX_RETRIES}")
    if not 0 <= cancel_grace <= 60:
        raise SettingsError(f"@handler({task_type!r}): cancel_grace is from 0 to 60 seconds")
    if isolation not in typing.get_args(Isolation):
        raise SettingsError(f"@handler({task_type!r}): isolation is 'none' or 'process'")


def _payload_model(task_type: str, function: Function) -> type[BaseModel] | None:
    """The pydantic model that the payload's parameter is annotated with, if it is."""
    if not callable(function):
        raise SettingsError(f"@handler({task_type!r}) is for a function, not {function!r}")
    parameters = list(inspect.signature(function).parameters.values())
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    others = [
        p for p in parameters[2:] if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
    ]
    if len(positional) < 2 or others:
        raise SettingsError(f"@handler({task_type!r}): {function.__name__} must take (context, payload)")
    try:
        annotation = typing.get_type_hints(function).get(positional[1].name)
    except Exception as error:
        raise SettingsError(f"@handler({task_type!r}): an annotation cannot be read: {error}") from error
    is_model = inspect.isclass(annotation) and issubclass(annotation, BaseModel)
    return annotation if is_model else None


def _origin(spec: HandlerSpec) -> str:
    return f"{spec.function.__module__}.{spec.function.__qualname__}"
