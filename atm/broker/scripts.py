"""The Lua scripts on one Redis, loaded there when they are first used."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import redis
from redis.commands.core import Script

from atm.broker.lua import script

#: The first line of a script that may also run when Redis is full. Redis before 7 does not know it.
_FLAGS = "#!"


class Scripts:
    """Runs scripts by their names. Raises what redis-py raises."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._loaded: dict[str, Script] = {}
        self._knows_flags: bool | None = None

    def run(self, name: str, keys: Sequence[str], args: Sequence[int | str | bytes]) -> Any:
        """What the script answers."""
        if name not in self._loaded:
            self._loaded[name] = self._client.register_script(self.text(name))
        return self._loaded[name](keys=keys, args=args)

    def text(self, name: str) -> str:
        """The script as this Redis takes it."""
        text = script(name)
        if not text.startswith(_FLAGS):
            return text
        if self._knows_flags is None:
            try:
                self._client.script_load(f"{text.partition(chr(10))[0]}\nreturn 1")
                self._knows_flags = True
            except redis.ResponseError as error:
                if "compil" not in str(error):
                    raise
                self._knows_flags = False
        return text if self._knows_flags else text.partition("\n")[2]
