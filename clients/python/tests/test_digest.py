"""The hash in plain Python, and the digest of a state."""

from __future__ import annotations

import json
import unittest
from pathlib import Path

from crumbd.digest import digest_of, entry_hash, hex_digest
from crumbd.xxh3 import xxh3_128

_VECTORS = Path(__file__).with_name("xxh3_vectors.json")
"""By length: the hash of the beginning of `_bytes`, computed by the package `xxhash`."""


def _bytes(length: int) -> bytes:
    made, state = bytearray(), 1
    while len(made) < length:
        state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
        made.append(state >> 56)
    return bytes(made)


class Digest(unittest.TestCase):
    def test_plain_python_computes_what_the_package_does(self) -> None:
        vectors = json.loads(_VECTORS.read_text())
        data = _bytes(max(map(int, vectors)))
        self.assertGreater(len(vectors), 300)
        for length, expected in vectors.items():
            self.assertEqual(f"{xxh3_128(data[: int(length)]):032x}", expected, f"of {length} bytes")

    def test_the_digest_is_the_daemons(self) -> None:
        # As a daemon answered for these two keys.
        self.assertEqual(digest_of({b"a\xff": b'{"a": 1.50}', b"b": "é".encode()}), "50ad909f2e77f099d291d49a43e176f8")
        self.assertEqual(digest_of({}), "0" * 32)

    def test_the_sum_wraps(self) -> None:
        total = entry_hash(b"a", b"1")
        self.assertEqual(hex_digest(total + 2**128), hex_digest(total))
        self.assertEqual(hex_digest(total - entry_hash(b"a", b"1")), "0" * 32)


if __name__ == "__main__":
    unittest.main()
