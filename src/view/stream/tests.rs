//! Streams against the cache: a reader of any speed has, at each cursor, the state of that cursor.

#![allow(clippy::unwrap_used)] // a test may unwrap

use std::collections::{BTreeMap, HashMap};
use std::future::{pending, poll_fn};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::time::timeout;

use crate::cache::WindowLimits;
use crate::cache::{Breadcrumb, Cache, CacheConfig};
use crate::feed::Upstream;
use crate::ingest::IngestBuffer;
use crate::model::{Cursor, History, Key, KeySelector, Sequence, SyncStatus, Update};
use crate::view::{Account, Answer, Body, FanoutTask, Next, Stream, StreamEvent, View, ViewConfig};
use crate::wire::{MediaType, Record, RecordReader, Values};

use super::format_of;

const TIMEOUT: Duration = Duration::from_secs(60);

fn view(kept: usize) -> (View, Cache) {
    let (view, fanout, cache) = view_without_fanout(kept);
    tokio::spawn(fanout.run());
    (view, cache)
}

/// A view whose fan-out does not run yet.
fn view_without_fanout(kept: usize) -> (View, FanoutTask, Cache) {
    let buffer = Arc::new(IngestBuffer::channel(64).unwrap());
    let default = CacheConfig::default();
    let window = WindowLimits { max_count: kept, ..default.window };
    // A breadcrumb for each batch.
    let config = CacheConfig { window, max_batch: 1, ..default };
    let (cache, ingest) = Cache::new(config, Some(History::random()), buffer);
    tokio::spawn(ingest.run());
    let (view, fanout) = View::new(cache.reader(), Arc::new(Upstream::local()), &ViewConfig::default());
    (view, fanout, cache)
}

/// Values by key.
type State = BTreeMap<Vec<u8>, Vec<u8>>;

/// A reader, and the state that it built from its events.
struct Reader {
    stream: Stream,
    prefix: Key,
    held: State,
    cursor: Option<Cursor>,
    seen: Vec<(Cursor, State)>,
    snapshots: usize,
    resets: usize,
    squashes: usize,
    steps: usize,
}

impl Reader {
    fn new(view: &View, prefix: &str, from: Option<Cursor>) -> Self {
        let prefix = Key::from(prefix);
        let (keys, account) = (KeySelector::prefix(prefix.clone()), Account::unlimited());
        let stream = view.stream(&keys, Values::Json, from, &account).unwrap();
        let (held, seen) = Default::default();
        Self { stream, prefix, held, cursor: None, seen, snapshots: 0, resets: 0, squashes: 0, steps: 0 }
    }

    fn take(&mut self, event: StreamEvent) {
        match event {
            StreamEvent::Reset => self.resets += 1,
            StreamEvent::Snapshot(answer) => {
                self.snapshots += 1;
                self.held.clear();
                self.apply(&answer);
            }
            StreamEvent::Heartbeat(advanced) => advanced.iter().for_each(|answer| self.apply(answer)),
            StreamEvent::Updates(answer) => {
                self.squashes += usize::from(answer.mode == crate::wire::Mode::Squash);
                self.steps += usize::from(answer.mode == crate::wire::Mode::Delta);
                self.apply(&answer);
            }
        }
    }

    async fn next(&mut self) {
        let event = timeout(TIMEOUT, self.stream.next(pending())).await.expect("an event in time");
        self.take(event.unwrap());
    }

    fn apply(&mut self, answer: &Answer) {
        for record in records(&answer.body) {
            match record {
                Record::Put { entry, .. } => {
                    self.held.insert(entry.key().to_vec(), entry.value().to_vec());
                }
                Record::Deleted { key, .. } => {
                    self.held.remove(key.as_bytes()).expect("was there");
                }
                Record::Breadcrumb(header) if self.prefix.as_bytes().is_empty() => {
                    let from = header.from.map(|from| from.read().unwrap());
                    assert_eq!(from, self.cursor, "nothing is missed and nothing comes twice");
                }
                _ => {}
            }
        }
        assert_eq!(self.stream.cursor(), Some(answer.cursor));
        self.cursor = Some(answer.cursor);
        self.seen.push((answer.cursor, self.held.clone()));
    }

    /// Reads up to the last cursor with pauses, and is cancelled all the time.
    async fn read(mut self, pause: Duration, last: Cursor, seed: u64) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let all = async {
            while self.cursor.is_none_or(|cursor| cursor.revision < last.revision) {
                let limit = Duration::from_micros(rng.u64(..2000));
                // Either the future is dropped, or the wait ends.
                let event = match rng.bool() {
                    true => timeout(limit, self.stream.next(pending())).await.ok(),
                    false => Some(self.stream.next(tokio::time::sleep(limit)).await),
                };
                event.into_iter().for_each(|event| self.take(event.unwrap()));
                if rng.u8(..8) == 0 {
                    self.stream.release();
                }
                if !pause.is_zero() && rng.u8(..4) == 0 {
                    tokio::time::sleep(pause.mul_f64(rng.f64() * 2.0)).await;
                }
            }
        };
        timeout(TIMEOUT, all).await.expect("the end in time");
        self
    }
}

