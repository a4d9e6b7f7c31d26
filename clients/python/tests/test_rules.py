"""The rules of a client, each with a scripted daemon: for threads and asyncio, by long polls and by streams."""

from __future__ import annotations

import gzip
import unittest
from typing import TYPE_CHECKING

import crumbd
from crumbd.digest import digest_of

from .scripted_daemon import (
    CLOSE,
    HANG,
    LAST_CHUNK,
    Reply,
    ScriptedDaemon,
    answer,
    breadcrumb,
    chunk,
    http,
    lines,
    nothing,
    problem,
    snapshot,
    stream_head,
)
from .watched_follower import WatchedFollower

if TYPE_CHECKING:
    from typing_extensions import Unpack

A = {b"a": b"1", b"b": b"2"}
B = {b"a": b"1", b"b": b"3"}


def told(event: crumbd.Event) -> dict[bytes, tuple[str, bytes | None, bytes | None]]:
    return {change.key: (change.type, change.old, change.value) for change in event.changes}


class Rules:
    """The classes of tests. They are within this one so that they run only as what is made of them below."""

    class Base(unittest.TestCase):
        with_asyncio = False
        streaming = False

        def follow(self, *daemons: ScriptedDaemon, **settings: Unpack[crumbd.Settings]) -> WatchedFollower:
            settings["transport"] = "stream" if self.streaming else "poll"
            url = ",".join(daemon.url for daemon in daemons)
            follower = WatchedFollower(url, self.with_asyncio, **settings)
            self.addCleanup(follower.close)
            return follower

        def daemon(self, *script: Reply, repeat_last: bool = False) -> ScriptedDaemon:
            daemon = ScriptedDaemon(*script, repeat_last=repeat_last)
            self.addCleanup(daemon.close)
            return daemon

        def bodies(self, **bodies: bytes) -> list[Reply]:
            """Replies with these bodies, one after the other, by cursor. A stream is left open."""
            if self.streaming:
                return [[stream_head(), *(chunk(body) for body in bodies.values()), HANG]]
            return [[answer(body, cursor)] for cursor, body in bodies.items()]

        def begin(self, cursor: str, body: bytes) -> list[Reply]:
            """One answer, after which another request is made."""
            if self.streaming:
                return [[stream_head(), chunk(body), LAST_CHUNK]]
            return [[answer(body, cursor)]]

        def cut(self, body: bytes, cursor: str, keep: int) -> Reply:
            """A reply whose body ends after `keep` bytes, with the connection."""
            if self.streaming:
                return [stream_head(), chunk(body[:keep]), CLOSE]
            whole = answer(body, cursor)
            return [whole[: len(whole) - len(body) + keep], CLOSE]

        def is_first(self, target: str) -> bool:
            """Whether a request is for the whole state."""
            return target == ("/v1/stream" if self.streaming else "/v1/breadcrumbs/current")

        def continues(self, target: str, cursor: str) -> bool:
            return target == (f"/v1/stream?from={cursor}" if self.streaming else f"/v1/breadcrumbs/{cursor}/next")

    class Both(Base):
        def test_changes_have_true_types_and_old_values(self) -> None:
            after = {b"b": b"3", b"c": b""}
            daemon = self.daemon(
                *self.bodies(c1=snapshot("c1", A), c2=breadcrumb("c2", {b"b": b"3", b"a": None, b"c": b""}, after))
            )
            first, second = self.follow(daemon).wait_for_events(2)
            self.assertEqual(told(first), {b"a": ("new", None, b"1"), b"b": ("new", None, b"2")})
            self.assertFalse(first.resync)
            self.assertEqual(
                told(second),
                {b"a": ("deleted", b"1", None), b"b": ("updated", b"2", b"3"), b"c": ("new", None, b"")},
            )
            self.assertEqual(
                (second.cursor, second.count, second.digest, second.in_sync), ("c2", 2, digest_of(after), True)
            )

        def test_a_body_that_is_cut_off_counts_for_nothing(self) -> None:
            body = breadcrumb("c2", {b"b": b"3"}, B)
            for keep in (0, 30, len(body) - 60, len(body) - 1):
                with self.subTest(keep=keep):
                    daemon = self.daemon(
                        *self.begin("c1", snapshot("c1", A)),
                        self.cut(body, "c2", keep),
                        *self.bodies(c2=body),
                    )
                    follower = self.follow(daemon)
                    events = follower.wait_for_events(2)
                    self.assertEqual(told(events[1]), {b"b": ("updated", b"2", b"3")})
                    requests = daemon.wait_for_requests(3)
                    self.assertTrue(self.continues(requests[1].target, "c1"), requests)
                    self.assertTrue(self.continues(requests[2].target, "c1"), requests)
                    self.assertGreater(requests[2].at - requests[1].at, 0.015)
                    self.assertTrue(follower.notices)

        def test_a_first_body_that_is_cut_off_is_asked_for_again(self) -> None:
            daemon = self.daemon(self.cut(snapshot("c1", A), "c1", 200), *self.bodies(c1=snapshot("c1", A)))
            self.assertEqual(self.follow(daemon).wait_for_events(1)[0].count, 2)
            self.assertTrue(all(self.is_first(request.target) for request in daemon.wait_for_requests(2)[:2]))

        def test_a_digest_or_count_that_differs_makes_it_read_the_whole_state(self) -> None:
            for wrong in ({"digest": "0" * 32}, {"count": 7}):
                with self.subTest(wrong=wrong):
                    daemon = self.daemon(
                        *self.begin("c1", snapshot("c1", A)),
                        *self.begin("c2", breadcrumb("c2", {b"b": b"x"}, B, **wrong)),
                        *self.bodies(c3=snapshot("c3", B)),
                    )
                    events = self.follow(daemon).wait_for_events(2)
                    self.assertEqual(told(events[1]), {b"b": ("updated", b"2", b"3")})
                    self.assertTrue(events[1].resync)
                    self.assertTrue(self.is_first(daemon.wait_for_requests(3)[2].target))

        def test_without_the_check_a_wrong_digest_is_taken(self) -> None:
            daemon = self.daemon(*self.bodies(c1=snapshot("c1", A, digest="0" * 32)))
            event = self.follow(daemon, check_digest=False).wait_for_events(1)[0]
            self.assertEqual((event.count, event.digest), (2, None))

        def test_410_leads_to_the_difference_of_the_whole_state(self) -> None:
            new = {b"b": b"2", b"c": b"3"}
            daemon = self.daemon(
                *self.begin("c1", snapshot("c1", A)),
                [problem(410, kind="cursor-gone")],
                *self.bodies(c9=snapshot("c9", new)),
            )
            events = self.follow(daemon).wait_for_events(2)
            self.assertEqual(told(events[1]), {b"a": ("deleted", b"1", None), b"c": ("new", None, b"3")})
            self.assertTrue(events[1].resync)
            self.assertTrue(self.is_first(daemon.wait_for_requests(3)[2].target))

        def test_rights_that_change_while_it_waits_lead_to_another_state(self) -> None:
            daemon = self.daemon(
                *self.begin("c1", snapshot("c1", A)),
                [problem(403, kind="permission-changed")],
                *self.bodies(c2=snapshot("c2", B)),
            )
            events = self.follow(daemon).wait_for_events(2)
            self.assertTrue(events[1].resync)
            self.assertTrue(self.is_first(daemon.wait_for_requests(3)[2].target))

        def test_after_a_resync_deletions_wait_for_in_sync(self) -> None:
            partial = {b"b": b"3"}
            final = {b"b": b"3", b"d": b"4"}
            daemon = self.daemon(
                *self.begin("c1", snapshot("c1", A | {b"c": b"x"})),
                [problem(410)],
                *self.bodies(
                    c2=snapshot("c2", partial, status="resync-in-progress"),
                    c3=breadcrumb("c3", {b"a": b"1"}, partial | {b"a": b"1"}, status="resync-in-progress"),
                    c4=breadcrumb("c4", {b"a": None}, partial, status="resync-in-progress"),
                    c5=breadcrumb("c5", {b"d": b"4"}, final),
                ),
            )
            follower = self.follow(daemon)
            events = follower.wait_for_events(3)
            self.assertEqual(told(events[1]), {b"b": ("updated", b"2", b"3")})
            seen = B | {b"c": b"x"}
            self.assertEqual((events[1].count, events[1].digest), (3, digest_of(seen)))
            self.assertEqual(
                told(events[2]),
                {b"a": ("deleted", b"1", None), b"c": ("deleted", b"x", None), b"d": ("new", None, b"4")},
            )
            self.assertEqual(events[2].digest, digest_of(final))
            self.assertEqual(follower.notices[1:] if self.streaming else follower.notices, [])

        def test_an_empty_state_after_a_resync_is_held(self) -> None:
            empty = self.begin("c2", snapshot("c2", {}))
            daemon = self.daemon(
                *self.begin("c1", snapshot("c1", A)),
                [problem(410)],
                *empty,
                *empty,
                *self.bodies(c3=snapshot("c3", B)),
            )
            follower = self.follow(daemon)
            events = follower.wait_for_events(2)
            self.assertEqual(told(events[1]), {b"b": ("updated", b"2", b"3")})
            held = [notice.keys for notice in follower.notices if isinstance(notice, crumbd.Holding)]
            self.assertEqual(held, [2, 2])
            requests = daemon.wait_for_requests(5)
            self.assertTrue(all(self.is_first(request.target) for request in requests[2:5]))

        def test_an_empty_state_is_taken_where_the_application_agreed(self) -> None:
            daemon = self.daemon(
                *self.begin("c1", snapshot("c1", A)), [problem(410)], *self.bodies(c2=snapshot("c2", {}))
            )
            events = self.follow(daemon, allow_empty=True).wait_for_events(2)
            self.assertEqual({kind for kind, _, _ in told(events[1]).values()}, {"deleted"})
            self.assertEqual((events[1].count, events[1].digest), (0, "0" * 32))

        def test_a_state_that_becomes_empty_by_deletions_is_just_that(self) -> None:
            daemon = self.daemon(*self.bodies(c1=snapshot("c1", A), c2=breadcrumb("c2", {b"a": None, b"b": None}, {})))
            self.assertEqual(self.follow(daemon).wait_for_events(2)[1].count, 0)

        def test_retry_after_is_kept(self) -> None:
            for status in (429, 503):
                with self.subTest(status=status):
                    daemon = self.daemon(
                        *self.begin("c1", snapshot("c1", A)),
                        [problem(status, Retry_After="1")],
                        *self.bodies(c2=breadcrumb("c2", {b"b": b"3"}, B)),
                    )
                    self.follow(daemon).wait_for_events(2)
                    requests = daemon.wait_for_requests(3)
                    self.assertGreaterEqual(requests[2].at - requests[1].at, 1.0)
                    self.assertTrue(self.continues(requests[2].target, "c1"))

        def test_a_refusal_ends_it_with_the_detail(self) -> None:
            for status in (400, 401, 403, 404, 406):
                with self.subTest(status=status):
                    daemon = self.daemon([problem(status, "the daemon says why")])
                    error = self.follow(daemon).wait_for_end()
                    assert isinstance(error, crumbd.RefusedError)
                    self.assertEqual((error.status, error.detail), (status, "the daemon says why"))
                    self.assertIn("the daemon says why", str(error))

        def test_keys_and_values_are_bytes(self) -> None:
            entries = {
                b"\xff\x00": b"\x00\xfe",
                b"": b"",
                "ключ".encode(): b'{"a": 1.50, "a": 1e2, "n": 12345678901234567890}',
                b'quote"\\\n': "é\u2028\U0001f600".encode(),
            }
            daemon = self.daemon(*self.bodies(c1=snapshot("c1", entries)))
            event = self.follow(daemon).wait_for_events(1)[0]
            self.assertEqual({change.key: change.value for change in event.changes}, entries)
            self.assertEqual(event.digest, digest_of(entries))

        def test_prefixes_are_sent_as_bytes_and_proofs_may_be_absent(self) -> None:
            daemon = self.daemon(*self.bodies(c1=snapshot("c1", A, count=None, digest=None)))
            self.follow(daemon, prefix=[b"a/\xff&", "ü+ "]).wait_for_events(1)
            target = daemon.wait_for_requests(1)[0].target
            self.assertEqual(target.partition("?")[2], "prefix=a%2F%FF%26&prefix=%C3%BC%2B%20")

        def test_what_is_new_in_the_protocol_is_ignored(self) -> None:
            body = lines({"type": "note", "text": ["x"]}) + snapshot("c1", A, hint={"a": [1]}).replace(
                b'"encoding"', b'"since": 1e999, "encoding"'
            )
            body = body.replace(b'{"type": "end"', b'{"type": "note", "key": 5}\n{"type": "end"')
            daemon = self.daemon(*self.bodies(c1=body))
            self.assertEqual(self.follow(daemon).wait_for_events(1)[0].count, 2)

        def test_an_answer_that_does_not_come_is_given_up(self) -> None:
            daemon = self.daemon([HANG], *self.bodies(c1=snapshot("c1", A)))
            follower = self.follow(daemon, timeout=0.3)
            follower.wait_for_events(1)
            self.assertIn("in time", str(follower.notices[0]))

        def test_a_head_that_dribbles_is_given_up(self) -> None:
            slow: list[bytes | float] = [b"HTTP/1.1 200 OK\r\n"]
            # For longer than this test waits.
            for number in range(400):
                slow += [0.1, f"X-{number}: y\r\n".encode()]
            daemon = self.daemon(slow, *self.bodies(c1=snapshot("c1", A)))
            follower = self.follow(daemon, timeout=0.5)
            follower.wait_for_events(1)
            self.assertIn("in time", str(follower.notices[0]))

        def test_a_slow_body_that_goes_on_is_not_given_up(self) -> None:
            body = snapshot("c1", A)
            pieces: list[bytes | float] = [stream_head()] if self.streaming else [answer(body, "c1")[: -len(body)]]
            for at in range(0, len(body), 40):
                piece = body[at : at + 40]
                pieces += [chunk(piece) if self.streaming else piece, 0.1]
            follower = self.follow(self.daemon(pieces), timeout=0.6, stream_timeout=0.6)
            follower.wait_for_events(1)
            self.assertEqual(follower.notices, [])

        def test_the_last_answer_of_a_connection_is_read_to_its_end(self) -> None:
            body = snapshot("c1", A)
            if self.streaming:
                reply: Reply = [stream_head(Connection="close"), chunk(body[:50]), 0.2, chunk(body[50:]), HANG]
            else:
                whole = answer(body, "c1", Connection="close")
                reply = [whole[:-50], 0.2, whole[-50:], CLOSE]
            follower = self.follow(self.daemon(reply))
            follower.wait_for_events(1)
            self.assertEqual(follower.notices, [])

        def test_the_next_replica_goes_on_from_the_cursor(self) -> None:
            one = self.daemon(*self.begin("c1", snapshot("c1", A)), [CLOSE])
            two = self.daemon(*self.bodies(c2=breadcrumb("c2", {b"b": b"3"}, B)))
            follower = self.follow(one, two)
            follower.wait_for_events(2)
            self.assertTrue(self.continues(two.wait_for_requests(1)[0].target, "c1"))

        def test_a_replica_that_is_not_there_is_passed_over(self) -> None:
            one, two = self.daemon(), self.daemon(*self.bodies(c1=snapshot("c1", A)))
            one.stop_listening()
            self.follow(one, two).wait_for_events(1)

        def test_lower_revisions_mean_nothing(self) -> None:
            daemon = self.daemon(
                *self.begin("c9", snapshot("c9", A, revision=900)),
                [problem(410)],
                *self.bodies(
                    c1=snapshot("c1", B, revision=1), c2=breadcrumb("c2", {b"c": b"4"}, B | {b"c": b"4"}, revision=0)
                ),
            )
            self.assertEqual(self.follow(daemon).wait_for_events(3)[2].count, 3)

        def test_tokens_and_names_are_sent(self) -> None:
            daemon = self.daemon(*self.bodies(c1=snapshot("c1", A)))
            self.follow(daemon, token=lambda: "secret", client_name="agent-1").wait_for_events(1)
            headers = daemon.wait_for_requests(1)[0].headers
            self.assertEqual(
                (headers["authorization"], headers["crumbd-client"], headers["accept"]),
                ("Bearer secret", "agent-1", "application/x-ndjson; values=string"),
            )

        def test_every_other_status_is_a_failure_that_is_told_in_one_line(self) -> None:
            page = b"<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n\x1b[31m" + b"long " * 100
            json_type = {"Content_Type": "application/json"}
            steps: list[tuple[bytes, str]] = [
                (
                    http(302, b"", Location="http://me:secret@127.0.0.1:9/x"),
                    "302: it redirects to http://…@127.0.0.1:9/x",
                ),
                (b"HTTP/1.1 304 Not Modified\r\n\r\n", "304: no reason is given"),
                (http(407, b"who are you?"), "407: who are you?"),
                (problem(410, "it is gone"), "410: it is gone"),
                (http(413, b""), "413: no reason is given"),
                (http(418, b"tea"), "418: tea"),
                (problem(421, "not by\nthat name"), "421: not by that name"),
                (http(502, page), "502: <html> <head><title>502 Bad Gateway</title></head> [31mlong long"),
                (http(502, b"x" * 100_000), "502: xxx"),
                (http(200, b"{}", **json_type), "the answer is application/json"),
            ]
            for reply, said in steps:
                with self.subTest(said=said):
                    daemon = self.daemon([reply], *self.bodies(c1=snapshot("c1", A)))
                    follower = self.follow(daemon)
                    follower.wait_for_events(1)
                    self.assertTrue(all(self.is_first(request.target) for request in daemon.requests[:2]))
                    (notice,) = map(str, follower.notices)
                    self.assertIn(said, notice)
                    self.assertIn(daemon.url, notice)
                    self.assertNotRegex(notice, "[\r\n\x1b]|secret")
                    self.assertLess(len(notice), 400)
                    follower.close()

        def test_interim_answers_are_skipped(self) -> None:
            hint = b'HTTP/1.1 103 Early Hints\r\nLink: </x>; rel="next"\r\n\r\n'
            (first,) = self.bodies(c1=snapshot("c1", A))
            daemon = self.daemon([b"HTTP/1.1 100 Continue\r\n\r\n" * 20, CLOSE], [hint, hint, *first])
            follower = self.follow(daemon)
            follower.wait_for_events(1)
            self.assertEqual(len(follower.notices), 1)

        def test_an_answer_of_something_else_does_not_count(self) -> None:
            page = answer(b"<html>", "c1", Content_Type="text/html")
            daemon = self.daemon([page], *self.bodies(c1=snapshot("c1", A)))
            follower = self.follow(daemon)
            follower.wait_for_events(1)
            self.assertIn("text/html", str(follower.notices[0]))

        def test_a_line_has_a_limit(self) -> None:
            daemon = self.daemon(*self.bodies(c1=snapshot("c1", {b"a": b"x" * 5000})))
            notices = self.follow(daemon, max_line_bytes=1024).wait_for_notices(1)
            self.assertIn("1024", str(notices[0]))

        def test_an_answer_without_a_body_does_not_count(self) -> None:
            daemon = self.daemon(*self.begin("c1", b""), *self.bodies(c1=snapshot("c1", A)))
            follower = self.follow(daemon)
            follower.wait_for_events(1)
            self.assertEqual(len(follower.notices), 1)

        def test_a_last_line_without_a_line_feed_counts(self) -> None:
            body = snapshot("c1", A).rstrip(b"\n")
            daemon = self.daemon(*self.begin("c1", body))
            self.assertEqual(self.follow(daemon).wait_for_events(1)[0].count, 2)
            self.assertTrue(self.continues(daemon.wait_for_requests(2)[1].target, "c1"))

        def test_close_ends_it_at_once(self) -> None:
            follower = self.follow(self.daemon())
            follower.close()
            self.assertIsNone(follower.wait_for_end())

    class Poll(Base):
        def test_a_204_moves_the_cursor(self) -> None:
            daemon = self.daemon(
                [answer(snapshot("c1", A), "c1")],
                [nothing("c2")],
                [answer(breadcrumb("c3", {b"b": b"3"}, B), "c3")],
            )
            self.follow(daemon).wait_for_events(2)
            targets = [request.target for request in daemon.wait_for_requests(4)]
            self.assertEqual(targets[1:], [f"/v1/breadcrumbs/c{number}/next" for number in (1, 2, 3)])

        def test_answers_without_a_link_do_not_count(self) -> None:
            daemon = self.daemon(
                [answer(snapshot("c0", B), "c0", Link="")],
                [answer(snapshot("c1", A), "c1")],
                [nothing("c2", Link="")],
                [answer(breadcrumb("c3", {b"b": b"3"}, B), "c3")],
            )
            events = self.follow(daemon).wait_for_events(2)
            self.assertEqual([event.cursor for event in events], ["c1", "c3"])
            self.assertEqual(daemon.wait_for_requests(4)[3].target, "/v1/breadcrumbs/c1/next")

        def test_a_replica_that_is_behind_is_no_loop_without_a_pause(self) -> None:
            daemon = self.daemon(
                [answer(snapshot("c1", A), "c1")],
                *[[nothing("c1", Crumbd_Status="resync-in-progress")] for _ in range(5)],
                [answer(breadcrumb("c2", {b"b": b"3"}, B), "c2")],
            )
            events = self.follow(daemon).wait_for_events(2)
            self.assertEqual([event.status for event in events], ["in-sync", "in-sync"])
            requests = daemon.wait_for_requests(7)
            self.assertGreater(requests[6].at - requests[1].at, 1.0)

        def test_answers_that_move_nothing_are_met_with_pauses_and_not_told(self) -> None:
            same = answer(snapshot("c1", A), "c1")
            for stuck in (same, answer(breadcrumb("c1", {}, A), "c1"), nothing("c1")):
                with self.subTest(stuck=stuck):
                    daemon = self.daemon([same], [stuck], repeat_last=True)
                    follower = self.follow(daemon)
                    requests = daemon.wait_for_requests(6)
                    self.assertGreater(requests[5].at - requests[1].at, 0.9)
                    self.assertEqual(len(follower.events), 1)
                    follower.close()

        def test_an_empty_state_is_taken_where_rights_were_narrowed_and_only_there(self) -> None:
            changed = problem(403, kind="permission-changed")
            daemon = self.daemon(
                [answer(snapshot("c1", A), "c1")],
                [changed],
                [changed],
                [answer(snapshot("c2", {}, "resync-in-progress"), "c2")],
                [answer(breadcrumb("c3", {}, {}), "c3")],
                [answer(breadcrumb("c4", {b"b": b"2"}, {b"b": b"2"}), "c4")],
                [problem(410)],
                [answer(snapshot("c5", {}), "c5")],
                [answer(snapshot("c6", {b"b": b"3"}), "c6")],
            )
            follower = self.follow(daemon)
            events = follower.wait_for_events(5)
            self.assertEqual([event.cursor for event in events], ["c1", "c2", "c3", "c4", "c6"])
            self.assertEqual(told(events[1]), {})
            self.assertEqual(told(events[2]), {b"a": ("deleted", b"1", None), b"b": ("deleted", b"2", None)})
            self.assertEqual(told(events[4]), {b"b": ("updated", b"2", b"3")})
            self.assertEqual(sum(isinstance(notice, crumbd.Holding) for notice in follower.notices), 1)

        def test_the_link_is_followed_as_it_is(self) -> None:
            target = "/base/v1/breadcrumbs/c1/next?prefix=%ff&rights=r1"
            daemon = self.daemon(
                [answer(snapshot("c1", A), "c1", Link=f'<x>; rel="prev", <{target}>; title="a, b"; rel="next"')],
            )
            self.follow(daemon).wait_for_events(1)
            self.assertEqual(daemon.wait_for_requests(2)[1].target, target)

        def test_relative_links_are_resolved(self) -> None:
            daemon = self.daemon([answer(snapshot("c1", A), "c1", Link="<c1/next?x=1>; rel=next")])
            self.follow(daemon).wait_for_events(1)
            self.assertEqual(daemon.wait_for_requests(2)[1].target, "/v1/breadcrumbs/c1/next?x=1")

        def test_a_long_poll_waits_less_than_the_limit(self) -> None:
            daemon = self.daemon([answer(snapshot("c1", A), "c1")])
            self.follow(daemon, timeout=2.0).wait_for_events(1)
            self.assertEqual(daemon.wait_for_requests(2)[1].target, "/v1/breadcrumbs/c1/next?wait=1000ms")

        def test_gzip_is_decoded_and_has_to_be_whole(self) -> None:
            entries = {f"key-{number}".encode(): b"x" * 2000 for number in range(2000)}
            packed = gzip.compress(snapshot("c1", entries))
            daemon = self.daemon(
                [answer(packed[:-20], "c1", Content_Encoding="gzip")], [answer(packed, "c1", Content_Encoding="gzip")]
            )
            follower = self.follow(daemon)
            self.assertEqual(follower.wait_for_events(1)[0].digest, digest_of(entries))
            self.assertIn("cut off", str(follower.notices[0]))
            self.assertEqual(daemon.wait_for_requests(1)[0].headers["accept-encoding"], "gzip")

        def test_one_connection_serves_many_requests(self) -> None:
            daemon = self.daemon(
                [answer(snapshot("c1", A), "c1")],
                [nothing("c2")],
                [problem(503, Retry_After="1")],
                [answer(breadcrumb("c3", {b"b": b"3"}, B), "c3")],
            )
            self.follow(daemon).wait_for_events(2)
            self.assertEqual({request.connection for request in daemon.wait_for_requests(5)}, {1})

        def test_a_connection_that_was_closed_while_it_rested_is_no_failure(self) -> None:
            daemon = self.daemon(
                [answer(snapshot("c1", A), "c1")],
                [problem(503, Retry_After="1"), CLOSE],
                [answer(breadcrumb("c2", {b"b": b"3"}, B), "c2")],
            )
            follower = self.follow(daemon)
            follower.wait_for_events(2)
            self.assertEqual(len(follower.notices), 1)

        def test_bodies_in_chunks_end_with_the_last_chunk(self) -> None:
            body = snapshot("c1", A)
            head = stream_head(Link='</v1/breadcrumbs/c1/next>; rel="next"')
            daemon = self.daemon([head, chunk(body), CLOSE], [head, chunk(body[:99]), chunk(body[99:]), LAST_CHUNK])
            follower = self.follow(daemon)
            follower.wait_for_events(1)
            self.assertEqual(len(follower.notices), 1)

    class Stream(Base):
        def test_a_reset_leads_to_the_difference(self) -> None:
            reset = lines({"type": "reset", "reason": "cursor-gone"})
            half = breadcrumb("c2", {b"b": b"x"}, None)[:150].rpartition(b"\n")[0] + b"\n"
            daemon = self.daemon(
                [stream_head(), chunk(snapshot("c1", A)), chunk(half + reset + snapshot("c9", B)), HANG]
            )
            events = self.follow(daemon).wait_for_events(2)
            self.assertEqual(told(events[1]), {b"b": ("updated", b"2", b"3")})
            self.assertTrue(events[1].resync)

        def test_when_rights_change_it_asks_with_the_cursor_and_the_old_rights(self) -> None:
            changed = lines({"type": "reset", "reason": "permission-changed"})
            gone = lines({"type": "reset", "reason": "cursor-gone"})
            daemon = self.daemon(
                [stream_head(Crumbd_Rights="r1"), chunk(snapshot("c1", A)), chunk(changed), LAST_CHUNK],
                [stream_head(Crumbd_Rights="r2"), chunk(gone), chunk(snapshot("c1", {b"a": b"1"})), LAST_CHUNK],
                [problem(403, "no rights any more")],
            )
            follower = self.follow(daemon)
            self.assertIn("no rights any more", str(follower.wait_for_end()))
            targets = [request.target for request in daemon.requests]
            self.assertEqual(targets, ["/v1/stream", "/v1/stream?from=c1~r1", "/v1/stream?from=c1~r2"])
            self.assertEqual(told(follower.events[1]), {b"b": ("deleted", b"2", None)})

        def test_after_a_reset_that_ends_the_stream_the_whole_state_is_asked_for(self) -> None:
            reset = lines({"type": "reset", "reason": "permission-changed"})
            daemon = self.daemon([stream_head(), chunk(snapshot("c1", A)), chunk(reset), LAST_CHUNK])
            follower = self.follow(daemon)
            follower.wait_for_events(1)
            self.assertEqual(daemon.wait_for_requests(2)[1].target, "/v1/stream")
            self.assertIn("permission-changed", str(follower.notices[0]))

        def test_an_empty_state_is_taken_where_rights_were_narrowed(self) -> None:
            changed = lines({"type": "reset", "reason": "permission-changed"})
            gone = lines({"type": "reset", "reason": "cursor-gone"})
            daemon = self.daemon(
                [stream_head(Crumbd_Rights="r1"), chunk(snapshot("c1", A)), chunk(changed), LAST_CHUNK],
                [stream_head(Crumbd_Rights="r2"), chunk(gone), chunk(snapshot("c2", {})), HANG],
            )
            self.assertEqual(self.follow(daemon).wait_for_events(2)[1].count, 0)

        def test_rights_go_with_the_cursor(self) -> None:
            daemon = self.daemon([stream_head(Crumbd_Rights="r1"), chunk(snapshot("c1", A)), LAST_CHUNK])
            self.follow(daemon).wait_for_events(1)
            self.assertEqual(daemon.wait_for_requests(2)[1].target, "/v1/stream?from=c1~r1")

        def test_heartbeats_keep_a_stream_and_silence_ends_it(self) -> None:
            beats: list[bytes | float] = []
            for _ in range(10):
                beats += [0.1, chunk(b"\n")]
            daemon = self.daemon(
                [stream_head(), chunk(snapshot("c1", A)), *beats, chunk(breadcrumb("c2", {b"b": b"3"}, B)), HANG]
            )
            follower = self.follow(daemon, stream_timeout=0.5)
            follower.wait_for_events(2)
            self.assertEqual(follower.notices, [])
            self.assertEqual(daemon.wait_for_requests(2)[1].target, "/v1/stream?from=c2")

        def test_a_cursor_that_moves_without_changes_is_kept(self) -> None:
            body = breadcrumb("c2", {}, None)
            daemon = self.daemon([stream_head(), chunk(snapshot("c1", A)), chunk(body), LAST_CHUNK])
            follower = self.follow(daemon)
            self.assertEqual(daemon.wait_for_requests(2)[1].target, "/v1/stream?from=c2")
            self.assertEqual(len(follower.events), 1)


class SyncPoll(Rules.Both, Rules.Poll):
    pass


class AsyncioPoll(SyncPoll):
    with_asyncio = True


class SyncStream(Rules.Both, Rules.Stream):
    streaming = True


class AsyncioStream(SyncStream):
    with_asyncio = True


if __name__ == "__main__":
    unittest.main()
