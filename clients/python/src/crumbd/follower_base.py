"""What the followers of threads and of asyncio have in common: all but the waiting."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from .engine import Engine
from .options import Options


class FollowerBase:
    """The position of a follower."""

    def __init__(self, url: str | Sequence[str], options: Options) -> None:
        self._engine = Engine(url, options)

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


def sentence(error: BaseException) -> str:
    """What went wrong with an answer, for a notice."""
    if isinstance(error, TimeoutError):
        return "no answer, or no more of it, came in time"
    return f"there is no whole answer: {error or type(error).__name__}"
