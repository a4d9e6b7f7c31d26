"""Reads the records of NDJSON (with `values=string`) and puts bodies together."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field
from typing import Any

from .digest import entry_hash
from .errors import BadAnswer

_SETS = frozenset(("new", "updated", "put"))
_DELETES = frozenset(("deleted", "delete"))


@dataclass
class Body:
    """A snapshot or a breadcrumb that is whole, or becomes so."""

    snapshot: bool
    status: str
    claims: list[tuple[int | None, str | None]]
    """Count and digest as the header and the end say them; `None` where they are left out."""
    cursor: str | None
    entries: dict[bytes, bytes | None] = field(default_factory=dict)
    """The last value of each key that is named; `None` is a deletion (of a breadcrumb only)."""
    total: int = 0
    """The sum of the hashes of a snapshot's entries."""


@dataclass(frozen=True)
class Reset:
    """A stream says that what it told before cannot be continued."""

    reason: str


class BodyReader:
    """Puts bodies together, one record after the other."""

    def __init__(self, check_digest: bool) -> None:
        self._check = check_digest
        self._body: Body | None = None

    @property
    def unfinished(self) -> bool:
        return self._body is not None

    def feed(self, line: bytes) -> Body | Reset | None:
        """Takes one line. Returns the body that it ends."""
        record = _parse(line)
        kind = record.get("type")
        body = self._body
        if kind in _SETS or kind in _DELETES:
            if body is None:
                raise BadAnswer(f"a record of type {kind!r} is outside of a snapshot or breadcrumb")
            self._take(body, record, kind in _DELETES)
        elif kind in ("snapshot", "breadcrumb"):
            if body is not None:
                raise BadAnswer(f"a {kind} begins before the end of the last body")
            claims = [(_count(record), _text(record, "digest"))]
            self._body = Body(kind == "snapshot", _text(record, "status") or "", claims, _text(record, "cursor"))
        elif kind == "end":
            if body is None:
                raise BadAnswer("an end record is outside of a snapshot or breadcrumb")
            body.claims.append((_count(record), _text(record, "digest")))
            body.cursor = _text(record, "cursor") or body.cursor
            self._body = None
            return body
        elif kind == "status":
            if body is not None:
                body.status = _text(record, "status") or body.status
        elif kind == "reset":
            self._body = None
            return Reset(_text(record, "reason") or "")
        elif not isinstance(kind, str):
            raise BadAnswer("a record has no type")
        return None  # record types that are new say nothing to this client

    def _take(self, body: Body, record: dict[str, Any], deletion: bool) -> None:
        key = _key(record)
        if deletion:
            if body.snapshot:
                raise BadAnswer("a snapshot has a deletion")
            body.entries[key] = None
            return
        value = _value(record)
        if body.snapshot and self._check:
            before = body.entries.get(key)
            if before is not None:
                body.total -= entry_hash(key, before)
            body.total += entry_hash(key, value)
        body.entries[key] = value


def _parse(line: bytes) -> dict[str, Any]:
    try:
        record = json.loads(line.decode())
    except (ValueError, RecursionError) as error:
        raise BadAnswer(f"a line is not JSON: {error}") from error
    if not isinstance(record, dict):
        raise BadAnswer("a line is not a JSON object")
    return record


def _key(record: dict[str, Any]) -> bytes:
    text, encoded = record.get("key"), record.get("key_base64")
    try:
        if isinstance(text, str) and encoded is None:
            return text.encode()
        if isinstance(encoded, str) and text is None:
            return base64.b64decode(encoded, validate=True)
    except ValueError as error:
        raise BadAnswer(f"a key cannot be decoded: {error}") from error
    raise BadAnswer("a record has not one key: either key or key_base64, a string")


def _value(record: dict[str, Any]) -> bytes:
    value, encoding = record.get("value"), record.get("encoding")
    if not isinstance(value, str) or encoding not in ("utf8", "base64"):
        raise BadAnswer("a value is not a string with an encoding, as values=string says")
    try:
        return value.encode() if encoding == "utf8" else base64.b64decode(value, validate=True)
    except ValueError as error:
        raise BadAnswer(f"a value cannot be decoded: {error}") from error


def _text(record: dict[str, Any], name: str) -> str | None:
    value = record.get(name)
    if value is None or isinstance(value, str):
        return value
    raise BadAnswer(f"the field {name} is not a string")


def _count(record: dict[str, Any]) -> int | None:
    value = record.get("count")
    if value is None or (isinstance(value, int) and not isinstance(value, bool)):
        return value
    raise BadAnswer("the field count is not an integer")
