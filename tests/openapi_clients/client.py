"""A client that openapi-python-client makes of /openapi.json, in use. Its argument is the daemon's address."""

import sys
from io import BytesIO

from crumbd_client import Client
from crumbd_client.api.breadcrumbs import current, next_
from crumbd_client.api.daemon import status
from crumbd_client.api.keys import delete, get, list_, post, put, put_by_query
from crumbd_client.models import Deleted, DeletedType, Problem, Put, PutEncoding, PutType, SnapshotBody, UpdatesBody
from crumbd_client.types import File, Unset

crumbd = Client(base_url=sys.argv[1])

# The state.
snapshot = current.sync(client=crumbd)
assert isinstance(snapshot, SnapshotBody), snapshot
state = {entry.key: entry.value for entry in snapshot.entries}


def file(value: bytes) -> File:
    return File(payload=BytesIO(value))


# Writes: JSON, text, bytes.
VALUES = {"py/json": b'{"hello":[1,"two"]}', "py/text": b"plain", "py/binary": bytes([0, 255, 128, 10])}
for key, value in VALUES.items():
    written = put.sync(key, client=crumbd, body=file(value))
    assert written.changed == 1, written

# The next breadcrumb.
news = next_.sync(snapshot.cursor, client=crumbd, wait="5s")
assert isinstance(news, UpdatesBody) and news.from_ == snapshot.cursor, news
for change in news.updates:
    assert isinstance(change, Put), change
    state[change.key] = change.value
assert state["py/json"] == {"hello": [1, "two"]} and state["py/text"] == "plain", state

idle = next_.sync_detailed(news.cursor, client=crumbd, wait="0")
assert idle.status_code == 204 and idle.headers["crumbd-cursor"] == news.cursor, idle
elsewhere = ("1" if news.cursor.startswith("0") else "0") + news.cursor[1:]
gone = next_.sync_detailed(elsewhere, client=crumbd, wait="0")
assert gone.status_code == 410 and isinstance(gone.parsed, Problem), gone
assert gone.parsed.current == news.cursor, gone

# Single keys. A value is bytes, whatever its type.
for key, value in VALUES.items():
    got = get.sync_detailed(key, client=crumbd)
    assert got.status_code == 200 and got.content == value, got
absent = get.sync(key="absent", client=crumbd)
assert isinstance(absent, Problem) and absent.status == 404, absent

# A key that httpx would rewrite in a path.
assert put_by_query.sync(client=crumbd, key=".", body=file(b"1")).changed == 1

# Pages, of several prefixes.
listed = []
while True:
    more = {"start_after": listed[-1]} if listed else {}
    page = list_.sync(client=crumbd, prefix=["py/", "other/"], limit=2, **more)
    assert isinstance(page, SnapshotBody), page
    listed += [entry.key for entry in page.entries]
    if isinstance(page.more, Unset) or not page.more:
        break
assert listed == sorted(VALUES), listed

# Several changes at once.
changes = [
    Put(type_=PutType.PUT, key="py/post", value=1),
    Put(type_=PutType.PUT, key_base64="/g==", value="AP8=", encoding=PutEncoding.BASE64),
    Deleted(type_=DeletedType.DELETED, key="py/json"),
]
posted = post.sync(client=crumbd, body=changes)
assert posted.changed == 3, posted
removed = delete.sync("py/post", client=crumbd)
assert removed.changed == 1, removed

now = status.sync(client=crumbd)
assert now.status == "in-sync" and now.unwell is None and now.ingest.updates > 0, now
