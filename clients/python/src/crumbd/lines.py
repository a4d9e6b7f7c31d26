"""Bytes as they come, cut into lines; and gzip, undone on the way."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

from .errors import BadAnswer

_PIECE = 256 * 1024


class Lines:
    """Cuts NDJSON into lines. No more than one unfinished line is held."""

    def __init__(self, longest: int) -> None:
        self._longest = longest
        self._rest: list[bytes] = []
        self._held = 0

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The lines that `data` ends, each without its line feed."""
        first, *others = data.split(b"\n")
        self._hold(first)
        for other in others:
            line = self._rest[0] if len(self._rest) == 1 else b"".join(self._rest)
            self._rest, self._held = [], 0
            self._hold(other)
            yield line

    def _hold(self, piece: bytes) -> None:
        self._held += len(piece)
        if self._held > self._longest:
            raise BadAnswer(f"a line has more than {self._longest} bytes (max_line_bytes)")
        self._rest.append(piece)

    @property
    def unfinished(self) -> bool:
        return self._held > 0


class Gunzip:
    """One member of gzip, decoded in pieces of bounded size."""

    def __init__(self) -> None:
        self._inflate = zlib.decompressobj(wbits=31)

    def feed(self, data: bytes) -> Iterator[bytes]:
        try:
            while data:
                piece = self._inflate.decompress(data, _PIECE)
                data = self._inflate.unconsumed_tail
                if piece:
                    yield piece
                elif not data:
                    break
        except zlib.error as error:
            raise BadAnswer(f"the body is not gzip, as its Content-Encoding says: {error}") from error
        if self._inflate.unused_data:
            raise BadAnswer("bytes follow the end of the gzip body")

    def finish(self) -> Iterator[bytes]:
        """What was not given out yet. An unfinished member is a body that was cut off."""
        try:
            while not self._inflate.eof:
                piece = self._inflate.decompress(b"", _PIECE)
                if not piece:
                    raise BadAnswer("the gzip body was cut off")
                yield piece
        except zlib.error as error:
            raise BadAnswer(f"the gzip body is damaged: {error}") from error
