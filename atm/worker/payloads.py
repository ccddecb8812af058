"""From the payload's strings to what a handler takes, and from what it returns to the result's strings."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from pydantic import BaseModel, TypeAdapter, ValidationError

from atm.values import encode_values
from atm.worker.result_faults import fault_in, fault_in_model
from atm.worker.texts import name_of, plain, text_of

#: Names and values of a result together, in bytes of UTF-8.
MAX_RESULT_BYTES = 1024 * 1024
#: Names: each costs up to 12 bytes more on the wire, and a task has to fit into an answer of 4 MiB.
MAX_RESULT_NAMES = 100_000


class PayloadError(Exception):
    """The payload does not fit the handler's model; the message says where."""


class ResultError(Exception):
    """What the handler returned cannot be kept; the message says why."""


def bind(payload: Mapping[str, str], model: TypeAdapter[Any] | None) -> Any:
    """The payload as a dict of strings, or as `model` makes it. Raises PayloadError.

    A field takes its string as it is, if it can (`"5"` fits a str and an int);
    otherwise the string is read as JSON. An empty payload that does not fit is
    None where that is allowed.
    """
    if model is None:
        return dict(payload)
    try:
        return model.validate_python(dict(payload))
    except ValidationError as error:
        # Beside fields, places have the names of a union's members.
        misfits = {name for item in error.errors() for name in item["loc"]}
    if not payload:
        with suppress(ValidationError):
            return model.validate_python(None)
    decoded = {key: _json(text) if key in misfits else text for key, text in payload.items()}
    try:
        return model.validate_python(decoded)
    except ValidationError as error:
        raise PayloadError(_explain(error)) from error


def encode_result(value: Any) -> dict[str, str]:
    """The result as it is stored. Raises ResultError, which names the place, and nothing else."""
    try:
        return _encode(value)
    except ResultError:
        raise
    except BaseException as error:
        # A model's serializers, or a mapping's methods, are the handler's code, too.
        raise ResultError(f"{name_of(error)}: {text_of(error)}") from error


def _encode(value: Any) -> dict[str, str]:
    _refuse_unfinished(value)
    if isinstance(value, BaseModel):
        try:
            value = value.model_dump(mode="json")
        except BaseException as error:
            raise ResultError(fault_in_model(value, error)) from error
    mapping = {} if value is None else value if isinstance(value, Mapping) else {"result": value}
    try:
        result = {plain(key): plain(text) for key, text in encode_values(mapping).items()}
    except BaseException as error:
        # What encoding says of it names no place within the value.
        raise ResultError(fault_in(mapping) or f"{name_of(error)}: {text_of(error)}") from error
    if len(result) > MAX_RESULT_NAMES:
        raise ResultError(
            f"it has {len(result)} names, {MAX_RESULT_NAMES} are allowed; return a list, or less"
        )
    sizes = {key: len(key.encode()) + len(text.encode()) for key, text in result.items()}
    if (size := sum(sizes.values())) > MAX_RESULT_BYTES:
        largest = max(sizes, key=sizes.__getitem__)
        raise ResultError(
            f"it has {size} bytes, {MAX_RESULT_BYTES} are allowed; store it, and return where "
            f"({sizes[largest]} of them are {largest[:100]!r})"
        )
    return result


def _refuse_unfinished(value: Any) -> None:
    """Raises ResultError for what is not a result, but something that would yet have to be run."""
    if inspect.iscoroutine(value):
        value.close()  # or Python warns that it was never awaited
    if inspect.isawaitable(value):
        raise ResultError(
            f"the handler is a plain function and returned an awaitable ({type(value).__name__}), "
            "which nobody awaits; make it an `async def` that awaits it"
        )
    if inspect.isgenerator(value) or inspect.isasyncgen(value):
        raise ResultError("the handler returned a generator, which nobody iterates; return a list")


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _explain(error: ValidationError) -> str:
    parts = [f"{'.'.join(map(str, item['loc'])) or 'payload'}: {item['msg']}" for item in error.errors()]
    return "; ".join(parts)
