"""A client written from the contract alone, with the standard library and xxhash: what `crumbd conform` is proved with.

`--bug NAME` plants a bug: the scene for it has to break. `--events` reads streams as server-sent events.
"""

import argparse, base64, email.utils, http.client, json, os, random, re, ssl, struct, sys, threading, time, zlib
from urllib.parse import quote_from_bytes, urlsplit

import xxhash

PARSER = argparse.ArgumentParser()
PARSER.add_argument("--bug", default="")
PARSER.add_argument("--events", action="store_true")
OPTIONS = PARSER.parse_args()
BASES = [urlsplit(url) for url in os.environ["CRUMBD_URL"].split(",")]
STREAM = os.environ["CRUMBD_TRANSPORT"] == "stream" and OPTIONS.bug != "polls-always"
PREFIX = os.environ.get("CRUMBD_PREFIX")
LIMIT = int(os.environ.get("CRUMBD_TIMEOUT_MS", "45000" if STREAM else "60000")) / 1000
ALLOW_EMPTY = os.environ.get("CRUMBD_ALLOW_EMPTY") == "1"
TLS = ssl.create_default_context(cafile=os.environ.get("CRUMBD_CA_FILE"))
LONGEST_PAUSE = 5
LONGEST_RETRY_AFTER = 300


def bug(name):
    return OPTIONS.bug == name


def say(**line):
    print(json.dumps(line), flush=True)


class Failed(Exception):
    """A failure that may pass; `after` is the pause that the server asks for."""

    def __init__(self, sentence, after=None):
        super().__init__(sentence)
        self.after = after


class Fatal(Exception):
    pass


class Gone(Exception):
    pass


class Wrong(Exception):
    """Count or digest are not those of the answer."""


class Response(http.client.HTTPResponse):
    """An answer. The library skips 100 only."""

    def _read_status(self):
        while True:
            line = super()._read_status()
            if line[1] == 100 or line[1] // 100 != 1 or bug("takes-hints-for-answers"):
                return line
            http.client.parse_headers(self.fp)


def retry_after(text):
    """The seconds that `Retry-After` says; None where it cannot be read."""
    if text is None or bug("ignores-retry-after"):
        return None
    if re.fullmatch("[0-9]+", text):
        seconds = float(text)
    elif bug("ignores-dates"):
        return None
    elif bug("chokes-on-retry-after"):
        raise Fatal(f"Retry-After: {text}")
    else:
        try:
            seconds = email.utils.parsedate_to_datetime(text).timestamp() - time.time()
        except (TypeError, ValueError):
            return None
    return min(max(seconds, 0), LONGEST_RETRY_AFTER)


def share(key, value):
    return xxhash.xxh3_128_intdigest(struct.pack("<I", len(key)) + key + value)


def digest(state):
    return f"{sum(share(*entry) for entry in state.items()) % 2**128:032x}"


def key_of(record):
    return base64.b64decode(record["key_base64"]) if "key_base64" in record else record["key"].encode()


def value_of(record):
    if record.get("encoding") == "base64":
        return base64.b64decode(record["value"])
    return record["value"].encode()


def difference(old, new):
    coded = lambda data: base64.b64encode(data).decode()
    for key, value in new.items():
        if old.get(key) != value:
            yield {"type": "updated" if key in old else "new", "key": coded(key), "value": coded(value)}
    for key in old:
        if key not in new:
            yield {"type": "deleted", "key": coded(key)}


