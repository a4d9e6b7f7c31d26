//! What happened before the revision at which everything was read.
//!
//! A replica that starts, or that was away for longer than etcd keeps its history, knows a state and
//! nothing of the way there. Its clients come with cursors from other replicas, or from before its
//! restart, that lie on that way. etcd still knows the way back to its last compaction, so it is
//! read in the background and handed to the cache, which can then continue those cursors too.

use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::interval;
use tracing::{debug, info};

use super::caught_up::CaughtUp;
use super::client::Connection;
use super::load::revision;
use super::proto::{Event, EventType, KeyValue, WatchCreateRequest};
use super::session::next;
use super::{EtcdError, range_end, range_start};
use crate::feed::Sink;
use crate::model::{FeedEvent, Key, Past, PastStep, PastValue};

/// How far back, in revisions of the store and in updates of the prefix.
const REVISIONS: i64 = 20_000;
const UPDATES: usize = 200_000;

/// How many bytes of keys may be on that way.
const KEY_BYTES: usize = 32 << 20;

/// How often a failed reading is begun anew, and after which pause.
const TRIES: u32 = 60;
const PAUSE: Duration = Duration::from_secs(1);

/// How often the store is asked whether all has come when nothing comes.
const ASK: Duration = Duration::from_millis(500);

/// A reading in the background; dropping it gives it up.
pub(super) struct Backfill(JoinHandle<()>);

impl Drop for Backfill {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Reads what came before revision `end`, and tells the cache.
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
        // Nobody listens once the cache has stopped.
        _ = sink.send(FeedEvent::Past { end: revision(end), past: None }).await;
    }))
}

async fn read(connection: &Connection, prefix: &[u8], end: i64, sink: &Sink) -> Result<(), EtcdError> {
    let mut base = (end - REVISIONS).max(0);
    let mut reading = Reading { base, end, steps: Vec::new(), key_bytes: 0, last: base };
    let create = |base: i64| WatchCreateRequest {
        key: range_start(prefix),
        range_end: range_end(prefix),
        start_revision: base + 1,
        fragment: true,
        prev_kv: true,
    };
    let (mut responses, mut _open) = connection.watch(create(base)).await?;
    let mut caught_up = CaughtUp::new(base, end);
    let mut ticks = interval(ASK);
    let mut told = false;
    let mut quiet = false;
    loop {
        let response = tokio::select! {
            response = next(&mut responses) => response?,
            _ = ticks.tick() => {
                // Only once nothing has come for a whole tick: asking is dear.
                if quiet && !told {
                    told = match caught_up.ask(connection, prefix).await {
                        Err(EtcdError::Compacted) => false,
                        asked => asked?,
                    };
                    if told {
                        reading.tell(reading.last, sink).await?;
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
            (responses, _open) = connection.watch(create(base)).await?;
            caught_up = CaughtUp::new(base, end);
            reading = Reading { base, end, steps: Vec::new(), key_bytes: 0, last: base };
            continue;
        }
        if response.canceled {
            return Err(EtcdError::Cancelled(response.cancel_reason));
        }
        reading.take(&response.events);
        if reading.steps.len() > UPDATES || reading.key_bytes > KEY_BYTES {
            info!(
                "more than {UPDATES} updates, or {KEY_BYTES} bytes of keys, since revision {base}: cursors from before {end} are not continued"
            );
            return Ok(sink.send(FeedEvent::Past { end: revision(end), past: None }).await?);
        }
        let beyond = response.events.iter().filter_map(|event| event.kv.as_ref());
        // A watch brings revisions in order: whatever is beyond the end says that all before came.
        if beyond.into_iter().any(|kv| kv.mod_revision > end) || (!response.fragment && reading.last == end) {
            return reading.tell(end, sink).await;
        }
        caught_up.record(&response.events);
    }
}

/// How the store had the key before an event, as far as it says so, and since.
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

struct Reading {
    /// Everything after this revision was asked for.
    base: i64,
    end: i64,
    steps: Vec<PastStep>,
    key_bytes: usize,
    last: i64,
}

impl Reading {
    fn take(&mut self, events: &[Event]) {
        for event in events {
            let Some(kv) = event.kv.as_ref().filter(|kv| kv.mod_revision <= self.end) else { continue };
            let [before, after] = around(event.kind(), kv, event.prev_kv.as_ref());
            self.last = kv.mod_revision;
            // Copied: the key must not keep the whole message, with its values, in memory.
            let key = Key::copy_from(&kv.key);
            self.key_bytes += kv.key.len();
            self.steps.push(PastStep { revision: revision(kv.mod_revision), key, before, after });
        }
    }

    /// Tells the cache what is known for certain: the way from any revision up to `through`.
    async fn tell(&self, through: i64, sink: &Sink) -> Result<(), EtcdError> {
        let (base, through) = (revision(self.base), revision(through));
        info!(
            updates = self.steps.len(),
            from = base.0,
            through = through.0,
            "history read: older cursors can be continued"
        );
        let past = Past { base, through, leads_to_the_end: true, steps: self.steps.clone() };
        Ok(sink.send(FeedEvent::Past { end: revision(self.end), past: Some(past) }).await?)
    }
}
