"""Changes that a slow reader has not taken yet: at most one a key, from what it was told last to what is now."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from .events import Change

T = TypeVar("T")


@dataclass
class _Pending(Generic[T]):
    told: bool
    """Whether the reader has been told a value of the key, which is `old`."""
    old: T | None
    alive: bool
    value: T | None


class Conflator(Generic[T]):
    """Its size is bounded by the number of keys, however slow the reader is."""

    def __init__(self) -> None:
        self._pending: dict[bytes, _Pending[T]] = {}

    def __bool__(self) -> bool:
        return bool(self._pending)

    def start_with(self, entries: Mapping[bytes, T]) -> None:
        """Every key is new to a reader that was told nothing."""
        for key, value in entries.items():
            self._pending[key] = _Pending(False, None, True, value)

    def add(self, changes: Iterable[Change[T]]) -> None:
        for change in changes:
            alive = change.type != "deleted"
            before = self._pending.get(change.key)
            if before is None:
                self._pending[change.key] = _Pending(change.type != "new", change.old, alive, change.value)
            elif not alive and not before.told:
                del self._pending[change.key]  # it came and went
            else:
                before.alive, before.value = alive, change.value

    def take(self) -> list[Change[T]]:
        """Everything that is pending, with types relative to what the reader was told."""
        pending, self._pending = self._pending, {}
        changes: list[Change[T]] = []
        for key, change in pending.items():
            if not change.alive:
                changes.append(Change("deleted", key, None, change.old))
            elif change.told:
                changes.append(Change("updated", key, change.value, change.old))
            else:
                changes.append(Change("new", key, change.value, None))
        return changes
