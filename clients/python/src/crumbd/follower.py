"""Following a daemon from one thread."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Generator, Iterator, Mapping, Sequence
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING

from .blocking import Connections
from .engine import Engine, Pause
from .events import Event
from .options import Options, Settings

if TYPE_CHECKING:
    from typing_extensions import Unpack


class Follower(Iterator[Event]):
    """The events of a daemon, for ever: `for event in follower`.

    Failures are retried inside. The iteration ends after `close()`, which any thread may call, and raises
    `RefusedError` where going on cannot help.
    """

    def __init__(self, url: str | Sequence[str], options: Options) -> None:
        self._engine = Engine(url, options)
        self._connections = Connections(options)
        self._closed = threading.Event()
        self._running = threading.Lock()  # a generator runs in one thread at a time, also to its end
        self._events = self._run()

    @property
    def entries(self) -> Mapping[bytes, bytes]:
        """The state as the last event left it. It changes with the next one."""
        return MappingProxyType(self._engine.entries)

    @property
    def cursor(self) -> str | None:
        """The cursor of `entries`. It may be newer than the last event's: some answers move it and change nothing."""
        return self._engine.cursor

    @property
    def status(self) -> str | None:
        return self._engine.status

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
                        engine.failed(_sentence(error))
        finally:
            self._connections.close()


def _sentence(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return "no answer, or no more of it, came in time"
    if isinstance(error, http.client.IncompleteRead):
        return "the body was cut off"
    return f"there is no whole answer: {error or type(error).__name__}"


def follow(url: str | Sequence[str], **settings: Unpack[Settings]) -> Follower:
    """Follows the daemon at `url`, or the first of several replicas that answers. `Options` describes the settings."""
    return Follower(url, Options(**settings))
