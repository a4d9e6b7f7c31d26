"""Followers that are closed while they are waited for, or left in the middle."""

from __future__ import annotations

import asyncio
import gc
import threading
import unittest
from collections.abc import Generator

import crumbd
import crumbd.aio
from crumbd.events import Event

from .scripted_daemon import CLOSE, HANG, ScriptedDaemon, answer, breadcrumb, snapshot

A = {b"a": b"1"}
B = {b"a": b"2"}


class AFollowerIsClosedFromAnotherThread(unittest.TestCase):
    def test_while_the_iterating_thread_asks_for_the_next_event(self) -> None:
        ending, go_on = threading.Event(), threading.Event()

        def events() -> Generator[Event, None, None]:
            try:
                while True:
                    yield Event("c1", "in-sync", [], False, 0, None)
            finally:
                ending.set()
                go_on.wait(10)

        follower = crumbd.follow("http://127.0.0.1:1")
        follower._events = events()
        next(follower)
        closing = threading.Thread(target=follower.close)
        closing.start()
        self.assertTrue(ending.wait(10))
        # The other thread is in the middle of it: this one waits, and finds the end.
        threading.Timer(0.05, go_on.set).start()
        self.assertIsNone(next(follower, None))
        closing.join(10)
        self.assertFalse(closing.is_alive())

    def test_while_the_iterating_thread_waits(self) -> None:
        follower = crumbd.follow("http://127.0.0.1:1")
        ended = threading.Thread(target=lambda: list(follower))
        ended.start()
        follower.close()
        ended.join(10)
        self.assertFalse(ended.is_alive())
        self.assertIsNone(next(follower, None))


class AFollowerIsLeft(unittest.IsolatedAsyncioTestCase):
    def daemon(self) -> ScriptedDaemon:
        first, second = answer(snapshot("c1", A), "c1"), answer(breadcrumb("c2", B, B), "c2")
        daemon = ScriptedDaemon([first], [HANG], [second])
        self.addCleanup(daemon.close)
        return daemon

    def test_in_its_loop_and_its_connection_ends(self) -> None:
        gc.disable()
        self.addCleanup(gc.enable)
        for event in crumbd.follow(self.daemon().url):
            self.assertEqual(event.cursor, "c1")
            break
        del event
        self.assertEqual([one for one in gc.get_objects() if isinstance(one, crumbd.Follower)], [])

    def test_in_its_loop_with_asyncio(self) -> None:
        async def leave() -> None:
            async for _ in crumbd.aio.follow(self.daemon().url):
                return

        with self.assertNoLogs("asyncio"):
            asyncio.run(leave())

    async def test_while_it_waits_and_goes_on_from_its_cursor(self) -> None:
        daemon = self.daemon()
        async with crumbd.aio.follow(daemon.url) as follower:
            self.assertEqual((await asyncio.wait_for(anext(follower), 10)).cursor, "c1")
            waiting = asyncio.ensure_future(anext(follower))
            await asyncio.to_thread(daemon.wait_for_requests, 2)
            waiting.cancel()
            await asyncio.wait({waiting})
            event = await asyncio.wait_for(anext(follower), 10)
            self.assertEqual((event.cursor, event.resync), ("c2", False))
        self.assertEqual([seen.target for seen in daemon.requests][1:], ["/v1/breadcrumbs/c1/next"] * 2)

    async def test_in_a_pause_which_goes_on(self) -> None:
        notices: asyncio.Queue[crumbd.Notice] = asyncio.Queue()
        pauses = []
        with ScriptedDaemon([CLOSE], repeat_last=True) as daemon:
            async with crumbd.aio.follow(daemon.url, on_notice=notices.put_nowait) as follower:
                for _ in range(4):
                    waiting = asyncio.ensure_future(anext(follower))
                    notice = await asyncio.wait_for(notices.get(), 20)
                    assert isinstance(notice, crumbd.Retrying)
                    pauses.append(notice.pause)
                    waiting.cancel()
                    await asyncio.wait({waiting})
            asked = [seen.at for seen in daemon.requests]
        for pause, before, after in zip(pauses, asked, asked[1:], strict=False):
            self.assertGreaterEqual(after - before, pause)
