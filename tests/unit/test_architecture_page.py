"""The page on the architecture names functions and files that are there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "architecture.md").read_text()
HOPS = re.findall(r"^\| [\w -]+ \| `([\w/]+\.py)` \| (`.+`) \|$", PAGE, re.MULTILINE)


def _functions(file: str) -> set[str]:
    """The qualified names of all functions of a file of atm/, as the page writes them."""
    found: set[str] = set()

    def visit(node: ast.AST, prefix: str) -> None:
        for child in ast.iter_child_nodes(node):
            name = prefix
            if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                name = f"{prefix}{child.name}."
                found.add(name[:-1])
            elif isinstance(child, ast.Lambda):
                found.add(f"{prefix}<lambda>")
            visit(child, name)

    visit(ast.parse((ROOT / "atm" / file).read_text()), "")
    return found


def test_the_way_of_a_task_is_told_from_its_call_to_its_end() -> None:
    files = [file for file, _ in HOPS]
    assert files[0].startswith("server/")
    assert {"service/_creation.py", "store/tasks.py", "broker/broker.py", "worker/execution.py"} <= {*files}


@pytest.mark.parametrize("file", sorted({file for file, _ in HOPS}))
def test_every_function_on_the_way_is_there(file: str) -> None:
    told = {name for at, names in HOPS if at == file for name in re.findall(r"`([^`]+)`", names)}
    assert told <= _functions(file)


def test_every_file_that_owns_a_fact_is_there() -> None:
    owners = re.findall(r"`((?:atm|proto)/[\w/.]+)`", PAGE)
    assert len(owners) > 15
    assert [owner for owner in owners if not (ROOT / owner).exists()] == []
