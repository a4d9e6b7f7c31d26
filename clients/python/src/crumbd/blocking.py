"""HTTP over `http.client`, one connection that is kept alive."""

from __future__ import annotations

import contextlib
import http.client
import io
import selectors
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from typing import Any

from .engine import Request
from .options import Endpoint, Options

_PIECE = 64 * 1024
_MOST_INTERIM = 8


class _TimedSocket:
    """A socket as `http.client` uses it, whose reads end at a deadline or after a silence.

    A timeout of the socket itself would let a head that comes byte by byte take for ever.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self.deadline: float | None = None
        self.silence = 60.0

    def read_into(self, buffer: Any) -> int:
        left = self.silence if self.deadline is None else self.deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("timed out")
        self._sock.settimeout(left)
        return self._sock.recv_into(buffer)

    def sendall(self, data: bytes) -> None:
        self._sock.settimeout(self.silence)
        self._sock.sendall(data)

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(_Unclosed(self), _PIECE)

    def close(self) -> None:
        """Nothing: `http.client` closes the socket of a last answer before its body is read. `Connections` does it."""

    def shut(self) -> None:
        self._sock.close()

    def is_stale(self) -> bool:
        """Whether the other side closed the connection, or sent what nobody asked for, while it rested."""
        with selectors.DefaultSelector() as selector:
            selector.register(self._sock, selectors.EVENT_READ)
            return bool(selector.select(0))


class _Unclosed(io.RawIOBase):
    """A view of the socket for one answer: closing it leaves the connection open for the next one."""

    def __init__(self, source: _TimedSocket) -> None:
        self._source = source

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return self._source.read_into(buffer)


class _Response(http.client.HTTPResponse):
    """An answer after the interim ones, of which `http.client` itself skips only 100."""

    def _read_status(self) -> tuple[str, int, str]:
        for _ in range(_MOST_INTERIM):
            version, status, reason = super()._read_status()  # type: ignore[misc]
            if not 100 <= status < 200:
                return version, status, reason
            http.client.parse_headers(self.fp)
        raise http.client.HTTPException(f"the answer begins with {_MOST_INTERIM} interim ones")


class _Connection(http.client.HTTPConnection):
    response_class = _Response

    def __init__(self, owner: Connections, endpoint: Endpoint, tls: ssl.SSLContext | None, timeout: float) -> None:
        super().__init__(endpoint.host, endpoint.port)
        self._owner = owner
        self._tls = tls
        self._limit = timeout
        self.timed: _TimedSocket | None = None

    def connect(self) -> None:
        deadline = time.monotonic() + self._limit
        sock = self._dial(deadline)
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._tls is not None:
                sock.settimeout(max(0.001, deadline - time.monotonic()))
                sock = self._tls.wrap_socket(sock, server_hostname=self.host)
                self._owner.watch(sock)
        except BaseException:
            sock.close()
            raise
        self.timed = _TimedSocket(sock)
        self.sock = self.timed  # `http.client` uses no more than its three methods

    def _dial(self, deadline: float) -> socket.socket:
        """Like `socket.create_connection`, but `interrupt` can end it, and the limit is for all addresses together."""
        error: OSError = OSError(f"{self.host} has no address")
        for family, kind, protocol, _, address in socket.getaddrinfo(self.host, self.port, 0, socket.SOCK_STREAM):
            sock = socket.socket(family, kind, protocol)
            try:
                self._owner.watch(sock)
                sock.settimeout(max(0.001, deadline - time.monotonic()))
                sock.connect(address)
                return sock
            except OSError as failure:
                sock.close()
                error = failure
        raise error


class Answer:
    """An answer whose body is read piece by piece."""

    def __init__(self, response: http.client.HTTPResponse) -> None:
        self._response = response
        self.status = response.status
        self.headers = {name.lower(): value for name, value in response.getheaders()}
        self.whole = False

    def read(self) -> bytes:
        """The next piece, as soon as there is one; empty when the body is whole."""
        try:
            piece = self._response.read1(_PIECE)
        except http.client.IncompleteRead as error:
            raise EOFError("the body was cut off") from error
        if not piece:
            if self._response.length:
                raise EOFError(f"the body was cut off {self._response.length} bytes before its end")
            self.whole = True
        return piece


class Connections:
    """The one connection of a follower, to the endpoint that was asked last."""

    def __init__(self, options: Options) -> None:
        self._options = options
        # At once where a file is named, so that one that cannot be read is no failure to retry.
        self._tls = options.tls() if options.ca_file is not None else None
        self._connection: _Connection | None = None
        self._endpoint: Endpoint | None = None
        self._lock = threading.Lock()
        self._watched: socket.socket | None = None
        self._interrupted = False

    @contextlib.contextmanager
    def get(self, request: Request) -> Iterator[Answer]:
        """Sends a request. The connection is kept if the answer was read to its end."""
        connection = self._open(request.endpoint)
        keep = False
        try:
            if connection.sock is None:
                connection.connect()
            timed = connection.timed
            assert timed is not None, "connect() has set it"
            timed.silence = request.head_timeout
            connection.request("GET", request.target, headers=request.headers)
            timed.deadline = time.monotonic() + request.head_timeout
            response = connection.getresponse()
            timed.deadline, timed.silence = None, request.read_timeout
            answer = Answer(response)
            yield answer
            keep = answer.whole and not response.will_close
            response.close()
        finally:
            if not keep:
                self.close()

    def watch(self, sock: socket.socket) -> None:
        """Remembers the socket that `interrupt` has to wake."""
        with self._lock:
            if self._interrupted:
                raise OSError("the follower is closed")
            self._watched = sock

    def interrupt(self) -> None:
        """Ends what another thread waits for, now and later."""
        with self._lock:
            self._interrupted = True
            if self._watched is not None:
                with contextlib.suppress(OSError):
                    # Of the plain class: that of TLS would drop its session under the thread that reads.
                    socket.socket.shutdown(self._watched, socket.SHUT_RDWR)

    def close(self) -> None:
        with self._lock:
            self._watched = None
        if self._connection is not None:
            self._connection.close()
            if self._connection.timed is not None:
                self._connection.timed.shut()
        self._connection = None

    def _open(self, endpoint: Endpoint) -> _Connection:
        connection = self._connection
        if connection is not None:
            if self._endpoint == endpoint and connection.timed is not None and not connection.timed.is_stale():
                return connection
            self.close()
        if endpoint.secure and self._tls is None:
            self._tls = self._options.tls()
        tls = self._tls if endpoint.secure else None
        self._connection = _Connection(self, endpoint, tls, self._options.connect_timeout)
        self._endpoint = endpoint
        return self._connection
