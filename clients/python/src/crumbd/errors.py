"""Errors that end a follower. Everything else is retried inside."""

from __future__ import annotations


class CrumbdError(Exception):
    """The base of all errors of this package."""


class RefusedError(CrumbdError):
    """The daemon refused the request in a way that repeating cannot change: 400, 401, 403, 404 or 406."""

    def __init__(self, status: int, detail: str, address: str) -> None:
        super().__init__(f"{address} answered {status}: {detail}")
        self.status = status
        self.detail = detail


class BadAnswer(Exception):
    """An answer that does not count: it was cut off, or is no answer of crumbd. It is asked for again."""


class Mismatch(Exception):
    """The count or digest of an answer is not that of the state it leads to. The whole state is read again."""
