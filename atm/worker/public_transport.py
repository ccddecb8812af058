"""HTTP to public addresses only: a task must not reach what only its worker can."""

from __future__ import annotations

import asyncio
import socket

import httpx

from atm.errors import NonRetryableError
from atm.worker.public_addresses import is_public


class ForbiddenAddressError(NonRetryableError):
    """The request would reach an address that is not public."""


class PublicTransport(httpx.AsyncBaseTransport):
    """Resolves the host itself, and connects to the address that it has checked and to no other.

    A name that changes its address between the check and the connection, or a
    second address behind the first, does not get through.
    """

    def __init__(self, inner: httpx.AsyncBaseTransport) -> None:
        self._inner = inner

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Sends the request. Raises ForbiddenAddressError before anything is sent."""
        host = request.url.host
        address = await _public_address(host, request)
        # The Host header is set already; TLS checks the certificate against the name.
        request.extensions = {**request.extensions, "sni_hostname": host}
        request.url = request.url.copy_with(host=address)
        return await self._inner.handle_async_request(request)

    async def aclose(self) -> None:
        """Closes the connections."""
        await self._inner.aclose()


async def _public_address(host: str, request: httpx.Request) -> str:
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError as error:
        raise httpx.ConnectError(f"{host} cannot be resolved: {error}", request=request) from error
    addresses = [str(info[4][0]) for info in found]
    for address in addresses:
        if not is_public(address):
            raise ForbiddenAddressError(
                f"{host} is {address}, which is not public; ATM_HTTP_ALLOW_PRIVATE=true lets workers reach it"
            )
    return addresses[0]
