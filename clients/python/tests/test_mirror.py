"""Mirrors, of threads and of asyncio, before a scripted daemon."""

from __future__ import annotations

import asyncio
import gc
import json
import threading
import unittest
from typing import Any

import crumbd
import crumbd.aio
from crumbd.digest import digest_of

from .scripted_daemon import HANG, Reply, ScriptedDaemon, answer, breadcrumb, problem, snapshot

A = {b"b/2": b"2", b"a/1": b"1", b"b/1": b"3", b"b\xff": b"4"}
AFTER = A | {b"b/1": b"30", b"b/3": b"5"}
NEXT = breadcrumb("c2", {b"b/1": b"30", b"b/3": b"5"}, AFTER)


def quiet(_notice: crumbd.Notice) -> None:
    pass


class Scripted(unittest.TestCase):
    def daemon(self, *script: Reply) -> ScriptedDaemon:
        daemon = ScriptedDaemon(*script)
        self.addCleanup(daemon.close)
        return daemon


class Mirrors(Scripted):
    def test_it_has_what_the_daemon_has(self) -> None:
        daemon = self.daemon([answer(snapshot("c1", A), "c1")], [answer(NEXT, "c2")])
        with crumbd.Mirror(daemon.url) as mirror:
            self.assertTrue(mirror.wait_for_sync(10))
            subscription = mirror.changes()
            while len(mirror) < len(AFTER):
                self.assertTrue(subscription.take(10))
            self.assertEqual(mirror.list(), sorted(AFTER.items()))
            self.assertEqual(mirror.list(b"b/"), [(b"b/1", b"30"), (b"b/2", b"2"), (b"b/3", b"5")])
            self.assertEqual(mirror.list(b"b\xff"), [(b"b\xff", b"4")])
            self.assertEqual(mirror.list(b"\xff"), [])
            self.assertEqual((mirror.get(b"b/1"), mirror.get(b"no")), (b"30", None))
            self.assertIn(b"a/1", mirror)
            self.assertEqual((mirror.digest, mirror.cursor, mirror.synced), (digest_of(AFTER), "c2", True))

    def test_a_slow_handler_gets_one_change_for_each_key(self) -> None:
        busy, go_on = threading.Event(), threading.Event()
        calls: list[list[crumbd.Change[bytes]]] = []
        done = threading.Event()

        def handle(changes: list[crumbd.Change[bytes]]) -> None:
            calls.append(changes)
            busy.set()
            go_on.wait(10)
            if len(calls) == 2:
                done.set()

        state: dict[bytes, bytes] = {b"k": b"0"}
        bodies: list[Reply] = [[answer(snapshot("c0", state), "c0")]]
        for number in range(1, 50):
            changes: dict[bytes, bytes | None] = {b"k": b"%d" % number, b"n": b"%d" % number}
            state = {b"k": b"%d" % number, b"n": b"%d" % number}
            bodies.append(
                [0.05 if number == 1 else 0.0, answer(breadcrumb(f"c{number}", changes, state), f"c{number}")]
            )
        daemon = self.daemon(*bodies)
        with crumbd.Mirror(daemon.url) as mirror:
            mirror.subscribe(handle)
            self.assertTrue(busy.wait(10))
            daemon.wait_for_requests(51)  # the mirror does not wait for its handler
            last = len(calls[0]) and mirror.get(b"k")
            self.assertEqual(last, b"49")
            go_on.set()
            self.assertTrue(done.wait(10))
            self.assertEqual(len(calls), 2)
            told = {change.key: change for change in calls[1]}
            self.assertEqual((told[b"k"].value, told[b"n"].value), (b"49", b"49"))

    def test_a_handler_that_fails_is_told_of_later_changes(self) -> None:
        daemon = self.daemon([answer(snapshot("c1", A), "c1")], [0.05, answer(NEXT, "c2")])
        calls: list[int] = []
        second = threading.Event()

        def handle(changes: list[crumbd.Change[bytes]]) -> None:
            calls.append(len(changes))
            if len(calls) == 2:
                second.set()
            raise ValueError("the handler's own fault")

        with self.assertLogs("crumbd", "ERROR"), crumbd.Mirror(daemon.url) as mirror:
            mirror.wait_for_sync(10)
            mirror.subscribe(handle)
            self.assertTrue(second.wait(10))

    def test_values_are_decoded_and_the_last_good_one_is_kept(self) -> None:
        before = {b"a": b'{"x": 1}', b"b": b"?"}
        bad = before | {b"a": b"!", b"c": b"2"}
        daemon = self.daemon(
            [answer(snapshot("c1", before), "c1")],
            [answer(breadcrumb("c2", {b"a": b"!", b"c": b"2"}, bad), "c2")],
            [HANG],
        )

        def decode(_key: bytes, value: bytes) -> Any:
            return json.loads(value)

        with crumbd.Mirror(daemon.url, decode=decode, on_notice=quiet) as mirror:
            daemon.wait_for_requests(3)
            self.assertEqual(mirror.list(), [(b"a", {"x": 1}), (b"c", 2)])
            self.assertEqual(set(mirror.undecodable), {b"a", b"b"})

    def test_a_refusal_ends_it_and_keeps_the_state(self) -> None:
        daemon = self.daemon([answer(snapshot("c1", A), "c1")], [problem(401, "who are you")])
        with crumbd.Mirror(daemon.url) as mirror:
            for _ in mirror.changes():
                pass  # ends with the mirror
            self.assertEqual(len(mirror), len(A))
            self.assertIsInstance(mirror.error, crumbd.RefusedError)
            with self.assertRaises(crumbd.RefusedError):
                mirror.wait_for_sync(1)

    def test_close_ends_subscriptions(self) -> None:
        mirror = crumbd.Mirror(self.daemon().url)
        subscription = mirror.changes()
        self.assertFalse(mirror.wait_for_sync(0.01))
        mirror.close()
        mirror.close()
        self.assertEqual(list(subscription), [])
        self.assertEqual(list(mirror.changes()), [])

    def test_it_forgets_readers_that_left_their_loop(self) -> None:
        daemon = self.daemon([answer(snapshot("c1", A), "c1")])
        with crumbd.Mirror(daemon.url) as mirror:
            mirror.wait_for_sync(10)
            for changes in mirror.changes():
                self.assertEqual(len(changes), len(A))
                break
            kept = mirror.changes()
            self.assertEqual(len(kept.take(10)), len(A))
            gc.collect()
            self.assertEqual([one for one in gc.get_objects() if isinstance(one, crumbd.Subscription)], [kept])

    def test_it_is_closed_by_its_own_handler(self) -> None:
        daemon = self.daemon([answer(snapshot("c1", A), "c1")])
        closed = threading.Event()

        def handle(_changes: list[crumbd.Change[bytes]]) -> None:
            mirror.close()
            closed.set()

        mirror = crumbd.Mirror(daemon.url)
        mirror.subscribe(handle)
        self.assertTrue(closed.wait(10))


