"""The settings of a follower, and the addresses of the daemons."""

from __future__ import annotations

import logging
import re
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, TypedDict
from urllib.parse import quote, urlsplit

from .events import Notice

_log = logging.getLogger("crumbd")

Transport = Literal["poll", "stream"]
Prefix = bytes | str
Token = str | Callable[[], str]

_WRONG_TOKEN = "is empty or has characters other than printable ASCII: is there a line break at its end?"


class Settings(TypedDict, total=False):
    """The keyword arguments of `follow` and `Mirror`. Each is described in `Options`."""

    transport: Transport
    prefix: Prefix | Sequence[Prefix]
    collection: str | None
    token: Token | None
    ca_file: str | None
    ssl_context: ssl.SSLContext | None
    client_name: str | None
    allow_empty: bool
    check_digest: bool
    gzip: bool
    timeout: float
    stream_timeout: float
    connect_timeout: float
    max_line_bytes: int
    on_notice: Callable[[Notice], None]


def log_notice(notice: Notice) -> None:
    """What becomes of notices unless `on_notice` is given: a warning in the log `crumbd`."""
    _log.warning("%s", notice)


@dataclass(frozen=True, kw_only=True)
class Options:
    """Every setting with its default. All times are in seconds."""

    transport: Transport = "poll"
    """`poll` asks again after each answer. `stream` keeps one answer open, which saves a round trip."""
    prefix: Prefix | Sequence[Prefix] = ()
    """Only keys that begin with it, or with one of them."""
    collection: str | None = None
    """The name of the daemon's collection, where it has several."""
    token: Token | None = None
    """The bearer token, or a function that is asked for it before each request."""
    ca_file: str | None = None
    """PEM file of the authorities to trust for `https:`; otherwise the system's."""
    ssl_context: ssl.SSLContext | None = None
    """Takes the place of `ca_file`, for client certificates and the like."""
    client_name: str | None = None
    """How this client is called in the daemon's table of clients."""
    allow_empty: bool = False
    """Take an empty state after a resync. Otherwise the keys are kept until the state is not empty.

    Keys that the client may not read any more are not kept.
    """
    check_digest: bool = True
    """Compute the digest of the state and check each answer by it. Plain Python takes a few microseconds for a key."""
    gzip: bool = True
    """Ask for compressed answers (long polls only; a stream has none)."""
    timeout: float = 60.0
    """How long to wait for the head of an answer, and then for each next byte of its body."""
    stream_timeout: float = 45.0
    """How long a stream may be without a byte. The daemon sends a heartbeat every 15 s unless told otherwise."""
    connect_timeout: float = 10.0
    """How long a connection, with its TLS handshake, may take."""
    max_line_bytes: int = 64 << 20
    """The longest record. A value of 8 MiB, the daemon's default limit, can take 48 MiB of escapes."""
    on_notice: Callable[[Notice], None] = log_notice
    """Is told of failures that are being retried. It is called by the follower itself, so it should return soon."""

    def __post_init__(self) -> None:
        if self.transport not in ("poll", "stream"):
            raise ValueError(f'transport is {self.transport!r}; it is "poll" or "stream"')
        for name in ("timeout", "stream_timeout", "connect_timeout"):
            value = getattr(self, name)
            if not 0.001 <= value <= 3600:
                raise ValueError(f"{name} is {value!r}; it is a number of seconds from 0.001 to 3600")
        if self.max_line_bytes < 1024:
            raise ValueError(f"max_line_bytes is {self.max_line_bytes}; it is at least 1024")
        if self.ca_file is not None and self.ssl_context is not None:
            raise ValueError("ca_file and ssl_context are both given; put the authorities into the ssl_context")
        if self.client_name is not None and not _is_header_value(self.client_name):
            raise ValueError(f"client_name is {self.client_name!r}; it is printable ASCII")
        if self.collection is not None and quote(self.collection, safe="") != self.collection:
            raise ValueError(f"collection is {self.collection!r}; a name has a-z, 0-9, '-', '.' and '_'")
        if isinstance(self.token, str) and not _is_header_value(self.token):
            raise ValueError(f"the token {_WRONG_TOKEN}")
        for prefix in self.prefixes():
            if len(prefix) > 16_384:
                raise ValueError(f"a prefix has {len(prefix)} bytes; at most 16384 fit into an address")

    def prefixes(self) -> list[bytes]:
        given = [self.prefix] if isinstance(self.prefix, (bytes, str)) else self.prefix
        return [prefix.encode() if isinstance(prefix, str) else bytes(prefix) for prefix in given]

    def bearer(self) -> str | None:
        token = self.token() if callable(self.token) else self.token
        if token is not None and not _is_header_value(token):
            raise ValueError(f"it {_WRONG_TOKEN}")
        return token

    def tls(self) -> ssl.SSLContext:
        if self.ssl_context is not None:
            return self.ssl_context
        try:
            return ssl.create_default_context(cafile=self.ca_file)
        except OSError as error:
            raise ValueError(f"ca_file {self.ca_file!r} has no certificate that can be read: {error}") from error


@dataclass(frozen=True)
class Endpoint:
    """The address of one daemon."""

    secure: bool
    host: str
    port: int
    path: str
    """What comes before `/v1/`, without a slash at its end."""

    def __str__(self) -> str:
        return f"{'https' if self.secure else 'http'}://{self.authority}{self.path}"

    @property
    def authority(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.secure else 80) else f"{host}:{self.port}"


def parse_endpoints(urls: str | Sequence[str]) -> tuple[Endpoint, ...]:
    """The daemons in the order in which they are tried. One string may name several, with commas between."""
    given = urls.split(",") if isinstance(urls, str) else urls
    endpoints = tuple(_parse(url.strip()) for url in given)
    if not endpoints:
        raise ValueError("no address is given; one looks like http://localhost:7811")
    return endpoints


def _parse(url: str) -> Endpoint:
    shown = re.sub("//.*@", "//…@", url)  # not the password
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise ValueError(f"the address {shown!r} is none: {error}") from error
    if parts.username is not None or parts.query or parts.fragment:
        raise ValueError(
            f"the address {shown!r} has more than host, port and path; give tokens and prefixes as options"
        )
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        raise ValueError(f"the address {shown!r} is none of a daemon; one looks like http://localhost:7811")
    if not parts.hostname.isascii():
        raise ValueError(f"the host of {shown!r} is not ASCII; give its name in the form xn--…")
    secure = parts.scheme == "https"
    path = quote(parts.path.rstrip("/"), safe="/%:@!$&'()*+,;=-._~")
    return Endpoint(secure, parts.hostname, port or (443 if secure else 80), path)


def _is_header_value(text: str) -> bool:
    return bool(text) and all(" " <= character <= "~" for character in text)
