"""From the payload's strings to what a handler takes, and from what it returns to the result's strings."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from atm.errors import InvalidArgumentError
from atm.values import encode_values
from atm.worker.texts import name_of, plain, text_of

#: Names and values of a result together, in bytes of UTF-8.
MAX_RESULT_BYTES = 1024 * 1024


class PayloadError(Exception):
    """The payload does not fit the handler's model; the message says where."""


class ResultError(Exception):
    """What the handler returned cannot be kept; the message says why."""


def bind(payload: Mapping[str, str], model: type[BaseModel] | None) -> Any:
    """The payload as a dict of strings, or as `model`. Raises PayloadError.

    A field takes its string as it is, if it can (`"5"` fits a str and an int);
    otherwise the string is read as JSON.
    """
    if model is None:
        return dict(payload)
    try:
        return model.model_validate(dict(payload))
    except ValidationError as error:
        misfits = {item["loc"][0] for item in error.errors() if item["loc"]}
    decoded = {key: _json(text) if key in misfits else text for key, text in payload.items()}
    try:
        return model.model_validate(decoded)
    except ValidationError as error:
        raise PayloadError(_explain(error)) from error


def encode_result(value: Any) -> dict[str, str]:
    """The result as it is stored. Raises ResultError, and nothing else."""
    try:
        return _encode(value)
    except ResultError:
        raise
    except BaseException as error:
        # A model's serializers, or a mapping's methods, are the handler's code, too.
        raise ResultError(f"{name_of(error)}: {text_of(error)}") from error


def _encode(value: Any) -> dict[str, str]:
    if isinstance(value, BaseModel):
        value = value.model_dump(mode="json")
    mapping = {} if value is None else value if isinstance(value, Mapping) else {"result": value}
    try:
        result = {plain(key): plain(text) for key, text in encode_values(mapping).items()}
    except InvalidArgumentError as error:
        raise ResultError("; ".join(v.description for v in error.violations)) from error
    size = sum(len(key.encode()) + len(text.encode()) for key, text in result.items())
    if size > MAX_RESULT_BYTES:
        raise ResultError(f"it has {size} bytes, {MAX_RESULT_BYTES} are allowed; store it, and return where")
    return result


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _explain(error: ValidationError) -> str:
    parts = [f"{'.'.join(map(str, item['loc'])) or 'payload'}: {item['msg']}" for item in error.errors()]
    return "; ".join(parts)
