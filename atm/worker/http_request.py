"""How http_request makes its request: one connection, in its time, to where it may."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import httpx

from atm.errors import NonRetryableError
from atm.settings import Settings
from atm.worker.context import Context
from atm.worker.http_answer import lie_in, read_body, text_of_body
from atm.worker.public_transport import PublicTransport
from atm.worker.unpacking import ACCEPTED

if TYPE_CHECKING:
    from atm.worker.builtin import HttpRequest


class HttpStatusError(Exception):
    """The answer has a status of 400 or more."""


class HttpTimeoutError(Exception):
    """The request was not done in its time."""


class HttpRefusedError(NonRetryableError):
    """The request cannot be made as it is."""


async def perform(context: Context, payload: HttpRequest) -> dict[str, Any]:
    """Makes the request; its answer's status, headers and body, and whether the body is cut.

    Raises HttpStatusError, HttpTimeoutError, HttpRefusedError,
    HttpAnswerError, UnpackError, and httpx's for a connection that fails.
    """
    url = _url(payload)
    try:
        # For all of it, from the name of the host to the last byte: httpx's own is for each step.
        async with asyncio.timeout(payload.timeout) as limit, _client() as client:
            request = client.build_request(
                payload.method, url, headers=payload.headers, content=payload.body.encode()
            )
            context.logger.info("%s %s", payload.method, request.url)
            response = await client.send(request, stream=True)
            body, truncated = await read_body(response)
    except TimeoutError as error:
        if not limit.expired():
            raise
        raise HttpTimeoutError(
            f"{payload.method} {payload.url} took longer than {payload.timeout:g} s"
        ) from error
    except httpx.RemoteProtocolError as error:
        if (lie := lie_in(error)) is None:
            raise
        raise lie from error
    except (httpx.InvalidURL, httpx.UnsupportedProtocol, httpx.LocalProtocolError, UnicodeError) as error:
        raise HttpRefusedError(f"{payload.url!r} cannot be requested: {error}") from error
    text = text_of_body(body, response.charset_encoding)
    if response.status_code >= 400:
        raise HttpStatusError(f"{payload.method} {payload.url} answered {response.status_code}: {text[:500]}")
    return {
        "status": response.status_code,
        "headers": dict(response.headers),
        "body": text,
        "truncated": truncated,
    }


def _client() -> httpx.AsyncClient:
    transport: httpx.AsyncBaseTransport = httpx.AsyncHTTPTransport()
    if not Settings.load().http_allow_private:
        transport = PublicTransport(transport)
    # One request is all: a server that has said less than it announced says so by closing.
    headers = {"Accept-Encoding": ACCEPTED, "Connection": "close"}
    return httpx.AsyncClient(transport=transport, timeout=None, headers=headers)  # noqa: S113


def _url(payload: HttpRequest) -> httpx.URL:
    """Raises HttpRefusedError for what no connection can be made to."""
    try:
        url = httpx.URL(payload.url)
        host, port = url.host, url.port
    except (httpx.InvalidURL, UnicodeError) as error:
        raise HttpRefusedError(f"{payload.url!r} cannot be requested: {error}") from error
    if url.scheme not in ("http", "https") or not host:
        raise HttpRefusedError(
            f"{payload.url!r} cannot be requested: it must be http:// or https:// and a host"
        )
    if port is not None and not 0 < port < 65536:
        raise HttpRefusedError(f"{payload.url!r} cannot be requested: a port is from 1 to 65535, not {port}")
    return url
