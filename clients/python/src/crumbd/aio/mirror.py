"""A copy of the state that a task keeps up to date."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Generic, TypeVar, cast, overload

from ..conflate import Conflator
from ..errors import RefusedError
from ..events import Change
from ..mirror_state import MirrorState
from ..options import Options, Settings
from ..state import IN_SYNC
from .follower import Follower

if TYPE_CHECKING:
    from typing_extensions import Unpack

T = TypeVar("T")

Handler = Callable[[list[Change[T]]], Awaitable[None]]

_log = logging.getLogger("crumbd")


class Subscription(AsyncIterator[list[Change[T]]], Generic[T]):
    """The changes of a mirror, in lists: `async for changes in subscription`.

    A reader that is slow gets one change for each key, from what it was told last to what is now.
    """

    def __init__(self, end: Callable[[Subscription[T]], None]) -> None:
        self._end = end
        self._pending: Conflator[T] = Conflator()
        self._ready = asyncio.Event()
        self._closed = False
        self._handling: asyncio.Task[None] | None = None

    def __aiter__(self) -> Subscription[T]:
        return self

    async def __anext__(self) -> list[Change[T]]:
        while not self._pending and not self._closed:
            self._ready.clear()
            await self._ready.wait()
        if self._closed:
            raise StopAsyncIteration
        return self._pending.take()

    def close(self) -> None:
        """Ends the iteration. What was not read is dropped."""
        self._end(self)
        self._finish()

    def _offer(self, fill: Callable[[Conflator[T]], None]) -> None:
        fill(self._pending)
        self._ready.set()

    def _finish(self) -> None:
        self._closed = True
        self._ready.set()


class Mirror(Generic[T]):
    """A copy of the state: bytes by key, or what `decode(key, value)` makes of them.

    It follows the daemon between `async with` and its end. After that, or where the daemon refuses (`error`), it keeps
    the last state.
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
        self._state: MirrorState[T] = MirrorState(decode or undecoded, options.on_notice)
        self._subscriptions: list[Subscription[T]] = []
        self._sync_waiters: set[asyncio.Future[None]] = set()
        self._error: Exception | None = None
        self._ended = False
        self._task: asyncio.Task[None] | None = None

    def get(self, key: bytes) -> T | None:
        """The value of a key; `None` when there is none."""
        return self._state.entries.get(key)

    def __contains__(self, key: object) -> bool:
        return key in self._state.entries

    def __len__(self) -> int:
        return len(self._state.entries)

    def list(self, prefix: bytes = b"") -> list[tuple[bytes, T]]:
        """The entries whose keys begin with `prefix`, in key order."""
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
        return dict(self._state.undecodable)

    async def wait_for_sync(self, timeout: float) -> bool:
        """Waits until it is synced, at most `timeout` seconds. Raises what has ended the mirror."""
        if not self.synced and not self._ended:
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._sync_waiters.add(waiter)
            try:
                await asyncio.wait({waiter}, timeout=timeout)
            finally:
                self._sync_waiters.discard(waiter)
        if self._error is not None:
            raise self._error
        return self.synced

    def changes(self) -> Subscription[T]:
        """A reader of changes. It is told of all keys first, as new."""
        subscription: Subscription[T] = Subscription(self._unsubscribe)
        subscription._offer(lambda pending: pending.start_with(self._state.entries))
        if self._ended:
            subscription._finish()
        else:
            self._subscriptions.append(subscription)
        return subscription

    def subscribe(self, handler: Handler[T]) -> Subscription[T]:
        """Awaits `handler` with changes, in a task of its own. It is told of all keys first, as new."""
        subscription = self.changes()

        async def handle() -> None:
            async for changes in subscription:
                try:
                    await handler(changes)
                except Exception:
                    _log.exception("a handler of changes failed; it is told of later ones all the same")

        subscription._handling = asyncio.ensure_future(handle())  # the loop itself holds tasks only weakly
        return subscription

    async def close(self) -> None:
        """Ends the mirror and its subscriptions."""
        self._follower.close()
        if self._task is not None and self._task is not asyncio.current_task():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait({self._task})

    async def __aenter__(self) -> Mirror[T]:
        self._task = asyncio.ensure_future(self._follow())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _follow(self) -> None:
        try:
            async for event in self._follower:
                changes = self._state.apply(event, self._state.decode(event))
                for subscription in self._subscriptions:
                    subscription._offer(lambda pending, changes=changes: pending.add(changes))  # type: ignore[misc]
                if self.synced:
                    self._wake()
        except RefusedError as refused:
            self._error = refused
        except Exception as unexpected:  # a fault here or in `on_notice`: readers have to learn that nothing follows
            _log.exception("the mirror has ended")
            self._error = unexpected
        finally:
            self._follower.close()
            self._ended = True
            self._wake()
            for subscription in self._subscriptions:
                subscription._finish()
            self._subscriptions = []

    def _wake(self) -> None:
        for waiter in self._sync_waiters:
            if not waiter.done():
                waiter.set_result(None)

    def _unsubscribe(self, subscription: Subscription[T]) -> None:
        if subscription in self._subscriptions:
            self._subscriptions.remove(subscription)
