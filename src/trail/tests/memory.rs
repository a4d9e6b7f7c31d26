//! Memory: the items that stay, and their drop.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use super::super::EventBuffer;

/// A value that counts how many of its kind are alive.
struct Alive(Arc<AtomicUsize>);

impl Alive {
    fn new(alive: &Arc<AtomicUsize>) -> Self {
        alive.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(alive))
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[test]
fn only_held_items_stay_in_memory() {
    let alive = Arc::new(AtomicUsize::new(0));
    let mut buffer = EventBuffer::new();
    let start = buffer.head();
    for _ in 0..100 {
        buffer.append(Alive::new(&alive)).expect("open");
    }
    assert_eq!(alive.load(Ordering::SeqCst), 100, "the start holds all that came after it");
    drop(start);
    assert_eq!(alive.load(Ordering::SeqCst), 1, "the head alone is held");
    buffer.append(Alive::new(&alive)).expect("open");
    assert_eq!(alive.load(Ordering::SeqCst), 1);
    let follow = buffer.head().follow_after().expect("open");
    drop(buffer);
    assert_eq!(alive.load(Ordering::SeqCst), 1, "an empty item holds its origin");
    drop(follow);
    assert_eq!(alive.load(Ordering::SeqCst), 0);
}

#[test]
fn ten_million_items_drop_on_a_small_stack() {
    let dropping = thread::Builder::new().stack_size(256 * 1024).spawn(|| {
        let mut buffer = EventBuffer::new();
        let start = buffer.head();
        for value in 0..10_000_000_u32 {
            buffer.append(value).expect("open");
        }
        drop(buffer);
        drop(start);
    });
    dropping.expect("a thread").join().expect("no stack overflow");
}

#[test]
fn two_chains_with_a_shared_tail_drop_at_once_on_small_stacks() {
    const SHARED: usize = 50_000;
    for _ in 0..20 {
        let alive = Arc::new(AtomicUsize::new(0));
        let mut tail = EventBuffer::new();
        let tail_start = tail.head();
        for _ in 0..SHARED {
            tail.append(Alive::new(&alive)).expect("open");
        }
        let droppers: Vec<_> = (0..2)
            .map(|_| {
                let mut buffer = EventBuffer::new();
                let start = buffer.head();
                buffer.append(Alive::new(&alive)).expect("open");
                buffer.append_buffer(tail_start.clone()).expect("open");
                move || drop((start, buffer))
            })
            .collect();
        drop((tail_start, tail));
        let droppers: Vec<_> = droppers
            .into_iter()
            .map(|drops| thread::Builder::new().stack_size(256 * 1024).spawn(drops))
            .collect();
        for dropper in droppers {
            dropper.expect("a thread").join().expect("no stack overflow");
        }
        assert_eq!(alive.load(Ordering::SeqCst), 0);
    }
}
