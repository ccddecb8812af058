"""A result that cannot be kept is refused at once, and the reason names the place in it."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import math
import sys
import uuid
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NoReturn

import pytest
from beside import Beside
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, RootModel, computed_field, field_serializer, model_serializer

from atm.service.outcomes import Failed
from atm.states import Reason
from atm.worker.payloads import ResultError, encode_result


@dataclasses.dataclass
class _Data:
    a: int = 1


class _Color(enum.Enum):
    RED = "red"


class _Holds(BaseModel):
    model_config = ConfigDict(arbitrary_types_allowed=True)
    fine: int = 1
    thing: Any = None


class _Bytes(BaseModel):
    raw: bytes = b"\xff"


class _Float(BaseModel):
    share: float


class _Order(BaseModel):
    items: list[_Bytes] = []
    by_name: dict[str, _Bytes] = {}


class _Root(RootModel[list[_Bytes]]):
    pass


class _Serializes(BaseModel):
    fine: int = 1
    price: int = 0

    @field_serializer("price")
    def no(self, value: int) -> int:
        raise KeyError("no")


class _Computes(BaseModel):
    @computed_field  # type: ignore[prop-decorator]
    @property
    def total(self) -> int:
        sys.exit("no")


class _SerializesItself(BaseModel):
    price: int = 0

    @model_serializer
    def no(self) -> dict[str, int]:
        raise LookupError("all of it")


class _DumpsNot(BaseModel):
    price: int = 0

    def model_dump(self, **_: Any) -> NoReturn:
        raise MemoryError


class _Unreadable(Mapping[str, Any]):
    def __init__(self, error: BaseException) -> None:
        self._error = error

    def __getitem__(self, key: str) -> Any:
        raise self._error

    def __iter__(self) -> Iterator[str]:
        raise self._error

    def __len__(self) -> int:
        return 1


class _Odd(dict[str, Any]):
    def items(self) -> Any:
        raise RuntimeError("no items")


class _Key:
    def __repr__(self) -> str:
        raise RuntimeError("no text")


class _Many(type):
    @property
    def __name__(cls) -> NoReturn:
        raise RuntimeError("no name")


class _Nameless(metaclass=_Many):
    pass


def _deep(count: int) -> list[Any]:
    made: list[Any] = []
    for _ in range(count):
        made = [made]
    return made


def _circle() -> dict[str, Any]:
    made: dict[str, Any] = {}
    made["self"] = [made]
    return made


REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "decimal": (
        lambda: {"items": [1, 2, 3, {"price": decimal.Decimal(1)}]},
        "items[3].price: Decimal is",
    ),
    "datetime": (lambda: {"at": datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)}, "at: datetime is not"),
    "uuid": (lambda: uuid.uuid4(), "result: UUID is not JSON"),
    "bytes": (lambda: {"a": [b"x"]}, "a[0]: bytes is not JSON"),
    "set": (lambda: {"a": {"b": {1}}}, "a.b: set is not JSON"),
    "dataclass": (lambda: [_Data()], "result[0]: _Data is not JSON"),
    "enum": (lambda: {"color": _Color.RED}, "color: _Color is not JSON"),
    "generator": (lambda: (n for n in ()), "the handler returned a generator"),
    "coroutine-like": (lambda: {"f": print}, "f: builtin_function_or_method is not JSON"),
    "exception": (lambda: ValueError("x"), "result: ValueError is not JSON"),
    "nameless": (_Nameless, "result: _Nameless is not JSON"),
    "nan": (lambda: {"a": [1.0, math.nan]}, "a[1]: is nan"),
    "infinity": (lambda: {"a": {"b": -math.inf}}, "a.b: is -inf"),
    "digits": (lambda: {"a": [10**5000]}, "a[0]: has too many digits"),
    "surrogates": (lambda: {"a": "\ud800"}, "a: is not valid Unicode text"),
    "surrogates within": (lambda: {"a": {"b": ["x", "\udcff"]}}, "a.b[1]: is not valid Unicode text"),
    "surrogates in a key": (lambda: {"\ud800": 1}, r"the key '\ud800' is not valid Unicode text"),
    "surrogates in a key within": (lambda: {"a": [{"\ud800": 1}]}, r"a[0]: the key '\ud800' is not valid"),
    "a number as a key": (lambda: {1: "x"}, "the key 1 is int, not a string"),
    "a tuple as a key": (lambda: {"a": {(1, 2): 3}}, "a: the key (1, 2) is tuple, not a string"),
    "a key without a text": (lambda: {_Key(): 1}, "the key (that cannot be shown) is _Key, not a string"),
    "an odd key": (lambda: {"a": {"x y": {"9": set()}}}, "a['x y']['9']: set is not JSON"),
    "a long key": (lambda: {"k" * 5000: set()}, "k" * 100 + "…"),
    "itself": (lambda: {"x": _circle()}, "x.self[0]: is within itself"),
    "depth": (lambda: {"x": _deep(100_000)}, "x[0][0]"),
    "a depth of models": (lambda: {"x": _deep(3000)}, "x[0][0]"),
    "unreadable": (lambda: _Unreadable(RuntimeError("no")), "RuntimeError: no"),
    "unreadable, and exits": (lambda: _Unreadable(SystemExit(1)), "SystemExit: 1"),
    "unreadable, and interrupts": (lambda: _Unreadable(KeyboardInterrupt()), "KeyboardInterrupt: "),
    "without items": (lambda: _Odd(a=1), "RuntimeError: no items"),
    "without items within": (lambda: {"a": [_Odd(a=1)]}, "a[0]: RuntimeError: no items"),
    "a model within": (lambda: {"a": _Holds()}, "a: _Holds is not JSON"),
    "a model that holds": (lambda: _Holds(thing=object()), "thing: PydanticSerializationError: "),
    "a model that holds deeper": (lambda: _Holds(thing=[1, {"a": object()}]), "thing[1].a: "),
    "a model with nan": (lambda: _Float(share=math.nan), "share: is nan"),
    "bytes of a model": (lambda: _Bytes(), "raw: UnicodeDecodeError: "),
    "bytes of an item": (
        lambda: _Order(items=[_Bytes(raw=b"a"), _Bytes()]),
        "items[1].raw: UnicodeDecode",
    ),
    "bytes of a value": (lambda: _Order(by_name={"a b": _Bytes()}), "by_name['a b'].raw: UnicodeDecodeError"),
    "bytes of a root": (lambda: _Root([_Bytes(raw=b"a"), _Bytes()]), "[1].raw: UnicodeDecodeError"),
    "a serializer": (_Serializes, "price: PydanticSerializationError: "),
    "a computed field": (_Computes, "total: SystemExit: no"),
    "a model's serializer": (_SerializesItself, "PydanticSerializationError: "),
    "a model's dump": (_DumpsNot, "MemoryError: "),
    "too large": (lambda: {"a": 1, "big": "x" * 1024 * 1024}, "it has 1048581 bytes, 1048576 are allowed"),
}


@pytest.mark.parametrize("kind", REFUSED)
@pytest.mark.parametrize("how", ["plain", "async"])
def test_a_result_that_cannot_be_kept_is_refused_at_once_and_its_place_is_named(how: str, kind: str) -> None:
    make, told = REFUSED[kind]
    beside = Beside()

    def plain(context: Any, payload: Any) -> Any:
        return make()

    async def on_the_loop(context: Any, payload: Any) -> Any:
        return make()

    failure = beside.run(plain if how == "plain" else on_the_loop)
    beside.close()
    assert isinstance(failure, Failed)
    assert (failure.reason, failure.retryable) == (Reason.INVALID_RESULT, False), failure.error
    assert failure.error.startswith("the result cannot be kept: " + told), failure.error
    assert len(failure.error) < 1000


def test_the_largest_value_of_a_result_that_is_too_large_is_named() -> None:
    with pytest.raises(ResultError, match=r"\(1048579 of them are 'big'\)"):
        encode_result({"a": 1, "big": "x" * 1024 * 1024})


_keys = st.text(st.characters(min_codepoint=97, max_codepoint=122), min_size=1, max_size=5)
_steps = st.lists(_keys | st.integers(0, 3), max_size=8)
_bad = st.sampled_from([object(), b"x", {1}, math.nan, math.inf, "\ud800", 10**5000, {(1,): 2}, _Odd(a=1)])


@given(_keys, _steps, _bad)
@settings(max_examples=150, deadline=None)
def test_whatever_is_wrong_is_found_wherever_it_is(first: str, steps: list[str | int], bad: Any) -> None:
    value, place = bad, ""
    for step in reversed(steps):
        if isinstance(step, int):
            value, place = [*range(step), value, "after"], f"[{step}]{place}"
        else:
            value, place = {"_": [], step: value}, f".{step}{place}"
    with pytest.raises(ResultError) as raised:
        encode_result({"fine": [1, {"a": None}], first: value})
    assert str(raised.value).startswith(f"{first}{place}: ")


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)


@given(st.dictionaries(st.text(), _json, max_size=4))
@settings(max_examples=100, deadline=None)
def test_what_json_can_express_is_kept(value: dict[str, Any]) -> None:
    assert set(encode_result(value)) == set(value)
