//! The window against a plain list with a linear search.

use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::super::{Window, WindowEntry, WindowLimits};
use super::{Place, entry, place};

/// The window's rules over a plain list.
struct Naive {
    limits: WindowLimits,
    entries: Vec<WindowEntry<u64>>,
}

impl Naive {
    fn push(&mut self, entry: WindowEntry<u64>) -> Vec<u64> {
        let mut evicted = Vec::new();
        let now = entry.at;
        self.entries.push(entry);
        while self.entries.len() > 1
            && (self.entries.len() > self.limits.max_count || self.bytes() > self.limits.max_bytes)
        {
            evicted.push(self.entries.remove(0).item);
        }
        evicted.extend(self.expire(now));
        evicted
    }

    fn expire(&mut self, now: Instant) -> Vec<u64> {
        let mut evicted = Vec::new();
        while self.entries.len() > 1 && self.entries[1].at + self.limits.max_age < now {
            evicted.push(self.entries.remove(0).item);
        }
        evicted
    }

    fn bytes(&self) -> usize {
        let own: usize = self.entries.iter().map(|entry| entry.bytes).sum();
        own + self.entries.iter().skip(1).map(|entry| entry.replaced).sum::<usize>()
    }

    fn find(&self, index: u64) -> Place {
        let Some((oldest, newest)) = self.entries.first().zip(self.entries.last()) else {
            return Place::Gone;
        };
        if index > newest.index {
            return Place::Ahead;
        }
        if index < oldest.index {
            return Place::Gone;
        }
        for at in (0..self.entries.len()).rev() {
            if self.entries[at].index > index {
                continue;
            }
            return match self.entries.get(at + 1) {
                Some(next) if (next.first_index..next.index).contains(&index) => Place::Inside(next.item),
                Some(_) | None => Place::At(self.entries[at].item),
            };
        }
        Place::Gone
    }
}

#[derive(Debug, Clone)]
enum Step {
    /// An entry `gap` above the newest index of which the last `covers` indexes are its own.
    Push {
        gap: u64,
        covers: u64,
        bytes: usize,
        replaced: usize,
        later_ms: u64,
    },
    Expire {
        later_ms: u64,
    },
    Clear,
}

fn step() -> impl Strategy<Value = Step> {
    let push = (0..5_u64, 0..6_u64, 0..40_usize, 0..40_usize, 0..30_u64);
    prop_oneof![
        20 => push.prop_map(|(gap, covers, bytes, replaced, later_ms)| Step::Push { gap, covers, bytes, replaced, later_ms }),
        4 => (0..80_u64).prop_map(|later_ms| Step::Expire { later_ms }),
        1 => Just(Step::Clear),
    ]
}

proptest! {
    #[test]
    fn a_window_behaves_like_a_plain_list(
        steps in prop::collection::vec(step(), 1..60),
        (max_count, max_bytes, max_age_ms) in (0..12_usize, 0..200_usize, 0..100_u64),
    ) {
        let limits = WindowLimits { max_count, max_bytes, max_age: Duration::from_millis(max_age_ms) };
        let mut window = Window::new(limits);
        let mut naive = Naive { limits, entries: Vec::new() };
        let mut now = Instant::now();
        let mut index = 3;
        for step in steps {
            match step {
                Step::Push { gap, covers, bytes, replaced, later_ms } => {
                    now += Duration::from_millis(later_ms);
                    index += gap;
                    // May reach below the predecessor's index, which no caller does on purpose.
                    let pushed = entry(index.saturating_sub(covers), index, bytes, now);
                    let pushed = WindowEntry { replaced, ..pushed };
                    prop_assert_eq!(window.push(pushed.clone()), naive.push(pushed));
                }
                Step::Expire { later_ms } => {
                    now += Duration::from_millis(later_ms);
                    prop_assert_eq!(window.expire(now), naive.expire(now));
                }
                Step::Clear => {
                    let all: Vec<_> = naive.entries.drain(..).map(|entry| entry.item).collect();
                    prop_assert_eq!(window.clear(), all);
                }
            }
            prop_assert_eq!(window.len(), naive.entries.len());
            prop_assert_eq!(window.bytes(), naive.bytes());
            prop_assert_eq!(window.newest(), naive.entries.last());
            prop_assert_eq!(window.oldest(), naive.entries.first());
            for asked in 0..index + 3 {
                let found = window.find(asked);
                prop_assert_eq!(place(&found), naive.find(asked), "index {}", asked);
            }
        }
    }
}