fn records(body: &Body) -> Vec<Record> {
    let mut reader = RecordReader::new(MediaType::Ndjson);
    for part in (0..).map_while(|number| body.run(number)).flatten() {
        reader.push(part);
    }
    let mut records = Vec::new();
    while let Some(record) = reader.next_record().unwrap() {
        records.push(record);
    }
    reader.finish().unwrap();
    records
}

/// The state at each cursor, until this key exists.
async fn model(mut at: Breadcrumb, last: &[u8]) -> HashMap<Cursor, Breadcrumb> {
    let mut model = HashMap::from([(at.cursor(), at.clone())]);
    while at.kvs().get(last).is_none() {
        at = at.next().await.unwrap();
        model.insert(at.cursor(), at.clone());
    }
    model
}

/// Writes batches over few keys, with a large value now and then and one huge batch.
async fn write(cache: &Cache, batches: u64, seed: u64) {
    let mut rng = fastrand::Rng::with_seed(seed);
    for batch in 1..=batches {
        let size = if rng.u8(..20) == 0 { 20_000 } else { 100 };
        let count = if batch + 20 == batches { 3000 } else { rng.u64(1..4) };
        let update = |n: u64| {
            let key = format!("{}/{}", ["a", "b", "c"][rng.usize(..3)], rng.u64(..40 + n));
            let value = format!("\"{batch} {}\"", "x".repeat(if n < 5 { size } else { 0 }));
            if rng.u8(..5) == 0 { Update::delete(key) } else { Update::put(key, value) }.at(batch)
        };
        cache.on_updates((0..count).map(update).collect()).await.unwrap();
        if batch % 8 == 0 {
            tokio::time::sleep(Duration::from_micros(200)).await;
        }
    }
    cache.on_updates(vec![Update::put("last", "1").at(batches + 1)]).await.unwrap();
}

