"""What an application is told: events with changes, and notices of what went wrong and is being retried."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

T = TypeVar("T")

ChangeType = Literal["new", "updated", "deleted"]


@dataclass(frozen=True, slots=True)
class Change(Generic[T]):
    """One key's change, relative to what the application was told before."""

    type: ChangeType
    key: bytes
    value: T | None
    """The value now; `None` when the key was deleted."""
    old: T | None
    """The value before; `None` when the key is new."""


@dataclass(frozen=True, slots=True)
class Event:
    """One answer of the daemon, applied whole."""

    cursor: str
    status: str
    """`in-sync`, `resync-in-progress` or `wait-for-datastore`: how the daemon stands to its datastore."""
    changes: Sequence[Change[bytes]]
    """Empty where only the status changed, or where a resync found nothing new."""
    resync: bool
    """Whether the whole state was read again, and `changes` is the difference to the old one."""
    count: int
    """The number of keys that the application sees now."""
    digest: str | None
    """The digest of what the application sees now, computed here; `None` with `check_digest=False`."""

    @property
    def in_sync(self) -> bool:
        return self.status == "in-sync"


@dataclass(frozen=True, slots=True)
class Retrying:
    """A request failed and will be made again."""

    sentence: str
    pause: float
    """Seconds until then."""

    def __str__(self) -> str:
        return f"{self.sentence}; next request in {self.pause:.1f} s"


@dataclass(frozen=True, slots=True)
class Holding:
    """The daemon says that its state is empty after a resync. The keys are kept, and the state is read again."""

    keys: int
    pause: float

    def __str__(self) -> str:
        return (
            f"the daemon's state is empty after a resync; the {self.keys} keys are kept, and the state is read again "
            f"in {self.pause:.1f} s (allow_empty=True takes an empty state)"
        )


@dataclass(frozen=True, slots=True)
class Undecodable:
    """A mirror's `decode` refused a value. The key keeps its last good one, if it has one."""

    key: bytes
    error: Exception

    def __str__(self) -> str:
        return f"the value of {self.key!r} cannot be decoded: {self.error}"


Notice = Retrying | Holding | Undecodable
