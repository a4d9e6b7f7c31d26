"""A copy of the state that a thread keeps up to date."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, TypeVar, overload

from .events import Change
from .follower import Follower
from .mirror_base import MirrorBase, SubscriptionBase, log
from .options import Options, Settings

if TYPE_CHECKING:
    from typing_extensions import Unpack

T = TypeVar("T")

Handler = Callable[[list[Change[T]]], None]


class Subscription(SubscriptionBase[T, threading.Condition], Iterator[list[Change[T]]]):
    """The changes of a mirror, in lists: `for changes in subscription`.

    A reader that is slow gets one change for each key, from what it was told last to what is now.
    """

    def __iter__(self) -> Subscription[T]:
        return self

    def __next__(self) -> list[Change[T]]:
        changes = self._next(None)
        if not changes:
            raise StopIteration
        return changes

    def take(self, timeout: float) -> list[Change[T]]:
        """Like `next`, but gives an empty list when nothing has changed within `timeout` seconds, or it is closed."""
        return self._next(timeout)

    def _next(self, timeout: float | None) -> list[Change[T]]:
        with self._changed:
            self._changed.wait_for(self._is_ready, timeout)
            pending = self._take()
        return pending.take()


class Mirror(MirrorBase[T, threading.Condition]):
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
        super().__init__(threading.Condition(), decode, options)
        self._follower = Follower(url, options)
        self._thread = threading.Thread(target=self._follow, name="crumbd-mirror", daemon=True)
        self._thread.start()

    def wait_for_sync(self, timeout: float) -> bool:
        """Waits until it is synced, at most `timeout` seconds. Raises what has ended the mirror."""
        with self._changed:
            self._changed.wait_for(self._is_settled, max(0.0, timeout))
            return self._outcome()

    def changes(self) -> Subscription[T]:
        """A reader of changes. It is told of all keys first, as new."""
        return self._open(Subscription[T](self._changed))

    def subscribe(self, handler: Handler[T]) -> Subscription[T]:
        """Calls `handler` with changes, in a thread of its own. It is told of all keys first, as new."""
        subscription = self.changes()

        def handle() -> None:
            for changes in subscription:
                try:
                    handler(changes)
                except Exception:
                    log.exception("a handler of changes failed; it is told of later ones all the same")

        threading.Thread(target=handle, name="crumbd-handler", daemon=True).start()
        return subscription

    def close(self, timeout: float = 5.0) -> None:
        """Ends the mirror and its subscriptions, and waits for its thread, at most `timeout` seconds."""
        self._follower.close()
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout)

    def __enter__(self) -> Mirror[T]:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _follow(self) -> None:
        try:
            for event in self._follower:
                self._apply(event, self._state.decode(event))
        except Exception as error:
            self._fail(error)
        finally:
            self._end()
