"""Payloads become what a handler takes, and what it returns becomes a result."""

from __future__ import annotations

import pytest
from pydantic import BaseModel, TypeAdapter

from atm.worker.payloads import MAX_RESULT_BYTES, PayloadError, ResultError, bind, encode_result


class Model(BaseModel):
    name: str
    count: int = 0
    tags: list[str] = []
    raw: str | None = None


def test_without_a_model_the_strings_come_as_they_are() -> None:
    assert bind({"a": "5", "b": "[1]"}, None) == {"a": "5", "b": "[1]"}


def test_a_model_takes_strings_where_they_fit_and_json_where_they_do_not() -> None:
    bound = bind({"name": "5", "count": "7", "tags": '["x", "y"]', "raw": "null"}, TypeAdapter(Model))
    assert bound == Model(name="5", count=7, tags=["x", "y"], raw="null")


def test_a_payload_that_does_not_fit_is_refused_by_field() -> None:
    with pytest.raises(PayloadError, match=r"count: .*; tags: "):
        bind({"name": "a", "count": "many", "tags": "no list"}, TypeAdapter(Model))


@pytest.mark.parametrize(
    ("value", "result"),
    [
        (None, {}),
        ({"a": 1, "b": "x"}, {"a": "1", "b": "x"}),
        (Model(name="n"), {"name": "n", "count": "0", "tags": "[]", "raw": "null"}),
        ("done", {"result": "done"}),
        ([1], {"result": "[1]"}),
    ],
)
def test_what_a_handler_returns_becomes_strings(value: object, result: dict[str, str]) -> None:
    assert encode_result(value) == result


@pytest.mark.parametrize("value", [{"s": {1}}, {1: "x"}, {"x": float("nan")}, {"x": "y" * MAX_RESULT_BYTES}])
def test_a_result_that_cannot_be_kept_is_refused(value: object) -> None:
    with pytest.raises(ResultError):
        encode_result(value)
