"""How long to pause after a failure: full jitter with a growing ceiling, and a token bucket over everything."""

from __future__ import annotations

import email.utils
import random
import time
from collections.abc import Callable

FIRST_CEILING = 0.25
LAST_CEILING = 30.0
SHORTEST_PAUSE = 0.02
"""Jitter may draw nearly nothing; a request is never repeated in the same instant."""

BURST = 3.0
REFILL_PER_SECOND = 1.0
"""With both, at most 9 requests are made in the first 5 s of an outage, whatever jitter draws."""

LONGEST_RETRY_AFTER = 300.0
"""A `Retry-After` beyond this is taken for this: the daemon itself says at most a minute."""


class Pacer:
    """Pauses between requests that led nowhere."""

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, chance: Callable[[], float] = random.random
    ) -> None:
        self._clock = clock
        self._chance = chance
        self._failures = 0
        self._outage_since = 0.0
        self._tokens = BURST
        self._refilled = clock()

    def succeeded(self) -> None:
        """Progress was made: the next failure begins a new outage. The bucket stays as it is."""
        self._failures = 0

    def failed(self) -> float:
        """The pause after a failure.

        The ceiling doubles with each failure, but stays below the time that the outage has lasted, twice, and a second.
        So a client that drew many short pauses is back soon after a short outage.
        """
        now = self._clock()
        if self._failures == 0:
            self._outage_since = now
        self._failures = min(self._failures + 1, 32)
        ceiling = min(FIRST_CEILING * 2.0 ** (self._failures - 1), LAST_CEILING, 1.0 + 2.0 * (now - self._outage_since))
        return max(SHORTEST_PAUSE, self._chance() * ceiling, self._take_token())

    def throttle(self) -> float:
        """The pause before a request that is no failure, but must not be made in a loop without one."""
        return self._take_token()

    def told(self, retry_after: float) -> float:
        """The pause for a `Retry-After`: at least what was said, and up to a second more."""
        if self._failures == 0:
            self._outage_since, self._failures = self._clock(), 1
        return min(retry_after, LONGEST_RETRY_AFTER) + self._chance()

    def _take_token(self) -> float:
        now = self._clock()
        self._tokens = min(BURST, self._tokens + (now - self._refilled) * REFILL_PER_SECOND)
        self._refilled = now
        self._tokens -= 1.0
        return max(0.0, -self._tokens / REFILL_PER_SECOND)


def retry_after(text: str | None) -> float | None:
    """The seconds of a `Retry-After`, which are whole, or a date; `None` where it is neither, or not ahead."""
    if not text:
        return None
    text = text.strip()
    if text.isascii() and text.isdecimal():
        seconds = LONGEST_RETRY_AFTER if len(text.lstrip("0")) > 9 else float(text)
    else:
        try:
            seconds = email.utils.parsedate_to_datetime(text).timestamp() - time.time()
        except (ValueError, TypeError, OverflowError):
            return None
    return seconds if seconds > 0 else None
