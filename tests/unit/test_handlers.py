"""The registry takes handlers that can be run, and says what is wrong with the others."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel

from atm.errors import SettingsError
from atm.retrying import Retry
from atm.worker import handlers
from atm.worker.handlers import HandlerRegistry, HandlerSpec, handler, load
from atm.worker.payloads import bind


class Payload(BaseModel):
    name: str


@pytest.fixture(autouse=True)
def registry(monkeypatch: pytest.MonkeyPatch) -> HandlerRegistry:
    fresh = HandlerRegistry()
    monkeypatch.setattr(handlers, "REGISTRY", fresh)
    return fresh


def test_a_handler_brings_its_defaults_and_nothing_that_is_the_operators(registry: HandlerRegistry) -> None:
    @handler("mail", timeout=1.5, max_retry=2, retry=Retry("FIXED", delay=3))
    def mail(context: Any, payload: Payload) -> None: ...

    spec = registry.get("mail")
    assert spec is not None
    assert bind({"name": "Ada"}, spec.payload_model) == Payload(name="Ada")
    defaults = spec.defaults()
    assert (defaults["default_timeout_ms"], defaults["max_retry"], defaults["retry_delay_ms"]) == (
        1500,
        2,
        3000,
    )
    assert not {"enabled", "max_concurrent"} & set(defaults)


def test_how_a_handler_is_run_follows_from_what_it_is(registry: HandlerRegistry) -> None:
    @handler("a")
    async def coroutine(context: Any, payload: dict[str, str]) -> None: ...

    @handler("b", isolation="process")
    def isolated(context: Any, payload: dict[str, str]) -> None: ...

    assert [spec.executor for spec in registry.specs()] == ["async", "process"]


@pytest.mark.parametrize(
    "options",
    [{"timeout": -1}, {"max_retry": -1}, {"max_retry": 10**6}, {"isolation": "vm"}, {"cancel_grace": -1}],
)
def test_an_option_that_cannot_be_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match="@handler"):
        handler("mail", **options)


@pytest.mark.parametrize("name", ["", "two words", "tab\t", "x" * 129])
def test_a_type_that_no_task_could_have_is_refused(name: str) -> None:
    with pytest.raises(SettingsError):
        handler(name)


def test_a_function_must_take_context_and_payload() -> None:
    with pytest.raises(SettingsError, match=r"\(context, payload\)"):
        handler("x")(lambda context: None)


def test_two_functions_for_one_type_are_refused(registry: HandlerRegistry) -> None:
    registry.add(HandlerSpec("x", test_a_function_must_take_context_and_payload))
    with pytest.raises(SettingsError, match="two handlers"):
        registry.add(HandlerSpec("x", test_two_functions_for_one_type_are_refused))


def test_a_module_that_is_not_there_is_named() -> None:
    with pytest.raises(SettingsError, match=r"ATM_HANDLERS: there is no module 'no_such_module'"):
        load(["no_such_module"])
