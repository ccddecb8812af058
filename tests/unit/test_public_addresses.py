"""http_request reaches what everybody can reach, and nothing else, in whatever form it is written."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atm.worker.public_addresses import is_public


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "0.0.0.0", "100.64.0.1"),
        *("192.0.0.192", "192.88.99.1", "198.18.0.1", "224.0.0.1", "240.0.0.1", "255.255.255.255"),
        *("::1", "::", "fe80::1", "fe80::1%eth0", "fd00::1", "fc00::1", "fec0::1", "feff::1", "ff02::1"),
        *("ff0e::1", "100::1", "2001:db8::1", "3fff::1", "5f00::1", "2001:2::1", "2001:20::1", "4000::1"),
        *("::ffff:127.0.0.1", "::ffff:10.0.0.1", "::127.0.0.1", "::ffff:0:127.0.0.1", "64:ff9b::7f00:1"),
        *("64:ff9b:1::7f00:1", "2002:7f00:1::", "2001:0:7f00:1::", "2606:4700::5efe:7f00:1"),
        "2606:4700::200:5efe:7f00:1",
    ],
)
def test_an_address_of_the_inside_is_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize(
    "address",
    [
        *("8.8.8.8", "1.1.1.1", "2606:4700:4700::1111", "2a00:1450::1", "2620:4f:8000::1", "::ffff:8.8.8.8"),
        *("64:ff9b::8.8.8.8", "64:ff9b:1::8.8.8.8", "2002:808:808::1", "2001:0:808:808::f7f7:f7f7"),
    ],
)
def test_an_address_of_the_outside_is_public(address: str) -> None:
    assert is_public(address)


@given(
    st.ip_addresses(network="10.0.0.0/8")
    | st.ip_addresses(network="fc00::/7")
    | st.ip_addresses(network="fe80::/9")
    | st.ip_addresses(network="ff00::/8")
    | st.ip_addresses(network="4000::/2")
    | st.ip_addresses(network="8000::/1")
)
def test_no_address_of_a_private_or_reserved_network_is_public(address: object) -> None:
    assert not is_public(str(address))


def _around(prefix: str, shift: int = 0) -> Callable[[int, int], int]:
    """Where the IPv4 address stands behind a prefix; what is left of the address may be anything."""

    def address(held: int, other: int) -> int:
        left = (1 << shift) - 1
        return int(IPv6Address(prefix)) | held << shift | other & left

    return address


#: From an IPv4 address, and any other bits, to the forms of IPv6 that hold it.
FORMS: dict[str, Callable[[int, int], int]] = {
    "mapped": _around("::ffff:0:0"),
    "compatible": _around("::"),
    "translated": _around("::ffff:0:0:0"),
    "NAT64": _around("64:ff9b::"),
    "local NAT64": _around("64:ff9b:1::"),
    "6to4": _around("2002::", 80),
    "Teredo's client": lambda held, _: int(IPv6Address("2001:0:808:808::")) | held ^ 0xFFFFFFFF,
    "Teredo's server": lambda held, other: (
        int(IPv6Address("2001::")) | held << 64 | (other & 0xFFFFFFFF << 32) | 0x08080808 ^ 0xFFFFFFFF
    ),
    "ISATAP": lambda held, other: int(IPv6Address("2a00::5efe:0:0")) | held | (other & 0xFFFF) << 64,
    "global ISATAP": lambda held, _: int(IPv6Address("2a00::200:5efe:0:0")) | held,
}


@pytest.mark.parametrize("form", FORMS)
@given(st.ip_addresses(v=4), st.integers(0, 2**128 - 1))
def test_a_form_that_holds_an_ipv4_address_is_judged_by_it(form: str, held: IPv4Address, other: int) -> None:
    address = IPv6Address(FORMS[form](int(held), other))
    assert is_public(str(address)) == is_public(str(held)), address


@given(
    st.sampled_from([48, 56, 64]),
    st.ip_addresses(v=4, network="10.0.0.0/8") | st.ip_addresses(v=4, network="192.168.0.0/16"),
    st.integers(0, 2**16 - 1),
)
def test_local_nat64_is_judged_however_long_its_prefix_may_be(
    length: int, held: IPv4Address, subnet: int
) -> None:
    before = 64 - length
    prefix = int(IPv6Address("64:ff9b:1::")) | (subnet >> before << before) << 64
    high, low = int(held) >> (32 - before), int(held) & ((1 << (32 - before)) - 1)
    address = IPv6Address(prefix | high << 64 | low << (24 + before) | 0x08080808 & ((1 << 24 + before) - 1))
    assert not is_public(str(address)), address


@given(st.ip_addresses(v=6))
def test_every_address_has_an_answer(address: IPv6Address) -> None:
    if is_public(str(address)):
        assert not address.is_multicast
        assert not address.is_site_local
        assert not address.is_link_local
        assert not address.is_unspecified
        assert not address.is_loopback
