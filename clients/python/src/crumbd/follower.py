"""Following a daemon from one thread."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Generator, Iterator, Sequence
from types import TracebackType
from typing import TYPE_CHECKING

from .blocking import Connections
from .engine import Pause
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
        self._events = self._run()

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

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _run(self) -> Generator[Event, None, None]:
        engine = self._engine
        try:
            while not self._closed.is_set():
                step = engine.next()
                if isinstance(step, Pause):
                    self._closed.wait(step.seconds)
                    continue
                try:
                    with self._connections.get(step) as answer:
                        engine.head(answer.status, answer.headers)
                        while engine.reading and not self._closed.is_set():
                            piece = answer.read()
                            if self._closed.is_set():
                                return  # it ends because of that
                            yield from engine.data(piece) if piece else engine.end()
                            if not piece:
                                break
                except (OSError, EOFError, http.client.HTTPException, ValueError) as error:
                    if not self._closed.is_set():
                        engine.failed(sentence(error))
        finally:
            self._connections.close()


def follow(url: str | Sequence[str], **settings: Unpack[Settings]) -> Follower:
    """Follows the daemon at `url`, or the first of several replicas that answers. `Options` describes the settings."""
    return Follower(url, Options(**settings))
