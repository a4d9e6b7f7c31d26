"""A small HTTP/1.1 client over asyncio's streams: one GET at a time, bodies by length, in chunks, or up to the end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable
from typing import TypeVar

from ..engine import Request
from ..errors import BadAnswer

T = TypeVar("T")

LONGEST_HEAD = 64 * 1024
_PIECE = 64 * 1024
_LONGEST_CHUNK_LINE = 1024
_MOST_TRAILERS = 64
_MOST_INTERIM = 8


class Answer:
    """An answer whose body is read piece by piece."""

    def __init__(self, reader: asyncio.StreamReader, silence: float) -> None:
        self._reader = reader
        self._silence = silence
        self.status = 0
        self.headers: dict[str, str] = {}
        self.whole = False
        self.keep_alive = False
        self._left: int | None = 0
        """Bytes of the body (or of the chunk) that are still to come; `None`: up to the end of the connection."""
        self._chunked = False

    async def read_head(self, limit: float) -> None:
        deadline = time.monotonic() + limit
        for _ in range(_MOST_INTERIM):
            try:
                head = await self._within(deadline - time.monotonic(), self._reader.readuntil(b"\r\n\r\n"))
            except asyncio.LimitOverrunError as error:
                raise BadAnswer(f"the head of the answer has more than {LONGEST_HEAD} bytes") from error
            except asyncio.IncompleteReadError as error:
                raise EOFError("the connection was closed within the head of the answer") from error
            self._parse(head)
            if self.status >= 200:
                return
        raise BadAnswer(f"the answer begins with {_MOST_INTERIM} interim ones")

    async def read(self) -> bytes:
        """The next piece, as soon as there is one; empty when the body is whole."""
        if self.whole:
            return b""
        if self._chunked and self._left == 0:
            await self._next_chunk()
        if self._left == 0:
            self.whole = True
            return b""
        piece = await self._within(self._silence, self._reader.read(min(_PIECE, self._left or _PIECE)))
        if not piece:
            if self._left is not None:
                raise EOFError("the body was cut off")
            self.whole = True
        elif self._left is not None:
            self._left -= len(piece)
            if self._chunked and self._left == 0 and await self._line() != b"":
                raise BadAnswer("a chunk is longer than it says")
        return piece

    async def _within(self, seconds: float, read: Awaitable[bytes]) -> bytes:
        """Reads with a limit, without a task for each read: a stream has several for each body."""
        loop, late = asyncio.get_running_loop(), TimeoutError("timed out")
        timer = loop.call_later(max(0.001, seconds), self._reader.set_exception, late)
        try:
            return await read
        finally:
            timer.cancel()

    def _parse(self, head: bytes) -> None:
        status_line, *lines = head[:-4].decode("latin-1").split("\r\n")
        version, _, rest = status_line.partition(" ")
        code = rest[:3]
        if version not in ("HTTP/1.1", "HTTP/1.0") or not (code.isascii() and code.isdigit() and len(code) == 3):
            raise BadAnswer(f"the answer is no HTTP/1.1: it begins with {status_line[:60]!r}")
        self.status = int(code)
        self.headers = {}
        for line in lines:
            name, colon, value = line.partition(":")
            if not colon or not name or name != name.strip():
                raise BadAnswer(f"a header cannot be read: {line[:60]!r}")
            name, value = name.lower(), value.strip(" \t")
            before = self.headers.get(name)
            self.headers[name] = value if before is None else f"{before}, {value}"
        connection = self.headers.get("connection", "").lower()
        self.keep_alive = version == "HTTP/1.1" and "close" not in connection
        self._frame()

    def _frame(self) -> None:
        coding = self.headers.get("transfer-encoding", "").lower()
        length = self.headers.get("content-length")
        if self.status < 200 or self.status in (204, 304):
            self._left = 0
        elif coding:
            if coding != "chunked":
                raise BadAnswer(f"the body has the transfer coding {coding!r}; only chunked is known")
            self._chunked, self._left = True, 0
        elif length is not None:
            if not (length.isascii() and length.isdigit() and len(length) < 19):
                raise BadAnswer(f"the Content-Length is {length[:40]!r}, which is no length")
            self._left = int(length)
        else:
            self._left, self.keep_alive = None, False

    async def _next_chunk(self) -> None:
        line = await self._line()
        size = line.partition(b";")[0].strip()
        if not size or len(size) > 15 or not all(digit in b"0123456789abcdefABCDEF" for digit in size):
            raise BadAnswer(f"the size of a chunk is {line[:40]!r}, which is no number")
        self._left = int(size, 16)
        if self._left == 0:
            self._chunked = False
            for _ in range(_MOST_TRAILERS):
                if await self._line() == b"":
                    return
            raise BadAnswer(f"more than {_MOST_TRAILERS} trailers follow the body")

    async def _line(self) -> bytes:
        try:
            line = await self._within(self._silence, self._reader.readuntil(b"\r\n"))
        except asyncio.LimitOverrunError as error:
            raise BadAnswer("a line between two chunks does not end") from error
        except asyncio.IncompleteReadError as error:
            raise EOFError("the body was cut off") from error
        if len(line) > _LONGEST_CHUNK_LINE:
            raise BadAnswer(f"a line between two chunks has more than {_LONGEST_CHUNK_LINE} bytes")
        return line[:-2]


def encode(request: Request) -> bytes:
    """The bytes of a request. Its target and headers are printable ASCII, as the engine has checked."""
    lines = [f"GET {request.target} HTTP/1.1", *(f"{name}: {value}" for name, value in request.headers.items())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("ascii")


async def within(seconds: float, wait: Awaitable[T]) -> T:
    """Waits with a limit. `asyncio.wait_for` before Python 3.12 can lose the cancellation of its caller."""
    waiting = asyncio.ensure_future(wait)
    try:
        await asyncio.wait({waiting}, timeout=max(0.001, seconds))
        if not waiting.done():
            raise TimeoutError("timed out")
        return waiting.result()
    finally:
        if not waiting.cancel() and not waiting.cancelled():
            waiting.exception()  # it is known, or of no interest to who was cancelled
