"""The registry takes handlers that can be run, and says what is wrong with the others."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
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


#: A module's text, and what is said of it.
UNUSABLE = {
    "exits": (
        "import sys\nsys.exit('no config')",
        r"exits when it is imported \(SystemExit: no config\) \(.*line 2",
    ),
    "exits as if all were well": ("raise SystemExit(0)", "exits when it is imported"),
    "exits without a word": ("raise SystemExit", "exits when it is imported"),
    "ends a generator": ("raise GeneratorExit('x')", "cannot be imported: GeneratorExit: x"),
    "is cancelled": ("import asyncio\nraise asyncio.CancelledError", "cannot be imported: CancelledError"),
    "raises": ("def f():\n    1 / 0\nf()", r"cannot be imported: ZeroDivisionError: .*line 2\)"),
    "raises what has no text": (
        "class E(BaseException):\n    def __str__(self): 1 / 0\n    __repr__ = __str__\nraise E",
        "cannot be imported: E: .its text cannot be shown: ZeroDivisionError",
    ),
    "raises several": ("raise BaseExceptionGroup('all', [SystemExit(1)])", "BaseExceptionGroup: all"),
    "is not Python": ("def f(:", "cannot be imported: SyntaxError"),
    "holds a null": ("x = 1\0", "cannot be imported: (SyntaxError|ValueError)"),
    "needs another module": (
        "import no_such_library",
        "cannot be imported: ModuleNotFoundError: .*no_such_library",
    ),
    "imports itself": ("from unusable_module import f\ndef f(): ...", "ImportError: .*circular import"),
    "names what is not there": (
        "from os import no_such_name",
        "cannot be imported: ImportError: .*no_such_name",
    ),
    "recurses": ("def f(): f()\nf()", "cannot be imported: RecursionError"),
    "registers what cannot work": (
        "from atm import handler\n@handler('x')\ndef f(context): ...",
        r"unusable_module: @handler\('x'\): unusable_module.f must take \(context, payload\)",
    ),
    "registers an option that cannot be": (
        "from atm import handler\nhandler('x', timeout='5')",
        r"unusable_module: @handler\('x'\): timeout is a number",
    ),
}


@pytest.mark.parametrize("what", UNUSABLE)
def test_a_module_that_cannot_be_imported_is_named_with_what_happened(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text, said = UNUSABLE[what]
    (tmp_path / "unusable_module.py").write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(SettingsError, match=f"^ATM_HANDLERS: (.*{said})") as refused:
        load(["unusable_module"])
    assert "unusable_module" in str(refused.value)


def test_ctrl_c_while_a_module_is_imported_is_ctrl_c(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "interrupted_module.py").write_text("raise KeyboardInterrupt")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(KeyboardInterrupt):
        load(["interrupted_module"])


@pytest.mark.parametrize("name", ["json.no_such_part", "json.decoder.deeper", "no.such.package", "orders.py"])
def test_a_part_of_a_package_that_is_not_there_is_named(name: str) -> None:
    with pytest.raises(SettingsError, match=f"ATM_HANDLERS: there is no module '{name}' on the Python path"):
        load([name])


@pytest.mark.parametrize("name", [".relative", "", "..", "a/b", "\0"])
def test_what_is_no_name_of_a_module_is_refused(name: str) -> None:
    with pytest.raises(SettingsError, match="ATM_HANDLERS: "):
        load([name])


def test_handlers_in_the_current_folder_are_found_and_hide_no_installed_module(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("from atm import handler\n\n@handler('mine')\ndef run(c, p): ...\n")
    # Which every process of ATM would import, were it first.
    for name in ("pydantic", "redis", "logging", "atm"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('a stranger was imported')\n")
    program = "from atm.worker.handlers import load; print(load(['mine']).get('mine').task_type)"
    done = subprocess.run(
        [sys.executable, "-P", "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.stdout == "mine\n", done.stderr
