"""A key that is set once: when it is missing, or Redis is another process, Redis has lost what it held."""

from __future__ import annotations

import redis

from atm.broker import keys
from atm.broker.connection import Refusals, translated


class Marker:
    """Notices that Redis was emptied or restarted since the last look."""

    def __init__(self, client: redis.Redis, prefix: str) -> None:
        self._client = client
        self._key = keys.marker(prefix)
        self._run_id = ""
        self._refusals = Refusals()

    @property
    def is_first_look(self) -> bool:
        """Whether nobody has looked through this marker yet."""
        return not self._run_id

    @translated
    def lost(self) -> str:
        """What has happened to Redis since the last look, or "". Raises BrokerUnavailableError."""
        run_id = self._process()
        # True when the key was not there.
        was_missing = bool(self._client.set(self._key, run_id, nx=True))
        was_restarted = bool(self._run_id) and run_id != self._run_id
        self._run_id = run_id
        return "was restarted" if was_restarted else "is empty" if was_missing else ""

    def _process(self) -> str:
        """Which process Redis is; without the right to ask, the key has to do."""
        try:
            answer: object = self._client.info("server")
        except redis.exceptions.NoPermissionError as error:
            answer = error
        refused = self._refusals.note("INFO (a restart is noticed only if it lost data)", answer)
        return "unknown" if refused or not isinstance(answer, dict) else str(answer["run_id"])
