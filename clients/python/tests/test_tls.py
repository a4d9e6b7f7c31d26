"""TLS: the authority is trusted by `ca_file` or by an SSLContext, and nobody else is."""

from __future__ import annotations

import ssl
import subprocess
import tempfile
import unittest
from pathlib import Path

from .scripted_daemon import ScriptedDaemon, answer, breadcrumb, chunk, snapshot, stream_head
from .watched_follower import WatchedFollower

A = {b"a": b"1"}


class Tls(unittest.TestCase):
    @classmethod
    def setUpClass(cls) -> None:
        directory = tempfile.TemporaryDirectory()
        cls.addClassCleanup(directory.cleanup)
        cls.certificate = Path(directory.name) / "cert.pem"
        key = Path(directory.name) / "key.pem"
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
            + ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-days", "2"]
            + ["-keyout", str(key), "-out", str(cls.certificate)],
            check=True,
            capture_output=True,
        )
        cls.server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        cls.server.load_cert_chain(cls.certificate, key)

    certificate: Path
    server: ssl.SSLContext

    def test_it_follows_over_tls(self) -> None:
        after = {b"a": b"2"}
        polls = [[answer(snapshot("c1", A), "c1")], [answer(breadcrumb("c2", {b"a": b"2"}, after), "c2")]]
        streams = [[stream_head(), chunk(snapshot("c1", A)), chunk(breadcrumb("c2", {b"a": b"2"}, after))]]
        context = ssl.create_default_context(cafile=self.certificate)
        for with_asyncio in (False, True):
            with self.subTest(with_asyncio=with_asyncio):
                with (
                    ScriptedDaemon(*polls, tls=self.server) as daemon,
                    WatchedFollower(daemon.url, with_asyncio, ca_file=str(self.certificate)) as follower,
                ):
                    self.assertEqual(follower.wait_for_events(2)[1].cursor, "c2")
                    self.assertEqual({request.connection for request in daemon.wait_for_requests(3)}, {1})
                with (
                    ScriptedDaemon(*streams, tls=self.server) as daemon,
                    WatchedFollower(daemon.url, with_asyncio, ssl_context=context, transport="stream") as follower,
                ):
                    self.assertEqual(follower.wait_for_events(2)[1].cursor, "c2")

    def test_a_certificate_of_somebody_else_is_refused(self) -> None:
        for with_asyncio in (False, True):
            with (
                self.subTest(with_asyncio=with_asyncio),
                ScriptedDaemon(tls=self.server) as daemon,
                WatchedFollower(daemon.url, with_asyncio) as follower,
            ):
                self.assertIn("CERTIFICATE_VERIFY_FAILED", str(follower.wait_for_notices(1)[0]))
                self.assertEqual(daemon.requests, [])


if __name__ == "__main__":
    unittest.main()
