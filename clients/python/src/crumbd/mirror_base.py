"""What the mirrors of threads and of asyncio have in common: all but the waiting."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Any, Generic, Protocol, TypeVar, cast
from weakref import WeakSet

from .conflate import Conflator
from .errors import RefusedError
from .events import Event, Undecodable
from .mirror_state import MirrorState
from .options import Options
from .state import IN_SYNC

T = TypeVar("T")
C = TypeVar("C", bound="Condition")
S = TypeVar("S", bound="SubscriptionBase[Any, Any]")

log = logging.getLogger("crumbd")


class Condition(Protocol):
    """`threading.Condition`, or that of `aio`. How one waits for it is not the same."""

    def __enter__(self) -> object: ...

    def __exit__(self, kind: Any, error: Any, trace: Any, /) -> object: ...

    def notify_all(self) -> None: ...


class SubscriptionBase(Generic[T, C]):
    """The changes that a reader has not taken yet. The condition is that of its mirror."""

    def __init__(self, changed: C) -> None:
        self._changed = changed
        self._pending: Conflator[T] = Conflator()
        self._closed = False

    def close(self) -> None:
        """Ends the iteration. What was not read is dropped."""
        with self._changed:
            self._closed, self._pending = True, Conflator()
            self._changed.notify_all()

    def _is_ready(self) -> bool:
        return bool(self._pending) or self._closed

    def _take(self) -> Conflator[T]:
        pending, self._pending = self._pending, Conflator()
        return pending


class MirrorBase(Generic[T, C]):
    """The state of a mirror, to be read, and its subscriptions."""

    def __init__(self, changed: C, decode: Callable[[bytes, bytes], T] | None, options: Options) -> None:
        undecoded = cast(Callable[[bytes, bytes], T], lambda _, value: value)
        self._state: MirrorState[T] = MirrorState(decode or undecoded, options.on_notice)
        self._changed = changed
        self._subscriptions: WeakSet[SubscriptionBase[T, C]] = WeakSet()
        """Weak, because a reader that leaves its loop seldom closes anything."""
        self._error: Exception | None = None
        self._ended = False

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

    def _open(self, subscription: S) -> S:
        """Begins a subscription: all keys are new to its reader."""
        with self._changed:
            if self._ended:
                subscription._closed = True
            else:
                subscription._pending.start_with(self._state.entries)
                self._subscriptions.add(subscription)
        return subscription

    def _is_settled(self) -> bool:
        """Whether there is nothing to wait for in `wait_for_sync`."""
        return self.synced or self._ended

    def _outcome(self) -> bool:
        if self._error is not None:
            raise self._error
        return self.synced

    def _apply(self, event: Event, decoded: Iterable[T | Undecodable]) -> None:
        with self._changed:
            changes = self._state.apply(event, decoded)
            for subscription in self._subscriptions:
                if not subscription._closed:
                    subscription._pending.add(changes)
            self._changed.notify_all()

    def _fail(self, error: Exception) -> None:
        if not isinstance(error, RefusedError):  # a fault here: readers have to learn that nothing follows
            log.error("the mirror has ended", exc_info=error)
        self._error = error

    def _end(self) -> None:
        with self._changed:
            self._ended = True
            for subscription in self._subscriptions:
                subscription._closed = True
            self._changed.notify_all()
