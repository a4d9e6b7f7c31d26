"""A copy of the state that a task keeps up to date."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, TypeVar, overload

from ..events import Change
from ..mirror_base import MirrorBase, SubscriptionBase, log
from ..options import Options, Settings
from .condition import Condition
from .follower import Follower

if TYPE_CHECKING:
    from typing_extensions import Unpack

T = TypeVar("T")

Handler = Callable[[list[Change[T]]], Awaitable[None]]


class Subscription(SubscriptionBase[T, Condition], AsyncIterator[list[Change[T]]]):
    """The changes of a mirror, in lists: `async for changes in subscription`.

    A reader that is slow gets one change for each key, from what it was told last to what is now.
    """

    def __aiter__(self) -> Subscription[T]:
        return self

    async def __anext__(self) -> list[Change[T]]:
        await self._changed.wait_for(self._is_ready)
        if self._closed:
            raise StopAsyncIteration
        return self._take().take()


class Mirror(MirrorBase[T, Condition]):
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
        super().__init__(Condition(), decode, options)
        self._follower = Follower(url, options)
        self._task: asyncio.Task[None] | None = None
        self._handling: set[asyncio.Task[None]] = set()
        """Here, because the loop itself holds tasks only weakly."""

    async def wait_for_sync(self, timeout: float) -> bool:
        """Waits until it is synced, at most `timeout` seconds. Raises what has ended the mirror."""
        await self._changed.wait_for(self._is_settled, timeout)
        return self._outcome()

    def changes(self) -> Subscription[T]:
        """A reader of changes. It is told of all keys first, as new."""
        return self._open(Subscription[T](self._changed))

    def subscribe(self, handler: Handler[T]) -> Subscription[T]:
        """Awaits `handler` with changes, in a task of its own. It is told of all keys first, as new."""
        subscription = self.changes()

        async def handle() -> None:
            async for changes in subscription:
                try:
                    await handler(changes)
                except Exception:
                    log.exception("a handler of changes failed; it is told of later ones all the same")

        task = asyncio.ensure_future(handle())
        self._handling.add(task)
        task.add_done_callback(self._handling.discard)
        return subscription

    async def close(self) -> None:
        """Ends the mirror and its subscriptions."""
        self._follower.close()
        if self._task is None:
            self._end()
        elif self._task is not asyncio.current_task():
            await asyncio.wait({self._task})

    async def __aenter__(self) -> Mirror[T]:
        self._task = asyncio.ensure_future(self._follow())
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _follow(self) -> None:
        try:
            async for event in self._follower:
                self._apply(event, self._state.decode(event))
        except Exception as error:
            self._fail(error)
        finally:
            self._follower.close()
            self._end()
