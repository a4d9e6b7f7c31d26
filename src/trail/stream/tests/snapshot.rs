//! `EventSnapshot` by itself.

use std::sync::Arc;

use super::super::{EventSnapshot, Part};
use super::*;
use crate::trail::{BufferItem, EventBuffer, SharedError};

/// Writes those numbers and says the index; after the gate, if there is one.
struct Numbers {
    index: u64,
    numbers: Vec<u64>,
    gate: Option<Arc<Semaphore>>,
    fails: bool,
}

impl Numbers {
    fn at(index: u64, numbers: impl IntoIterator<Item = u64>) -> Self {
        Self { index, numbers: numbers.into_iter().collect(), gate: None, fails: false }
    }
}

impl SnapFn<Change> for Numbers {
    fn snap<'a>(&'a self, _: &'a Subject, into: &'a mut SnapshotBuffer<Change>) -> SnapFuture<'a> {
        Box::pin(async move {
            for number in &self.numbers {
                if let Some(gate) = &self.gate {
                    gate.acquire().await.expect("open").forget();
                }
                into.append(self.index, [set("snap", *number)]);
            }
            if let Some(gate) = &self.gate {
                gate.acquire().await.expect("open").forget();
            }
            if self.fails { Err(SharedError::from(refused())) } else { Ok(self.index) }
        })
    }
}

fn refused() -> Box<dyn std::error::Error + Send + Sync> {
    "the store is locked".into()
}

fn live(indexes: std::ops::Range<u64>) -> (BufferItem<Part<Change>>, EventBuffer<Part<Change>>) {
    let mut buffer = EventBuffer::new();
    let start = buffer.head();
    publish(&mut buffer, indexes);
    (start, buffer)
}

fn publish(buffer: &mut EventBuffer<Part<Change>>, indexes: std::ops::Range<u64>) {
    for index in indexes {
        buffer.append(Part::events_at(index, 0, [set("live", index)])).expect("open");
    }
}

fn take(snap: Numbers, head: BufferItem<Part<Change>>) -> EventSnapshot<Change> {
    EventSnapshot::take(Arc::new(snap), Subject::All, head, 0)
}

/// What is there from the start on.
fn parts(snapshot: &EventSnapshot<Change>) -> Vec<String> {
    let mut at = snapshot.start();
    let mut parts = Vec::new();
    while let Some(next) = at.next_no_block().expect("no error") {
        parts.extend(next.value().map(|part| format!("{part:?}")));
        at = next;
    }
    parts
}

fn expected(snapshot: u64, live: std::ops::Range<u64>) -> Vec<String> {
    let snapshot = (0..snapshot).map(|number| format!("[snap={number}] @1000"));
    let end = ["EndOfSnapshot @1000".to_owned()];
    snapshot.chain(end).chain(live.map(|index| format!("[live={index}] @{index}"))).collect()
}

#[tokio::test]
async fn the_snapshot_its_end_and_exactly_what_comes_after_it() {
    for (in_snapshot, before, after_it) in [(10, 0, 0), (10, 0, 5), (0, 5, 5), (10, 5, 5), (0, 0, 5)] {
        // What the topic had published before the head was captured, and while the snapshot was made.
        let (_, mut topic) = live(900..900 + before);
        let snapshot = take(Numbers::at(1000, 0..in_snapshot), topic.head());
        publish(&mut topic, 995..1001);
        publish(&mut topic, 1001..1001 + after_it);
        snapshot.done().await;
        assert_eq!(snapshot.index(), Some(1000));
        assert_eq!(parts(&snapshot), expected(in_snapshot, 1001..1001 + after_it));
        publish(&mut topic, 2000..2003);
        let seen = parts(&snapshot);
        assert_eq!(seen[seen.len() - 3..], ["[live=2000] @2000", "[live=2001] @2001", "[live=2002] @2002"]);
    }
}

