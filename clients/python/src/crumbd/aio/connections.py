"""The one connection of a follower, kept alive between its requests."""

from __future__ import annotations

import asyncio

from ..engine import Request
from ..options import Endpoint, Options
from . import http1


class Connections:
    """Connects to the endpoint of each request, or uses the connection of the last one."""

    def __init__(self, options: Options) -> None:
        self._options = options
        # At once where a file is named, so that one that cannot be read is no failure to retry.
        self._tls = options.tls() if options.ca_file is not None else None
        self._endpoint: Endpoint | None = None
        self._open: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._connecting: asyncio.Task[tuple[asyncio.StreamReader, asyncio.StreamWriter]] | None = None

    async def send(self, request: Request) -> http1.Answer:
        """Sends a request, and reads the head of its answer."""
        reader, writer = await self._connection(request.endpoint)
        writer.write(http1.encode(request))
        await http1.within(request.head_timeout, writer.drain())
        answer = http1.Answer(reader, request.read_timeout)
        await answer.read_head(request.head_timeout)
        return answer

    def close(self) -> None:
        """Ends what another task waits for, too."""
        if self._connecting is not None:
            self._connecting.cancel()
        if self._open is not None:
            self._open[1].transport.abort()
        self._open = None

    async def _connection(self, endpoint: Endpoint) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._open is not None:
            reader, writer = self._open
            # A connection that the other side has closed while it rested is of no use.
            if self._endpoint == endpoint and not reader.at_eof() and not writer.is_closing():
                return self._open
            self.close()
        if endpoint.secure and self._tls is None:
            self._tls = self._options.tls()
        self._endpoint = endpoint
        self._connecting = asyncio.ensure_future(
            asyncio.open_connection(
                endpoint.host,
                endpoint.port,
                limit=http1.LONGEST_HEAD,
                ssl=self._tls if endpoint.secure else None,
            )
        )
        try:
            await asyncio.wait({self._connecting}, timeout=self._options.connect_timeout)
            if not self._connecting.done():
                raise TimeoutError("timed out")
            if self._connecting.cancelled():
                raise ConnectionError("the follower is closed")
            self._open = self._connecting.result()
        finally:
            self._connecting.cancel()
            self._connecting = None
        return self._open
