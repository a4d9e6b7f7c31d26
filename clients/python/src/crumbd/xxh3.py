"""XXH3-128 (seed 0) in plain Python, for where the package `xxhash` is not installed.

The hash has one method for each class of lengths: 0, 1–3, 4–8, 9–16, 17–128, 129–240, and longer.
All arithmetic is modulo 2^64; the result is one integer, high half first.
"""

from __future__ import annotations

from struct import Struct, unpack_from

_MASK = 0xFFFF_FFFF_FFFF_FFFF
_LOW = 0xFFFF_FFFF

_P32_1, _P32_2, _P32_3 = 0x9E3779B1, 0x85EBCA77, 0xC2B2AE3D
_P64_1, _P64_2, _P64_3 = 0x9E3779B185EBCA87, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9
_P64_4, _P64_5 = 0x85EBCA77C2B2AE63, 0x27D4EB2F165667C5
_MIX_1, _MIX_2 = 0x165667919E3779F9, 0x9FB21C651E98DF25

_SECRET = bytes.fromhex(
    "b8fe6c3923a44bbe7c01812cf721ad1cded46de9839097db7240a4a4b7b3671f"
    "cb79e64eccc0e578825ad07dccff7221b8084674f743248ee03590e6813a264c"
    "3c2852bb91c300cb88d0658b1b532ea371644897a20df94e3819ef46a9deacd8"
    "a8fa763fe39c343ff9dcbbc7c70b4f1d8a51e04bcdb45931c89f7ec9d9787364"
    "eac5ac8334d3ebc3c581a0fffa1363eb170ddd51b7f0da49d316552629d4689e"
    "2b16be587d47a1fc8ff8b8d17ad031ce45cb3a8f95160428afd7fbcabb4b407e"
)

_EIGHT = Struct("<8Q")


def _u64(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 8], "little")


def _secret(at: int) -> int:
    return _u64(_SECRET, at)


_STRIPE_KEYS = tuple(_EIGHT.unpack_from(_SECRET, 8 * n) for n in range(16))
_SCRAMBLE_KEYS = _EIGHT.unpack_from(_SECRET, 128)
_LAST_KEYS = _EIGHT.unpack_from(_SECRET, 121)
_EMPTY_KEYS = (_secret(64) ^ _secret(72), _secret(80) ^ _secret(88))
_SHORT_KEYS = (
    int.from_bytes(_SECRET[0:4], "little") ^ int.from_bytes(_SECRET[4:8], "little"),
    int.from_bytes(_SECRET[8:12], "little") ^ int.from_bytes(_SECRET[12:16], "little"),
)
_KEY_4_TO_8 = _secret(16) ^ _secret(24)
_KEYS_9_TO_16 = (_secret(32) ^ _secret(40), _secret(48) ^ _secret(56))


def _avalanche(h: int) -> int:
    h ^= h >> 37
    h = h * _MIX_1 & _MASK
    return h ^ h >> 32


def _avalanche_64(h: int) -> int:
    """The last step of XXH64, which the shortest inputs use."""
    h ^= h >> 33
    h = h * _P64_2 & _MASK
    h ^= h >> 29
    h = h * _P64_3 & _MASK
    return h ^ h >> 32


def _fold(a: int, b: int) -> int:
    product = a * b
    return (product & _MASK) ^ product >> 64


def _mix_32(low: int, high: int, data: bytes, first: int, second: int, key: int) -> tuple[int, int]:
    """Mixes two pieces of 16 bytes into both halves."""
    a, b = unpack_from("<2Q", data, first)
    c, d = unpack_from("<2Q", data, second)
    k0, k1, k2, k3 = unpack_from("<4Q", _SECRET, key)
    low = (low + _fold(a ^ k0, b ^ k1) & _MASK) ^ (c + d & _MASK)
    high = (high + _fold(c ^ k2, d ^ k3) & _MASK) ^ (a + b & _MASK)
    return low, high


def _close_middle(low: int, high: int, length: int) -> int:
    last = (low * _P64_1 + high * _P64_4 + length * _P64_2) & _MASK
    return (-_avalanche(last) & _MASK) << 64 | _avalanche(low + high & _MASK)


