"""Following a daemon from asyncio."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from types import TracebackType
from typing import TYPE_CHECKING

from ..engine import Pause
from ..errors import BadAnswer
from ..events import Event
from ..follower_base import FollowerBase, sentence
from ..options import Options, Settings
from .connections import Connections

if TYPE_CHECKING:
    from typing_extensions import Unpack


class Follower(FollowerBase, AsyncIterator[Event]):
    """The events of a daemon, for ever: `async for event in follower`.

    Failures are retried inside. The iteration ends after `close()`, and raises `RefusedError` where going on cannot
    help.
    """

    def __init__(self, url: str | Sequence[str], options: Options) -> None:
        super().__init__(url, options)
        self._connections = Connections(options)
        self._closed = False
        self._pausing: asyncio.Event | None = None
        self._events = self._run()

    def close(self) -> None:
        """Ends the iteration, also where another task of the same loop waits in it."""
        self._closed = True
        self._connections.close()
        if self._pausing is not None:
            self._pausing.set()

    def __aiter__(self) -> Follower:
        return self

    async def __anext__(self) -> Event:
        return await self._events.__anext__()

    async def __aenter__(self) -> Follower:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
        with contextlib.suppress(RuntimeError):  # it runs in another task, and ends by itself
            await self._events.aclose()

    async def _run(self) -> AsyncGenerator[Event, None]:
        engine = self._engine
        try:
            while not self._closed:
                step = engine.next()
                if isinstance(step, Pause):
                    await self._wait(step.seconds)
                    continue
                try:
                    async with self._connections.get(step) as answer:
                        engine.head(answer.status, answer.headers)
                        while engine.reading and not self._closed:
                            piece = await answer.read()
                            if self._closed:
                                return  # it ends because of that
                            for event in engine.data(piece) if piece else engine.end():
                                yield event
                            if not piece:
                                break
                except (OSError, EOFError, BadAnswer, ValueError) as error:
                    if not self._closed:
                        engine.failed(sentence(error))
        finally:
            self._connections.close()

    async def _wait(self, seconds: float) -> None:
        self._pausing = asyncio.Event()
        waiting = asyncio.ensure_future(self._pausing.wait())
        try:
            await asyncio.wait({waiting}, timeout=seconds)
        finally:
            waiting.cancel()
            self._pausing = None


def follow(url: str | Sequence[str], **settings: Unpack[Settings]) -> Follower:
    """Follows the daemon at `url`, or the first of several replicas that answers. `Options` describes the settings."""
    return Follower(url, Options(**settings))
