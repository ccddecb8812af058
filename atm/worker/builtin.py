"""The built-in handlers: an example, and an HTTP request."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import httpx
from pydantic import BaseModel, Field

from atm.errors import NonRetryableError
from atm.settings import Settings
from atm.worker.context import Context
from atm.worker.handlers import handler
from atm.worker.public_transport import PublicTransport

_STEPS = 4
_STEP_SECONDS = 0.5
#: The most of an answer that becomes part of the result, in bytes.
MAX_BODY = 256 * 1024


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
    """The payload of `http_request`; `timeout` in seconds."""

    url: str
    method: Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"] = "GET"
    headers: dict[str, str] = Field(default_factory=dict)
    body: str = ""
    timeout: Annotated[float, Field(gt=0, le=3600)] = 30.0


class HttpStatusError(Exception):
    """The answer has a status of 400 or more."""


class HttpRefusedError(NonRetryableError):
    """The request cannot be made as it is."""


@handler("http_request", timeout=60, max_retry=3)
async def http_request(context: Context, payload: HttpRequest) -> dict[str, Any]:
    """Makes one HTTP request. A status of 400 or more is a failure; redirects are not followed."""
    transport: httpx.AsyncBaseTransport = httpx.AsyncHTTPTransport()
    if not Settings.load().http_allow_private:
        transport = PublicTransport(transport)
    try:
        async with httpx.AsyncClient(transport=transport, timeout=payload.timeout) as client:
            request = client.build_request(
                payload.method, payload.url, headers=payload.headers, content=payload.body.encode()
            )
            context.logger.info("%s %s", payload.method, request.url)
            response = await client.send(request, stream=True)
            body, truncated = await _body(response)
    except (httpx.InvalidURL, httpx.UnsupportedProtocol, httpx.LocalProtocolError, UnicodeError) as error:
        raise HttpRefusedError(f"{payload.url!r} cannot be requested: {error}") from error
    text = _text(body, response.charset_encoding)
    if response.status_code >= 400:
        raise HttpStatusError(f"{payload.method} {payload.url} answered {response.status_code}: {text[:500]}")
    return {
        "status": response.status_code,
        "headers": dict(response.headers),
        "body": text,
        "truncated": truncated,
    }


def _text(body: bytes, charset: str | None) -> str:
    try:
        return body.decode(charset or "utf-8", "replace")
    except LookupError:  # the server names a charset that nobody knows
        return body.decode("utf-8", "replace")


async def _body(response: httpx.Response) -> tuple[bytes, bool]:
    """The first MAX_BODY bytes, and whether there are more."""
    body = b""
    async for chunk in response.aiter_bytes():
        body += chunk
        if len(body) > MAX_BODY:
            break
    await response.aclose()
    return body[:MAX_BODY], len(body) > MAX_BODY
