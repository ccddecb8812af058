"""Writes what a command found, in the form that was asked for."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from atm.escape import is_unsafe, visible, visible_json
from atm_cli import console
from atm_cli.config import Output
from atm_cli.tables import Column, Field, write_details, write_table


class Record(Protocol):
    """Anything that can be written as JSON."""

    def to_dict(self) -> dict[str, Any]: ...


T = TypeVar("T", bound=Record)


@dataclass(frozen=True)
class View(Generic[T]):
    """How one kind of thing is shown. `details` takes the item and whether all of it is wanted."""

    name: Callable[[T], str]
    columns: Sequence[Column[T]]
    details: Callable[[T, bool], Sequence[Field]] | None = None


def write_many(output: Output, view: View[T], items: Sequence[T], *, document: Record | None = None) -> None:
    """The items on stdout; `document` is what JSON and YAML show instead of a plain list of them."""
    if output is Output.NAME:
        console.write("".join(f"{visible(view.name(item))}\n" for item in items))
    elif output is Output.JSONL:
        console.write("".join(_json(item.to_dict(), indent=None) for item in items))
    elif output in (Output.JSON, Output.YAML):
        _write_document(
            output, document.to_dict() if document is not None else [item.to_dict() for item in items]
        )
    elif items:
        wide = output is Output.WIDE
        write_table([column for column in view.columns if wide or not column.wide], items)


def write_one(output: Output, view: View[T], item: T) -> None:
    """One item on stdout, with its details where a table was asked for."""
    if output in (Output.JSON, Output.YAML):
        _write_document(output, item.to_dict())
    elif output in (Output.TABLE, Output.WIDE) and view.details is not None:
        write_details(view.details(item, output is Output.WIDE))
    else:
        write_many(output, view, [item])


def _write_document(output: Output, document: Any) -> None:
    console.write(_json(document, indent=2) if output is Output.JSON else _yaml(document))


def _json(document: Any, *, indent: int | None) -> str:
    # Python's escapes of what an encoding lacks are not JSON's.
    unicode = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
    return visible_json(json.dumps(document, indent=indent, ensure_ascii=not unicode)) + "\n"


def _yaml(document: Any) -> str:
    import yaml

    def dump(*, unicode: bool) -> str:
        text: str = yaml.safe_dump(document, allow_unicode=unicode, sort_keys=False, width=sys.maxsize)
        return text

    text = dump(unicode=True)
    if any(char != "\n" and is_unsafe(char) for char in text):
        return dump(unicode=False)
    return text