class AsyncioMirrors(Scripted, unittest.IsolatedAsyncioTestCase):
    async def test_it_has_what_the_daemon_has(self) -> None:
        daemon = self.daemon([answer(snapshot("c1", A), "c1")], [answer(NEXT, "c2")])
        async with crumbd.aio.Mirror(daemon.url) as mirror:
            self.assertTrue(await mirror.wait_for_sync(10))
            subscription = mirror.changes()
            while len(mirror) < len(AFTER):
                self.assertTrue(await asyncio.wait_for(subscription.__anext__(), 10))
            self.assertEqual(mirror.list(b"b/"), [(b"b/1", b"30"), (b"b/2", b"2"), (b"b/3", b"5")])
            self.assertEqual((mirror.get(b"b/1"), mirror.digest), (b"30", digest_of(AFTER)))

    async def test_a_slow_handler_gets_one_change_for_each_key(self) -> None:
        busy, go_on, done = asyncio.Event(), asyncio.Event(), asyncio.Event()
        calls: list[list[crumbd.Change[bytes]]] = []

        async def handle(changes: list[crumbd.Change[bytes]]) -> None:
            calls.append(changes)
            busy.set()
            await go_on.wait()
            if len(calls) == 2:
                done.set()

        bodies: list[Reply] = [[answer(snapshot("c0", {b"k": b"0"}), "c0")]]
        for number in range(1, 50):
            state = {b"k": b"%d" % number}
            bodies.append([0.05 if number == 1 else 0.0, answer(breadcrumb(f"c{number}", state, state), f"c{number}")])
        daemon = self.daemon(*bodies)
        async with crumbd.aio.Mirror(daemon.url) as mirror:
            await mirror.wait_for_sync(10)
            mirror.subscribe(handle)
            await asyncio.wait_for(busy.wait(), 10)
            await asyncio.to_thread(daemon.wait_for_requests, 51)
            go_on.set()
            await asyncio.wait_for(done.wait(), 10)
        self.assertEqual([change.value for changes in calls for change in changes][-1], b"49")
        self.assertEqual(len(calls), 2)

    async def test_a_refusal_ends_it_and_keeps_the_state(self) -> None:
        daemon = self.daemon([answer(snapshot("c1", A), "c1")], [problem(401, "who are you")])
        async with crumbd.aio.Mirror(daemon.url) as mirror:
            async for _ in mirror.changes():
                pass
            self.assertEqual(len(mirror), len(A))
            with self.assertRaises(crumbd.RefusedError):
                await mirror.wait_for_sync(1)

    async def test_close_ends_subscriptions(self) -> None:
        async with crumbd.aio.Mirror(self.daemon().url) as mirror:
            subscription = mirror.changes()
            self.assertFalse(await mirror.wait_for_sync(0.01))
        self.assertEqual([changes async for changes in subscription], [])

    async def test_who_cancels_a_task_that_closes_it_is_not_ignored(self) -> None:
        daemon = self.daemon()

        async def use() -> None:
            async with crumbd.aio.Mirror(daemon.url) as mirror:
                await mirror.wait_for_sync(60)

        using = asyncio.ensure_future(use())
        await asyncio.to_thread(daemon.wait_for_requests, 1)
        using.cancel()
        with self.assertRaises(asyncio.CancelledError):
            await asyncio.wait_for(using, 10)

    async def test_its_handlers_live_without_the_subscription(self) -> None:
        daemon = self.daemon([answer(snapshot("c1", A), "c1")], [0.05, answer(NEXT, "c2")])
        told: asyncio.Queue[int] = asyncio.Queue()

        async def handle(changes: list[crumbd.Change[bytes]]) -> None:
            told.put_nowait(len(changes))

        async with crumbd.aio.Mirror(daemon.url) as mirror:
            await mirror.wait_for_sync(10)
            mirror.subscribe(handle)
            self.assertEqual(await asyncio.wait_for(told.get(), 10), len(A))
            gc.collect()
            self.assertEqual(await asyncio.wait_for(told.get(), 10), 2)


if __name__ == "__main__":
    unittest.main()
