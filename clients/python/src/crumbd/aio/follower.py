"""Following a daemon from asyncio."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from typing import TYPE_CHECKING

from ..engine import Pause
from ..errors import BadAnswer
from ..events import Event
from ..follower_base import FollowerBase, sentence
from ..options import Options, Settings
from .condition import Condition
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
        self._changed = Condition()
        self._not_before = 0.0
        """The end of the pause, in the loop's time."""
        self._events = self._run()

    def close(self) -> None:
        """Ends the iteration, also where another task of the same loop waits in it."""
        self._closed = True
        self._connections.close()
        self._changed.notify_all()

    def __aiter__(self) -> Follower:
        return self

    async def __anext__(self) -> Event:
        try:
            return await self._events.__anext__()
        except asyncio.CancelledError:
            # Its wait was given up, perhaps by a timeout: the next one goes on from where this one was.
            self._events = self._run()
            raise

    async def __aenter__(self) -> Follower:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()
        with contextlib.suppress(RuntimeError):  # it runs in another task, and ends by itself
            await self._events.aclose()

    async def _run(self) -> AsyncGenerator[Event, None]:
        engine, loop = self._engine, asyncio.get_running_loop()
        try:
            while not self._closed:
                left = self._not_before - loop.time()
                if left > 0 and await self._changed.wait_for(lambda: self._closed, left):
                    return
                step = engine.next()
                if isinstance(step, Pause):
                    self._not_before = loop.time() + step.seconds
                    continue
                keep = False
                try:
                    answer = await self._connections.send(step)
                    engine.head(answer.status, answer.headers)
                    while engine.reading and not self._closed:
                        piece = await answer.read()
                        if self._closed:
                            return  # it ends because of that
                        for event in engine.data(piece) if piece else engine.end():
                            yield event
                        if not piece:
                            break
                    keep = answer.whole and answer.keep_alive
                except (OSError, EOFError, BadAnswer, ValueError) as error:
                    if not self._closed:
                        engine.failed(sentence(error))
                finally:
                    if not keep:
                        self._connections.close()
        finally:
            self._connections.close()


def follow(url: str | Sequence[str], **settings: Unpack[Settings]) -> Follower:
    """Follows the daemon at `url`, or the first of several replicas that answers. `Options` describes the settings."""
    return Follower(url, Options(**settings))
