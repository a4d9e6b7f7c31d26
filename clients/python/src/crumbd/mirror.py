"""A copy of the state that a thread keeps up to date."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Generic, TypeVar, cast, overload

from .conflate import Conflator
from .errors import RefusedError
from .events import Change, Event
from .follower import Follower
from .mirror_state import MirrorState
from .options import Options, Settings
from .state import IN_SYNC

if TYPE_CHECKING:
    from typing_extensions import Unpack

T = TypeVar("T")

Handler = Callable[[list[Change[T]]], None]

_log = logging.getLogger("crumbd")


class Subscription(Iterator[list[Change[T]]], Generic[T]):
    """The changes of a mirror, in lists: `for changes in subscription`.

    A reader that is slow gets one change for each key, from what it was told last to what is now.
    """

    def __init__(self, end: Callable[[Subscription[T]], None]) -> None:
        self._end = end
        self._pending: Conflator[T] = Conflator()
        self._ready = threading.Condition()
        self._closed = False

    def __iter__(self) -> Subscription[T]:
        return self

    def __next__(self) -> list[Change[T]]:
        with self._ready:
            while not self._pending and not self._closed:
                self._ready.wait()
            if self._closed:
                raise StopIteration
            return self._pending.take()

    def take(self, timeout: float) -> list[Change[T]]:
        """Like `next`, but gives an empty list when nothing has changed within `timeout` seconds, or it is closed."""
        with self._ready:
            self._ready.wait_for(lambda: bool(self._pending) or self._closed, timeout)
            return [] if self._closed else self._pending.take()

    def close(self) -> None:
        """Ends the iteration. What was not read is dropped."""
        self._end(self)
        self._finish()

    def _offer(self, fill: Callable[[Conflator[T]], None]) -> None:
        with self._ready:
            fill(self._pending)
            self._ready.notify_all()

    def _finish(self) -> None:
        with self._ready:
            self._closed = True
            self._ready.notify_all()


class Mirror(Generic[T]):
    """A copy of the state: bytes by key, or what `decode(key, value)` makes of them.

    It is read at once and never blocks. After `close()`, or where the daemon refuses (`error`), it keeps the last
    state.
    """

    @overload
    def __init__(self: Mirror[bytes], url: str | Sequence[str], **settings: Unpack[Settings]) -> None: ...

    @overload
    def __init__(
        self, url: str | Sequence[str], *, decode: Callable[[bytes, bytes], T], **settings: Unpack[Settings]
    ) -> None: ...

    def __init__(
        self,
        url: str | Sequence[str],
        *,
        decode: Callable[[bytes, bytes], T] | None = None,
        **settings: Unpack[Settings],
    ) -> None:
        options = Options(**settings)
        undecoded = cast(Callable[[bytes, bytes], T], lambda _, value: value)
        self._follower = Follower(url, options)
        self._changed = threading.Condition()
        self._state: MirrorState[T] = MirrorState(decode or undecoded, options.on_notice)
        self._subscriptions: list[Subscription[T]] = []
        self._error: Exception | None = None
        self._ended = False
        self._thread = threading.Thread(target=self._follow, name="crumbd-mirror", daemon=True)
        self._thread.start()

    def get(self, key: bytes) -> T | None:
        """The value of a key; `None` when there is none."""
        return self._state.entries.get(key)

    def __contains__(self, key: object) -> bool:
        return key in self._state.entries

    def __len__(self) -> int:
        return len(self._state.entries)

    def list(self, prefix: bytes = b"") -> list[tuple[bytes, T]]:
        """The entries whose keys begin with `prefix`, in key order, all of one moment."""
        with self._changed:
            return self._state.listing(prefix)

    @property
    def digest(self) -> str | None:
        """The digest of the state; `None` before the first answer, and with `check_digest=False`."""
        return self._state.digest

    @property
    def cursor(self) -> str | None:
        """The cursor of the last event."""
        return self._state.cursor

    @property
    def status(self) -> str | None:
        """The daemon's sync status; `None` before the first answer."""
        return self._state.status

    @property
    def synced(self) -> bool:
        """Whether the daemon was in sync with its datastore at the last answer."""
        return self._state.status == IN_SYNC

    @property
    def error(self) -> Exception | None:
        """What has ended the mirror: mostly a `RefusedError`."""
        return self._error

    @property
    def undecodable(self) -> dict[bytes, Exception]:
        """The keys whose newest value `decode` refused."""
        with self._changed:
            return dict(self._state.undecodable)

    def wait_for_sync(self, timeout: float) -> bool:
        """Waits until it is synced, at most `timeout` seconds. Raises what has ended the mirror."""
        deadline = time.monotonic() + timeout
        with self._changed:
            self._changed.wait_for(lambda: self.synced or self._ended, max(0.0, deadline - time.monotonic()))
            if self._error is not None:
                raise self._error
            return self.synced

    def changes(self) -> Subscription[T]:
        """A reader of changes. It is told of all keys first, as new."""
        subscription: Subscription[T] = Subscription(self._unsubscribe)
        with self._changed:
            subscription._offer(lambda pending: pending.start_with(self._state.entries))
            if self._ended:
                subscription._finish()
            else:
                self._subscriptions.append(subscription)
        return subscription

    def subscribe(self, handler: Handler[T]) -> Subscription[T]:
        """Calls `handler` with changes, in a thread of its own. It is told of all keys first, as new."""
        subscription = self.changes()

        def handle() -> None:
            for changes in subscription:
                try:
                    handler(changes)
                except Exception:
                    _log.exception("a handler of changes failed; it is told of later ones all the same")

        threading.Thread(target=handle, name="crumbd-handler", daemon=True).start()
        return subscription

    def close(self, timeout: float = 5.0) -> None:
        """Ends the mirror and its subscriptions, and waits for its thread, at most `timeout` seconds."""
        self._follower.close()
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout)

    def __enter__(self) -> Mirror[T]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _follow(self) -> None:
        error: Exception | None = None
        try:
            for event in self._follower:
                self._take(event)
        except RefusedError as refused:
            error = refused
        except Exception as unexpected:  # a fault here or in `on_notice`: readers have to learn that nothing follows
            _log.exception("the mirror has ended")
            error = unexpected
        with self._changed:
            self._error, self._ended = error, True
            self._changed.notify_all()
            subscriptions, self._subscriptions = self._subscriptions, []
        for subscription in subscriptions:
            subscription._finish()

    def _take(self, event: Event) -> None:
        decoded = self._state.decode(event)
        with self._changed:
            changes = self._state.apply(event, decoded)
            for subscription in self._subscriptions:
                subscription._offer(lambda pending: pending.add(changes))
            self._changed.notify_all()

    def _unsubscribe(self, subscription: Subscription[T]) -> None:
        with self._changed:
            if subscription in self._subscriptions:
                self._subscriptions.remove(subscription)
