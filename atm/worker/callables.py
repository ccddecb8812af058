"""What can be a handler, and what is known of it before it is called."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from types import FunctionType, MethodType
from typing import Any

from atm.errors import SettingsError

Function = Callable[..., Any]


def check_callable(function: object) -> None:
    """Raises SettingsError, with what to do, for what can never work as a handler."""
    if isinstance(function, classmethod):
        raise SettingsError(
            "a class method is registered from outside of its class: handler(…)(Class.method)"
        )
    if inspect.isclass(function):
        raise SettingsError(
            f"{function.__qualname__} is a class; register a function, or an instance with a __call__ method"
        )
    if not callable(function):
        raise SettingsError(f"it is for a function, not for {_shown(function)}")
    name = name_of_callable(function)
    code = code_of(function)
    if inspect.isgeneratorfunction(code) or inspect.isasyncgenfunction(code):
        raise SettingsError(
            f"{name} is a generator, which nobody would iterate; return a list instead of yielding"
        )
    if not is_async(function) and _wraps_coroutine(function):
        raise SettingsError(
            f"{name} is a plain function around a coroutine function, which nobody would await; "
            "make its decorator an `async def` that awaits it, or leave the decorator out"
        )
    _check_signature(name, function)


def is_async(function: Function) -> bool:
    """Whether calling it makes a coroutine, as far as that is known: an `async def`, a partial of one."""
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(code_of(function))


def code_of(function: Any) -> Any:
    """The function behind partials, methods and objects with a `__call__` of their own; decorators stay."""
    while True:
        if isinstance(function, functools.partial):
            function = function.func
        elif isinstance(function, staticmethod | MethodType):
            function = function.__func__
        elif (call := _own_call(function)) is not None:
            function = call
        else:
            return function


def name_of_callable(function: Any) -> str:
    """Module and name, for messages and to know it again."""
    code = code_of(function)
    if not hasattr(code, "__qualname__"):
        code = type(code)
    return f"{code.__module__}.{code.__qualname__}"


def place_of(function: Any) -> str:
    """Where it is written, or nothing."""
    code = getattr(inspect.unwrap(code_of(function)), "__code__", None)
    return "" if code is None else f" ({code.co_filename}, line {code.co_firstlineno})"


class Definition:
    """Tells one definition of a handler from another.

    The same one may come again: when its module is reloaded, or imported anew.
    Each time a module is run it has a new `__spec__`. So two definitions of
    one name in one run of a module, such as two lambdas, are two handlers.
    `frame_globals` are the names of the module in which it is registered.
    """

    def __init__(self, function: Any, frame_globals: Mapping[str, Any]) -> None:
        self._function = function
        self._name = name_of_callable(function)
        # An object of C code has no names of its own: then those of who registers it stand for them.
        own = getattr(inspect.unwrap(code_of(function)), "__globals__", frame_globals)
        namespaces = own, frame_globals
        self._runs = [namespace.get("__spec__") for namespace in namespaces]

    def is_again(self, other: Definition) -> bool:
        """Whether this is what `other` was, defined again."""
        if self._function is other._function:
            return True
        if self._name != other._name:
            return False
        if any(one is not two for one, two in zip(self._runs, other._runs, strict=True)):
            return True
        # A notebook or a script: a cell that is run again defines its functions again.
        return self._runs[0] is None and "<" not in self._name

    def __str__(self) -> str:
        return f"{self._name}{place_of(self._function)}"


def _wraps_coroutine(function: Any) -> bool:
    """Whether a decorator hides a coroutine function: `functools.wraps` leaves the way to it.

    An object with a Python `__call__` may run the coroutine itself, as asgiref's async_to_sync does.
    """
    if _own_call(function) is not None:
        return False
    wrapped = getattr(code_of(function), "__wrapped__", None)
    return wrapped is not None and (is_async(wrapped) or _wraps_coroutine(wrapped))


def _own_call(function: Any) -> FunctionType | None:
    """The `__call__` that an object's class defines in Python."""
    call = inspect.getattr_static(type(function), "__call__", None)
    return call if isinstance(call, FunctionType) else None


def _check_signature(name: str, function: Function) -> None:
    if isinstance(function, staticmethod):
        function = function.__func__
    in_python = hasattr(code_of(function), "__code__")
    try:
        # What is called, not what its decorators claim to be; C code, as functools.cache, has only the claim.
        signature = inspect.signature(function, follow_wrapped=not in_python)
    except (TypeError, ValueError) as error:
        raise SettingsError(
            f"{name} does not tell its parameters; call it in a function that takes (context, payload)"
        ) from error
    try:
        signature.bind(None, None)
    except TypeError as error:
        raise SettingsError(
            f"{name} must take (context, payload), as two positional parameters: {error}"
        ) from error


def _shown(value: object) -> str:
    try:
        return repr(value)[:200]
    except Exception:  # noqa: BLE001 - its own code
        return f"a {type(value).__name__}"
