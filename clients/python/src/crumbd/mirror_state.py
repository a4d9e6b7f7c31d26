"""What a mirror holds: the entries, decoded, with their keys in order. It has no lock; its owner does."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

from .events import Change, Event, Undecodable

T = TypeVar("T")

_FEW = 256
"""Up to so many keys that come or go are put in their places one by one; more are sorted at the next listing."""


class MirrorState(Generic[T]):
    def __init__(self, decode: Callable[[bytes, bytes], T], on_undecodable: Callable[[Undecodable], None]) -> None:
        self._decode = decode
        self._on_undecodable = on_undecodable
        self.entries: dict[bytes, T] = {}
        self.undecodable: dict[bytes, Exception] = {}
        self.status: str | None = None
        self.cursor: str | None = None
        self.digest: str | None = None
        self._keys: list[bytes] | None = None

    def decode(self, event: Event) -> list[T | Undecodable]:
        """The decoded values of an event's changes, without those that are deletions. This slow part needs no lock."""
        decoded: list[T | Undecodable] = []
        for change in event.changes:
            if change.value is None:
                continue
            try:
                decoded.append(self._decode(change.key, change.value))
            except Exception as error:  # it is the application's function: one bad value must not end the mirror
                refused = Undecodable(change.key, error)
                self._on_undecodable(refused)
                decoded.append(refused)
        return decoded

    def apply(self, event: Event, decoded: Iterable[T | Undecodable]) -> list[Change[T]]:
        """Takes an event, and says what it changes here. A key whose value was refused keeps its last good one."""
        changes: list[Change[T]] = []
        values = iter(decoded)
        for change in event.changes:
            key, known = change.key, change.key in self.entries
            old = self.entries.get(key)
            self.undecodable.pop(key, None)
            if change.value is None:
                if known:
                    del self.entries[key]
                    changes.append(Change("deleted", key, None, old))
                continue
            value = next(values)
            if isinstance(value, Undecodable):
                self.undecodable[key] = value.error
                continue
            self.entries[key] = value
            changes.append(Change("updated" if known else "new", key, value, old))
        self.status, self.cursor, self.digest = event.status, event.cursor, event.digest
        self._place([change for change in changes if change.type != "updated"])
        return changes

    def listing(self, prefix: bytes) -> list[tuple[bytes, T]]:
        """The entries whose keys begin with `prefix`, in key order."""
        if self._keys is None:
            self._keys = sorted(self.entries)
        begin = bisect_left(self._keys, prefix)
        end = len(self._keys)
        beyond = prefix.rstrip(b"\xff")
        if beyond:
            end = bisect_left(self._keys, beyond[:-1] + bytes([beyond[-1] + 1]), begin)
        return [(key, self.entries[key]) for key in self._keys[begin:end]]

    def _place(self, changes: list[Change[T]]) -> None:
        if self._keys is None:
            return
        if len(changes) > _FEW:
            self._keys = None
            return
        for change in changes:
            if change.type == "new":
                insort(self._keys, change.key)
            else:
                del self._keys[bisect_left(self._keys, change.key)]
