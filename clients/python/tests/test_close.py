"""Closing a follower from another thread than the one that iterates."""

from __future__ import annotations

import threading
import unittest
from collections.abc import Generator

import crumbd
from crumbd.events import Event


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
