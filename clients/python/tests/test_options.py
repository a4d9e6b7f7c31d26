"""Settings: what is wrong with them is said at once."""

from __future__ import annotations

import dataclasses
import re
import ssl
import unittest
from pathlib import Path

import crumbd
import crumbd.aio
from crumbd import engine
from crumbd.options import Options, Settings, parse_endpoints


class SettingsAreChecked(unittest.TestCase):
    def test_settings_and_options_have_the_same_names(self) -> None:
        self.assertEqual({field.name for field in dataclasses.fields(Options)}, set(Settings.__annotations__))

    def test_the_version_is_that_of_the_package(self) -> None:
        project = Path(__file__).parent.parent.joinpath("pyproject.toml").read_text()
        self.assertEqual(re.findall(r'^version = "(.*)"', project, re.MULTILINE), [engine._VERSION])

    def test_addresses(self) -> None:
        one, two = parse_endpoints("http://[::1]:80/base/, https://host")
        self.assertEqual((str(one), one.authority, one.path), ("http://[::1]/base", "[::1]", "/base"))
        self.assertEqual((two.port, two.secure, two.authority), (443, True, "host"))
        for wrong in (
            "",
            "localhost:7811",
            "ftp://host",
            "http://",
            "http://me:secret@host",
            "ftp://me:secret@host",
            "http://host:0",
            "http://host:99999",
            "http://[::1",
            "http://host/?x=1",
            "http://ü/",
        ):
            with self.subTest(wrong=wrong):
                with self.assertRaises(ValueError) as raised:
                    crumbd.follow(wrong)
                self.assertNotIn("secret", str(raised.exception))

    def test_wrong_settings_are_refused(self) -> None:
        wrong: list[Settings] = [
            {"transport": "sse"},  # type: ignore[typeddict-item]
            {"timeout": 0},
            {"stream_timeout": -1},
            {"connect_timeout": float("nan")},
            {"token": "a\r\nb"},
            {"token": "secret\n"},
            {"ca_file": "/does/not/exist"},
            {"token": ""},
            {"client_name": "ü"},
            {"collection": "a/b"},
            {"prefix": b"x" * 20_000},
            {"max_line_bytes": 1},
            {"ca_file": "x", "ssl_context": ssl.create_default_context()},
        ]
        for settings in wrong:
            for follow in (crumbd.follow, crumbd.aio.follow):
                with self.subTest(settings=settings, follow=follow):
                    with self.assertRaises(ValueError) as raised:
                        follow("http://localhost", **settings)
                    self.assertNotIn("secret", str(raised.exception))


if __name__ == "__main__":
    unittest.main()
