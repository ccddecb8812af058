"""A payload is made into what the handler's second parameter is annotated with."""

# ruff: noqa: UP007, UP045, F821 - both ways to write a union are tried, and names that there are not

from __future__ import annotations

import dataclasses
import enum
import functools
from collections.abc import Mapping
from typing import (
    Annotated,
    Any,
    Generic,
    Literal,
    NamedTuple,
    NewType,
    Optional,
    Protocol,
    TypedDict,
    TypeVar,
    Union,
)

import pytest
from pydantic import BaseModel, ConfigDict, Field, RootModel
from pydantic.dataclasses import dataclass as pydantic_dataclass
from pydantic_core import core_schema

import atm.testing.handlers
from atm.errors import SettingsError
from atm.testing import run_handler
from atm.worker import handlers
from atm.worker.handlers import HandlerRegistry, handler

T = TypeVar("T")


@pytest.fixture(autouse=True)
def registry(monkeypatch: pytest.MonkeyPatch) -> HandlerRegistry:
    fresh = HandlerRegistry()
    monkeypatch.setattr(handlers, "REGISTRY", fresh)
    monkeypatch.setattr(atm.testing.handlers, "REGISTRY", fresh)
    return fresh


class Model(BaseModel):
    count: int
    tags: list[str] = []


class Strict(BaseModel):
    model_config = ConfigDict(strict=True)
    count: int
    tags: list[str] = []


class Aliased(BaseModel):
    count: int = Field(alias="n")


class Box(BaseModel, Generic[T]):
    count: T


class Root(RootModel[dict[str, int]]):
    pass


class Nested(BaseModel):
    inner: Model


@dataclasses.dataclass
class Data:
    count: int
    tags: list[str] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(frozen=True, slots=True)
class Frozen:
    count: int
    tags: list[str] = dataclasses.field(default_factory=list)


@pydantic_dataclass
class PydanticData:
    count: int


class Named(NamedTuple):
    count: int


class Typed(TypedDict, total=False):
    count: str


class Cat(BaseModel):
    kind: Literal["cat"]
    lives: int


class Dog(BaseModel):
    kind: Literal["dog"]
    tricks: list[str]


class Plain:
    count: int


class Colour(enum.Enum):
    RED = 1


class Readable(Protocol):
    def keys(self) -> Any: ...


class Hooked:
    def __init__(self, count: str) -> None:
        self.count = count

    @classmethod
    def __get_pydantic_core_schema__(cls, _source: Any, _handler: Any) -> core_schema.CoreSchema:
        return core_schema.no_info_plain_validator_function(lambda value: cls(value["count"]))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Hooked) and other.count == self.count


Alias = Optional[Model]
New = NewType("New", Model)
Bound = TypeVar("Bound", bound=Model)
Pet = Annotated[Union[Cat, Dog], Field(discriminator="kind")]

STRINGS = {"count": "5", "tags": '["a"]'}
COUNT = {"count": "5"}

MADE: dict[str, tuple[Any, dict[str, str], Any]] = {
    "a model": (Model, STRINGS, Model(count=5, tags=["a"])),
    "a strict model": (Strict, STRINGS, Strict(count=5, tags=["a"])),
    "an aliased model": (Aliased, {"n": "5"}, Aliased(n=5)),
    "a generic model": (Box[int], COUNT, Box[int](count=5)),
    "a generic model of a list": (Box[list[int]], {"count": "[5]"}, Box[list[int]](count=[5])),
    "a root model": (Root, {"a": "1"}, Root({"a": 1})),
    "a nested model": (Nested, {"inner": '{"count": 1}'}, Nested(inner=Model(count=1))),
    "a dataclass": (Data, STRINGS, Data(5, ["a"])),
    "a frozen dataclass": (Frozen, STRINGS, Frozen(5, ["a"])),
    "a pydantic dataclass": (PydanticData, COUNT, PydanticData(5)),
    "a class that tells pydantic how": (Hooked, COUNT, Hooked("5")),
    "a named tuple": (Named, COUNT, Named(5)),
    "Optional[Model]": (Optional[Model], STRINGS, Model(count=5, tags=["a"])),
    "Optional[Model] without a payload": (Optional[Model], {}, None),
    "Model | None": (Model | None, STRINGS, Model(count=5, tags=["a"])),
    "None | dataclass": (None | Data, STRINGS, Data(5, ["a"])),
    "an alias": (Alias, COUNT, Model(count=5)),
    "a new type": (New, COUNT, Model(count=5)),
    "a bound type variable": (Bound, COUNT, Model(count=5)),
    "Annotated": (Annotated[Model, "a note"], STRINGS, Model(count=5, tags=["a"])),
    "Annotated[Optional]": (Annotated[Optional[Data], "a note"], STRINGS, Data(5, ["a"])),
    "a union, the first": (Cat | Dog, {"kind": "cat", "lives": "9"}, Cat(kind="cat", lives=9)),
    "a union, the second": (Cat | Dog, {"kind": "dog", "tricks": '["sit"]'}, Dog(kind="dog", tricks=["sit"])),
    "a discriminated union": (Pet, {"kind": "dog", "tricks": '["sit"]'}, Dog(kind="dog", tricks=["sit"])),
    "a model or a dict": (Model | dict[str, str], {"x": "y"}, {"x": "y"}),
    "a string": ("Model", COUNT, Model(count=5)),
    "a string of a union": ("Model | None", COUNT, Model(count=5)),
    "a string inside": (Optional["Model"], COUNT, Model(count=5)),
}
AS_THEY_ARE: dict[str, Any] = {
    "dict": dict,
    "dict[str, str]": dict[str, str],
    "dict[str, Any]": dict[str, Any],
    "Mapping": Mapping[str, str],
    "Optional[dict]": Optional[dict[str, str]],
    "a TypedDict": Typed,
    "Any": Any,
    "object": object,
    "a protocol": Readable,
    "a free type variable": T,
    "nothing": None,
}


