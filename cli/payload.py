"""The payload on a command line: `key=text`, `key:=JSON`, `--payload JSON|@file|-`."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from atm.values import refuse_constant
from atm_cli.exits import UsageError


class PayloadError(UsageError):
    """The payload cannot be read; the message says which part and why."""


def build(pairs: Sequence[str], source: str | None) -> dict[str, Any]:
    """The payload of all the pairs and of `--payload`.

    Raises PayloadError for what is no pair or no JSON object, for a file that
    cannot be read, and for a key that is given twice.
    """
    payload = _from_source(source) if source is not None else {}
    for pair in pairs:
        key, value = parse_pair(pair)
        if key in payload:
            raise PayloadError(f"the key {key!r} is given twice")
        payload[key] = value
    return payload


def parse_pair(pair: str) -> tuple[str, Any]:
    """`key=text` or `key:=JSON`, split at the first `=`. Raises PayloadError."""
    key, equals, text = pair.partition("=")
    is_json = key.endswith(":")
    key = key.removesuffix(":")
    if not equals or not key:
        raise PayloadError(f"{pair!r} is no key=value (text) or key:=JSON")
    return key, _parse(text, f"the value of {key!r}") if is_json else text


def _from_source(source: str) -> dict[str, Any]:
    if source == "-":
        name, content = "standard input", sys.stdin.buffer.read()
    elif source.startswith("@"):
        name = source[1:]
        try:
            content = Path(name).read_bytes()
        except (OSError, ValueError) as error:
            raise PayloadError(f"{name!r} cannot be read: {error}") from error
    else:
        return parse_object(source, "--payload")
    return parse_object(decode(content, name), name)


def parse_object(text: str, name: str) -> dict[str, Any]:
    """A JSON object. Raises PayloadError, which says that `name` is none."""
    value = _parse(text, name)
    if not isinstance(value, dict):
        raise PayloadError(f'{name}: it must be a JSON object, such as {{"key": "value"}}')
    return value


def decode(content: bytes, name: str) -> str:
    """UTF-8 as text. Raises PayloadError, which says that `name` is not."""
    try:
        # With or without the mark that some editors put first.
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise PayloadError(f"{name} is not UTF-8: {error}") from error


def _parse(text: str, name: str) -> Any:
    try:
        return json.loads(text, parse_constant=refuse_constant, object_pairs_hook=_no_twins)
    except (ValueError, RecursionError) as error:
        raise PayloadError(f"{name} is not JSON: {error}") from error


def _no_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, value in pairs:
        if key in result:
            raise ValueError(f"the key {key!r} is there twice")
        result[key] = value
    return result
