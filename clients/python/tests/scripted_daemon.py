"""A daemon that follows a script: each request gets the next reply, and what was asked is remembered.

A request beyond the script gets no answer; its connection stays open until the daemon is closed.
"""

from __future__ import annotations

import base64
import json
import socket
import ssl
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from crumbd.digest import digest_of

Entries = Mapping[bytes, bytes]


class _Close:
    """In a reply: the connection ends here."""


CLOSE = _Close()
HANG = threading.Event()  # in a reply: nothing more comes; it is never set
Reply = Sequence[bytes | float | _Close | threading.Event]


@dataclass(frozen=True)
class Seen:
    """One request."""

    target: str
    headers: dict[str, str]
    at: float
    connection: int


def record(kind: str, key: bytes, value: bytes | None = None) -> dict[str, Any]:
    shown: dict[str, Any] = {"type": kind}
    try:
        shown["key"] = key.decode()
    except UnicodeDecodeError:
        shown["key_base64"] = base64.b64encode(key).decode()
    if value is not None:
        try:
            shown["value"], shown["encoding"] = value.decode(), "utf8"
        except UnicodeDecodeError:
            shown["value"], shown["encoding"] = base64.b64encode(value).decode(), "base64"
    return shown


def lines(*records: Mapping[str, Any]) -> bytes:
    return b"".join(json.dumps(one).encode() + b"\n" for one in records)


def snapshot(cursor: str, entries: Entries, status: str = "in-sync", **fields: Any) -> bytes:
    """The body of `current`. A field that is `None` is left out."""
    proof = {"cursor": cursor, "count": len(entries), "digest": digest_of(entries)} | fields
    proof = {name: value for name, value in proof.items() if value is not None}
    head = {"type": "snapshot", "mode": "snapshot", "status": status} | proof
    return lines(head, *(record("new", *entry) for entry in entries.items()), {"type": "end"} | proof)


def breadcrumb(
    cursor: str, changes: Mapping[bytes, bytes | None], after: Entries | None, status: str = "in-sync", **fields: Any
) -> bytes:
    """The body of `next`. `after` is the whole state that it leads to, for count and digest."""
    proof: dict[str, Any] = {"cursor": cursor}
    if after is not None:
        proof |= {"count": len(after), "digest": digest_of(after)}
    proof |= fields
    head = {"type": "breadcrumb", "mode": "delta", "status": status} | proof
    records = [record("deleted" if value is None else "updated", key, value) for key, value in changes.items()]
    return lines(head, *records, {"type": "end"} | proof)


def link(cursor: str, base: str = "") -> str:
    return f'<{base}/v1/breadcrumbs/{cursor}/next>; rel="next"'


def http(status: int, body: bytes, **headers: str) -> bytes:
    named = {name.replace("_", "-"): value for name, value in headers.items() if value}
    if status != 204:
        named["Content-Length"] = str(len(body))
    head = "".join(f"{name}: {value}\r\n" for name, value in named.items())
    return f"HTTP/1.1 {status} Said\r\n{head}\r\n".encode() + body


def answer(body: bytes, cursor: str, base: str = "", **headers: str) -> bytes:
    """A 200 of a long poll."""
    all_headers = {"Content_Type": "application/x-ndjson; values=string", "Link": link(cursor, base)} | headers
    return http(200, body, **all_headers)


def nothing(cursor: str, **headers: str) -> bytes:
    """A 204 of a long poll."""
    return http(204, b"", **({"Link": link(cursor), "Crumbd_Cursor": cursor} | headers))


def problem(status: int, detail: str = "so it is", kind: str = "some", **headers: str) -> bytes:
    body = json.dumps({"type": "urn:crumbd:problem:" + kind, "title": "No", "status": status, "detail": detail})
    return http(status, body.encode(), Content_Type="application/problem+json", **headers)


def stream_head(**headers: str) -> bytes:
    named = {"Content-Type": "application/x-ndjson; values=string", "Transfer-Encoding": "chunked"}
    named |= {name.replace("_", "-"): value for name, value in headers.items()}
    head = "".join(f"{name}: {value}\r\n" for name, value in named.items())
    return f"HTTP/1.1 200 OK\r\n{head}\r\n".encode()


def chunk(data: bytes) -> bytes:
    if not data:
        return b""  # a chunk of length 0 would be the last one
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


LAST_CHUNK = b"0\r\n\r\n"


class ScriptedDaemon:
    """Serves its script on a free port of the loopback address."""

    def __init__(self, *script: Reply, tls: ssl.SSLContext | None = None, repeat_last: bool = False) -> None:
        self._script = list(script)
        self._repeat_last = repeat_last
        self._tls = tls
        self._lock = threading.Condition()
        self.requests: list[Seen] = []
        self._closing = threading.Event()
        self._sockets: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        return f"https://localhost:{self._port}" if self._tls else f"http://127.0.0.1:{self._port}"

    def wait_for_requests(self, number: int, limit: float = 20.0) -> list[Seen]:
        with self._lock:
            if not self._lock.wait_for(lambda: len(self.requests) >= number, limit):
                raise AssertionError(f"{len(self.requests)} requests came, not {number}: {self.requests}")
            return list(self.requests)

    def stop_listening(self) -> None:
        """From now on connections are refused."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def close(self) -> None:
        self._closing.set()
        for sock in [self._listener, *self._sockets]:
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            sock.close()

    def __enter__(self) -> ScriptedDaemon:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _accept(self) -> None:
        number = 0
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            self._sockets.append(sock)
            number += 1
            threading.Thread(target=self._serve, args=(sock, number), daemon=True).start()

    def _serve(self, sock: socket.socket, connection: int) -> None:
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._tls is not None:
                sock = self._tls.wrap_socket(sock, server_side=True)
                self._sockets.append(sock)
            data = b""
            while True:
                while b"\r\n\r\n" not in data:
                    piece = sock.recv(65536)
                    if not piece:
                        return
                    data += piece
                head, _, data = data.partition(b"\r\n\r\n")
                for step in self._reply(head.decode(), connection):
                    if isinstance(step, bytes):
                        sock.sendall(step)
                    elif isinstance(step, float):
                        time.sleep(step)  # part of the script: an answer that is slow
                    elif isinstance(step, _Close):
                        return
                    else:
                        self._closing.wait()
                        return
        except OSError:
            pass
        finally:
            sock.close()

    def _reply(self, head: str, connection: int) -> Reply:
        first, *rest = head.split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in rest)}
        with self._lock:
            self.requests.append(Seen(first.split(" ")[1], headers, time.monotonic(), connection))
            self._lock.notify_all()
            if not self._script:
                return [HANG]
            if self._repeat_last and len(self._script) == 1:
                return self._script[0]
            return self._script.pop(0)
