"""What in a result JSON cannot express, and where: `items[3].price: Decimal is not JSON`.

Only asked when a result could not be encoded: it reads the whole of it in Python.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel, RootModel
from pydantic_core import to_jsonable_python

from atm.values import storable
from atm.worker.texts import name_of, plain, text_of

#: As many values are looked at.
_MOST_VALUES = 200_000
#: What is nested deeper than this cannot be encoded.
_DEEP = 1000
#: Models within models.
_MOST_MODELS = 50
#: Of a place, of a word on what is wrong there, and of a key, in characters.
_PLACE_LENGTH = 200
_WORD_LENGTH = 500
_KEY_LENGTH = 50

Step = tuple[str, Any]


def fault_in(values: Mapping[str, Any]) -> str | None:
    """The first value that cannot be encoded, and why; None where none is found. Raises nothing."""
    try:
        return _first_fault(values)
    except BaseException as error:  # noqa: BLE001 - a mapping's methods are the handler's code
        return _told("", error)


def fault_in_model(model: BaseModel, error: BaseException) -> str:
    """The field for which a model could not be dumped, which raised this. Raises nothing."""
    try:
        return _fault_in_model(model, "", error, _MOST_MODELS)
    except BaseException:  # noqa: BLE001 - looking at a model runs the handler's code, too
        return _told("", error)


def _first_fault(values: Mapping[str, Any]) -> str | None:
    # Not by recursion: a value may be nested deeper than that goes.
    places: list[str] = []
    within: list[int] = []
    steps: list[Iterator[Step]] = [_named(values, top=True)]
    deepest: list[str] = []
    for _ in range(_MOST_VALUES):
        try:
            step = next(steps[-1], None)
        except BaseException as error:  # noqa: BLE001 - see above
            return _told(_place(places), error)
        if step is None:
            steps.pop()
            if not steps:
                break
            places.pop()
            within.pop()
            continue
        name, value = step
        places.append(name)
        if (wrong := _wrong_by_itself(value)) is not None:
            return f"{_place(places)}: {wrong}"
        if not isinstance(value, list | tuple | dict):
            places.pop()
            continue
        if id(value) in within:
            return f"{_place(places)}: is within itself"
        if len(places) > len(deepest):
            deepest = [*places]
        if len(places) > _DEEP:
            break
        within.append(id(value))
        steps.append(_named(value) if isinstance(value, dict) else _numbered(value))
    # Nothing else is wrong with it. How deep is too deep depends on the stack that encodes it.
    return f"{_place(deepest)}: is nested too deeply" if len(deepest) > _DEEP // 10 else None


def _wrong_by_itself(value: Any) -> str | None:
    """What is wrong with a value, apart from those that it holds."""
    if isinstance(value, str):
        return None if storable(plain(value)) == plain(value) else "is not valid Unicode text"
    if isinstance(value, float):
        return None if math.isfinite(value) else f"is {value}, which JSON does not have"
    if isinstance(value, int):
        return None if _has_text(value) else "has too many digits"
    if value is None or isinstance(value, list | tuple | dict):
        return None
    return f"{_kind(value)} is not JSON"


def _has_text(number: int) -> bool:
    try:
        int.__repr__(number)
    except ValueError:
        return False  # Python writes no more than 4300 digits
    return True


def _named(values: Mapping[Any, Any], *, top: bool = False) -> Iterator[Step]:
    for key, value in values.items():
        if not isinstance(key, str):
            if top or not (key is None or isinstance(key, int | float)):
                raise _BadKeyError(f"the key {_shown(key)} is {_kind(key)}, not a string")
            yield f"[{_shown(key)}]", value
            continue
        text = plain(key)
        if storable(text) != text:
            raise _BadKeyError(f"the key {_shown(text)} is not valid Unicode text")
        yield (text if top else f".{text}") if text.isidentifier() else f"[{_shown(text)}]", value


def _numbered(values: list[Any] | tuple[Any, ...]) -> Iterator[Step]:
    return ((f"[{number}]", value) for number, value in enumerate(values))


class _BadKeyError(Exception):
    """Says of a key why it can be none."""


def _fault_in_model(model: BaseModel, place: str, error: BaseException, depth: int) -> str:
    if isinstance(model, RootModel):
        return _fault_within(model.root, place, error, depth)
    if _dump_error(model, set()) is not None:
        return _told(place, error)  # it is none of its fields
    kind = type(model)
    for name in (*kind.model_fields, *kind.model_computed_fields):
        if (of_field := _dump_error(model, {name})) is not None:
            at = f"{place}.{name}" if place else name
            return _fault_within(model.__dict__.get(name), at, of_field, depth - 1)
    return _told(place, error)


def _fault_within(value: Any, place: str, error: BaseException, depth: int) -> str:
    """Where in the value of a field, which could not be dumped, that was."""
    if depth > 0 and isinstance(value, BaseModel):
        return _fault_in_model(value, place, error, depth)
    inner = _numbered(value) if isinstance(value, list | tuple) else ()
    for name, item in _named(value) if isinstance(value, dict) else inner:
        try:
            item.model_dump(mode="json") if isinstance(item, BaseModel) else to_jsonable_python(item)
        except BaseException as of_item:  # noqa: BLE001 - serializers are the handler's code
            return _fault_within(item, place + name, of_item, depth - 1) if depth > 0 else _told(place, error)
    return _told(place, error)


def _dump_error(model: BaseModel, fields: set[str]) -> BaseException | None:
    try:
        model.model_dump(mode="json", include=fields)
    except BaseException as error:  # noqa: BLE001 - see above
        return error
    return None


def _place(steps: list[str]) -> str:
    return _clipped("".join(steps), _PLACE_LENGTH)


def _told(place: str, error: BaseException) -> str:
    words = text_of(error) if isinstance(error, _BadKeyError) else f"{name_of(error)}: {text_of(error)}"
    return ": ".join(part for part in (place, _clipped(words, _WORD_LENGTH)) if part)


def _shown(key: Any) -> str:
    try:
        return _clipped(ascii(key), _KEY_LENGTH)
    except BaseException:  # noqa: BLE001 - `__repr__` is the handler's code
        return "(that cannot be shown)"


def _kind(value: Any) -> str:
    return plain(type.__dict__["__name__"].__get__(type(value)))


def _clipped(text: str, length: int) -> str:
    half = length // 2
    return text if len(text) <= length else f"{text[:half]}…{text[-half:]}"
