"""The files under docker/ ask for what there is."""

from __future__ import annotations

from pathlib import Path

import yaml
from typer.main import get_command

from atm_cli.main import app

ROOT = Path(__file__).parents[2]
COMPOSE = yaml.safe_load((ROOT / "docker/compose.yaml").read_text())


def test_three_servers_have_the_ports_of_the_cluster() -> None:
    for number in (1, 2, 3):
        service = COMPOSE["services"][f"server-{number}"]
        assert service["ports"] == [f"909{number}:909{number}", f"808{number}:808{number}"]


def test_every_flag_of_a_server_exists() -> None:
    command = get_command(app).commands["server"]  # type: ignore[attr-defined]
    known = {option for parameter in command.params for option in parameter.opts}
    for name, service in COMPOSE["services"].items():
        if name.startswith("server"):
            assert {word for word in service["command"] if word.startswith("--")} <= known


def test_what_a_service_waits_for_is_there() -> None:
    for service in COMPOSE["services"].values():
        assert set(service.get("depends_on", {})) <= set(COMPOSE["services"])


def test_redis_and_mysql_keep_what_they_have() -> None:
    services = COMPOSE["services"]
    assert services["mysql"]["image"] == "mysql:8.4"
    assert services["mysql"]["volumes"]
    assert services["redis"]["volumes"]
    assert "--appendonly" in services["redis"]["command"]


def test_the_image_copies_what_exists() -> None:
    for line in (ROOT / "docker/Dockerfile").read_text().splitlines():
        if line.startswith("COPY"):
            for source in line.split()[1:-1]:
                assert (ROOT / source).exists(), source


def test_pid_1_of_every_container_of_atm_is_an_init() -> None:
    dockerfile = (ROOT / "docker/Dockerfile").read_text()
    assert "install -y --no-install-recommends tini" in dockerfile
    assert 'ENTRYPOINT ["tini", "--", "atm"]' in dockerfile
    for service in COMPOSE["services"].values():
        if "build" in service and "entrypoint" in service:
            assert service["entrypoint"][:2] == ["tini", "--"]
