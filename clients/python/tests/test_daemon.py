"""Against a real daemon: the binary that CRUMBD_BIN names."""

from __future__ import annotations

import http.client
import os
import random
import re
import signal
import socket
import subprocess
import tempfile
import threading
import time
import unittest
import urllib.parse
from collections.abc import Callable
from pathlib import Path

import crumbd
from crumbd.digest import digest_of

from .watched_follower import WatchedFollower

_BINARY = os.environ.get("CRUMBD_BIN", "")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


class Daemon:
    """A `push:` daemon with a state directory, which can be restarted on the same port."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.port = free_port()
        self._log = (directory / "log").open("ab")
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        self._process = subprocess.Popen(
            [_BINARY, "serve", "--feed", "push:", "--listen", f"127.0.0.1:{self.port}"]
            + ["--state-dir", str(self._directory / "state"), "--heartbeat", "1s"],
            stdout=self._log,
            stderr=self._log,
        )
        wait_for(self._is_ready, "the daemon to be ready")

    def stop(self, how: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(30)
            self._process = None

    def close(self) -> None:
        self.stop(signal.SIGKILL)
        self._log.close()

    def ask(self, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request(method, path, body, {"Content-Type": "application/octet-stream"})
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def snapshots_served(self) -> int:
        """The number of whole states that this process has answered with."""
        _, metrics = self.ask("GET", "/metrics")
        counted = re.findall(rb'^crumbd_answers_total\{[^}]*mode="snapshot"[^}]*\} (\d+)', metrics, re.MULTILINE)
        streamed = re.findall(rb'^crumbd_stream_bodies_total\{[^}]*mode="snapshot"[^}]*\} (\d+)', metrics, re.MULTILINE)
        return sum(map(int, counted + streamed))

    def _is_ready(self) -> bool:
        try:
            return self.ask("GET", "/readyz")[0] == 200
        except OSError:
            return False


def wait_for(condition: Callable[[], bool], what: str, limit: float = 30.0) -> None:
    deadline = time.monotonic() + limit
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {limit} s in vain for {what}")
        time.sleep(0.01)  # between two looks at the condition


class RandomWrites:
    """Sets and deletes keys that are any bytes, and knows the state that results."""

    def __init__(self, daemon: Daemon, seed: int) -> None:
        self._daemon = daemon
        self._chance = random.Random(seed)
        self.state: dict[bytes, bytes] = {}

    def write(self, number: int) -> None:
        for _ in range(number):
            key = b"key/%d" % self._chance.randrange(60) + self._chance.choice([b"", b"\xff\x00", "ü".encode()])
            path = "/v1/kv?key=" + urllib.parse.quote(key, safe="")
            if key in self.state and self._chance.random() < 0.3:
                del self.state[key]
                status, _ = self._daemon.ask("DELETE", path)
            else:
                self.state[key] = self._chance.choice(
                    [b"", b"1.50", b'{"a": [1e2]}', self._chance.randbytes(self._chance.randrange(3000))]
                )
                status, _ = self._daemon.ask("PUT", path, self.state[key])
            assert status == 200, status


@unittest.skipUnless(_BINARY, "CRUMBD_BIN names no binary of the daemon")
class RealDaemon(unittest.TestCase):
    def setUp(self) -> None:
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.daemon = Daemon(Path(directory.name))
        self.addCleanup(self.daemon.close)
        self.daemon.start()

    def test_followers_hold_the_state_over_restarts_without_a_second_snapshot(self) -> None:
        writes = RandomWrites(self.daemon, 1)
        writes.write(50)
        followers = {
            (with_asyncio, transport): WatchedFollower(self.daemon.url, with_asyncio, transport=transport)
            for with_asyncio in (False, True)
            for transport in ("poll", "stream")
        }
        for follower in followers.values():
            self.addCleanup(follower.close)
            follower.wait_for_events(1)
        self.assertEqual(self.daemon.snapshots_served(), len(followers))
        for how in (signal.SIGTERM, signal.SIGKILL):
            writes.write(100)
            self.daemon.stop(how)
            self.daemon.start()
            writes.write(100)
        expected = digest_of(writes.state)
        for name, follower in followers.items():
            with self.subTest(follower=name):
                follower.wait_for_digest(expected)
                self.assertEqual(follower.events[-1].count, len(writes.state))
                self.assertFalse(any(event.resync for event in follower.events))
                replayed: dict[bytes, bytes] = {}
                for event in follower.events:
                    for change in event.changes:
                        self.assertEqual(replayed.get(change.key), change.old)
                        if change.value is None:
                            del replayed[change.key]
                        else:
                            replayed[change.key] = change.value
                self.assertEqual(replayed, writes.state)
        self.assertEqual(self.daemon.snapshots_served(), 0)

    def test_a_mirror_with_a_prefix_and_gzip(self) -> None:
        many = b"".join(b'{"type":"put","key":"p/%06d","value":{"n":%d}}\n' % (n, n) for n in range(5000))
        self.assertEqual(self.daemon.ask("POST", "/v1/updates", many)[0], 200)
        for transport in ("poll", "stream"):
            with crumbd.Mirror(self.daemon.url, prefix="p/", transport=transport) as mirror:
                self.assertTrue(mirror.wait_for_sync(10))
                self.daemon.ask("PUT", "/v1/kv/q", b"1")
                self.daemon.ask("PUT", "/v1/kv/p/x", transport.encode())
                changes = mirror.changes()
                while mirror.get(b"p/x") != transport.encode():
                    self.assertTrue(changes.take(10))
                self.assertEqual(len(mirror.list(b"p/0")), 5000)
                self.assertIsNone(mirror.get(b"q"))

    def test_the_program_for_conform_ends_with_its_stdin(self) -> None:
        program = Path(__file__).parent.parent / "conform" / "crumbd_conform.py"
        python = os.environ.get("PYTHON", "python3")
        for arguments in ([], ["--asyncio"]):
            with subprocess.Popen(
                [python, str(program), *arguments],
                env=os.environ | {"CRUMBD_URL": self.daemon.url},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            ) as process:
                assert process.stdin is not None and process.stdout is not None
                limit = threading.Timer(20, process.kill)
                limit.start()
                self.assertIn(b'"count": 0', process.stdout.readline())
                process.stdin.close()
                self.assertEqual(process.wait(5), 0)
                limit.cancel()


if __name__ == "__main__":
    unittest.main()
