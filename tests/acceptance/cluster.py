"""`python -m acceptance.cluster`: three servers, two worker processes, and the demo against each server.

On MariaDB where it is installed, on SQLite otherwise; Redis is the embedded Valkey.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil
from fix_mariadb import MariaDB, mariadb_version, missing_reason
from fix_system import Process, wait_until_serving
from fix_valkey import Valkey

SERVERS = ((1, 9091, 8081), (2, 9092, 8082), (3, 9093, 8083))


def main() -> int:
    """Runs it; the exit code."""
    for _, *ports in SERVERS:
        for port in ports:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    print(
                        f"port {port} is in use: the cluster needs 9091-9093 and 8081-8083", file=sys.stderr
                    )
                    return 1
    with tempfile.TemporaryDirectory(prefix="atm-cluster-") as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        environment = _backends(folder, stack)
        run = [sys.executable, "-m", "atm_cli"]
        subprocess.run([*run, "db", "upgrade"], env=environment, check=True)
        for number, grpc_port, worker_port in SERVERS:
            arguments = [*run, "server", "--id", f"server-{number}"]
            arguments += ["--grpc-port", str(grpc_port), "--worker-port", str(worker_port)]
            server = Process(arguments, environment, folder / f"server-{number}.log")
            stack.callback(_stop, server)
            wait_until_serving(f"127.0.0.1:{grpc_port}", server)
        worker = Process(
            [sys.executable, "-m", "dramatiq", "atm.actors", "-p", "2"], environment, folder / "worker.log"
        )
        stack.callback(_stop, worker)
        subprocess.run([*run, "--server", "127.0.0.1:9091", "server", "list"], check=True)
        failed = [
            port
            for _, port, _ in SERVERS
            if subprocess.run([*run, "--server", f"127.0.0.1:{port}", "demo"], check=False).returncode
        ]
    left = psutil.Process().children(recursive=True)
    if failed or left:
        print(f"failed against: {failed}; processes left: {left}", file=sys.stderr)
        return 1
    print("eight cases green against each of the three servers, and nothing is left running")
    return 0


def _backends(folder: Path, stack: contextlib.ExitStack) -> dict[str, str]:
    valkey = Valkey(folder)
    valkey.start()
    stack.callback(valkey.stop)
    dsn = f"sqlite:///{folder / 'atm.db'}"
    if mariadb_version() is None:
        print(f"ON SQLITE: {missing_reason()}", file=sys.stderr)
    else:
        mariadb = MariaDB(folder)
        mariadb.install()
        mariadb.start()
        stack.callback(mariadb.stop)
        dsn = mariadb.create_database()
    return {**os.environ, "REDIS_ADDR": valkey.address, "MYSQL_DSN": dsn, "ATM_HOST": "127.0.0.1"}


def _stop(process: Process) -> None:
    process.terminate()
    process.kill()


if __name__ == "__main__":
    sys.exit(main())
