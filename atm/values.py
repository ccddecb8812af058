"""The values of a payload or a result: JSON text on the wire, Python in a program."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NoReturn

from atm.errors import FieldViolation, InvalidArgumentError


def encode_values(payload: Mapping[str, Any] | None) -> dict[str, str]:
    """The map of strings that carries `payload`.

    A string travels as it is, anything else as compact JSON. Raises
    InvalidArgumentError, which names `payload.KEY`, for a value that JSON
    cannot express (NaN and infinities too), and for text that is not Unicode.
    """
    if payload is None:
        return {}
    if not isinstance(payload, Mapping):
        refuse("payload", f"takes a mapping of names to values, not {type(payload).__name__}")
    encoded: dict[str, str] = {}
    for key, value in payload.items():
        if not isinstance(key, str):
            refuse("payload", f"the key {key!r} is {type(key).__name__}, not a string")
        check_text("payload", key)
        encoded[key] = check_text(f"payload.{key}", encode_value(f"payload.{key}", value))
    return encoded


def encode_value(field: str, value: Any) -> str:
    """One value as it travels. Raises InvalidArgumentError, which names `field`."""
    if isinstance(value, str):
        return value
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidArgumentError([FieldViolation(field, f"is not JSON: {error}")]) from error


def decode_values(values: Mapping[str, str]) -> dict[str, Any]:
    """Each value decoded where its text is JSON, and as the string that it is otherwise.

    The wire does not say which strings were encoded: a string that reads as
    JSON (`"5"`) comes back decoded (5). The raw map keeps the difference.
    """
    return {key: _decode(text) for key, text in values.items()}


def check_text(field: str, text: str) -> str:
    """`text`, if it can be sent. Raises InvalidArgumentError for lone surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InvalidArgumentError([FieldViolation(field, "is not valid Unicode text")]) from error
    return text


def storable(text: str) -> str:
    """`text` with what cannot be stored or sent (lone surrogates) shown as an escape."""
    return text.encode("utf-8", "backslashreplace").decode()


def refuse(field: str, description: str) -> NoReturn:
    """Raises InvalidArgumentError for one field."""
    raise InvalidArgumentError([FieldViolation(field, description)])


def _decode(text: str) -> Any:
    try:
        return json.loads(text, parse_constant=refuse_constant)
    except (ValueError, RecursionError):
        return text


def refuse_constant(name: str) -> NoReturn:
    """For json.loads, which takes NaN and Infinity otherwise. Raises ValueError."""
    raise ValueError(f"{name} is not part of JSON")
