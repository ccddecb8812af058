"""Every address of the form host:port is read by one rule."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atm.errors import SettingsError
from atm.host_port import join_host_port, split_host_port

hosts = st.from_regex(r"[a-z0-9.-]+", fullmatch=True) | st.ip_addresses().map(str)


@given(hosts, st.integers(1, 65535))
def test_what_is_joined_is_split_into_the_same(host: str, port: int) -> None:
    assert split_host_port(join_host_port(host, port), 1, "it") == (host, port)


@pytest.mark.parametrize("address", ["h", "h:", "[h]", "[h]:"])
def test_without_a_port_it_is_the_usual_one(address: str) -> None:
    assert split_host_port(address, 7, "it") == ("h", 7)


def test_an_ipv6_address_needs_no_brackets_where_it_has_no_port() -> None:
    assert split_host_port("fe80::1", 7, "it") == ("fe80::1", 7)


@pytest.mark.parametrize(
    "address",
    [
        "",
        ":1",
        "[]",
        "[::1",
        "[::1]1",
        "h:x",
        "h:0",
        "h:65536",
        "h:" + "9" * 5000,
        "h:²",
        "a b",
        "u@h",
        "h/x",
    ],
)
def test_what_is_no_address_is_refused_by_its_name(address: str) -> None:
    with pytest.raises(SettingsError, match=r"^the cache's address .*HOST:PORT, like localhost:7$"):
        split_host_port(address, 7, "the cache's address")
