"""Values of a payload survive the wire."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from atm.client.channel import target_of
from atm.values import decode_values, encode_values

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(), json_values.filter(lambda value: not isinstance(value, str)), max_size=4))
def test_every_json_value_that_is_not_a_string_comes_back_equal(payload: dict[str, Any]) -> None:
    assert decode_values(encode_values(payload)) == payload


@given(st.text())
def test_a_string_is_sent_as_it_is(text: str) -> None:
    assert encode_values({"x": text}) == {"x": text}


def test_text_that_is_no_json_stays_text() -> None:
    raw = {"a": "hello", "b": "NaN", "c": "[" * 100_000, "d": "", "e": "{'x': 1}"}
    assert decode_values(raw) == raw


def test_text_that_reads_as_json_is_decoded() -> None:
    assert decode_values({"a": "5", "b": '"x"', "c": "null", "d": '{"y":[1]}'}) == {
        "a": 5,
        "b": "x",
        "c": None,
        "d": {"y": [1]},
    }


def test_an_address_without_a_port_gets_that_of_atm() -> None:
    assert target_of("example.org") == "example.org:9090"
    assert target_of("example.org:1") == "example.org:1"
    assert target_of("::1") == "[::1]:9090"
    assert target_of("[::1]:7") == "[::1]:7"
    assert target_of("unix:/tmp/atm.sock") == "unix:/tmp/atm.sock"
