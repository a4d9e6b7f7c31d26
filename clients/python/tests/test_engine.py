"""The engine without I/O, with a clock that the test moves."""

from __future__ import annotations

import unittest
from collections.abc import Callable

import crumbd
from crumbd.engine import Engine, Pause, Request
from crumbd.options import Options

from .scripted_daemon import breadcrumb, snapshot

A = {b"a": b"1", b"b": b"2"}
NDJSON = {"content-type": "application/x-ndjson; values=string"}


def linked(cursor: str) -> dict[str, str]:
    return NDJSON | {"link": f'</v1/breadcrumbs/{cursor}/next>; rel="next"', "crumbd-cursor": cursor}


class Steps(unittest.TestCase):
    def setUp(self) -> None:
        self.now = 0.0
        self.notices: list[crumbd.Notice] = []

    def engine(self, chance: Callable[[], float] = lambda: 1.0, **settings: object) -> Engine:
        options = Options(on_notice=self.notices.append, **settings)  # type: ignore[arg-type]
        return Engine("http://one,http://two", options, lambda: self.now, chance)

    def request(self, engine: Engine) -> Request:
        """The next request, after the pauses before it."""
        while isinstance(step := engine.next(), Pause):
            self.now += step.seconds
        return step

    def answer(self, engine: Engine, body: bytes, cursor: str) -> list[crumbd.Event]:
        self.request(engine)
        engine.head(200, linked(cursor))
        return engine.data(body) + engine.end()

    def test_a_quiet_stream_that_ends_now_and_then_is_no_long_outage(self) -> None:
        engine = self.engine(transport="stream")
        for _ in range(10):
            self.request(engine)
            engine.head(200, NDJSON)
            engine.data(b"\n")
            self.now += 60
            engine.failed("the stream ended")
            pause = engine.next()
            assert isinstance(pause, Pause)
            self.assertLess(pause.seconds, 1)

    def test_a_snapshot_in_the_place_of_updates_is_the_whole_state(self) -> None:
        engine = self.engine()
        self.answer(engine, snapshot("c1", A), "c1")
        (event,) = self.answer(engine, snapshot("c2", {b"a": b"1"}), "c2")
        self.assertEqual(([change.key for change in event.changes], event.resync), ([b"b"], True))

    def test_an_empty_snapshot_in_the_place_of_updates_is_held_and_read_again(self) -> None:
        engine = self.engine()
        self.answer(engine, snapshot("c1", A), "c1")
        self.assertEqual(self.answer(engine, snapshot("c2", {}), "c2"), [])
        self.assertEqual(self.request(engine).target, "/v1/breadcrumbs/current")
        self.assertEqual(dict(engine.entries), A)

    def test_a_status_in_a_204_settles_a_resync(self) -> None:
        engine = self.engine()
        self.answer(engine, snapshot("c1", A), "c1")
        self.answer(engine, snapshot("c2", {b"a": b"1"}, status="resync-in-progress"), "c2")
        self.assertEqual(dict(engine.entries), A)
        self.request(engine)
        engine.head(204, linked("c3") | {"crumbd-status": "in-sync"})
        (event,) = engine.end()
        self.assertEqual([(change.type, change.key) for change in event.changes], [("deleted", b"b")])
        self.assertEqual((event.cursor, event.count), ("c3", 1))

    def test_what_was_kept_and_comes_back_the_same_is_not_told(self) -> None:
        engine = self.engine()
        self.answer(engine, snapshot("c1", A), "c1")
        self.answer(engine, snapshot("c2", {b"a": b"1"}, status="resync-in-progress"), "c2")
        (event,) = self.answer(engine, breadcrumb("c3", {b"b": b"2"}, A), "c3")
        self.assertEqual((list(event.changes), event.count), ([], 2))

    def test_bodies_that_cannot_be_read_count_for_nothing(self) -> None:
        head = b'{"type":"breadcrumb","status":"in-sync","cursor":"c2"}\n'
        end = b'{"type":"end","cursor":"c2"}\n'
        new = b'{"type":"new","key":"k","value":"v","encoding":"utf8"}\n'
        for body in (
            b"",
            head,
            end,
            new,
            head + new,
            head + head + end,
            head + end + head + end,
            head + b'{"type":"new","key":"k","value":"v"}\n' + end,
            head + b'{"type":"new","key":"k","value":1,"encoding":"utf8"}\n' + end,
            head + b'{"type":"new","key":"k","value":"v","encoding":"hex"}\n' + end,
            head + b'{"type":"new","key":"k","value":"\\ud800","encoding":"utf8"}\n' + end,
            head + b'{"type":"new","key":"k","value":"a","encoding":"base64"}\n' + end,
            head + b'{"type":"new","value":"v","encoding":"utf8"}\n' + end,
            head + b'{"type":"new","key":"k","key_base64":"aw==","value":"v","encoding":"utf8"}\n' + end,
            head + b'{"type":"deleted","key":7}\n' + end,
            head + b'{"key":"k"}\n' + end,
            head + b"[1]\n" + end,
            head + b"\xff\n" + end,
            head + b"[" * 100_000 + b"\n" + end,
            head.replace(b"}", b',"count":"2"}') + end,
            head.replace(b'"in-sync"', b"7") + end,
            head.replace(b"breadcrumb", b"snapshot") + b'{"type":"deleted","key":"a"}\n' + end,
            b'{"type":"reset","reason":"cursor-gone"}\n' + snapshot("c2", A),
        ):
            with self.subTest(body=body[:200]):
                self.notices.clear()
                engine = self.engine()
                self.answer(engine, snapshot("c1", A), "c1")
                self.assertEqual(self.answer(engine, body, "c2"), [])
                self.assertEqual((dict(engine.entries), engine.cursor, len(self.notices)), (A, "c1", 1))
                self.assertEqual(self.request(engine).target, "/v1/breadcrumbs/c1/next")

    def test_a_token_that_cannot_be_had_is_asked_for_again(self) -> None:
        tokens = iter(["", "good"])
        engine = self.engine(token=lambda: next(tokens))
        self.assertEqual(self.request(engine).headers["Authorization"], "Bearer good")
        self.assertIn("token", str(self.notices[0]))

    def test_a_link_to_another_host_keeps_the_host(self) -> None:
        engine = self.engine()
        self.request(engine)
        engine.head(200, NDJSON | {"link": '<http://evil/v1/breadcrumbs/c1/next>; rel="next"'})
        engine.data(snapshot("c1", A))
        engine.end()
        request = self.request(engine)
        self.assertEqual((request.endpoint.host, request.target), ("one", "/v1/breadcrumbs/c1/next"))


if __name__ == "__main__":
    unittest.main()
