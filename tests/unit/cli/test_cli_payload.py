"""The payload of `atm task create`."""

from __future__ import annotations

import io
import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from fake_task_service import FakeTaskService
from hypothesis import given
from hypothesis import strategies as st

from atm_cli.payload import PayloadError, build, parse_pair

keys = st.text(min_size=1).filter(lambda key: "=" not in key and not key.endswith(":"))
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@given(keys, st.text())
def test_a_pair_is_its_key_and_its_text_whatever_they_are(key: str, text: str) -> None:
    assert parse_pair(f"{key}={text}") == (key, text)


@given(keys, json_values)
def test_a_json_pair_is_the_value_that_it_spells(key: str, value: Any) -> None:
    assert parse_pair(f"{key}:={json.dumps(value)}") == (key, value)


@given(st.text())
def test_anything_is_a_pair_or_refused_as_one(text: str) -> None:
    with suppress(PayloadError):
        key, _ = parse_pair(text)
        assert key


@pytest.mark.parametrize(
    "pair", ["x", "=x", ":=1", "x:=", "x:=nope", "x:=NaN", 'x:={"a":1,"a":2}', "x:=" + "[" * 100_000]
)
def test_what_is_no_pair_is_refused(pair: str) -> None:
    with pytest.raises(PayloadError):
        parse_pair(pair)


def test_only_the_first_equals_sign_divides() -> None:
    assert parse_pair("url=http://x/?a:=b=c") == ("url", "http://x/?a:=b=c")


def test_the_pairs_add_to_the_object() -> None:
    assert build(["b=2", "c:=3"], '{"a": 1}') == {"a": 1, "b": "2", "c": 3}


def test_no_payload_is_an_empty_one() -> None:
    assert build([], None) == {}


def test_a_key_may_be_given_once_only() -> None:
    with pytest.raises(PayloadError, match="'a' is given twice"):
        build(["a=2"], '{"a": 1}')


def test_a_file_is_read_with_or_without_a_byte_order_mark(tmp_path: Path) -> None:
    file = tmp_path / "payload.json"
    file.write_bytes(b'\xef\xbb\xbf{"a": "\xc3\xbc"}')
    assert build([], f"@{file}") == {"a": "ü"}
    file.write_bytes(b'{"a": "\xff"}')
    with pytest.raises(PayloadError, match="not UTF-8"):
        build([], f"@{file}")


def test_a_dash_reads_standard_input(
    atm: Any, service: FakeTaskService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b'{"a": [1, "x"]}')))
    assert atm("task", "create", "send", "--payload", "-", "b=2").code == 0
    assert service.requests[0].payload == {"a": '[1,"x"]', "b": "2"}


def test_every_option_of_create_reaches_the_server(atm: Any, service: FakeTaskService) -> None:
    options = ["--priority", "high", "--max-retry", "0", "--task-timeout", "1.5"]
    assert atm("task", "create", "send", *options).code == 0
    request = service.requests[0]
    assert (request.priority, request.max_retry, request.timeout_ms) == (1, 0, 1500)
    assert request.HasField("max_retry")
