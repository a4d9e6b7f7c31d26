"""Measures a mirror: the first state, and then the updates up to a state that has a digest.

python3 bench/crumbd_bench.py URL poll|stream DIGEST ROUNDS [--asyncio]

`cargo bench --bench client_languages` runs it. It prints one line of JSON with the medians of the rounds, in seconds.
CPU time is that of the process, user and system.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Literal, cast

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "src"))

import crumbd
import crumbd.aio
from crumbd import digest as digests

LIMIT = 120.0

Transport = Literal["poll", "stream"]
Moment = tuple[float, float]


def now() -> Moment:
    return time.perf_counter(), time.process_time()


def figures(keys: int, begun: Moment, synced: Moment, ended: Moment) -> dict[str, float]:
    return {
        "keys": keys,
        "state": synced[0] - begun[0],
        "state_cpu": synced[1] - begun[1],
        "updates": ended[0] - synced[0],
        "updates_cpu": ended[1] - synced[1],
    }


def in_time(begun: Moment) -> None:
    if time.perf_counter() - begun[0] > LIMIT:
        raise TimeoutError(f"the state did not come to the digest within {LIMIT} s")


def measure(url: str, transport: Transport, digest: str) -> dict[str, float]:
    begun = now()
    with crumbd.Mirror(url, transport=transport) as mirror:
        while not mirror.wait_for_sync(1):
            in_time(begun)
        synced = now()
        while mirror.digest != digest:
            in_time(begun)
            time.sleep(0.001)
        return figures(len(mirror), begun, synced, now())


async def measure_with_asyncio(url: str, transport: Transport, digest: str) -> dict[str, float]:
    begun = now()
    async with crumbd.aio.Mirror(url, transport=transport) as mirror:
        while not await mirror.wait_for_sync(1):
            in_time(begun)
        synced = now()
        while mirror.digest != digest:
            in_time(begun)
            await asyncio.sleep(0.001)
        return figures(len(mirror), begun, synced, now())


def main() -> None:
    arguments = [argument for argument in sys.argv[1:] if argument != "--asyncio"]
    if len(arguments) != 4 or arguments[1] not in ("poll", "stream"):
        sys.exit("usage: crumbd_bench.py URL poll|stream DIGEST ROUNDS [--asyncio]")
    url, digest = arguments[0], arguments[2]
    transport = cast(Transport, arguments[1])
    rounds = []
    for _ in range(int(arguments[3])):
        if "--asyncio" in sys.argv[1:]:
            rounds.append(asyncio.run(measure_with_asyncio(url, transport, digest)))
        else:
            rounds.append(measure(url, transport, digest))
    medians = {name: statistics.median(one[name] for one in rounds) for name in rounds[0]}
    print(json.dumps(medians | {"xxhash": digests.NATIVE}))


if __name__ == "__main__":
    main()
