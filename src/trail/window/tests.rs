//! Eviction and lookup, case by case; `model.rs` compares with a plain list.

use std::time::{Duration, Instant};

mod model;

use super::{Lookup, Window, WindowEntry, WindowLimits};

const WIDE: WindowLimits =
    WindowLimits { max_count: usize::MAX, max_bytes: usize::MAX, max_age: Duration::MAX };

fn entry(first_index: u64, index: u64, bytes: usize, at: Instant) -> WindowEntry<u64> {
    WindowEntry { index, first_index, bytes, replaced: 0, at, item: index }
}

fn window_of(limits: WindowLimits, entries: impl IntoIterator<Item = WindowEntry<u64>>) -> Window<u64> {
    let mut window = Window::new(limits);
    for entry in entries {
        drop(window.push(entry));
    }
    window
}

/// A comparable `Lookup`, with the item of the entry.
#[derive(Debug, PartialEq, Eq)]
enum Place {
    Ahead,
    Gone,
    At(u64),
    Inside(u64),
}

fn place(found: &Lookup<'_, u64>) -> Place {
    match found {
        Lookup::Ahead => Place::Ahead,
        Lookup::Gone => Place::Gone,
        Lookup::At(entry) => Place::At(entry.item),
        Lookup::Inside(entry) => Place::Inside(entry.item),
    }
}

fn found(window: &Window<u64>, index: u64) -> Place {
    place(&window.find(index))
}

#[test]
fn an_empty_window_finds_nothing() {
    let window = Window::<u64>::new(WIDE);
    assert_eq!(found(&window, 0), Place::Gone);
    assert_eq!(found(&window, u64::MAX), Place::Gone);
    assert!(window.len() == 0 && window.newest().is_none() && window.oldest().is_none());
}

#[test]
fn an_index_is_found_as_the_module_draws_it() {
    let now = Instant::now();
    let entries = [entry(1, 10, 1, now), entry(12, 13, 1, now), entry(15, 20, 1, now)];
    let window = window_of(WIDE, entries);
    let places: Vec<_> = (9..=21).map(|index| found(&window, index)).collect();
    let inside_last = || Place::Inside(20);
    assert_eq!(
        places,
        [
            Place::Gone,
            Place::At(10),
            Place::At(10),
            Place::Inside(13),
            Place::At(13),
            Place::At(13),
            inside_last(),
            inside_last(),
            inside_last(),
            inside_last(),
            inside_last(),
            Place::At(20),
            Place::Ahead,
        ]
    );
}

#[test]
fn of_several_entries_with_one_index_the_last_is_found() {
    let now = Instant::now();
    let second = WindowEntry { item: 55, ..entry(5, 5, 1, now) };
    let window = window_of(WIDE, [entry(5, 5, 1, now), second, entry(6, 6, 1, now)]);
    assert_eq!(found(&window, 5), Place::At(55));
}

#[test]
fn the_newest_stays_even_over_every_limit() {
    let now = Instant::now();
    let nothing = WindowLimits { max_count: 0, max_bytes: 0, max_age: Duration::ZERO };
    let mut window = Window::new(nothing);
    assert!(window.push(entry(1, 1, usize::MAX, now)).is_empty());
    assert_eq!(window.push(entry(2, 2, usize::MAX, now)), [1]);
    assert!(window.expire(now + Duration::from_secs(1)).is_empty());
    assert_eq!((window.len(), window.bytes()), (1, usize::MAX));
    assert_eq!(window.clear(), [2]);
    assert_eq!((window.len(), window.bytes()), (0, 0));
}

#[test]
fn the_oldest_are_evicted_first_by_count_and_by_bytes() {
    let now = Instant::now();
    let limits = WindowLimits { max_count: 3, max_bytes: 10, ..WIDE };
    let mut window = window_of(limits, (1..=3).map(|index| entry(index, index, 3, now)));
    assert_eq!(window.push(entry(4, 4, 1, now)), [1]);
    assert_eq!(window.push(entry(5, 5, 9, now)), [2, 3]);
    assert_eq!(window.oldest().map(|entry| entry.index), Some(4));
    assert_eq!(window.bytes(), 10);
}

#[test]
fn age_counts_from_when_an_entry_was_superseded() {
    let second = Duration::from_secs(1);
    let start = Instant::now();
    let limits = WindowLimits { max_age: 10 * second, ..WIDE };
    let mut window = window_of(limits, [entry(1, 1, 1, start)]);
    let after_an_hour = start + 3600 * second;
    assert!(window.expire(after_an_hour).is_empty());
    assert!(window.push(entry(2, 2, 1, after_an_hour)).is_empty(), "1 was current till now");
    assert_eq!(found(&window, 1), Place::At(1));
    assert!(window.expire(after_an_hour + 10 * second).is_empty());
    assert_eq!(window.expire(after_an_hour + 11 * second), [1]);
    assert_eq!(found(&window, 1), Place::Gone);
}

#[test]
fn an_index_that_goes_back_evicts_everything() {
    let now = Instant::now();
    let mut window = window_of(WIDE, [entry(8, 8, 1, now), entry(9, 9, 1, now)]);
    assert_eq!(window.push(entry(3, 3, 1, now)), [8, 9]);
    assert_eq!(found(&window, 9), Place::Ahead);
    assert_eq!(window.bytes(), 1);
}

#[test]
fn replaced_bytes_weigh_while_the_entry_before_is_in_the_window() {
    let now = Instant::now();
    let mut window = Window::new(WindowLimits { max_bytes: 100, ..WIDE });
    let replacing = |index, replaced| WindowEntry { replaced, ..entry(index, index, 1, now) };
    assert!(window.push(replacing(1, 500)).is_empty());
    assert_eq!(window.bytes(), 1, "there is no entry before that holds it");
    assert!(window.push(replacing(2, 60)).is_empty());
    assert_eq!(window.bytes(), 62);
    assert_eq!(window.push(replacing(3, 60)), [1]);
    assert_eq!(window.bytes(), 62);
    // More than the limit: the entry that held it is evicted, so it weighs nothing.
    assert_eq!(window.push(replacing(4, 101)), [2, 3]);
    assert_eq!((window.len(), window.bytes()), (1, 1));
    assert!(window.push(replacing(5, 7)).is_empty());
    assert_eq!((window.len(), window.bytes()), (2, 9));
}

#[test]
fn an_entry_that_grows_evicts_older_ones_and_itself_but_never_the_newest() {
    let now = Instant::now();
    let filled = || {
        let mut window = Window::new(WindowLimits { max_bytes: 10, ..WIDE });
        (1..=3).for_each(|index| drop(window.push(entry(index, index, 2, now))));
        window
    };
    let mut window = filled();
    assert_eq!(window.grow(|item| *item == 2, 4), Vec::<u64>::new());
    assert_eq!(window.grow(|item| *item == 2, 1), [1]);
    assert_eq!(window.bytes(), 9);
    assert_eq!(window.grow(|item| *item == 2, 2), [2]);
    assert_eq!((window.grow(|item| *item == 3, usize::MAX).len(), window.len()), (0, 1));
    assert_eq!(filled().grow(|item| *item == 9, 1000), Vec::<u64>::new(), "no entry matches");
}
