"""The built-in handlers: an example, and an HTTP request."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, Literal

import httpx
from pydantic import BaseModel, Field

from atm.errors import NonRetryableError
from atm.settings import Settings
from atm.worker.context import Context
from atm.worker.handlers import handler
from atm.worker.http_answer import lie_in, read_body, text_of_body
from atm.worker.public_transport import PublicTransport
from atm.worker.unpacking import ACCEPTED

_STEPS = 4
_STEP_SECONDS = 0.5


@handler("example_task", timeout=60, max_retry=3)
def example_task(context: Context, payload: dict[str, str]) -> dict[str, Any]:
    """Works for about two seconds, tells how far it is, and returns what it was given."""
    context.logger.info("example task started with %d values", len(payload))
    for step in range(1, _STEPS + 1):
        context.sleep(_STEP_SECONDS)
        context.progress(step / _STEPS, f"step {step} of {_STEPS}")
    context.logger.info("example task done")
    return {"message": "example task completed", "attempt": context.attempt, "received": payload}


class HttpRequest(BaseModel):
    """The payload of `http_request`; `timeout`, of the whole request, in seconds."""

    url: str
    method: Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"] = "GET"
    headers: dict[str, str] = Field(default_factory=dict)
    body: str = ""
    timeout: Annotated[float, Field(gt=0, le=3600)] = 30.0


class HttpStatusError(Exception):
    """The answer has a status of 400 or more."""


class HttpTimeoutError(Exception):
    """The request was not done in its time."""


class HttpRefusedError(NonRetryableError):
    """The request cannot be made as it is."""


@handler("http_request", timeout=60, max_retry=3)
async def http_request(context: Context, payload: HttpRequest) -> dict[str, Any]:
    """Makes one HTTP request. A status of 400 or more is a failure; redirects are not followed."""
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