def _up_to_16(data: bytes) -> int:
    length = len(data)
    if length > 8:
        first, last = _u64(data, 0), _u64(data, length - 8)
        product = (first ^ last ^ _KEYS_9_TO_16[0]) * _P64_1
        low, high = (product & _MASK) + (length - 1 << 54) & _MASK, product >> 64
        last ^= _KEYS_9_TO_16[1]
        high = high + last + (last & _LOW) * (_P32_2 - 1) & _MASK
        low ^= int.from_bytes(high.to_bytes(8, "little"), "big")
        product = low * _P64_2
        high = (product >> 64) + high * _P64_2 & _MASK
        return _avalanche(high) << 64 | _avalanche(product & _MASK)
    if length > 3:
        joined = int.from_bytes(data[:4], "little") | int.from_bytes(data[-4:], "little") << 32
        product = (joined ^ _KEY_4_TO_8) * (_P64_1 + (length << 2))
        low, high = product & _MASK, product >> 64
        high = high + (low << 1) & _MASK
        low ^= high >> 3
        low ^= low >> 35
        low = low * _MIX_2 & _MASK
        low ^= low >> 28
        return _avalanche(high) << 64 | low
    if length > 0:
        joined = data[0] << 16 | data[length >> 1] << 24 | data[-1] | length << 8
        swapped = int.from_bytes(joined.to_bytes(4, "little"), "big")
        swapped = (swapped << 13 | swapped >> 19) & _LOW
        low, high = joined ^ _SHORT_KEYS[0], swapped ^ _SHORT_KEYS[1]
        return _avalanche_64(high) << 64 | _avalanche_64(low)
    return _avalanche_64(_EMPTY_KEYS[1]) << 64 | _avalanche_64(_EMPTY_KEYS[0])


def _up_to_128(data: bytes) -> int:
    length = len(data)
    low, high = length * _P64_1 & _MASK, 0
    for step in range((length - 1) // 32, -1, -1):
        at = 16 * step
        low, high = _mix_32(low, high, data, at, length - 16 - at, 32 * step)
    return _close_middle(low, high, length)


def _up_to_240(data: bytes) -> int:
    length = len(data)
    low, high = length * _P64_1 & _MASK, 0
    for at in range(0, 128, 32):
        low, high = _mix_32(low, high, data, at, at + 16, at)
    low, high = _avalanche(low), _avalanche(high)
    for at in range(128, length - 31, 32):
        low, high = _mix_32(low, high, data, at, at + 16, at - 125)
    low, high = _mix_32(low, high, data, length - 16, length - 32, 103)
    return _close_middle(low, high, length)


def _accumulate(lanes: list[int], data: bytes, at: int, keys: tuple[int, ...]) -> None:
    words = _EIGHT.unpack_from(data, at)
    for lane in range(8):
        word = words[lane]
        keyed = word ^ keys[lane]
        lanes[lane] = lanes[lane] + (keyed & _LOW) * (keyed >> 32) & _MASK
        lanes[lane ^ 1] = lanes[lane ^ 1] + word & _MASK


def _merge(lanes: list[int], key: int, start: int) -> int:
    keys = _EIGHT.unpack_from(_SECRET, key)
    for pair in range(0, 8, 2):
        start += _fold(lanes[pair] ^ keys[pair], lanes[pair + 1] ^ keys[pair + 1])
    return _avalanche(start & _MASK)


def _long(data: bytes) -> int:
    length = len(data)
    lanes = [_P32_3, _P64_1, _P64_2, _P64_3, _P64_4, _P32_2, _P64_5, _P32_1]
    stripes = (length - 1) // 64
    for stripe in range(stripes):
        _accumulate(lanes, data, 64 * stripe, _STRIPE_KEYS[stripe % 16])
        if stripe % 16 == 15:
            for lane in range(8):
                value = lanes[lane]
                lanes[lane] = (value ^ value >> 47 ^ _SCRAMBLE_KEYS[lane]) * _P32_1 & _MASK
    _accumulate(lanes, data, length - 64, _LAST_KEYS)
    low = _merge(lanes, 11, length * _P64_1 & _MASK)
    high = _merge(lanes, 117, ~(length * _P64_2) & _MASK)
    return high << 64 | low


def xxh3_128(data: bytes) -> int:
    """The hash as one integer of 128 bits."""
    length = len(data)
    if length <= 16:
        return _up_to_16(data)
    if length <= 128:
        return _up_to_128(data)
    if length <= 240:
        return _up_to_240(data)
    return _long(data)
