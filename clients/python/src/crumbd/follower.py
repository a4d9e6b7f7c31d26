"""Following a daemon from one thread."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Generator, Iterator, Sequence
from typing import TYPE_CHECKING

from .blocking import Connections
from .engine import Engine, Pause
from .events import Event
from .follower_base import FollowerBase, sentence
from .options import Options, Settings

if TYPE_CHECKING:
    from typing_extensions import Unpack


class Follower(FollowerBase, Iterator[Event]):
    """The events of a daemon, for ever: `for event in follower`.

    Failures are retried inside. The iteration ends after `close()`, which any thread may call, and raises
    `RefusedError` where going on cannot help.
    """

    def __init__(self, url: str | Sequence[str], options: Options) -> None:
        super().__init__(url, options)
        self._connections = Connections(options)
        self._closed = threading.Event()
        self._running = threading.Lock()  # a generator runs in one thread at a time, also to its end
        self._events = _follow(self._engine, self._connections, self._closed)

    def close(self) -> None:
        """Ends the iteration, also where another thread waits in it."""
        self._closed.set()
        self._connections.interrupt()
        if self._running.acquire(blocking=False):
            try:
                self._events.close()
            finally:
                self._running.release()
        # Otherwise it runs in another thread, and ends by itself.

    def __iter__(self) -> Follower:
        return self

    def __next__(self) -> Event:
        with self._running:
            return next(self._events)

    def __enter__(self) -> Follower:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _follow(engine: Engine, connections: Connections, closed: threading.Event) -> Generator[Event, None, None]:
    """It holds no follower, so that one whose loop was left for good is collected at once, with its connection."""
    try:
        while not closed.is_set():
            step = engine.next()
            if isinstance(step, Pause):
                closed.wait(step.seconds)
                continue
            try:
                with connections.get(step) as answer:
                    engine.head(answer.status, answer.headers)
                    while engine.reading and not closed.is_set():
                        piece = answer.read()
                        if closed.is_set():
                            return  # it ends because of that
                        yield from engine.data(piece) if piece else engine.end()
                        if not piece:
                            break
            except (OSError, EOFError, http.client.HTTPException, ValueError) as error:
                if not closed.is_set():
                    engine.failed(sentence(error))
    finally:
        connections.close()


def follow(url: str | Sequence[str], **settings: Unpack[Settings]) -> Follower:
    """Follows the daemon at `url`, or the first of several replicas that answers. `Options` describes the settings."""
    return Follower(url, Options(**settings))
