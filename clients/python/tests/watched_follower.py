"""A follower, of threads or of asyncio, that runs beside a test and remembers what it told."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

import crumbd
import crumbd.aio

if TYPE_CHECKING:
    from typing_extensions import Unpack


class WatchedFollower:
    def __init__(self, url: str, with_asyncio: bool, **settings: Unpack[crumbd.Settings]) -> None:
        self._changed = threading.Condition()
        self.events: list[crumbd.Event] = []
        self.notices: list[crumbd.Notice] = []
        self.error: Exception | None = None
        self.ended = False
        settings["on_notice"] = self._notice
        self._url, self._settings = url, settings
        self._close: Callable[[], object] = lambda: None
        self._begun = threading.Event()
        self._thread = threading.Thread(target=self._run_asyncio if with_asyncio else self._run, daemon=True)
        self._thread.start()
        assert self._begun.wait(10)

    def wait_for_events(self, number: int, limit: float = 20.0) -> list[crumbd.Event]:
        self._wait(lambda: len(self.events) >= number, f"{number} events", limit)
        return list(self.events)

    def wait_for_digest(self, digest: str, limit: float = 20.0) -> None:
        self._wait(lambda: bool(self.events) and self.events[-1].digest == digest, f"the digest {digest}", limit)

    def wait_for_notices(self, number: int, limit: float = 20.0) -> list[crumbd.Notice]:
        self._wait(lambda: len(self.notices) >= number, f"{number} notices", limit)
        return list(self.notices)

    def wait_for_end(self, limit: float = 20.0) -> Exception | None:
        self._wait(lambda: self.ended, "the end", limit)
        return self.error

    def close(self) -> None:
        self._close()
        self._thread.join(5)
        assert not self._thread.is_alive(), "the follower has not ended"

    def __enter__(self) -> WatchedFollower:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _wait(self, condition: Callable[[], bool], what: str, limit: float) -> None:
        with self._changed:
            if not self._changed.wait_for(lambda: condition() or self.ended, limit) or not condition():
                raise AssertionError(f"{what} did not come: {self.events} {self.notices} {self.error}")

    def _run(self) -> None:
        with crumbd.follow(self._url.split(","), **self._settings) as follower:
            self._close = follower.close
            self._begun.set()
            try:
                for event in follower:
                    self._event(event)
            except crumbd.CrumbdError as error:
                self.error = error
        self._end()

    def _run_asyncio(self) -> None:
        asyncio.run(self._follow_asyncio())
        self._end()

    async def _follow_asyncio(self) -> None:
        loop = asyncio.get_running_loop()
        async with crumbd.aio.follow(self._url.split(","), **self._settings) as follower:

            def close() -> None:
                try:
                    loop.call_soon_threadsafe(follower.close)
                except RuntimeError:  # it has ended
                    pass

            self._close = close
            self._begun.set()
            try:
                async for event in follower:
                    self._event(event)
            except crumbd.CrumbdError as error:
                self.error = error

    def _event(self, event: crumbd.Event) -> None:
        with self._changed:
            self.events.append(event)
            self._changed.notify_all()

    def _notice(self, notice: crumbd.Notice) -> None:
        with self._changed:
            self.notices.append(notice)
            self._changed.notify_all()

    def _end(self) -> None:
        with self._changed:
            self.ended = True
            self._changed.notify_all()
