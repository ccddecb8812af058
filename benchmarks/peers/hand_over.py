"""`python -m benchmarks.peers.hand_over MODULE COUNT [PAUSE]`: hands tasks over, prints when as JSON."""

from __future__ import annotations

import asyncio
import importlib
import json
import sys
import time


async def _run(module: str, count: int, pause: float) -> list[float]:
    peer = importlib.import_module(module)
    await peer.start()
    times = []
    for number in range(count):
        if pause:
            await asyncio.sleep(pause + number % 7 / 50)
        times.append(time.time())
        await peer.send()
    times.append(time.time())
    await peer.stop()
    return times


if __name__ == "__main__":
    pause = float(sys.argv[3]) if len(sys.argv) > 3 else 0.0
    print(json.dumps(asyncio.run(_run(sys.argv[1], int(sys.argv[2]), pause))))
