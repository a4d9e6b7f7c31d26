"""The digest of a state: the sum modulo 2^128 of XXH3-128 over `u32le(len(key)) ‖ key ‖ value` of each entry."""

from __future__ import annotations

from collections.abc import Callable, Mapping

_hash: Callable[[bytes], int]
try:
    import xxhash
except ImportError:  # the package is an optional dependency
    from .xxh3 import xxh3_128

    _hash, NATIVE = xxh3_128, False
else:
    _hash, NATIVE = xxhash.xxh3_128_intdigest, True
"""Whether the package `xxhash` computes the hashes, rather than plain Python."""

_MASK = (1 << 128) - 1


def entry_hash(key: bytes, value: bytes) -> int:
    """What one entry adds to the sum."""
    return _hash(len(key).to_bytes(4, "little") + key + value)


def hex_digest(total: int) -> str:
    """The digest as the daemon writes it: 32 lowercase hex digits."""
    return f"{total & _MASK:032x}"


def digest_of(entries: Mapping[bytes, bytes]) -> str:
    """The digest of a whole state, computed anew."""
    return hex_digest(sum(entry_hash(key, value) for key, value in entries.items()))
