"""Which IP addresses everybody can reach: all others lead to what only this machine or its network can."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

#: Not public, although some versions of Python say so: protocol assignments, and relays of 6to4.
_NOT_PUBLIC_4 = (IPv4Network("192.0.0.0/24"), IPv4Network("192.88.99.0/24"))

#: What the internet uses of IPv6; the rest is reserved, or of one host, link, site or organisation.
_PUBLIC_6 = IPv6Network("2000::/3")
#: Within it: protocol assignments, and examples for documents.
_NOT_PUBLIC_6 = (IPv6Network("2001::/23"), IPv6Network("2001:db8::/32"), IPv6Network("3fff::/20"))

#: Networks whose addresses hold an IPv4 address, and by how many bits it stands left of their end.
_HOLDERS = (
    (IPv6Network("::/96"), 0),  # IPv4-compatible
    (IPv6Network("::ffff:0:0/96"), 0),  # IPv4-mapped
    (IPv6Network("::ffff:0:0:0/96"), 0),  # IPv4-translated
    (IPv6Network("64:ff9b::/96"), 0),  # NAT64
    (IPv6Network("2002::/16"), 80),  # 6to4
)
_LOCAL_NAT64 = IPv6Network("64:ff9b:1::/48")
_TEREDO = IPv6Network("2001::/32")
#: The third group of four bytes of an ISATAP address, but for the bit that says "globally unique".
_ISATAP, _ISATAP_MASK = 0x00005EFE, 0xFDFFFFFF
_LOW_32 = 0xFFFFFFFF


def is_public(address: str) -> bool:
    """Whether an IP address can be reached by everyone: not private, loopback, link-local or reserved.

    A form of IPv6 that holds an IPv4 address is public where that is. (The
    prefix that an organisation has chosen for its own NAT64 cannot be known.)
    Raises ValueError for what is no address.
    """
    ip = ip_address(address.partition("%")[0])
    if isinstance(ip, IPv4Address):
        return _is_public_4(ip)
    held, translated = _held(ip)
    return all(map(_is_public_4, held)) and (translated or _is_public_6(ip))


def _is_public_4(ip: IPv4Address) -> bool:
    special = ip.is_multicast or ip.is_reserved or ip.is_unspecified or ip.is_loopback or ip.is_link_local
    return ip.is_global and not special and not any(ip in network for network in _NOT_PUBLIC_4)


def _is_public_6(ip: IPv6Address) -> bool:
    return ip in _PUBLIC_6 and not any(ip in network for network in _NOT_PUBLIC_6)


def _held(ip: IPv6Address) -> tuple[list[IPv4Address], bool]:
    """The IPv4 addresses that an address may lead to, and whether it leads nowhere else."""
    bits = int(ip)
    for network, shift in _HOLDERS:
        if ip in network:
            return [IPv4Address(bits >> shift & _LOW_32)], True
    if ip in _TEREDO:
        # The server, and the client, whose bits are inverted.
        return [IPv4Address(bits >> 64 & _LOW_32), IPv4Address(~bits & _LOW_32)], True
    if ip in _LOCAL_NAT64:
        return _of_local_nat64(bits), True
    if (bits >> 32 & _ISATAP_MASK) == _ISATAP:
        return [IPv4Address(bits & _LOW_32)], False
    return [], False


def _of_local_nat64(bits: int) -> list[IPv4Address]:
    """A prefix in it may have 96 bits, or 48, 56 or 64: then the IPv4 address lies around bits 64 to 71.

    Which one the network uses is not known: every reading counts, but for those that say nothing.
    """
    readings = [bits & _LOW_32]
    for length in (48, 56, 64):
        before = 64 - length
        high = bits >> 64 & ((1 << before) - 1)
        low = bits >> (24 + before) & ((1 << 32 - before) - 1)
        held = high << (32 - before) | low
        # The last of its bytes may be the first one of a prefix of 96 bits.
        if held >> (8 if length == 64 else 0):
            readings.append(held)
    return list(map(IPv4Address, readings))
