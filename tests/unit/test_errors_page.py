"""docs/errors.md names every reason that the code can answer with, and no other."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from atm import errors
from atm.client.errors import translate
from atm.errors import ServiceError
from atm.states import Reason
from atm_cli import exits

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/errors.md").read_text(encoding="utf-8")
#: What stands for the code itself in the column of reasons.
SAME = "the code's name"
CLASSES = {
    name: kind
    for name, kind in vars(errors).items()
    if isinstance(kind, type) and issubclass(kind, ServiceError)
}

Pair = tuple[str, str]


def rows(heading: str) -> list[list[str]]:
    """The cells of the first table below a heading, without its head."""
    section = PAGE.split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def names(cell: str) -> list[str]:
    return re.findall(r"`([A-Z_]+)`", cell)


def pairs(heading: str, column: int) -> set[Pair]:
    """Each gRPC code of a table with the reason in this column."""
    return {
        (code, code if row[column] == SAME else names(row[column])[0])
        for row in rows(heading)
        for code in names(row[0])
    }


def calls() -> Iterator[tuple[str, ast.Call]]:
    """Every call in atm/, with where it is."""
    for file in sorted((ROOT / "atm").rglob("*.py")):
        if "rpc" in file.relative_to(ROOT).parts:
            continue
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                yield f"{file.relative_to(ROOT)}:{node.lineno}", node


def callee(call: ast.Call) -> str:
    return getattr(call.func, "id", getattr(call.func, "attr", ""))


def reason_of(call: ast.Call) -> ast.expr | None:
    return next((keyword.value for keyword in call.keywords if keyword.arg == "reason"), None)


def literals(value: ast.expr) -> set[str]:
    return {
        node.value
        for node in ast.walk(value)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }


def raised() -> set[Pair]:
    """The code and the reason of every error that is made in atm/, but for the client, which translates."""
    found = set()
    for where, call in calls():
        kind = CLASSES.get(callee(call))
        if kind is None or where.startswith("atm/client/"):
            continue
        value = reason_of(call)
        if value is None:
            found.add((kind.code, kind.default_reason))
        elif isinstance(value, ast.Attribute) and value.attr == "reason":
            continue  # another error's, passed on
        else:
            assert literals(value), f"{where}: the reason is no literal, so this test cannot read it"
            found |= {(kind.code, reason) for reason in literals(value)}
    return found


class Answer(grpc.RpcError):
    """What a call raises when the answer has this code and no details."""

    def __init__(self, code: grpc.StatusCode) -> None:
        self._code = code

    def code(self) -> grpc.StatusCode:
        return self._code

    def details(self) -> str:
        return ""

    def trailing_metadata(self) -> None:
        return None


def test_every_reason_that_atm_answers_with_is_on_the_page_with_its_code_and_no_other() -> None:
    assert pairs("What ATM answers", 1) == raised()


def test_every_code_without_details_is_on_the_page_with_the_reason_of_the_python_client() -> None:
    codes = [code for code in grpc.StatusCode if code is not grpc.StatusCode.OK]
    translated = {code.name: translate(Answer(code)) for code in codes}
    assert pairs("What comes without details", 2) == {(code, e.reason) for code, e in translated.items()}
    for row in rows("What comes without details"):
        assert {type(translated[code]).__name__ for code in names(row[0])} == {row[1]}


def test_no_reason_is_missing_whoever_gives_it() -> None:
    shown = pairs("What ATM answers", 1) | pairs("What comes without details", 2)
    assert {(kind.code, kind.default_reason) for kind in CLASSES.values()} <= shown
    given = {reason for _, call in calls() if (value := reason_of(call)) for reason in literals(value)}
    assert given <= {reason for _, reason in shown}


def test_every_reason_of_a_task_is_on_the_page_and_no_other() -> None:
    shown = [name for row in rows("Why a task did not succeed") for name in names(row[0])]
    assert sorted(shown) == sorted(Reason)


@pytest.mark.parametrize("heading", ["What ATM answers", "Why a task did not succeed", "Exit codes of `atm`"])
def test_nothing_is_on_the_page_twice(heading: str) -> None:
    shown = [tuple(row[:2]) for row in rows(heading)]
    assert len(shown) == len(set(shown))


def test_every_exit_code_is_on_the_page_and_no_other() -> None:
    codes = {name: value for name, value in vars(exits).items() if name.isupper() and isinstance(value, int)}
    assert {names(row[1])[0]: int(row[0]) for row in rows("Exit codes of `atm`")} == codes
