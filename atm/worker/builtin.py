"""The built-in handlers: an example, and an HTTP request."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from atm.worker.context import Context
from atm.worker.handlers import handler

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


@handler("http_request", timeout=60, max_retry=3)
async def http_request(context: Context, payload: HttpRequest) -> dict[str, Any]:
    """Makes one HTTP request. A status of 400 or more is a failure; redirects are not followed."""
    # Httpx takes a quarter of a second to import, which a worker without such tasks need not.
    from atm.worker.http_request import perform

    return await perform(context, payload)
