"""What a handler's payload is made into: the annotation of its second parameter."""

from __future__ import annotations

import collections.abc
import dataclasses
import inspect
import types
import typing
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, TypeAdapter

from atm.errors import SettingsError
from atm.worker.callables import code_of

_SUPPORTED = "annotate the payload with dict, a pydantic model, a dataclass or a named tuple"


def payload_model(function: Any, local_names: Mapping[str, Any]) -> TypeAdapter[Any] | None:
    """What validates a payload for this handler; None: it takes the dict of strings.

    Models, dataclasses and named tuples are made; so are unions of them,
    Optional and Annotated ones. Dicts, TypedDicts and Any are left as they
    came. `local_names` are those that are known where the handler is defined,
    for annotations that are strings. Raises SettingsError, with what to do,
    for an annotation that cannot be resolved or cannot hold a payload.
    """
    annotation = _annotation(function, local_names)
    members = [_plain_type(member) for member in _members(annotation)]
    for member in members:
        if not (_is_made(member) or _takes_dict(member)):
            raise SettingsError(f"a payload cannot be {_name(member)}: {_SUPPORTED}")
    if not any(map(_is_made, members)):
        return None
    try:
        return TypeAdapter(annotation)
    except Exception as error:
        raise SettingsError(
            f"pydantic cannot validate the payload's type {_name(annotation)}: {error}"
        ) from error


def _annotation(function: Any, local_names: Mapping[str, Any]) -> Any:
    """The type of the second parameter, resolved; Any without one."""
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        return Any
    if len(parameters) < 2 or parameters[1].kind not in (
        inspect.Parameter.POSITIONAL_ONLY,
        inspect.Parameter.POSITIONAL_OR_KEYWORD,
    ):
        return Any
    annotation = parameters[1].annotation
    if annotation is inspect.Parameter.empty:
        return Any
    # Only this one: the others may name what is imported for type checkers alone.
    holder = types.SimpleNamespace(__annotations__={"payload": annotation})
    namespace = getattr(inspect.unwrap(code_of(function)), "__globals__", {})
    try:
        return typing.get_type_hints(holder, namespace, dict(local_names), include_extras=True)["payload"]
    except Exception as error:
        raise SettingsError(
            f"the payload's annotation {_name(annotation)} cannot be resolved: {error}; "
            "what it names must be imported, and defined above the handler"
        ) from error


def _members(annotation: Any) -> list[Any]:
    """The alternatives of a union, without None, and what names or annotates stands for."""
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        return _members(typing.get_args(annotation)[0])
    if origin in (typing.Union, types.UnionType):
        return [
            found
            for member in typing.get_args(annotation)
            if member is not types.NoneType
            for found in _members(member)
        ]
    if isinstance(annotation, typing.NewType):
        return _members(annotation.__supertype__)
    if isinstance(annotation, typing.TypeVar):
        bound = annotation.__bound__
        return _members(bound) if bound is not None else [Any]
    if hasattr(annotation, "__value__"):
        return _members(annotation.__value__)  # `type Payload = …`
    return [annotation]


def _plain_type(member: Any) -> Any:
    return typing.get_origin(member) or member


def _is_made(member: Any) -> bool:
    """Whether it has fields of its own, which pydantic can fill from a dict."""
    return inspect.isclass(member) and (
        issubclass(member, BaseModel)
        or dataclasses.is_dataclass(member)
        or (issubclass(member, tuple) and hasattr(member, "_fields"))
        or hasattr(member, "__get_pydantic_core_schema__")
    )


def _takes_dict(member: Any) -> bool:
    """Whether the dict of strings fits, as far as that can be known."""
    # `Any` is a class since Python 3.11.
    if member is Any or not inspect.isclass(member) or getattr(member, "_is_protocol", False):
        return True
    # In this order: a TypedDict is a mapping, and does not let itself be asked the other thing.
    return issubclass(member, collections.abc.Mapping) or issubclass(dict, member)


def _name(annotation: Any) -> str:
    return (
        repr(annotation)
        if isinstance(annotation, str) or not inspect.isclass(annotation)
        else annotation.__name__
    )
