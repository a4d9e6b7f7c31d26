"""Changes for a slow reader."""

from __future__ import annotations

import random
import unittest

from crumbd import Change
from crumbd.conflate import Conflator


class Conflation(unittest.TestCase):
    def test_what_comes_and_goes_is_not_told(self) -> None:
        conflator: Conflator[int] = Conflator()
        conflator.add([Change("new", b"k", 1, None), Change("updated", b"k", 2, 1), Change("deleted", b"k", None, 2)])
        self.assertEqual((bool(conflator), conflator.take()), (False, []))

    def test_a_key_that_is_deleted_and_set_again_is_updated(self) -> None:
        conflator: Conflator[int] = Conflator()
        conflator.add([Change("deleted", b"k", None, 1), Change("new", b"k", 2, None), Change("updated", b"k", 3, 2)])
        self.assertEqual(conflator.take(), [Change("updated", b"k", 3, 1)])

    def test_a_reader_that_starts_late_is_told_of_all_keys(self) -> None:
        conflator: Conflator[int] = Conflator()
        conflator.start_with({b"k": 1})
        conflator.add([Change("updated", b"k", 2, 1)])
        self.assertEqual(conflator.take(), [Change("new", b"k", 2, None)])

    def test_any_series_of_changes_leads_to_the_same_state(self) -> None:
        for seed in range(200):
            chance = random.Random(seed)
            conflator: Conflator[int] = Conflator()
            state: dict[bytes, int] = {}
            seen: dict[bytes, int] = {}
            for value in range(200):
                key = bytes([chance.randrange(6)])
                old = state.get(key)
                if old is not None and chance.random() < 0.4:
                    del state[key]
                    conflator.add([Change("deleted", key, None, old)])
                else:
                    state[key] = value
                    conflator.add([Change("new" if old is None else "updated", key, value, old)])
                if chance.random() < 0.1:
                    for change in conflator.take():
                        self.assertEqual((seen.get(change.key), change.key in seen), (change.old, change.type != "new"))
                        if change.value is None:
                            del seen[change.key]
                        else:
                            seen[change.key] = change.value
                    self.assertEqual(seen, state)


if __name__ == "__main__":
    unittest.main()
