//! The backfill: the changes before the revision at which everything was read.
//!
//! A replica that starts, or that was away for longer than etcd keeps its history, knows a state but not the changes
//! that led to it. Its clients may have cursors at earlier revisions, from other replicas or from before its restart.
//! etcd still has the changes since its last compaction. They are read in the background and given to the cache,
//! which can then continue those cursors.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::interval;
use tracing::{debug, info};

use super::caught_up::CaughtUp;
use super::client::Connection;
use super::load::{entry, revision};
use super::watch_end::WatchEnd;
use super::{EtcdError, range_end, range_start};
use crate::feed::Sink;
use crate::model::{FeedEvent, Key, Past, PastStep, PastValue};
use crate::wire::etcd::kv::{Event, EventType, KeyValue};
use crate::wire::etcd::watch::WatchCreateRequest;

/// The most that is read, in revisions of the store.
const REVISIONS: i64 = 20_000;

/// The most that is kept, in updates and in bytes of keys and values. The oldest ones make room.
const UPDATES: usize = 200_000;
const BYTES: usize = 32 << 20;

/// How many times it is tried, and the pause after a failure.
const TRIES: u32 = 60;
const PAUSE: Duration = Duration::from_secs(1);

/// While nothing arrives: how often the store is asked whether everything has.
const ASK: Duration = Duration::from_millis(500);

/// A backfill under way; dropping it stops it.
pub(super) struct Backfill(JoinHandle<()>);

impl Drop for Backfill {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Reads the changes up to revision `end`, and gives them to the cache.
pub(super) fn start(connection: Connection, prefix: Vec<u8>, end: i64, sink: Sink) -> Backfill {
    Backfill(tokio::spawn(async move {
        for _ in 0..TRIES {
            match read(&connection, &prefix, end, &sink).await {
                Ok(()) => return,
                Err(EtcdError::Feed(_)) => return,
                Err(error) => debug!(%error, "reading the history before {end} again"),
            }
            tokio::time::sleep(PAUSE).await;
        }
        // It fails only once the cache has stopped.
        _ = sink.send(FeedEvent::Past { end: revision(end), past: None }).await;
    }))
}

async fn read(connection: &Connection, prefix: &[u8], end: i64, sink: &Sink) -> Result<(), EtcdError> {
    let mut base = (end - REVISIONS).max(0);
    let with_info = sink.keeps_every_write();
    let mut steps = Steps::after(base, end, with_info);
    let create = |base: i64| WatchCreateRequest {
        key: range_start(prefix),
        range_end: range_end(prefix),
        start_revision: base + 1,
        fragment: true,
        prev_kv: true,
        ..WatchCreateRequest::default()
    };
    let mut stream = connection.watch(create(base)).await?;
    let mut caught_up = CaughtUp::new(base, end);
    let mut ticks = interval(ASK);
    let mut given = false;
    let mut quiet = false;
    loop {
        let response = tokio::select! {
            response = stream.next() => response?.ok_or(WatchEnd::Closed)?,
            _ = ticks.tick() => {
                // Only once nothing has arrived for a whole tick: the question is expensive.
                if quiet && !given {
                    given = match caught_up.ask(connection, prefix).await {
                        Err(EtcdError::Compacted) => false,
                        asked => asked?,
                    };
                    if given {
                        steps.give(steps.last, sink).await?;
                    }
                }
                quiet = true;
                continue;
            }
        };
        quiet = false;
        if response.compact_revision > 0 {
            base = response.compact_revision;
            if base >= end {
                return Ok(sink.send(FeedEvent::Past { end: revision(end), past: None }).await?);
            }
            stream = connection.watch(create(base)).await?;
            caught_up = CaughtUp::new(base, end);
            steps = Steps::after(base, end, with_info);
            continue;
        }
        if response.canceled {
            return Err(WatchEnd::Cancelled(response.cancel_reason).into());
        }
        steps.take(&response.events);
        steps.make_room();
        let beyond = response.events.iter().filter_map(|event| event.kv.as_ref());
        // A watch delivers revisions in order: one beyond the end means that all before it have arrived.
        if beyond.into_iter().any(|kv| kv.mod_revision > end) || (!response.fragment && steps.last == end) {
            return steps.give(end, sink).await;
        }
        caught_up.record(&response.events);
    }
}

/// The key's value before an event, as far as the store tells it, and after it.
fn around(kind: EventType, kv: &KeyValue, before: Option<&KeyValue>) -> [PastValue; 2] {
    let existed = kind == EventType::Delete || kv.create_revision != kv.mod_revision;
    let before = match before {
        Some(before) => PastValue::of(&before.key, &before.value),
        None if existed => PastValue::Unknown,
        None => PastValue::Absent,
    };
    let after = match kind {
        EventType::Put => PastValue::of(&kv.key, &kv.value),
        EventType::Delete => PastValue::Absent,
    };
    [before, after]
}

fn bytes(step: &PastStep) -> usize {
    step.key.as_bytes().len() + step.entry.as_ref().map_or(0, |entry| entry.value().len())
}

/// The changes that were read.
struct Steps {
    /// The revision after which they begin.
    base: i64,
    end: i64,
    steps: VecDeque<PastStep>,
    bytes: usize,
    last: i64,
    /// Whether the cache keeps every write.
    with_info: bool,
}

impl Steps {
    fn after(base: i64, end: i64, with_info: bool) -> Self {
        Self { base, end, steps: VecDeque::new(), bytes: 0, last: base, with_info }
    }

    fn take(&mut self, events: &[Event]) {
        for event in events {
            let Some(kv) = event.kv.as_ref().filter(|kv| kv.mod_revision <= self.end) else { continue };
            if kv.mod_revision <= self.base {
                // The rest of a revision that has made room.
                continue;
            }
            let [before, after] = around(event.kind(), kv, event.prev_kv.as_ref());
            self.last = kv.mod_revision;
            // A copy, so that the key does not keep the whole message and its values in memory.
            let key = Key::copy_from(&kv.key);
            let at = revision(kv.mod_revision);
            let put =
                (event.kind() == EventType::Put && self.with_info).then(|| entry(kv, None, true).at(at));
            let step = PastStep { revision: at, key, before, after, entry: put };
            self.bytes += bytes(&step);
            self.steps.push_back(step);
        }
    }

    /// Drops the oldest revisions until the rest is within the limits.
    fn make_room(&mut self) {
        while self.steps.len() > UPDATES || self.bytes > BYTES {
            let Some(oldest) = self.steps.front().map(|step| step.revision) else { return };
            while let Some(step) = self.steps.pop_front_if(|step| step.revision == oldest) {
                self.bytes -= bytes(&step);
            }
            self.base = i64::try_from(oldest.0).unwrap_or(i64::MAX);
        }
    }

    /// Gives the cache what is certain: the changes from any revision up to `through`.
    async fn give(&self, through: i64, sink: &Sink) -> Result<(), EtcdError> {
        let (base, through) = (revision(self.base), revision(through));
        info!(
            updates = self.steps.len(),
            from = base.0,
            through = through.0,
            "history read: clients with cursors from after the revision `from` need not read everything again"
        );
        let past =
            Past { base, through, leads_to_the_end: true, steps: self.steps.iter().cloned().collect() };
        Ok(sink.send(FeedEvent::Past { end: revision(self.end), past: Some(past) }).await?)
    }
}
