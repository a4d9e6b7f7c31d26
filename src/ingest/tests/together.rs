//! Many writers and readers at once, on several threads.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::super::{Buffer, BufferReadError, BufferWriteError, IngestBuffer};
use super::both;

/// An item: the number of its producer, and its own number there.
type Stamp = (usize, usize);

/// Reads until the buffer is closed and drained; sometimes drops a read that has begun.
async fn consume(buffer: Arc<IngestBuffer<Stamp>>, cancels: bool) -> Vec<Stamp> {
    let mut seen = Vec::new();
    loop {
        tokio::select! {
            biased;
            read = buffer.read(None) => match read {
                Ok(item) => seen.push(item),
                Err(end) => {
                    assert_eq!(end, BufferReadError::Closed);
                    return seen;
                }
            },
            () = tokio::task::yield_now(), if cancels => {}
        }
    }
}

/// Writes `count` items, and returns those that were certainly written; sometimes drops a write.
async fn produce(buffer: Arc<IngestBuffer<Stamp>>, id: usize, count: usize, cancels: bool) -> Vec<Stamp> {
    let mut written = Vec::new();
    for number in 0..count {
        tokio::select! {
            biased;
            write = buffer.write((id, number), None) => match write {
                Ok(()) => written.push((id, number)),
                Err(end) => assert_eq!(end, BufferWriteError::Closed((id, number))),
            },
            () = tokio::task::yield_now(), if cancels => {}
        }
    }
    written
}

/// Runs 3 producers and 3 consumers; checks the order, and that every item is read exactly once.
async fn run(buffer: IngestBuffer<Stamp>, count: usize, cancels: bool, close_early: bool) {
    let buffer = Arc::new(buffer);
    let consumers: Vec<_> =
        (0..3).map(|id| tokio::spawn(consume(Arc::clone(&buffer), cancels && id > 0))).collect();
    let producers: Vec<_> =
        (0..3).map(|id| tokio::spawn(produce(Arc::clone(&buffer), id, count, cancels && id > 0))).collect();
    if close_early {
        tokio::task::yield_now().await;
        buffer.close();
    }
    let mut written = BTreeSet::new();
    for producer in producers {
        written.extend(producer.await.expect("producer"));
    }
    buffer.close();
    let mut read = BTreeSet::new();
    for consumer in consumers {
        let seen = consumer.await.expect("consumer");
        for id in 0..3 {
            let numbers = seen.iter().filter(|stamp| stamp.0 == id);
            assert!(numbers.is_sorted_by(|one, next| one < next), "order of producer {id}");
        }
        for stamp in seen {
            assert!(read.insert(stamp), "{stamp:?} was read twice");
        }
    }
    assert_eq!(read, written);
    assert!(buffer.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn nothing_is_lost_or_doubled_and_each_producer_is_read_in_order() {
    for capacity in [1, 3, 128] {
        for buffer in both(capacity) {
            run(buffer, 5_000, false, false).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn dropped_reads_and_writes_lose_and_double_nothing() {
    for capacity in [1, 3] {
        for buffer in both(capacity) {
            run(buffer, 5_000, true, false).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn items_written_before_the_close_are_read_after_it() {
    for _ in 0..300 {
        for buffer in both(2) {
            run(buffer, 50, false, true).await;
        }
    }
}
