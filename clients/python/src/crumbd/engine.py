"""The rules of a client, without I/O: what to ask next, what to do with an answer, how long to pause.

A driver loops: `next()` is a `Pause` or a `Request`. Of an answer it hands over `head`, each piece of the body by
`data`, and `end` where the body is whole, or `failed` at any time. When `reading` becomes false before the end, the
rest of the answer is of no use, and its connection is closed. `data` and `end` return the events for the application.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from random import random
from typing import NamedTuple
from urllib.parse import quote, urljoin, urlsplit

from .body import Body, BodyReader, Reset
from .errors import BadAnswer, Mismatch, RefusedError
from .events import Change, Event, Holding, Retrying
from .excerpt import one_line
from .lines import Gunzip, Lines
from .options import Endpoint, Options, parse_endpoints
from .pacer import Pacer, retry_after
from .state import IN_SYNC, State

_MEDIA_TYPE = "application/x-ndjson"
_VERSION = "0.1.0"
_SERVER_WAIT = 29.0
_LONGEST_PROBLEM = 64 * 1024
_LONGEST_DETAIL = 2000
_LONGEST_TARGET = 65_534
_SHORTEST_WAIT = 0.1
"""An answer that came within this did not wait, however short the wait is."""
_PART_OF_WAIT = 0.75
"""A daemon takes a little off the wait."""
_END_OF_STREAM = frozenset(("permission-changed", "token-removed"))
_FATAL = frozenset((400, 401, 403, 404, 406))
_LINK = re.compile(r'<([!-;=?-~]+)>((?:\s*;\s*[\w!#$&+\-.^`|~*]+\s*(?:=\s*(?:"[^"]*"|[^\s",;]+))?)*)')
_NEXT = re.compile(r';\s*rel\s*=\s*(?:"(?:[^"]*\s)?next(?:\s[^"]*)?"|next(?=[\s;]|$))', re.IGNORECASE)


@dataclass(frozen=True)
class Pause:
    seconds: float


@dataclass(frozen=True)
class Request:
    """A GET."""

    endpoint: Endpoint
    target: str
    headers: dict[str, str]
    head_timeout: float
    """For the whole head of the answer."""
    read_timeout: float
    """For each next piece of its body."""


class _Link(NamedTuple):
    """Path and query of a link, and whether they are meant below the path of the endpoint."""

    below: bool
    target: str


@dataclass
class _Answer:
    status: int
    headers: Mapping[str, str]
    asked: Request
    at: float
    gunzip: Gunzip | None = None
    lines: Lines | None = None
    body: Body | None = None
    problem: bytes = b""
    readable: bool = True


class Engine:
    """One follower's position and what it does next."""

    def __init__(
        self,
        urls: str | Iterable[str],
        options: Options,
        clock: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random,
    ) -> None:
        self._endpoints = parse_endpoints(urls if isinstance(urls, str) else list(urls))
        self._options = options
        self._clock = clock
        self._pacer = Pacer(clock, chance)
        self._state = State(options.check_digest, options.allow_empty)
        self._streaming = options.transport == "stream"
        self._place = 0
        """The endpoint that is asked now."""
        self._link: _Link | None = None
        """The next long poll; `None` when `current` has to be read."""
        self._cursor: str | None = None
        """The cursor of the state; `None` when the whole state has to be read."""
        self._told_cursor = ""
        self._rights: str | None = None
        self._narrowed = False
        """The rights have changed, and no state under the new ones was in-sync yet. It may well be empty."""
        self._reset_reason = ""
        """Why the stream was reset, until a body comes."""
        self._pause = 0.0
        self._request: Request | None = None
        self._asked_at = 0.0
        self._answer: _Answer | None = None
        self._reader = BodyReader(options.check_digest)
        self.reading = False

    @property
    def entries(self) -> Mapping[bytes, bytes]:
        return self._state.entries

    @property
    def cursor(self) -> str | None:
        """The cursor of the entries; `None` before the first answer."""
        return self._told_cursor or None

    @property
    def status(self) -> str | None:
        return self._state.status

    # What to do next

    def next(self) -> Pause | Request:
        if self._pause == 0:
            self._answer, self.reading = None, True
            self._reader = BodyReader(self._options.check_digest)
            try:
                token = self._options.bearer()
            except Exception as error:  # it comes from a function of the application, such as one that reads a file
                self._retry(f"the token cannot be had: {error}", self._pacer.failed(), another=False)
            else:
                self._request = self._stream_request(token) if self._streaming else self._poll_request(token)
                self._asked_at = self._clock()
                return self._request
        pause, self._pause = Pause(self._pause), 0.0
        return pause

    def _poll_request(self, token: str | None) -> Request:
        endpoint, timeout = self._endpoints[self._place], self._options.timeout
        if self._link is None:
            target = endpoint.path + self._below("/breadcrumbs/current") + self._query([])
        else:
            target = (endpoint.path if self._link.below else "") + self._link.target
            if self._wait() < _SERVER_WAIT:
                target += f"{'&' if '?' in target else '?'}wait={max(1, int(self._wait() * 1000))}ms"
        return Request(endpoint, target, self._headers(token, self._options.gzip), timeout, timeout)

    def _wait(self) -> float:
        """How long the daemon is asked to wait: less than we do."""
        return _SERVER_WAIT if self._options.timeout >= _SERVER_WAIT + 15 else self._options.timeout / 2

    def _stream_request(self, token: str | None) -> Request:
        endpoint, query = self._endpoints[self._place], []
        if self._cursor is not None:
            rights = "" if self._rights is None else "~" + self._rights
            query.append("from=" + quote(self._cursor + rights, safe="~"))
        target = endpoint.path + self._below("/stream") + self._query(query)
        return Request(
            endpoint, target, self._headers(token, False), self._options.timeout, self._options.stream_timeout
        )

    def _below(self, path: str) -> str:
        return f"/v1/c/{self._options.collection}{path}" if self._options.collection else "/v1" + path

    def _query(self, first: list[str]) -> str:
        query = first + ["prefix=" + quote(prefix, safe="") for prefix in self._options.prefixes()]
        return "?" + "&".join(query) if query else ""

    def _headers(self, token: str | None, gzip: bool) -> dict[str, str]:
        headers = {
            "Host": self._endpoints[self._place].authority,
            "Accept": _MEDIA_TYPE + "; values=string",
            "Accept-Encoding": "gzip" if gzip else "identity",
            "User-Agent": "crumbd-python/" + _VERSION,
        }
        if token is not None:
            headers["Authorization"] = "Bearer " + token
        if self._options.client_name is not None:
            headers["Crumbd-Client"] = self._options.client_name
        return headers

    # An answer

    def head(self, status: int, headers: Mapping[str, str]) -> None:
        """Takes the head of an answer; the names of its headers are in lower case."""
        assert self._request is not None, "an answer has a request"
        answer = _Answer(status, headers, self._request, self._clock())
        self._answer = answer
        try:
            coding = headers.get("content-encoding", "identity").strip().lower()
            if coding in ("gzip", "x-gzip"):
                answer.gunzip = Gunzip()
            elif coding in ("identity", ""):
                pass
            elif status != 200:
                answer.readable = False  # the status says enough
            else:
                raise BadAnswer(f"the body has the content coding {coding!r}, which was not asked for")
            if status == 200:
                media = headers.get("content-type", "").partition(";")[0].strip().lower()
                if media != _MEDIA_TYPE:
                    named = one_line(media) or "of no type"
                    raise BadAnswer(f"the answer is {named}, not {_MEDIA_TYPE}: it is not the daemon's")
                answer.lines = Lines(self._options.max_line_bytes)
                if self._streaming:
                    self._rights = headers.get("crumbd-rights")
                    self._reset_reason = ""
        except BadAnswer as error:
            self.failed(str(error))

    def data(self, piece: bytes) -> list[Event]:
        """Takes a piece of the body."""
        answer = self._answer
        if answer is None or not self.reading:
            return []
        events: list[Event] = []
        try:
            for part in (piece,) if answer.gunzip is None else answer.gunzip.feed(piece):
                if self.reading:
                    self._part(answer, part, events)
            if len(answer.problem) >= _LONGEST_PROBLEM:
                self.reading = False
                self._refused(answer)
        except BadAnswer as error:
            self.failed(str(error))
        except Mismatch as error:
            self._reread(str(error))
        return events

    def end(self) -> list[Event]:
        """The answer is whole."""
        answer = self._answer
        if answer is None or not self.reading:
            return []
        events: list[Event] = []
        try:
            if answer.gunzip is not None and answer.status != 204:
                for part in answer.gunzip.finish():
                    self._part(answer, part, events)
            if answer.lines is not None and answer.lines.unfinished:
                self._part(answer, b"\n", events)  # the last line may be without a line feed
            self.reading = False
            if answer.status == 200:
                events += self._whole(answer)
            elif answer.status == 204 and not self._streaming and self._link is not None:
                events += self._nothing(answer)
            else:
                self._refused(answer)
        except BadAnswer as error:
            self.failed(str(error))
        except Mismatch as error:
            self._reread(str(error))
        return events

    def failed(self, reason: str) -> None:
        """There is no answer, or a part of one. Nothing of it counts but what a stream has told before."""
        answer, self.reading = self._answer, False
        if answer is not None and answer.status in (429, 503):
            self._later(answer)
        else:
            self._retry(reason, self._pacer.failed())

    def _part(self, answer: _Answer, part: bytes, events: list[Event]) -> None:
        if answer.lines is None:
            if answer.readable:
                answer.problem += part[: _LONGEST_PROBLEM - len(answer.problem)]
            return
        for line in answer.lines.feed(part):
            if not line.strip():
                if self._streaming:
                    self._pacer.succeeded()  # a heartbeat
                continue
            body = self._reader.feed(line)
            if isinstance(body, Body):
                if not self._streaming:
                    if answer.body is not None:
                        raise BadAnswer("the answer has more than one body")
                    answer.body = body
                elif not self._told(body, events):
                    return  # the rest is of no use
            elif isinstance(body, Reset):
                if not self._streaming:
                    raise BadAnswer("the answer has a reset, which belongs into a stream")
                if self._reset(body.reason):
                    return  # the rest is of no use

    def _reset(self, reason: str) -> bool:
        """The stream cannot be continued. Returns whether another request has to be made for what may be read now."""
        self._reset_reason = reason
        if reason in _END_OF_STREAM or reason == "rights-changed":
            self._narrowed = True
        if reason in _END_OF_STREAM and self._rights is not None:
            # The rights go with the cursor, so that the daemon tells whether the state has holes under the new ones.
            self.reading = False
            self._retry(f"the rights have changed ({reason})", self._pacer.failed(), another=False)
            return True
        self._cursor = None
        return False

    def _told(self, body: Body, events: list[Event]) -> bool:
        """Takes a body of a stream. Returns whether the stream is still of use."""
        if not body.cursor:
            raise BadAnswer("a body names no cursor")
        if not body.snapshot and self._cursor is None:
            raise BadAnswer("updates came where the whole state was to come")
        if body.cursor != self._told_cursor:
            self._pacer.succeeded()
        if not self._apply(body, body.cursor, events):
            return False
        self._cursor, self._reset_reason = body.cursor, ""
        return True

    def _whole(self, answer: _Answer) -> list[Event]:
        """A 200 has ended: of a long poll all of it counts now; a stream goes on over another connection."""
        assert answer.lines is not None, "a 200 has lines"
        if self._reader.unfinished:
            raise BadAnswer("the body was cut off before its end")
        if self._streaming:
            why = f" after a reset: {self._reset_reason}" if self._reset_reason else ""
            raise BadAnswer("the stream ended" + why)
        body = answer.body
        if body is None:
            raise BadAnswer("the answer has no body with an end")
        if not body.snapshot and self._link is None:
            raise BadAnswer("updates came where the whole state was to come")
        link = self._linked(answer)
        events: list[Event] = []
        cursor, before = body.cursor or answer.headers.get("crumbd-cursor", ""), self._told_cursor
        if self._apply(body, cursor, events):
            self._move(answer, link, cursor != before)
        return events

    def _nothing(self, answer: _Answer) -> list[Event]:
        """A 204: the cursor may have moved on, and the status with it."""
        link, before = self._linked(answer), self._told_cursor
        self._told_cursor = answer.headers.get("crumbd-cursor", before)
        moved = self._told_cursor != before
        self._move(answer, link, moved)
        status = answer.headers.get("crumbd-status", self.status)
        if not moved or status is None or status == self.status:
            return []  # the status of a replica that is behind is not that of the state
        changes = self._state.move(status)
        self._settle()
        return [self._event(changes, resync=False)]

    def _move(self, answer: _Answer, link: _Link, moved: bool) -> None:
        """Follows a link. A daemon that moved nothing, and did not wait, must not be asked in a loop."""
        awaited, self._link = self._link is not None, link
        if awaited and not moved and answer.at - self._asked_at < max(_SHORTEST_WAIT, self._wait() * _PART_OF_WAIT):
            self._pause = self._pacer.failed()
        else:
            self._pacer.succeeded()

    def _settle(self) -> None:
        """Notes that the state is complete: if the next one that is read is empty, it is not because of the rights."""
        if self.status == IN_SYNC:
            self._narrowed = False

    def _apply(self, body: Body, cursor: str, events: list[Event]) -> bool:
        """Checks and applies a whole body. Returns whether to go on from its cursor."""
        total = self._state.check(body)
        if self._state.must_hold(body) and not self._narrowed:
            self._forget()
            self.reading = False
            self._pause = self._pacer.failed()
            self._options.on_notice(Holding(len(self._state.entries), self._pause))
            return False
        status_before, cursor_before = self.status, self._told_cursor
        resync = body.snapshot and status_before is not None
        changes = self._state.apply(body, total)
        self._settle()
        self._told_cursor = cursor
        if changes or self.status != status_before or (resync and cursor != cursor_before):
            events.append(self._event(changes, resync))
        return True

    def _event(self, changes: list[Change[bytes]], resync: bool) -> Event:
        state = self._state
        return Event(self._told_cursor, state.status or "", changes, resync, len(state.entries), state.digest)

    def _refused(self, answer: _Answer) -> None:
        kind, detail = _kind(answer.problem), _detail(answer.problem)
        where = one_line(answer.headers.get("location", ""))
        # The rights have changed while it waited: the answer to the next request tells whether any are left.
        if answer.status == 410 or (answer.status == 403 and kind == "permission-changed"):
            self._narrowed = self._narrowed or kind in ("permission-changed", "rights-changed")
            if (self._cursor if self._streaming else self._link) is None:  # it was the whole state that was asked for
                self.failed(f"the answer is {answer.status}: {detail or 'no reason is given'}")
                return
            self._forget()
            self._pause = self._pacer.throttle()
        elif answer.status in _FATAL:
            raise RefusedError(answer.status, detail or "no reason is given", self._address(answer.asked))
        elif 300 <= answer.status < 400 and where:
            self.failed(
                f"the answer is {answer.status}: it redirects to {where}, which is not followed; "
                "give the address of the daemon itself"
            )
        else:
            self.failed(f"the answer is {answer.status}: {detail or 'no reason is given'}")

    def _later(self, answer: _Answer) -> None:
        seconds = retry_after(answer.headers.get("retry-after"))
        detail = _detail(answer.problem)
        pause = self._pacer.failed() if seconds is None else self._pacer.told(seconds)
        self._retry(f"the answer is {answer.status}: {detail or 'no reason is given'}", pause, answer.status != 429)

    def _reread(self, reason: str) -> None:
        self.reading = False
        self._forget()
        self._retry(reason + "; the whole state is read again", self._pacer.failed(), another=False)

    def _retry(self, reason: str, pause: float, another: bool = True) -> None:
        self._pause = pause
        address = self._address(self._request) if self._request else str(self._endpoints[self._place])
        if another:
            self._place = (self._place + 1) % len(self._endpoints)
        self._options.on_notice(Retrying(f"{address}: {one_line(reason, _LONGEST_DETAIL)}", pause))

    def _forget(self) -> None:
        """The whole state is read with the next request; the old one stays visible until then."""
        self._link = self._cursor = self._rights = None

    def _address(self, request: Request) -> str:
        return f"{'https' if request.endpoint.secure else 'http'}://{request.endpoint.authority}{request.target}"

    def _linked(self, answer: _Answer) -> _Link:
        """The link to what comes next. Another replica may be reached under another path than this one."""
        endpoint, asked = answer.asked.endpoint, self._address(answer.asked)
        for address, parameters in _LINK.findall(answer.headers.get("link", "")):
            if _NEXT.search(parameters):
                try:
                    parts = urlsplit(urljoin(asked, address))
                except ValueError as error:
                    raise BadAnswer(f"the link of the answer is no address: {error}") from error
                target = parts.path + ("?" + parts.query if parts.query else "")
                if not target.startswith("/") or target.startswith("//") or len(target) > _LONGEST_TARGET:
                    raise BadAnswer("the link of the answer has no path that can be asked for")
                if target.startswith(endpoint.path + "/v1/"):
                    return _Link(True, target.removeprefix(endpoint.path))
                return _Link(False, target)
        raise BadAnswer('the answer has no Link with rel="next"')


def _kind(body: bytes) -> str:
    """What names the problem for programs, such as `cursor-gone`; empty of a body that is no problem+json."""
    try:
        problem = json.loads(body)
    except (ValueError, RecursionError):
        return ""
    return str(problem.get("type", "")).removeprefix("urn:crumbd:problem:") if isinstance(problem, dict) else ""


def _detail(body: bytes) -> str:
    """The detail of an error; of a body that is no problem+json, its beginning."""
    text = body.decode(errors="replace")
    try:
        problem = json.loads(text)
        if isinstance(problem, dict) and (problem.get("detail") or problem.get("title")):
            return one_line(str(problem.get("detail") or problem["title"]), _LONGEST_DETAIL)
    except (ValueError, RecursionError):
        pass
    return one_line(text)
