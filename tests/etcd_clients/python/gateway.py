"""etcd3gw of PyPI, which speaks to etcd's JSON gateway.

gateway.py calls ENDPOINT PREFIX             makes every kind of call, and fails where an answer is not etcd's
gateway.py watch ENDPOINTS PREFIX REVISION   prints a line an event, up to that of the key PREFIXend
"""

import base64
import queue
import sys

import etcd3gw
from etcd3gw.exceptions import Etcd3Exception
from etcd3gw.lock import Lock
from etcd3gw.watch import Watcher

# How long one step may take, in seconds. Reached only when it hangs.
LIMIT = 20


def same(got, wanted):
    assert got == wanted, f"{got!r}, not {wanted!r}"


def client_of(endpoint):
    host, port = endpoint.rsplit(":", 1)
    return etcd3gw.client(host=host, port=int(port), api_path=None, timeout=LIMIT)


def end_of(prefix):
    return prefix[:-1] + chr(ord(prefix[-1]) + 1)


def revision_of(client, key):
    ((_, about),) = client.get(key, metadata=True)
    return int(about["mod_revision"])


def line(event):
    kv, previous = event["kv"], event.get("prev_kv")
    texts = [kv["key"].decode(), kv.get("value", b"").decode()]
    if previous is None:
        texts.append("-")
    else:
        texts.append(base64.b64decode(previous.get("value", "")).decode())
    return "\t".join([kv["mod_revision"], event.get("type", "PUT"), *texts])


class Events:
    """A watch of a prefix, and the events of it that wait to be read."""

    def __init__(self, client, prefix, revision):
        self.queue = queue.Queue()
        self.watcher = Watcher(
            client, prefix, self.queue.put, range_end=end_of(prefix), start_revision=revision, prev_kv=True
        )

    def next(self, limit=LIMIT):
        return self.queue.get(timeout=limit)

    def stop(self):
        self.watcher.stop()


def keys(client, prefix):
    prefix += "keys/"
    client.delete_prefix(prefix)
    for name, value in [("a", "1"), ("c", "2"), ("b", "3"), ("a", "4")]:
        client.put(prefix + name, value)
    same(client.get(prefix + "a"), [b"4"])
    same(client.get(prefix + "absent"), [])
    ((value, about),) = client.get(prefix + "a", metadata=True)
    first, last = int(about["create_revision"]), int(about["mod_revision"])
    same((value, about["version"], last - first), (b"4", "2", 3))
    same([value for value, _ in client.get_prefix(prefix)], [b"4", b"3", b"2"])
    same([value for value, _ in client.get_prefix(prefix, "descend", "create")], [b"3", b"2", b"4"])
    end = end_of(prefix)
    same(client.get(prefix, range_end=end, revision=first + 1), [b"1", b"2"])
    same(client.get(prefix, range_end=end, limit=2, serializable=True), [b"4", b"3"])
    same(client.get(prefix, range_end=end, keys_only=True), [b"", b"", b""])
    same(client.get(prefix, range_end=end, min_mod_revision=last), [b"4"])
    same(client.get(prefix, range_end=end, count_only=True), [])
    assert prefix.encode() + b"c" in [about["key"] for _, about in client.get_all()]
    try:
        client.get(prefix, revision=last + 1000)
        raise AssertionError("a revision that is not there yet was read")
    except Etcd3Exception as refused:
        assert "future revision" in refused.detail_text, refused.detail_text
    same(client.delete(prefix + "a", prev_kv=True), True)
    same(client.delete(prefix + "a"), False)
    same(client.delete_prefix(prefix), True)
    same(client.get_prefix(prefix), [])


def transactions(client, prefix):
    key = prefix + "transaction"
    client.delete(key)
    same(client.create(key, "1"), True)
    same(client.create(key, "2"), False)
    same(client.replace(key, "2", "3"), False)
    same(client.replace(key, "1", "3"), True)
    encoded = base64.b64encode(key.encode()).decode()
    read = {"request_range": {"key": encoded}}
    answer = client.transaction(
        {
            "compare": [{"key": encoded, "target": "VERSION", "result": "GREATER", "version": 7}],
            "success": [{"request_delete_range": {"key": encoded}}],
            "failure": [read, read],
        }
    )
    assert not answer.get("succeeded")
    same([one["response_range"]["count"] for one in answer["responses"]], ["1", "1"])
    same(client.get(key), [b"3"])


def leases(client, prefix):
    key = prefix + "lease"
    lease = client.lease(ttl=30)
    client.put(key, "1", lease=lease)
    same(lease.keys(), [key.encode()])
    for _ in range(3):
        same(lease.refresh(), 30)
    assert 0 < lease.ttl() <= 30
    lease.revoke()
    same(client.get(key), [])
    same(lease.refresh(), -1)

    # One that nobody keeps alive.
    lease = client.lease(ttl=1)
    client.put(key, "2", lease=lease)
    events = Events(client, key, revision_of(client, key) + 1)
    same(events.next()["type"], "DELETE")
    events.stop()

    with Lock("crumbd", ttl=30, client=client) as lock:
        assert lock.is_acquired()
        same(Lock("crumbd", ttl=30, client=client).acquire(), False)
    assert not lock.is_acquired()


def watches(client, prefix):
    prefix += "watches/"
    client.delete_prefix(prefix)
    client.put(prefix + "a", "1")
    first = revision_of(client, prefix + "a")
    client.put(prefix + "a", "2")
    client.delete(prefix + "a")
    events = Events(client, prefix, first)
    told = [line(events.next()) for _ in range(3)]
    wanted = [("PUT", "1", "-"), ("PUT", "2", "1"), ("DELETE", "", "2")]
    same(
        told,
        [f"{first + n}\t{kind}\t{prefix}a\t{value}\t{old}" for n, (kind, value, old) in enumerate(wanted)],
    )
    client.put(prefix + "b", "3")
    same(line(events.next()), f"{first + 3}\tPUT\t{prefix}b\t3\t-")
    events.stop()
    iterator, cancel = client.watch_prefix(prefix, start_revision=first, filters=["NOPUT"])
    same(next(iterator)["type"], "DELETE")
    cancel()


def others(client):
    same(len(client.members()), 1)
    status = client.status()
    same(status["leader"], status["header"]["member_id"])


def watch(endpoints, prefix, revision):
    """The client takes one endpoint, and does not say that a watch ended: one that is silent is left for another."""
    place = 0
    while True:
        try:
            events = Events(client_of(endpoints[place]), prefix, revision)
            while True:
                event = events.next(limit=1)
                print(line(event), flush=True)
                revision = int(event["kv"]["mod_revision"])
                if event["kv"]["key"].decode() == prefix + "end":
                    events.stop()
                    return
                # The writes of a revision come in one message, so this one is not left in the middle.
                revision += 1
        except queue.Empty:
            events.stop()
        except (Etcd3Exception, OSError):
            pass
        place = (place + 1) % len(endpoints)


command, endpoints, prefix, *rest = sys.argv[1:]
if command == "watch":
    watch(endpoints.split(","), prefix, int(rest[0]))
else:
    client = client_of(endpoints)
    keys(client, prefix)
    transactions(client, prefix)
    leases(client, prefix)
    watches(client, prefix)
    others(client)
