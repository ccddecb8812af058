"""Runs `atm` in this process against an in-memory server, as a shell would see it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from fake_task_service import FakeTaskService, serving

from atm_cli.main import main


@dataclass(frozen=True)
class Outcome:
    """What a command left: its exit code, and the text on stdout and stderr."""

    code: int
    out: str
    err: str

    @property
    def said(self) -> str:
        """stderr as one run of words, without the frames that are drawn around usage errors."""
        return " ".join("".join(char for char in self.err if char not in "│╭╮╰╯─").split())


Run = Callable[..., Outcome]


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("SERVER", "OUTPUT", "PROFILE", "CONFIG"):
        monkeypatch.delenv(f"ATM_{name}", raising=False)
    for name in ("FORCE_COLOR", "NO_COLOR", "TTY_COMPATIBLE", "MYSQL_DSN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "200")


@pytest.fixture
def service() -> FakeTaskService:
    return FakeTaskService()


@pytest.fixture
def address(service: FakeTaskService) -> Iterator[str]:
    with serving(service) as bound:
        yield bound


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs `atm` with these arguments."""

    def run_atm(*arguments: str) -> Outcome:
        capsys.readouterr()
        code = main(arguments)
        captured = capsys.readouterr()
        return Outcome(code, captured.out, captured.err)

    return run_atm


@pytest.fixture
def atm(run: Run, address: str, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs `atm` with these arguments against the in-memory server."""
    monkeypatch.setenv("ATM_SERVER", address)
    return run
