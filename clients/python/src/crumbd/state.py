"""The state that the application sees, and what each body changes in it.

It is the daemon's state at the cursor, and for a while more than that. After a resync with a daemon that is not in-sync
yet, keys that its state lacks may still come. They stay visible (*unconfirmed*) until the daemon is in-sync, and only
then are they told as deleted. Counts and digests of answers are checked without them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

from .body import Body
from .digest import entry_hash, hex_digest
from .errors import Mismatch
from .events import Change

IN_SYNC = "in-sync"


class State:
    """Entries by key. A body is applied whole or not at all."""

    def __init__(self, check_digest: bool, allow_empty: bool) -> None:
        self._check = check_digest
        self._allow_empty = allow_empty
        self.entries: dict[bytes, bytes] = {}
        self.status: str | None = None
        """`None` before the first snapshot."""
        self._unconfirmed: set[bytes] = set()
        self._settled = True
        self._total = 0

    @property
    def digest(self) -> str | None:
        """The digest of what the application sees."""
        if not self._check:
            return None
        return hex_digest(self._total + sum(entry_hash(key, self.entries[key]) for key in self._unconfirmed))

    def must_hold(self, body: Body) -> bool:
        """Whether a snapshot is so empty that the keys are kept instead."""
        return body.snapshot and not body.entries and bool(self.entries) and not self._allow_empty

    def check(self, body: Body) -> int:
        """Compares count and digest with those of the state that the body leads to. Returns the sum of its hashes."""
        count, total = (len(body.entries), body.total) if body.snapshot else self._after(body)
        for claimed_count, claimed_digest in body.claims:
            if claimed_count is not None and claimed_count != count:
                raise Mismatch(f"the state has {count} keys, but the daemon counts {claimed_count}")
            if self._check and claimed_digest is not None and claimed_digest != hex_digest(total):
                raise Mismatch(f"the digest of the state is {hex_digest(total)}, but the daemon's is {claimed_digest}")
        return total

    def apply(self, body: Body, total: int) -> list[Change[bytes]]:
        """Applies a body that was checked, and says what it changes for the application."""
        changes = self._replace(body) if body.snapshot else self._amend(body)
        self._total = total
        return changes

    def move(self, status: str) -> list[Change[bytes]]:
        """Takes a status that came without a body."""
        self.status = status
        return list(self._settle())

    def _after(self, body: Body) -> tuple[int, int]:
        count, total = len(self.entries) - len(self._unconfirmed), self._total
        for key, value in body.entries.items():
            old = None if key in self._unconfirmed else self.entries.get(key)
            if old is not None:
                count -= 1
                if self._check:
                    total -= entry_hash(key, old)
            if value is not None:
                count += 1
                if self._check:
                    total += entry_hash(key, value)
        return count, total

    def _replace(self, body: Body) -> list[Change[bytes]]:
        old_entries, first = self.entries, self.status is None
        changes: list[Change[bytes]] = []
        entries = cast(dict[bytes, bytes], body.entries)  # the reader lets no deletion into a snapshot
        for key, value in entries.items():
            old = old_entries.get(key)
            if old is None:
                changes.append(Change("new", key, value, None))
            elif old != value:
                changes.append(Change("updated", key, value, old))
        self._unconfirmed = old_entries.keys() - entries.keys()
        for key in self._unconfirmed:
            entries[key] = old_entries[key]
        self.entries, self.status, self._settled = entries, body.status, first
        changes.extend(self._settle())
        return changes

    def _amend(self, body: Body) -> list[Change[bytes]]:
        keep_deleted = not self._settled and body.status != IN_SYNC
        changes: list[Change[bytes]] = []
        for key, value in body.entries.items():
            old = self.entries.get(key)
            if value is None:
                if old is None or key in self._unconfirmed:
                    continue
                if keep_deleted:
                    self._unconfirmed.add(key)
                else:
                    del self.entries[key]
                    changes.append(Change("deleted", key, None, old))
                continue
            told_already = key in self._unconfirmed and old == value
            self._unconfirmed.discard(key)
            self.entries[key] = value
            if old is None:
                changes.append(Change("new", key, value, None))
            elif not told_already:
                changes.append(Change("updated", key, value, old))
        self.status = body.status
        changes.extend(self._settle())
        return changes

    def _settle(self) -> Iterable[Change[bytes]]:
        """Tells the deletions that were held back, once the daemon is in-sync."""
        if self.status == IN_SYNC:
            self._settled = True
            for key in self._unconfirmed:
                yield Change("deleted", key, None, self.entries.pop(key))
            self._unconfirmed = set()
