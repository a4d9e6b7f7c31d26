"""Pauses, with a clock that stands still until it is told otherwise."""

from __future__ import annotations

import random
import unittest
from email.utils import formatdate
from time import time

from crumbd.pacer import LONGEST_RETRY_AFTER, Pacer, retry_after


class Outage:
    """A client before a daemon that answers nothing, from second 0 on."""

    def __init__(self, chance: random.Random) -> None:
        self.now = 0.0
        self.pacer = Pacer(lambda: self.now, chance.random)
        self.requests = [0.0]
        self.pauses: list[float] = []

    def fail_until(self, end: float) -> None:
        while self.now <= end:
            self.pauses.append(self.pacer.failed())
            self.now += self.pauses[-1]
            self.requests.append(self.now)


class Pauses(unittest.TestCase):
    def test_an_outage_sees_at_most_ten_requests_in_its_first_five_seconds(self) -> None:
        for seed in range(2000):
            outage = Outage(random.Random(seed))
            outage.fail_until(5)
            self.assertLessEqual(sum(at <= 5 for at in outage.requests), 10)

    def test_a_client_is_back_within_ten_seconds_of_a_short_outage(self) -> None:
        for seed in range(2000):
            outage = Outage(random.Random(seed))
            outage.fail_until(3)
            self.assertLess(outage.requests[-1] - 3, 10)

    def test_pauses_grow_and_have_a_limit(self) -> None:
        outage = Outage(random.Random(1))
        outage.fail_until(3600)
        self.assertLessEqual(max(outage.pauses), 30)
        self.assertGreater(min(outage.pauses), 0)
        late = outage.pauses[10:]
        self.assertGreater(sum(late) / len(late), 8)

    def test_a_daemon_that_fails_after_each_success_is_asked_once_a_second(self) -> None:
        outage = Outage(random.Random(1))
        for _ in range(100):
            outage.pacer.succeeded()
            outage.now += outage.pacer.failed()
        self.assertGreater(outage.now, 95)

    def test_retry_after_is_a_number_or_a_date(self) -> None:
        self.assertEqual(retry_after("7"), 7.0)
        self.assertAlmostEqual(retry_after(formatdate(time() + 60, usegmt=True)) or 0, 60, delta=5)
        self.assertGreaterEqual(retry_after("9" * 40) or 0, LONGEST_RETRY_AFTER)
        self.assertGreaterEqual(retry_after("Wed, 21 Oct 2099 07:28:00 GMT") or 0, LONGEST_RETRY_AFTER)
        for nonsense in (None, "", "0", "-3", "1.5", "²", "soon", formatdate(0, usegmt=True)):
            self.assertIsNone(retry_after(nonsense), nonsense)

    def test_retry_after_is_kept_but_has_a_limit(self) -> None:
        pacer = Pacer(lambda: 0.0, lambda: 0.5)
        self.assertTrue(20 <= pacer.told(20) <= 21)
        self.assertLessEqual(pacer.told(10**9), LONGEST_RETRY_AFTER + 1)


if __name__ == "__main__":
    unittest.main()
