"""The program that `crumbd conform` starts: prints what the client tells, by the line protocol of that command.

crumbd conform -- python3 clients/python/conform/crumbd_conform.py [--asyncio]
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import sys
import threading
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "src"))

import crumbd
import crumbd.aio

_printing = threading.Lock()


def show(line: dict[str, Any]) -> None:
    with _printing:
        print(json.dumps(line), flush=True)


def show_event(event: crumbd.Event) -> None:
    changes = []
    for change in event.changes:
        shown = {"type": change.type, "key": base64.b64encode(change.key).decode()}
        if change.value is not None:
            shown["value"] = base64.b64encode(change.value).decode()
        changes.append(shown)
    show(
        {
            "cursor": event.cursor,
            "status": event.status,
            "count": event.count,
            "digest": event.digest,
            "changes": changes,
        }
    )


def show_notice(notice: crumbd.Notice) -> None:
    show({"held": notice.keys} if isinstance(notice, crumbd.Holding) else {"retry": str(notice)})


def settings() -> crumbd.Settings:
    given: crumbd.Settings = {"on_notice": show_notice}
    environment = os.environb
    given["transport"] = "stream" if os.environ.get("CRUMBD_TRANSPORT") == "stream" else "poll"
    if prefix := environment.get(b"CRUMBD_PREFIX"):
        given["prefix"] = prefix
    if ca_file := os.environ.get("CRUMBD_CA_FILE"):
        given["ca_file"] = ca_file
    if token := os.environ.get("CRUMBD_TOKEN"):
        given["token"] = token
    if limit := os.environ.get("CRUMBD_TIMEOUT_MS"):
        given["timeout"] = given["stream_timeout"] = int(limit) / 1000
    given["allow_empty"] = os.environ.get("CRUMBD_ALLOW_EMPTY") == "1"
    return given


def at_end_of_stdin(call: Any) -> None:
    def wait() -> None:
        while os.read(0, 4096):  # not sys.stdin: its lock would be held when the program ends
            pass
        call()

    threading.Thread(target=wait, daemon=True).start()


def follow() -> None:
    with crumbd.follow(os.environ["CRUMBD_URL"], **settings()) as follower:
        at_end_of_stdin(follower.close)
        for event in follower:
            show_event(event)


async def follow_with_asyncio() -> None:
    loop = asyncio.get_running_loop()
    async with crumbd.aio.follow(os.environ["CRUMBD_URL"], **settings()) as follower:
        at_end_of_stdin(lambda: loop.call_soon_threadsafe(follower.close))
        async for event in follower:
            show_event(event)


def main() -> int:
    try:
        if "--asyncio" in sys.argv[1:]:
            asyncio.run(follow_with_asyncio())
        else:
            follow()
    except crumbd.RefusedError as error:
        show({"fatal": str(error)})
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
