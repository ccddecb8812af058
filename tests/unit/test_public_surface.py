"""What users import is there."""

from __future__ import annotations

import subprocess
import sys

import atm


def test_every_name_of_the_package_can_be_imported() -> None:
    for name in atm.__all__:
        assert getattr(atm, name) is not None


def test_the_client_library_brings_neither_sql_nor_dramatiq() -> None:
    code = "import sys, atm.client; print([m for m in ('sqlalchemy', 'dramatiq') if m in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


def test_a_module_of_handlers_does_not_bring_grpc() -> None:
    code = "import sys; from atm import handler; print('grpc' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "False"