/// Runs readers of different speeds and prefixes beside a writer, and compares every state that they saw.
async fn readers_beside_a_writer(kept: usize, batches: u64) -> Vec<Reader> {
    let (view, cache) = view(kept);
    cache.on_status_updated(SyncStatus::InSync).await.unwrap();
    let mut first = cache.current_breadcrumb();
    while first.sync_status() != SyncStatus::InSync {
        first = timeout(TIMEOUT, first.next()).await.unwrap().unwrap();
    }
    let following = tokio::spawn(model(first.clone(), b"last"));
    let last = Cursor { revision: crate::model::Revision(batches + 1), ..first.cursor() };
    let mut reading = Vec::new();
    for (number, pause_ms) in [0, 0, 1, 3, 10, 30].into_iter().enumerate() {
        for prefix in ["", "a", "a/1", "b/", "none"] {
            let from = (number % 2 == 1).then(|| first.cursor());
            let mut reader = Reader::new(&view, prefix, from);
            reader.cursor = from;
            let seed = number as u64;
            reading.push(tokio::spawn(reader.read(Duration::from_millis(pause_ms), last, seed)));
        }
    }
    drop(first);
    write(&cache, batches, 7).await;
    let model = timeout(TIMEOUT, following).await.unwrap().unwrap();
    let mut readers = Vec::new();
    for reading in reading {
        let reader = reading.await.unwrap();
        for (cursor, held) in &reader.seen {
            let state = model[cursor].kvs();
            let inside = state.iter().filter(|entry| entry.key().starts_with(reader.prefix.as_bytes()));
            let expected: BTreeMap<_, _> =
                inside.map(|entry| (entry.key().to_vec(), entry.value().to_vec())).collect();
            assert!(*held == expected, "prefix {:?} at {cursor}", reader.prefix);
        }
        readers.push(reader);
    }
    readers
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_of_any_speed_has_the_state_of_its_cursor() {
    let readers = readers_beside_a_writer(1 << 20, 1000).await;
    assert!(readers.iter().all(|reader| reader.resets == 0 && reader.snapshots <= 1));
    let (squashes, steps) =
        readers.iter().fold((0, 0), |(a, b), reader| (a + reader.squashes, b + reader.steps));
    assert!(squashes > 20 && steps > 20, "{squashes} squashes, {steps} steps");
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_that_fall_out_of_the_window_get_a_snapshot() {
    let readers = readers_beside_a_writer(8, 300).await;
    assert!(readers.iter().all(|reader| reader.snapshots <= 1 + reader.resets));
    assert!(readers.iter().any(|reader| reader.resets > 0), "some fell out of the window");
}

/// A reader that pauses while values are written, and then reads all of them.
async fn read_after_a_pause(kept: usize, updates: u64) -> Reader {
    let (view, cache) = view(kept);
    cache.on_updates(vec![Update::put("k", "0")]).await.unwrap();
    let mut reader = Reader::new(&view, "", None);
    reader.next().await;
    for update in 0..updates {
        cache.on_updates(vec![Update::put("k", format!("after {update}"))]).await.unwrap();
    }
    cache.on_updates(vec![Update::put("last", "1")]).await.unwrap();
    let written = timeout(TIMEOUT, view.delivered_after(Sequence(updates + 2)));
    assert!(written.await.unwrap().is_some());
    while !reader.held.contains_key(&b"last"[..]) {
        reader.next().await;
    }
    reader
}

#[tokio::test]
async fn a_stream_that_is_ahead_of_the_fan_out_gets_no_breadcrumb_twice() {
    let (view, fanout, cache) = view_without_fanout(100);
    cache.on_updates(vec![Update::put("a", "1")]).await.unwrap();
    let mut newest = cache.current_breadcrumb();
    while newest.kvs().is_empty() {
        newest = newest.next().await.unwrap();
    }
    let mut reader = Reader::new(&view, "a", None);
    reader.next().await;
    let seen = view.newest().unwrap().sequence();
    let mut wait = Box::pin(reader.stream.next(pending()));
    assert!(poll_fn(|cx| Poll::Ready(wait.as_mut().poll(cx).is_pending())).await, "nothing is new");
    tokio::spawn(fanout.run());
    timeout(TIMEOUT, view.delivered_after(Sequence(seen.0 - 1))).await.unwrap();
    assert!(poll_fn(|cx| Poll::Ready(wait.as_mut().poll(cx).is_pending())).await, "it was seen before");
    cache.on_updates(vec![Update::put("a", "2")]).await.unwrap();
    let event = timeout(TIMEOUT, wait).await.unwrap().unwrap();
    reader.take(event);
    assert_eq!(reader.held, State::from([(b"a".to_vec(), b"2".to_vec())]));
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_pause_there_is_one_squash() {
    let reader = read_after_a_pause(1 << 20, 100).await;
    assert_eq!((reader.snapshots, reader.resets, reader.squashes, reader.steps), (1, 0, 1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_pause_longer_than_the_window_there_is_a_reset_and_a_snapshot() {
    let reader = read_after_a_pause(8, 100).await;
    assert_eq!((reader.snapshots, reader.resets, reader.squashes, reader.steps), (2, 1, 0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_poll_and_a_stream_at_one_breadcrumb_cost_one_encoding() {
    let (view, cache) = view(100);
    cache.on_updates(vec![Update::put("k", "0")]).await.unwrap();
    view.delivered_after(Sequence(1)).await.unwrap();
    let mut reader = Reader::new(&view, "", None);
    reader.next().await;
    let account = Account::unlimited();
    for update in 1..=20 {
        let cursor = reader.cursor.unwrap();
        let polled = view.next(cursor, &KeySelector::ALL, format_of(Values::Json), &account, pending());
        let streamed = reader.stream.next(pending());
        let (mut polled, mut streamed) = (Box::pin(polled), Box::pin(streamed));
        // Both wait before the write.
        let waiting = async {
            tokio::select! {
                biased;
                _ = &mut polled => panic!("nothing was written yet"),
                _ = &mut streamed => panic!("nothing was written yet"),
                () = tokio::task::yield_now() => {}
            }
        };
        waiting.await;
        let before = view.bodies_encoded();
        cache.on_updates(vec![Update::put("k", update.to_string())]).await.unwrap();
        let both = timeout(TIMEOUT, async { (polled.await, streamed.await) }).await.unwrap();
        let (Ok(Next::Answer(polled)), Ok(StreamEvent::Updates(streamed))) = both else {
            panic!("no updates")
        };
        assert_eq!(polled.cursor, streamed.cursor);
        assert_eq!(polled.body.run(0).unwrap()[0].as_ptr(), streamed.body.run(0).unwrap()[0].as_ptr());
        assert_eq!(view.bodies_encoded() - before, 1, "one encoding for both");
        reader.cursor = Some(streamed.cursor);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_of_a_prefix_share_bodies_and_free_them_when_they_leave() {
    let (view, cache) = view(100);
    cache.on_updates(vec![Update::put("a/1", "1"), Update::put("b/1", "1")]).await.unwrap();
    view.delivered_after(Sequence(2)).await.unwrap();
    let mut readers: Vec<_> = (0..10).map(|_| Reader::new(&view, "a/", None)).collect();
    for reader in &mut readers {
        reader.next().await;
    }
    let counts = view.stream_counts();
    assert_eq!((counts.readers, counts.selectors, counts.snapshots_made), (10, 1, 1));
    let mut waits: Vec<_> =
        readers.iter_mut().map(|reader| Box::pin(reader.stream.next(pending()))).collect();
    for wait in &mut waits {
        let is_pending = poll_fn(|cx| Poll::Ready(wait.as_mut().poll(cx).is_pending())).await;
        assert!(is_pending, "all wait before the write");
    }
    cache.on_updates(vec![Update::put("a/1", "2")]).await.unwrap();
    let mut bodies = Vec::new();
    for wait in waits {
        let event = timeout(TIMEOUT, wait).await.unwrap().unwrap();
        let StreamEvent::Updates(answer) = event else { panic!("no updates") };
        bodies.push(answer.body.run(0).unwrap()[0].as_ptr());
    }
    assert!(bodies.iter().all(|body| *body == bodies[0]), "one encoding for all");
    drop(readers);
    let counts = view.stream_counts();
    assert_eq!((counts.readers, counts.selectors, counts.snapshots), (0, 0, 0));
}
