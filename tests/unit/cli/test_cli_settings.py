"""A flag wins over the environment, that over the profile, that over the default."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from atm.errors import SettingsError
from atm_cli.config import Flags, Output, resolve

CONFIG = """
[default]
server = "default:1"
output = "wide"

[profiles.lab]
server = "lab:2"

[profiles.json]
output = "json"
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "atm.toml"
    path.write_text(CONFIG)
    return path


def test_without_anything_the_server_is_local_and_the_output_a_table() -> None:
    config = resolve(Flags(), {})
    assert (config.server, config.server_given, config.output) == ("localhost:9090", False, Output.TABLE)


def test_each_source_wins_over_the_one_below(file: Path) -> None:
    environ = {"ATM_CONFIG": str(file)}
    assert resolve(Flags(), environ).server == "default:1"
    environ["ATM_PROFILE"] = "lab"
    assert resolve(Flags(), environ).server == "lab:2"
    environ["ATM_SERVER"] = "env:3"
    assert resolve(Flags(), environ).server == "env:3"
    assert resolve(Flags(server="flag:4"), environ).server == "flag:4"


def test_the_output_has_the_same_order(file: Path) -> None:
    environ = {"ATM_CONFIG": str(file)}
    assert resolve(Flags(), environ).output is Output.WIDE
    assert resolve(Flags(profile="json"), environ).output is Output.JSON
    environ["ATM_OUTPUT"] = "yaml"
    assert resolve(Flags(profile="json"), environ).output is Output.YAML
    assert resolve(Flags(profile="json", output=Output.NAME), environ).output is Output.NAME


def test_a_profile_takes_what_it_does_not_say_from_the_default_table(file: Path) -> None:
    config = resolve(Flags(profile="lab"), {"ATM_CONFIG": str(file)})
    assert (config.server, config.output) == ("lab:2", Output.WIDE)


def test_an_empty_variable_counts_as_not_set(file: Path) -> None:
    empty = {"ATM_SERVER": "", "ATM_OUTPUT": "", "ATM_PROFILE": "", "ATM_CONFIG": ""}
    assert resolve(Flags(), empty).server == "localhost:9090"


def test_the_file_of_the_home_folder_is_read(tmp_path: Path) -> None:
    folder = tmp_path / ".config" / "atm"
    folder.mkdir(parents=True)
    (folder / "config.toml").write_text('[default]\nserver = "home:5"\n')
    config = resolve(Flags(), {})
    assert (config.server, config.server_given) == ("home:5", True)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("server =", "is not TOML"),
        ("[default]\nservr = 'x'", "unknown key 'servr'"),
        ("[default]\nserver = 1", "is no text"),
        ("default = 1", "is no table"),
        ("profiles = 1", "no profile"),
        ("[default]\noutput = 'xml'", "is not known"),
        ("[profiles.other]", "it has: other"),
    ],
)
def test_a_file_that_cannot_be_used_is_named_with_what_is_wrong(file: Path, content: str, words: str) -> None:
    file.write_text(content)
    profile = "lab" if "profiles" in content else None
    with pytest.raises(SettingsError, match=words):
        resolve(Flags(profile=profile), {"ATM_CONFIG": str(file)})


def test_a_file_that_is_named_must_exist(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="does not exist"):
        resolve(Flags(), {"ATM_CONFIG": str(tmp_path / "nothing.toml")})


def test_options_are_understood_before_and_after_the_command(run: Any, address: str) -> None:
    assert run("--server", address, "-o", "name", "task", "create", "send").out == "task-1\n"
    assert run("task", "create", "send", "-s", address, "-o", "name").out == "task-2\n"


def test_the_option_after_the_command_wins(run: Any, address: str) -> None:
    outcome = run("-s", "localhost:1", "-o", "json", "task", "create", "send", "-s", address, "-o", "name")
    assert outcome.out == "task-1\n"


def test_the_option_before_the_command_wins_over_the_environment(
    run: Any, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ATM_SERVER", "localhost:1")
    monkeypatch.setenv("ATM_OUTPUT", "json")
    assert run("-s", address, "-o", "name", "task", "create", "send").out == "task-1\n"