def _run(annotation: Any, payload: dict[str, str], **options: Any) -> Any:
    seen = []

    def take(context: Any, payload: Any) -> None:
        seen.append(payload)

    take.__annotations__ = {} if annotation is None else {"payload": annotation}
    handler("typed", **options)(take)
    run = run_handler("typed", payload)
    return seen[0] if run.status == "SUCCESS" else run


@pytest.mark.parametrize("kind", MADE)
def test_a_payload_is_made_into_what_the_annotation_says(kind: str) -> None:
    annotation, payload, made = MADE[kind]
    got = _run(annotation, payload)
    assert (type(got), got) == (type(made), made)


@pytest.mark.parametrize("kind", AS_THEY_ARE)
def test_a_dict_of_strings_comes_as_it_is(kind: str) -> None:
    assert _run(AS_THEY_ARE[kind], STRINGS) == STRINGS


@pytest.mark.parametrize(
    "kind", [kind for kind in MADE if "dict" not in kind and "root" not in kind and "tells" not in kind]
)
def test_what_does_not_fit_is_an_invalid_payload(kind: str) -> None:
    run = _run(MADE[kind][0], {"count": "many", "kind": "fish"})
    assert (run.status, run.reason, run.will_retry) == ("FAILED", "INVALID_PAYLOAD", False)


@pytest.mark.parametrize(
    "annotation",
    [
        str,
        bytes,
        int,
        float,
        bool,
        list,
        list[Model],
        tuple[str, ...],
        set,
        type,
        Plain,
        Colour,
        Model | str,
        "int",
    ],
    ids=str,
)
def test_what_a_payload_can_never_be_is_refused(annotation: Any) -> None:
    with pytest.raises(SettingsError, match=r"@handler\('typed'\): a payload cannot be .*: annotate"):
        _run(annotation, {})


@pytest.mark.parametrize(
    "annotation", ["Nowhere", "Optional[Nowhere]", "models.Order", "not python", Optional["Nope"]]
)
def test_a_name_that_cannot_be_resolved_is_refused_with_what_to_do(annotation: Any) -> None:
    with pytest.raises(
        SettingsError, match=r"@handler\('typed'\): the payload's annotation .* cannot be resolved"
    ):
        _run(annotation, {})


def test_a_class_that_pydantic_cannot_fill_is_refused() -> None:
    @dataclasses.dataclass
    class Holder:
        plain: Plain

    with pytest.raises(SettingsError, match="pydantic cannot validate the payload's type Holder"):
        _run(Holder, {})


def test_a_class_of_the_function_around_is_found_by_its_name() -> None:
    class Local(BaseModel):
        count: int

    seen = []

    @handler("local")
    def take(context: Nowhere, payload: Local) -> Nowhere:
        seen.append(payload)

    run_handler(take, COUNT).check()
    assert seen == [Local(count=5)]


def test_decorators_partials_methods_and_objects_have_the_annotation_of_what_they_call() -> None:
    seen: list[Any] = []

    def take(first: Any, context: Any, payload: Model) -> None:
        seen.append(payload)

    class Takes:
        def method(self, context: Any, payload: Model) -> None:
            seen.append(payload)

        async def __call__(self, context: Any, payload: Model) -> None:
            seen.append(payload)

    @functools.wraps(Takes().method)
    def wrapper(*args: Any) -> None:
        seen.append(args[1])

    for number, function in enumerate((functools.partial(take, 1), Takes().method, Takes(), wrapper)):
        handler(f"typed-{number}")(function)
        run_handler(f"typed-{number}", COUNT).check()
    assert seen == [Model(count=5)] * 4


@pytest.mark.parametrize("payload", [Model(count=5, tags=["a"]), Data(5, ["a"])])
def test_a_test_may_hand_over_a_model_or_a_dataclass(payload: Any) -> None:
    seen: list[Any] = []

    def take(context: Any, payload: Any) -> None:
        seen.append(payload)

    take.__annotations__ = {"payload": type(payload)}
    handler("typed")(take)
    run_handler("typed", payload).check()
    assert seen == [payload]
