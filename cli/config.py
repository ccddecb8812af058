"""Which server is asked and how answers are written.

A flag wins over an environment variable, that over the profile, that over the
default. Profiles are tables of a TOML file, ~/.config/atm/config.toml or the
one that ATM_CONFIG names:

    [default]
    server = "localhost:9090"

    [profiles.staging]
    server = "staging.example.org:9090"
    output = "wide"

A profile takes what it does not say from [default].
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from atm.errors import SettingsError
from atm.host_port import DEFAULT_ADDRESS

DEFAULT_FILE = Path("~/.config/atm/config.toml")
_KEYS = frozenset({"server", "output"})


class Output(StrEnum):
    """The forms in which data is written."""

    TABLE = "table"
    WIDE = "wide"
    JSON = "json"
    JSONL = "jsonl"
    YAML = "yaml"
    NAME = "name"

    @property
    def shows_all(self) -> bool:
        """Whether it has every field of what is written."""
        return self in (Output.JSON, Output.JSONL, Output.YAML)


@dataclass(frozen=True)
class Flags:
    """What was given on the command line; None where nothing was."""

    server: str | None = None
    output: Output | None = None
    profile: str | None = None

    def over(self, other: Flags) -> Flags:
        """These flags, and those of `other` where these say nothing."""
        return replace(other, **{name: value for name, value in vars(self).items() if value is not None})


@dataclass(frozen=True)
class Config:
    """What holds. `server_given` tells a server that somebody chose from the default."""

    server: str
    server_given: bool
    output: Output


def resolve(flags: Flags, environ: Mapping[str, str] = os.environ) -> Config:
    """The configuration for `flags`; an empty environment variable counts as not set.

    Raises SettingsError for a file, a profile or a value that cannot be used.
    """
    profile = _profile(flags.profile or environ.get("ATM_PROFILE") or "", environ.get("ATM_CONFIG") or "")
    server = flags.server or environ.get("ATM_SERVER") or profile.get("server")
    output = flags.output or environ.get("ATM_OUTPUT") or profile.get("output") or Output.TABLE
    try:
        form = Output(output)
    except ValueError:
        raise SettingsError(f"output {output!r} is not known; it takes {', '.join(Output)}") from None
    return Config(server=server or DEFAULT_ADDRESS, server_given=bool(server), output=form)


def _profile(name: str, file: str) -> dict[str, str]:
    path = Path(file) if file else DEFAULT_FILE
    content = _read(path, required=bool(file or name))
    values = _table(path, "default", content.get("default", {}))
    if name:
        profiles = content.get("profiles", {})
        if not isinstance(profiles, dict) or name not in profiles:
            known = ", ".join(sorted(profiles)) if isinstance(profiles, dict) and profiles else "none"
            raise SettingsError(f"{path} has no profile {name!r}; it has: {known}")
        values |= _table(path, f"profiles.{name}", profiles[name])
    return values


def _read(path: Path, *, required: bool) -> dict[str, Any]:
    try:
        return tomllib.loads(path.expanduser().read_text(encoding="utf-8"))
    except FileNotFoundError:
        if required:
            raise SettingsError(f"{path} does not exist") from None
        return {}
    except (OSError, RuntimeError) as error:
        # RuntimeError: nobody's home, as in some containers.
        if not required and isinstance(error, RuntimeError):
            return {}
        raise SettingsError(f"{path} cannot be read: {error}") from error
    except ValueError as error:
        raise SettingsError(f"{path} is not TOML: {error}") from error


def _table(path: Path, name: str, table: Any) -> dict[str, str]:
    if not isinstance(table, dict):
        raise SettingsError(f"{path}: [{name}] is no table")
    for key, value in table.items():
        if key not in _KEYS:
            raise SettingsError(
                f"{path}: [{name}] has an unknown key {key!r}; known: {', '.join(sorted(_KEYS))}"
            )
        if not isinstance(value, str):
            raise SettingsError(f"{path}: {key} in [{name}] is no text")
    return dict(table)