class Client:
    def __init__(self):
        self.replica, self.connection, self.failures = 0, None, 0
        self.link = self.cursor = self.status = None
        self.state, self.shown, self.settled, self.revision = {}, {}, True, 0
        self.narrowed = False

    def get(self, target, accept, **headers):
        """Sends a request and gives its answer, whose head is whole."""
        if bug("connects-anew") and self.connection is not None:
            self.connection.close()
            self.connection = None
        if self.connection is None:
            base = BASES[self.replica]
            timeout = None if bug("waits-for-ever") else LIMIT
            if base.scheme == "https":
                self.connection = http.client.HTTPSConnection(base.netloc, timeout=timeout, context=TLS)
            else:
                self.connection = http.client.HTTPConnection(base.netloc, timeout=timeout)
            self.connection.response_class = Response
        headers = {name.replace("_", "-"): value for name, value in headers.items()} | {"Accept": accept}
        if "CRUMBD_TOKEN" in os.environ:
            headers["Authorization"] = "Bearer " + os.environ["CRUMBD_TOKEN"]
        self.connection.request("GET", target, headers=headers)
        answer = self.connection.getresponse()
        if answer.status in (200, 204) or answer.status == 206 and bug("applies-any-2xx"):
            media = answer.getheader("Content-Type")
            if answer.status == 204 or media == accept or bug("ignores-media-type"):
                return answer
            answer.read()
            raise Failed(f"{target}: the media type is {media}")
        body = answer.read()
        location = answer.getheader("Location")
        if location and bug("follows-redirects"):
            return self.get(location, accept, **headers)
        try:
            problem = json.loads(body)
            kind, detail = problem["type"], problem["detail"]
        except (ValueError, KeyError, TypeError):
            kind, detail = "", "no reason"
        sentence = f"{target}: {answer.status}: {detail}" + (f" (Location: {location})" if location else "")
        rights_changed = kind.endswith(":permission-changed") and not bug("ends-when-rights-change")
        if answer.status == 410 or rights_changed:
            self.narrowed = self.narrowed or answer.status == 403
            raise Gone(sentence)
        if 400 <= answer.status < 500 and answer.status != 429 and bug("ends-at-any-4xx"):
            raise Fatal(sentence)
        if answer.status in (400, 401, 403, 404, 406) and not bug("retries-fatal"):
            raise Fatal(sentence)
        raise Failed(sentence, retry_after(answer.getheader("Retry-After")) if answer.status in (429, 503) else None)

    def path(self, endpoint):
        prefix = "" if PREFIX is None or bug("drops-prefix") else "?prefix=" + quote_from_bytes(os.fsencode(PREFIX), "")
        return BASES[self.replica].path + endpoint + prefix

    def records(self, target):
        """The records of a whole answer, and its Link."""
        answer = self.get(target, "application/x-ndjson; values=string", Accept_Encoding="gzip")
        link = (answer.getheader("Link") or "").partition("<")[2].partition(">")[0]
        if bug("cursor-before-data") and link:
            self.link = link
        try:
            body = answer.read()
        except http.client.IncompleteRead as cut:
            if not bug("applies-cut-bodies"):
                raise
            body = cut.partial
        if not link:
            raise Failed(f"{target}: the answer has no Link")
        if bug("takes-cursors-apart"):
            link = re.sub("~[^/]*", "", link)
        if answer.status == 204:
            return [], link
        if answer.getheader("Content-Encoding") == "gzip" and not bug("ignores-coding"):
            decoder = zlib.decompressobj(31)
            body = decoder.decompress(body)
            if not decoder.eof:
                raise Failed(f"{target}: the body was cut off")
        records = []
        for line in body.split(b"\n"):
            try:
                records += [json.loads(line)] if line else []
            except ValueError as error:
                if not bug("applies-cut-bodies"):
                    raise Failed(f"{target}: {error}")
        if (not records or records[-1]["type"] != "end") and not bug("applies-cut-bodies"):
            raise Failed(f"{target}: the body was cut off")
        return records, link

    def check_types(self, records):
        known = ("snapshot", "breadcrumb", "new", "updated", "deleted", "end")
        if bug("refuses-unknown") and any(record["type"] not in known for record in records):
            raise Failed("a record of an unknown type")

    def apply(self, records, link):
        """Applies a whole body, or nothing of it."""
        self.check_types(records)
        header = records[0]
        if bug("compares-revisions") and header["revision"] < self.revision:
            return
        state = {} if header["type"] == "snapshot" else dict(self.state)
        for record in records[1:]:
            if bug("skips-key-base64") and "key_base64" in record:
                continue
            if record["type"] in ("new", "updated"):
                state[key_of(record)] = value_of(record)
            elif record["type"] == "deleted":
                state.pop(key_of(record), None)
        if "digest" in header and not bug("ignores-digest"):
            if (header["count"], header["digest"]) != (len(state), digest(state)):
                raise Wrong(f"count or digest are wrong at {header['cursor']}")
        if header["type"] == "snapshot":
            narrowed = self.narrowed and not bug("holds-what-is-forbidden")
            if not (state or ALLOW_EMPTY or narrowed or bug("deletes-on-empty")) and self.shown:
                say(held=len(self.shown))
                self.link = self.cursor = None
                raise Failed("the new state is empty", 1)
            self.settled = False
        self.settled = self.settled or header["status"] == "in-sync" or bug("deletes-unsettled")
        self.narrowed = self.narrowed and not self.settled
        target = state if self.settled else self.shown | state
        if bug("forgets-old-state") and header["type"] == "snapshot":
            self.shown = {}
        changes = list(difference(self.shown, target))
        first = self.cursor is None
        self.state, self.shown, self.link, self.cursor = state, target, link, header["cursor"]
        self.revision = header["revision"]
        if changes or header["status"] != self.status or first:
            self.status = header["status"]
            say(cursor=self.cursor, status=self.status, count=len(target), digest=digest(target), changes=changes)

    def poll(self):
        if self.link is None:
            self.apply(*self.records(self.path("/v1/breadcrumbs/current")))
            self.failures = 0
        else:
            target = self.link
            if bug("builds-links"):
                target = f"/v1/breadcrumbs/{self.cursor}/next"
            wait = "0ms" if bug("polls-without-waiting") else f"{int(LIMIT * 500)}ms"
            before, asked = self.link, time.monotonic()
            records, link = self.records(target + ("&" if "?" in target else "?") + "wait=" + wait)
            if records:
                self.apply(records, link)
            elif bug("reads-state-when-behind") and link == self.link:
                raise Gone("nothing new")
            elif not bug("ignores-204"):
                self.link = link
            moved = link != before or time.monotonic() - asked > 1
            if not moved and not bug("asks-at-once-again"):
                self.rest()
            else:
                self.failures = 0

    def stream(self):
        target = self.path("/v1/stream")
        if self.link is not None:
            target += ("&" if "?" in target else "?") + "from=" + self.link
        kind = "text/event-stream" if OPTIONS.events else "application/x-ndjson"
        answer = self.get(target, kind + "; values=string")
        rights = answer.getheader("Crumbd-Rights")
        records = []
        for line in self.lines(answer):
            if line.get("type") in ("snapshot", "breadcrumb"):
                records = [line]
            elif line.get("type") == "reset":
                self.link, records = None, []
                self.narrowed = self.narrowed or line["reason"] == "permission-changed"
            elif line.get("type") == "end" and records:
                cursor = records[0]["cursor"] + ("~" + rights if rights else "")
                if records[0]["mode"] == "none" and not bug("ignores-204"):
                    self.link = cursor
                elif records[0]["mode"] != "none":
                    self.apply(records, cursor)
                records = []
            elif records:
                records.append(line)
            self.failures = 0
        raise Failed("the stream has ended")

    def lines(self, answer):
        """The records of a stream. An event counts when it is whole, with the empty line."""
        event, identifier = [], None
        while line := answer.readline():
            text = line.rstrip(b"\n").decode()
            if not OPTIONS.events:
                yield json.loads(text) if text else {}
            elif text.startswith("data: "):
                event.append(json.loads(text[6:]))
            elif text.startswith("id: "):
                identifier = text[4:]
            elif text.startswith(":"):
                yield {}
            elif not text:
                yield from event
                if not event and identifier and not bug("ignores-204"):
                    self.link = identifier
                event, identifier = [], None

    def pause(self, failure):
        say(retry=str(failure))
        if self.connection is not None:
            self.connection.close()
        self.connection = None
        if failure.after is not None:
            return time.sleep(failure.after + random.uniform(0, 1))
        self.replica = (self.replica + 1) % len(BASES)
        if bug("reads-state-after-failure"):
            self.link = None
        self.rest()

    def rest(self):
        """A pause that is random, and longer after each failure."""
        most = min(LONGEST_PAUSE, 0.25 * 2 ** min(self.failures, 10))
        self.failures += 1
        if bug("regular-pauses"):
            time.sleep(1.5)
        elif not bug("hot-loop"):
            time.sleep(random.uniform(0.01, most))

    def run(self):
        while True:
            try:
                self.stream() if STREAM else self.poll()
            except Fatal as fatal:
                say(fatal=str(fatal))
                os._exit(1)
            except Gone:
                self.link = None
            except Wrong as wrong:
                self.link = None
                self.pause(Failed(str(wrong)))
            except Failed as failed:
                self.pause(failed)
            except (OSError, http.client.HTTPException, ValueError) as error:
                self.pause(Failed(f"{type(error).__name__}: {error}"))


def end_with_stdin():
    sys.stdin.read()
    os._exit(0)


threading.Thread(target=end_with_stdin, daemon=True).start()
Client().run()
