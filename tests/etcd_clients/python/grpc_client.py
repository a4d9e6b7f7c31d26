"""etcd3 of PyPI, which speaks gRPC.

grpc_client.py calls ENDPOINT PREFIX             makes every kind of call, and fails where an answer is not etcd's
grpc_client.py watch ENDPOINTS PREFIX REVISION   prints a line an event, up to that of the key PREFIXend
"""

import sys
import time

import etcd3
import grpc

# How long one step may take, in seconds. Reached only when it hangs.
LIMIT = 20


def same(got, wanted):
    assert got == wanted, f"{got!r}, not {wanted!r}"


def client_of(endpoint):
    host, port = endpoint.rsplit(":", 1)
    return etcd3.client(host=host, port=int(port), timeout=LIMIT)


def line(event):
    kind = "PUT" if isinstance(event, etcd3.events.PutEvent) else "DELETE"
    previous = event.prev_value.decode() if event.prev_mod_revision else "-"
    return "\t".join([str(event.mod_revision), kind, event.key.decode(), event.value.decode(), previous])


def keys(client, prefix):
    prefix += "keys/"
    client.delete_prefix(prefix)
    for name, value in [("a", "1"), ("c", "2"), ("b", "3"), ("a", "4")]:
        client.put(prefix + name, value)
    value, about = client.get(prefix + "a")
    same((value, about.version, about.mod_revision - about.create_revision), (b"4", 2, 3))
    same(about.response_header.revision, about.mod_revision)
    same(client.get(prefix + "absent"), (None, None))
    same(client.get(prefix + "a", serializable=True)[0], b"4")
    same([value for value, _ in client.get_prefix(prefix)], [b"4", b"3", b"2"])
    same(
        [value for value, _ in client.get_prefix(prefix, sort_order="descend", sort_target="create")],
        [b"3", b"2", b"4"],
    )
    same([about.key for _, about in client.get_range(prefix + "a", prefix + "b")], [prefix.encode() + b"a"])
    assert prefix.encode() + b"c" in [about.key for _, about in client.get_all()]
    same(client.put(prefix + "a", "5", prev_kv=True).prev_kv.value, b"4")
    same(client.delete(prefix + "a"), True)
    same(client.delete(prefix + "a"), False)
    same(client.delete_prefix(prefix).deleted, 2)


def transactions(client, prefix):
    key, of = prefix + "transaction", client.transactions
    client.delete(key)
    same(client.put_if_not_exists(key, "1"), True)
    same(client.put_if_not_exists(key, "2"), False)
    same(client.replace(key, "2", "3"), False)
    same(client.replace(key, "1", "3"), True)
    succeeded, answers = client.transaction(
        compare=[of.value(key) == "3", of.version(key) > 7],
        success=[of.delete(key)],
        failure=[of.put(key + "/b", "4"), of.get(key)],
    )
    same((succeeded, answers[1][0][0]), (False, b"3"))
    succeeded, _ = client.transaction(
        compare=[of.create(key + "/b") > 0, of.mod(key) < 1 << 40],
        success=[of.delete(key), of.delete(key + "/b")],
        failure=[],
    )
    same((succeeded, client.get(key)), (True, (None, None)))


def leases(client, prefix):
    key = prefix + "lease"
    lease = client.lease(30)
    client.put(key, "1", lease=lease)
    same((lease.granted_ttl, list(lease.keys)), (30, [key.encode()]))
    for _ in range(3):
        same([answer.TTL for answer in lease.refresh()], [30])
    assert 0 < lease.remaining_ttl <= 30
    same(client.get(key)[1].lease_id, lease.id)
    lease.revoke()
    same(client.get(key), (None, None))

    # One that nobody keeps alive.
    client.put(key, "2", lease=client.lease(1))
    written = client.get(key)[1].mod_revision
    ended = client.watch_once(key, timeout=LIMIT, start_revision=written + 1)
    assert isinstance(ended, etcd3.events.DeleteEvent), ended

    with client.lock("crumbd", ttl=30) as lock:
        assert lock.is_acquired()
    assert not lock.is_acquired()


def watches(client, prefix):
    prefix += "watches/"
    client.delete_prefix(prefix)
    client.put(prefix + "a", "1")
    first = client.get(prefix + "a")[1].mod_revision
    client.put(prefix + "a", "2")
    client.delete(prefix + "a")
    events, cancel = client.watch_prefix(prefix, start_revision=first, prev_kv=True)
    told = [line(next(events)) for _ in range(3)]
    wanted = [("PUT", "1", "-"), ("PUT", "2", "1"), ("DELETE", "", "2")]
    same(
        told,
        [f"{first + n}\t{kind}\t{prefix}a\t{value}\t{old}" for n, (kind, value, old) in enumerate(wanted)],
    )
    client.put(prefix + "b", "3")
    same(line(next(events)), f"{first + 3}\tPUT\t{prefix}b\t3\t-")
    # A second one on the same stream.
    others, cancel_others = client.watch(prefix + "b", start_revision=first)
    same(next(others).value, b"3")
    cancel_others()
    client.put(prefix + "c", "4")
    same(next(events).value, b"4")
    cancel()
    same(list(events), [])


def others(client):
    (member,) = client.members
    status = client.status()
    same(status.leader.id, member.id)
    same(list(client.list_alarms()), [])


def watch(endpoints, prefix, revision):
    """The client takes one endpoint: one that fails is left for another."""
    place = 0
    while True:
        client = client_of(endpoints[place])
        try:
            events, _ = client.watch_prefix(prefix, start_revision=revision, prev_kv=True)
            for event in events:
                print(line(event), flush=True)
                revision = event.mod_revision + 1
                if event.key.decode() == prefix + "end":
                    return
        except (etcd3.exceptions.Etcd3Exception, grpc.RpcError):
            # Neither may be there for a moment.
            time.sleep(0.05)
        client.close()
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
