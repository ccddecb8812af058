"""The types of the tables' columns: how values travel to SQL, and back whatever is stored there.

What ATM writes comes back as it was. But rows may have come by an import, or
by hand, and SQLite keeps any value in any column: then a value is shown as well
as it can be, as one of the type that it should have, and never raises. So one
odd row is one odd row, and not the end of a page, of a claim or of a sweep.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar, cast

from sqlalchemy import BigInteger, DateTime, Dialect, Float, Integer, String, Text
from sqlalchemy.dialects import mysql
from sqlalchemy.types import TypeDecorator, TypeEngine

from atm.values import storable

T = TypeVar("T")

Reader = Callable[[Any], Any]

#: What a moment is shown as that cannot be read.
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TO_JSON = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
_STRINGS = {str}


class UtcDateTime(TypeDecorator[datetime]):
    """UTC with microseconds; aware in Python, DATETIME(6) in MySQL. Unreadable: EPOCH."""

    impl = DateTime
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        if dialect.name in ("mysql", "mariadb"):
            return dialect.type_descriptor(mysql.DATETIME(fsp=6))
        return dialect.type_descriptor(DateTime())

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return None if value is None else value.astimezone(UTC).replace(tzinfo=None)

    def result_processor(self, dialect: Dialect, coltype: object) -> Reader:
        read = self.impl_instance.result_processor(dialect, coltype)

        def moment(value: Any) -> datetime | None:
            if value is None:
                return None
            try:
                made: Any = value if read is None else read(value)
                return cast(datetime, made.replace(tzinfo=UTC))
            except (ValueError, TypeError, AttributeError):
                return _read_moment(value)

        return moment


def _read_moment(value: Any) -> datetime:
    """A moment as others write it: ISO 8601 of any kind, without a zone in UTC, or seconds since 1970."""
    try:
        if isinstance(value, int | float):
            return EPOCH + timedelta(seconds=value)
        moment = datetime.fromisoformat(_read_text(value).strip())
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        return EPOCH


class JsonMap(TypeDecorator[dict[str, str]]):
    """A map of strings as JSON text: kept as it was written, unlike in a JSON column of MySQL.

    What is stored there may be any JSON, or none. Values that are no strings
    come back as their JSON text, as on the wire; what is no map, or no JSON,
    comes back whole, as one value by the name `alone`.
    """

    impl = Text
    cache_ok = True

    def __init__(self, alone: str) -> None:
        super().__init__()
        self.alone = alone

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        return dialect.type_descriptor(_long_text(dialect))

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:
        return None if value is None else _TO_JSON(value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> dict[str, str] | None:
        if value is None:
            return None
        try:
            found = json.loads(value)
            # An escape may stand for half a character.
            if type(found) is dict and _STRINGS.issuperset(map(type, found.values())) and "\\u" not in value:
                return found
        except (ValueError, TypeError, RecursionError):
            found = _read_text(value)
        if isinstance(found, dict):
            return {storable(key): _as_string(item) for key, item in found.items()}
        return {self.alone: _as_string(found)} if found not in (None, "") else {}


class JsonList(TypeDecorator[list[str]]):
    """A list of strings as JSON text. What is stored there may be anything, as in a JsonMap."""

    impl = Text
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        return dialect.type_descriptor(_long_text(dialect))

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:
        return None if value is None else _TO_JSON(value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> list[str] | None:
        if value is None:
            return None
        try:
            found = json.loads(value)
        except (ValueError, TypeError, RecursionError):
            found = _read_text(value)
        if isinstance(found, list):
            return [_as_string(item) for item in found]
        return [_as_string(found)] if found not in (None, "") else []


def _as_string(value: Any) -> str:
    if isinstance(value, str):
        return storable(value)
    try:
        return storable(_TO_JSON(value))
    except (ValueError, RecursionError):
        return "…"  # nested deeper, or a number longer, than Python writes


class _Checked(TypeDecorator[T]):
    """On SQLite, which keeps any value in any column, `read` makes of it what was meant."""

    def result_processor(self, dialect: Dialect, coltype: object) -> Reader | None:
        if dialect.name == "sqlite":
            return self.read
        # The database has checked it.
        return self.impl_instance.result_processor(dialect, coltype)

    def read(self, value: Any) -> T | None:
        """The value as one of this type; None for NULL."""
        raise NotImplementedError


class _Word(_Checked[str]):
    """A short text, compared byte by byte."""

    impl = String
    cache_ok = True

    def __init__(self, length: int, charset: str) -> None:
        super().__init__(length)
        self.length = length
        self.charset = charset

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        if dialect.name in ("mysql", "mariadb"):
            made = mysql.VARCHAR(self.length, charset=self.charset, collation=f"{self.charset}_bin")
            return dialect.type_descriptor(made)
        return dialect.type_descriptor(String(self.length))

    def read(self, value: Any) -> str | None:
        return value if type(value) is str or value is None else _read_text(value)


class LongText(_Checked[str]):
    """A text of any length."""

    impl = Text
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        return dialect.type_descriptor(_long_text(dialect))

    def read(self, value: Any) -> str | None:
        return value if type(value) is str or value is None else _read_text(value)


class Whole(_Checked[int]):
    """A whole number of 32 bits. What is none is 0, what is greater the greatest."""

    impl = Integer
    cache_ok = True
    most = 2**31 - 1

    def read(self, value: Any) -> int | None:
        if type(value) is int and -self.most <= value <= self.most:
            return value
        return None if value is None else _read_whole(value, self.most)


class BigWhole(Whole):
    """The same of 64 bits."""

    impl = BigInteger
    cache_ok = True
    most = 2**63 - 1


class Real(_Checked[float]):
    """A number of double precision. What is none is 0."""

    impl = Float
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        if dialect.name in ("mysql", "mariadb"):
            # What MySQL makes of a FLOAT(53), by its own name.
            return dialect.type_descriptor(mysql.DOUBLE(asdecimal=False))
        return dialect.type_descriptor(Float(53))

    def read(self, value: Any) -> float | None:
        return value if type(value) is float or value is None else _read_real(value)


def ascii_string(length: int) -> Any:
    """Identifiers and names of states: compared byte by byte, case and all."""
    return _Word(length, "ascii")


def exact_string(length: int) -> Any:
    """Names that people choose: any language, compared byte by byte."""
    return _Word(length, "utf8mb4")


def _long_text(dialect: Dialect) -> TypeEngine[Any]:
    # TEXT of MySQL holds 64 KB; a payload may be larger.
    if dialect.name in ("mysql", "mariadb"):
        return mysql.LONGTEXT(charset="utf8mb4", collation="utf8mb4_bin")
    return Text()


def _read_text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _read_real(value: Any) -> float:
    try:
        return float(_read_text(value))
    except ValueError:
        return 0.0


def _read_whole(value: Any, most: int) -> int:
    number = value if isinstance(value, int) else _read_real(value)
    # Compared before it is made whole: infinity cannot be.
    return int(max(-most, min(most, number))) if number == number else 0
