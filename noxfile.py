"""The project's sessions: `nox -l` lists them, `nox -s NAME -- ARGUMENTS` runs one."""

from __future__ import annotations

import filecmp
import os
from pathlib import Path

import nox

nox.options.sessions = ["lint", "types", "tests"]
nox.options.reuse_existing_virtualenvs = True

PROTO = "proto/task_service.proto"
GENERATED = (
    "task_service_pb2.py",
    "task_service_pb2.pyi",
    "task_service_pb2_grpc.py",
    "task_service_pb2_grpc.pyi",
)
#: The oldest generator that is supported: a stub refuses a grpcio older than what made it.
GENERATORS = ("grpcio-tools==1.76.0", "mypy-protobuf==3.7.0")


@nox.session
def demo(session: nox.Session) -> None:
    """Installs ATM and walks through its eight cases, on a server that is started for it."""
    session.install(".")
    session.run("atm", "demo", *session.posargs)


@nox.session
def tests(session: nox.Session) -> None:
    """Every test but the fault suite, how much of the code they ran (90 % at least), and the example's tests.

    Arguments go to pytest; then nothing is measured, which is a third faster.
    """
    # A laptop can do without OceanBase: its tests are skipped, and the run says so.
    session.install("-e", ".[dev,oceanbase]" if os.environ.get("ATM_REQUIRE_OCEANBASE") else ".[dev]")
    # They mostly wait; each process has its own servers.
    pytest = ("pytest", "-m", "not chaos", "-n", "4", "--dist", "loadfile")
    if session.posargs:
        session.run(*pytest, *session.posargs)
        return
    session.run("coverage", "erase")
    session.run("coverage", "run", "-m", *pytest)
    session.run("coverage", "combine", "--quiet")
    session.run("coverage", "report")
    # As a user runs them: with settings of their own.
    session.run("pytest", "examples/orders", "-p", "no:asyncio")


@nox.session
def chaos(session: nox.Session) -> None:
    """The fault suite: short without arguments; `-- --minutes 30 --seed 7` runs long, at random."""
    session.install("-e", ".[dev]")
    if session.posargs:
        session.run("python", "-m", "chaos", *session.posargs, env={"PYTHONPATH": "tests"})
    else:
        session.run("pytest", "-m", "chaos", "-n", "2", "--dist", "loadfile")


@nox.session
def mutations(session: nox.Session) -> None:
    """10,000 valid calls with random bytes changed: a table of what they got; `-- --calls 1000 --seed 3`."""
    session.install("-e", ".[dev]")
    session.run("python", "-m", "mutations", *session.posargs, env={"PYTHONPATH": "tests"})


@nox.session
def bench(session: nox.Session) -> None:
    """ATM and its peers, measured side by side; `-- --runs 1 --only "ATM idle"` for a part."""
    session.install("-e", ".[dev,bench]")
    session.run("python", "-m", "benchmarks", *session.posargs, env={"PYTHONPATH": "tests"})


@nox.session
def lint(session: nox.Session) -> None:
    """Style, and the layers: nothing below imports anything above."""
    session.install("-e", ".[dev]")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("lint-imports")


@nox.session
def types(session: nox.Session) -> None:
    """mypy, strict."""
    session.install("-e", ".[dev]")
    # The folder is called cli, the package atm_cli.
    folder = Path(session.create_tmp()).resolve() / "names"
    folder.mkdir(exist_ok=True)
    link = folder / "atm_cli"
    if not link.exists():
        link.symlink_to(Path("cli").resolve())
    session.run("mypy", env={"MYPYPATH": str(folder)})


@nox.session
def proto(session: nox.Session) -> None:
    """Makes atm/rpc from the proto; with `-- --check` fails when what is committed is not what it makes."""
    session.install(*GENERATORS)
    check = "--check" in session.posargs
    target = Path(session.create_tmp()).resolve() if check else Path()
    session.run(
        *("python", "-m", "grpc_tools.protoc", "-Iatm/rpc=proto"),
        *(f"--{kind}_out={target}" for kind in ("python", "grpc_python", "pyi", "mypy_grpc")),
        PROTO,
    )
    if check:
        _, differ, missing = filecmp.cmpfiles("atm/rpc", target / "atm/rpc", GENERATED, shallow=False)
        if differ or missing:
            session.error(f"stale: {', '.join(differ + missing)}. Run `nox -s proto` and commit atm/rpc")


@nox.session
def client(session: nox.Session) -> None:
    """Makes atm/client/sync.py from aio.py; with `-- --check` fails when what is committed is not that."""
    session.install("ruff>=0.9")
    session.run("python", "tools/sync_client.py", *session.posargs)


@nox.session
def cluster(session: nox.Session) -> None:
    """Three servers on one Redis and one database: the eight cases against each."""
    session.install("-e", ".[dev]")
    session.run("python", "-m", "acceptance.cluster", env={"PYTHONPATH": "tests"})
