"""Whatever can work as a handler works; what never can is refused where it is registered, with what to do."""

from __future__ import annotations

import asyncio
import functools
import importlib
import math
import reprlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import atm.testing.handlers
from atm.errors import SettingsError
from atm.retrying import Retry
from atm.testing import run_handler
from atm.worker import handlers
from atm.worker.handlers import HandlerRegistry, handler

if TYPE_CHECKING:
    from nowhere import Unknown


@pytest.fixture(autouse=True)
def registry(monkeypatch: pytest.MonkeyPatch) -> HandlerRegistry:
    fresh = HandlerRegistry()
    monkeypatch.setattr(handlers, "REGISTRY", fresh)
    monkeypatch.setattr(atm.testing.handlers, "REGISTRY", fresh)
    return fresh


# -- what is called -----------------------------------------------------------


def plain(context: Any, payload: Any) -> str:
    return payload["x"]


async def coroutine(context: Any, payload: Any) -> str:
    await asyncio.sleep(0)
    return payload["x"]


def generator(context: Any, payload: Any) -> Iterator[int]:
    yield 1


async def async_generator(context: Any, payload: Any) -> Any:
    yield 1


def decorated(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return wrapper


def async_decorated(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        return await function(*args, **kwargs)

    return wrapper


def adding_a_parameter(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(context: Any, payload: Any) -> Any:
        return function(context, payload, "connection")

    return wrapper


def claiming_more(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(payload: Any) -> Any:
        return function(None, payload)

    return wrapper


class Methods:
    def bound(self, context: Any, payload: Any) -> str:
        return payload["x"]

    async def async_bound(self, context: Any, payload: Any) -> str:
        return payload["x"]

    def generating(self, context: Any, payload: Any) -> Iterator[int]:
        yield 1

    @staticmethod
    def static(context: Any, payload: Any) -> str:
        return payload["x"]

    @staticmethod
    async def async_static(context: Any, payload: Any) -> str:
        return payload["x"]

    @classmethod
    def of_class(cls, context: Any, payload: Any) -> str:
        return payload["x"]


class CalledObject:
    def __call__(self, context: Any, payload: Any) -> str:
        return payload["x"]


class AsyncCallable:
    async def __call__(self, context: Any, payload: Any) -> str:
        return payload["x"]


class Runs:
    """As asgiref's async_to_sync: it says what it wraps, and runs it itself."""

    def __init__(self, function: Callable[..., Any]) -> None:
        functools.update_wrapper(self, function)
        self._function = function

    def __call__(self, *args: Any) -> Any:
        return asyncio.run(self._function(*args))


class GeneratingCallable:
    def __call__(self, context: Any, payload: Any) -> Iterator[int]:
        yield 1


def three(first: Any, context: Any, payload: Any) -> str:
    return payload["x"]


async def async_three(first: Any, context: Any, payload: Any) -> str:
    return payload["x"]


def with_defaults(context: Any, payload: Any, retries: int = 3, *, dry: bool = False) -> str:
    return payload["x"]


def var_args(*arguments: Any) -> str:
    return arguments[1]["x"]


def unknown_beside(context: Unknown, payload: dict[str, str]) -> Unknown:
    return payload["x"]


@functools.singledispatch
def dispatching(context: Any, payload: Any) -> str:
    return payload["x"]


WORK: dict[str, tuple[Callable[..., Any], str]] = {
    "a function": (plain, "thread"),
    "a coroutine function": (coroutine, "async"),
    "a lambda": (lambda context, payload: payload["x"], "thread"),
    "a decorated function": (decorated(plain), "thread"),
    "decorated twice": (decorated(decorated(plain)), "thread"),
    "an async decorator around a coroutine function": (async_decorated(coroutine), "async"),
    "a decorator that adds a parameter": (adding_a_parameter(with_defaults), "thread"),
    "a partial": (functools.partial(three, 1), "thread"),
    "a partial of a partial": (functools.partial(functools.partial(three), 1), "thread"),
    "a partial by name": (functools.partial(with_defaults, retries=1), "thread"),
    "a partial of a coroutine function": (functools.partial(async_three, 1), "async"),
    "a bound method": (Methods().bound, "thread"),
    "an async bound method": (Methods().async_bound, "async"),
    "a partial of an async bound method": (functools.partial(Methods().async_bound), "async"),
    "a static method": (Methods.static, "thread"),
    "a static method's object": (Methods.__dict__["static"], "thread"),
    "an async static method's object": (Methods.__dict__["async_static"], "async"),
    "a class method": (Methods.of_class, "thread"),
    "a callable object": (CalledObject(), "thread"),
    "an async callable object": (AsyncCallable(), "async"),
    "a partial of an async callable object": (functools.partial(AsyncCallable()), "async"),
    "an object that runs a coroutine function": (Runs(coroutine), "thread"),
    "parameters with defaults": (with_defaults, "thread"),
    "any number of parameters": (var_args, "thread"),
    "annotations for type checkers alone": (unknown_beside, "thread"),
    "a generic function": (dispatching, "thread"),
}


@pytest.mark.parametrize("kind", WORK)
def test_what_can_be_called_with_context_and_payload_works(kind: str, registry: HandlerRegistry) -> None:
    function, executor = WORK[kind]
    assert handler("shape")(function) is function
    spec = registry.get("shape")
    assert spec is not None
    assert spec.executor == executor
    assert run_handler("shape", {"x": "y"}).check().result == {"result": "y"}


def only_payload(payload: Any) -> None: ...
def three_needed(context: Any, payload: Any, more: Any) -> None: ...
def by_keyword(*, context: Any, payload: Any) -> None: ...
def keyword_needed(context: Any, payload: Any, *, more: Any) -> None: ...
def nothing() -> None: ...


REFUSED: dict[str, tuple[Any, str]] = {
    "a generator": (generator, "is a generator, which nobody would iterate"),
    "an async generator": (async_generator, "is a generator"),
    "a generator method": (Methods().generating, "is a generator"),
    "a generating object": (GeneratingCallable(), "is a generator"),
    "a partial of a generator": (functools.partial(generator), "is a generator"),
    "a decorator around a coroutine function": (decorated(coroutine), "around a coroutine function"),
    "two decorators around a coroutine function": (decorated(decorated(coroutine)), "around a coroutine"),
    "a decorator around an async one": (decorated(async_decorated(coroutine)), "around a coroutine function"),
    "a decorator around an async partial": (
        decorated(functools.partial(async_three, 1)),
        "around a coroutine",
    ),
    "a partial of such a decorator": (functools.partial(decorated(coroutine)), "around a coroutine function"),
    "a decorator around an async method": (decorated(Methods().async_bound), "around a coroutine function"),
    "a decorator around an async object": (decorated(AsyncCallable()), "around a coroutine function"),
    "a cached coroutine function": (functools.lru_cache(coroutine), "around a coroutine function"),
    "a generic coroutine function": (functools.singledispatch(coroutine), "around a coroutine function"),
    "a class": (CalledObject, "is a class; register a function"),
    "a class method's object": (Methods.__dict__["of_class"], "from outside of its class"),
    "a method without its object": (Methods.bound, r"must take \(context, payload\)"),
    "one parameter": (only_payload, r"must take \(context, payload\)"),
    "three parameters": (three_needed, r"must take \(context, payload\)"),
    "keywords only": (by_keyword, r"must take \(context, payload\)"),
    "a keyword that is needed": (keyword_needed, r"must take \(context, payload\)"),
    "no parameter": (nothing, r"must take \(context, payload\)"),
    "a decorator that takes less than it claims": (claiming_more(plain), r"must take \(context, payload\)"),
    "a partial with nothing left": (functools.partial(plain, 1, 2), r"must take \(context, payload\)"),
    "a function that tells nothing": (max, "does not tell its parameters"),
    "a string": ("send_email", "for a function"),
    "nothing": (None, "for a function"),
    "a coroutine": (7, "for a function"),
    "a property": (property(plain), "for a function"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_can_never_work_is_refused_with_the_reason(kind: str, registry: HandlerRegistry) -> None:
    function, reason = REFUSED[kind]
    with pytest.raises(SettingsError, match=reason) as refused:
        handler("shape")(function)
    assert str(refused.value).startswith("@handler('shape'): ")
    assert registry.specs() == []


def test_a_plain_handler_that_returns_a_coroutine_says_so_when_it_runs() -> None:
    handler("shape")(lambda context, payload: coroutine(context, payload))
    run = run_handler("shape", {"x": "y"})
    assert (run.status, run.reason, run.will_retry) == ("FAILED", "INVALID_RESULT", False)
    assert "returned an awaitable (coroutine), which nobody awaits" in run.error


def test_a_handler_that_returns_a_generator_says_so_when_it_runs() -> None:
    handler("shape")(lambda context, payload: generator(context, payload))
    assert "returned a generator" in run_handler("shape", {}).error


# -- two for one type ---------------------------------------------------------

_MODULE = """
from functools import cache, partial
from atm import handler
def two(tag, context, payload): return tag
class Called:
    def __call__(self, context, payload): return "called"
handler("lambda")(lambda context, payload: 1)
handler("partial")(partial(two, "a"))
handler("object")(Called())
handler("method")(Called().__call__)
@handler("function")
def function(context, payload): return 1
def make(n):
    def inner(context, payload): return n
    return inner
handler("closure")(make(1))
handler("cached")(cache(function))
{more}
"""


@contextmanager
def _module(folder: Path, monkeypatch: pytest.MonkeyPatch, more: str = "") -> Iterator[str]:
    (folder / "shapes_module.py").write_text(_MODULE.format(more=more))
    monkeypatch.syspath_prepend(str(folder))
    try:
        yield "shapes_module"
    finally:
        sys.modules.pop("shapes_module", None)


@pytest.mark.parametrize(
    "second",
    [
        'handler("lambda")(lambda context, payload: 2)',
        'handler("lambda")(lambda context, payload: 1)',
        'handler("partial")(partial(two, "b"))',
        'handler("object")(Called())',
        'handler("closure")(make(2))',
        'handler("cached")(cache(function))',
        'handler("function")(lambda context, payload: 2)',
        '@handler("function")\ndef function(context, payload): return 2',
    ],
)
def test_two_for_one_type_are_refused_and_both_are_named(
    second: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        _module(tmp_path, monkeypatch, second) as name,
        pytest.raises(SettingsError, match=r"two handlers .*: .*shapes_module.*line \d+\) and .*line \d+\)"),
    ):
        importlib.import_module(name)


def test_a_module_that_is_reloaded_or_imported_anew_brings_the_same_handlers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, registry: HandlerRegistry
) -> None:
    with _module(tmp_path, monkeypatch) as name:
        module = importlib.import_module(name)
        first = registry.specs()
        importlib.reload(module)
        second = registry.specs()
        del sys.modules[name]
        importlib.import_module(name)
        third = registry.specs()
    assert [spec.task_type for spec in first] == [spec.task_type for spec in second]
    for before, after in ((first, second), (second, third)):
        assert all(one.function is not two.function for one, two in zip(before, after, strict=True))


def test_one_function_may_be_registered_again_and_for_several_types(registry: HandlerRegistry) -> None:
    handler("a")(plain)
    handler("a", max_retry=1)(plain)
    handler("b")(plain)
    assert [spec.task_type for spec in registry.specs()] == ["a", "b"]
    assert registry.specs()[0].max_retry == 1


def test_a_cell_of_a_notebook_may_be_run_again(registry: HandlerRegistry) -> None:
    cell = "@handler('cell')\ndef in_a_cell(context, payload): return {}"
    names = {"handler": handler, "__name__": "__main__", "__spec__": None}
    exec(cell.format(1), names)
    exec(cell.format(2), names)
    spec = registry.get("cell")
    assert spec is not None
    assert spec.function is names["in_a_cell"]


# -- options ------------------------------------------------------------------

NO_NUMBERS: list[Any] = ["5", True, math.nan, math.inf, -math.inf, -1, -0.001, 1e300, 10**400, [1], 1j]
NO_NUMBERS += [timedelta(seconds=5), Decimal(5), b"5", {}]


@pytest.mark.parametrize("value", NO_NUMBERS, ids=reprlib.repr)
@pytest.mark.parametrize("option", ["timeout", "cancel_grace"])
def test_a_time_that_is_no_number_of_seconds_is_refused_by_name(option: str, value: Any) -> None:
    with pytest.raises(SettingsError, match=rf"@handler\('x'\): {option} is a number of seconds"):
        handler("x", **{option: value})


@pytest.mark.parametrize("value", [*NO_NUMBERS, 1.5, 2.0, False], ids=reprlib.repr)
def test_a_max_retry_that_is_no_whole_number_is_refused_by_name(value: Any) -> None:
    with pytest.raises(SettingsError, match=r"@handler\('x'\): max_retry is a whole number"):
        handler("x", max_retry=value)


@pytest.mark.parametrize("value", ["FIXED", 3, True, {"strategy": "FIXED"}], ids=reprlib.repr)
def test_a_retry_that_is_none_is_refused_by_name(value: Any) -> None:
    with pytest.raises(SettingsError, match=r"@handler\('x'\): retry is a Retry"):
        handler("x", retry=value)


@pytest.mark.parametrize("value", ["thread", None, True, ["process"], 0], ids=reprlib.repr)
def test_an_isolation_that_is_none_is_refused_by_name(value: Any) -> None:
    with pytest.raises(SettingsError, match=r"@handler\('x'\): isolation is 'none' or 'process'"):
        handler("x", isolation=value)


@pytest.mark.parametrize("value", [None, 5, b"x", "", " ", "a b", "\ud800", "x" * 129, ["x"]], ids=ascii)
def test_a_type_that_is_no_name_is_refused(value: Any) -> None:
    with pytest.raises(SettingsError, match="the type is a name"):
        handler(value)


@pytest.mark.parametrize("value", NO_NUMBERS, ids=reprlib.repr)
@pytest.mark.parametrize("option", ["delay", "max_delay", "backoff_rate"])
def test_a_retry_policy_of_no_numbers_is_refused_by_name(option: str, value: Any) -> None:
    with pytest.raises(SettingsError, match=f"retry {option}"):
        Retry(**{option: value})


@pytest.mark.parametrize("value", ["fixed", "LINEAR", None, 1, ["FIXED"], True], ids=reprlib.repr)
def test_a_retry_strategy_that_is_not_known_is_refused(value: Any) -> None:
    with pytest.raises(SettingsError, match="retry strategy"):
        Retry(value)


@pytest.mark.parametrize(
    ("seconds", "stored"),
    [(0, 0), (0.0, 0), (5e-324, 1), (1e-9, 1), (0.0004, 1), (0.0015, 2), (1.1, 1100), (30, 30_000)],
)
def test_only_a_timeout_of_nothing_is_no_limit(
    seconds: float, stored: int, registry: HandlerRegistry
) -> None:
    handler("x", timeout=seconds)(plain)
    assert registry.specs()[0].defaults()["default_timeout_ms"] == stored