#[tokio::test]
async fn the_captured_head_itself_is_examined_first() {
    // The state was read at 1000; 1001 was published before the topic's head was captured.
    let (_, topic) = live(1000..1002);
    let snapshot = take(Numbers::at(1000, 0..2), topic.head());
    snapshot.done().await;
    assert_eq!(parts(&snapshot), expected(2, 1001..1002));
    // And one that the snapshot contains is not repeated.
    let (_, topic) = live(1000..1001);
    let snapshot = take(Numbers::at(1000, 0..2), topic.head());
    snapshot.done().await;
    assert_eq!(parts(&snapshot), expected(2, 0..0));
}

#[tokio::test]
async fn what_is_written_can_be_read_while_the_rest_is_being_made() {
    let gate = Arc::new(Semaphore::new(0));
    let (_, topic) = live(0..0);
    let snap = Numbers { gate: Some(Arc::clone(&gate)), ..Numbers::at(1000, 0..2) };
    let snapshot = take(snap, topic.head());
    let at = snapshot.start();
    assert!(timeout(SILENCE, at.next()).await.is_err());
    gate.add_permits(1);
    let at = timeout(PATIENCE, at.next()).await.expect("in time").expect("no error");
    assert!(at.value().and_then(Part::events).is_some());
    assert!(!snapshot.is_done() && snapshot.index().is_none() && snapshot.err().is_none());
    gate.add_permits(2);
    snapshot.done().await;
    assert!(snapshot.is_done());
    assert_eq!(parts(&snapshot), expected(2, 0..0));
}

#[tokio::test]
async fn a_failure_is_told_after_what_was_written_and_by_err() {
    let (_, topic) = live(0..0);
    let snapshot = take(Numbers { fails: true, ..Numbers::at(1000, 0..1) }, topic.head());
    snapshot.done().await;
    let one = snapshot.start().next_no_block().expect("no error yet").expect("one part");
    let error = one.next_no_block().expect_err("the failure");
    assert_eq!(error.cause().to_string(), "the store is locked");
    assert_eq!(snapshot.err().expect("the failure").cause().to_string(), "the store is locked");
    assert_eq!(snapshot.index(), None);
}

#[tokio::test]
async fn a_snapshot_that_panics_or_whose_topic_ended_has_failed() {
    struct Panics;
    impl SnapFn<Change> for Panics {
        fn snap<'a>(&'a self, _: &'a Subject, _: &'a mut SnapshotBuffer<Change>) -> SnapFuture<'a> {
            Box::pin(async { panic!("this is expected in the test's output") })
        }
    }
    let (_, mut topic) = live(0..0);
    let snapshot = EventSnapshot::take(Arc::new(Panics), Subject::All, topic.head(), 0);
    snapshot.done().await;
    assert!(snapshot.err().is_some_and(|error| error.is_closed()));

    let head = topic.head();
    topic.append_err(refused()).expect("open");
    for head in [head, topic.head()] {
        let snapshot = take(Numbers::at(1000, 0..1), head);
        snapshot.done().await;
        assert_eq!(snapshot.err().expect("the end").cause().to_string(), "the store is locked");
    }
}

#[tokio::test]
async fn index_0_is_told_as_1() {
    let (_, topic) = live(0..0);
    let snapshot = take(Numbers::at(0, 0..1), topic.head());
    snapshot.done().await;
    assert_eq!(snapshot.index(), Some(1));
    assert_eq!(parts(&snapshot), ["[snap=0] @1", "EndOfSnapshot @1"]);
}

#[tokio::test]
async fn a_snapshot_that_nobody_wants_any_more_is_not_finished() {
    let gate = Arc::new(Semaphore::new(0));
    let (_, topic) = live(0..0);
    let snap = Numbers { gate: Some(Arc::clone(&gate)), ..Numbers::at(1000, 0..2) };
    let snapshot = take(snap, topic.head());
    let (start, done) = (snapshot.start(), snapshot.done());
    tokio::task::yield_now().await;
    drop(snapshot);
    timeout(PATIENCE, done).await.expect("given up");
    assert!(start.next_no_block().is_err_and(|end| end.is_closed()));
    assert_eq!(Arc::strong_count(&gate), 1, "what it was made of is let go");
}
