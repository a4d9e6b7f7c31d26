//! The backfill: the changes before the revision at which everything was read.
//!
//! A replica that starts, or that has read everything again, knows a state but not the changes that led to it. Its clients
//! may have cursors at earlier revisions, from other replicas or from before its restart. The server's watch cache may
//! still have the changes; they are read in the background and given to the cache, which can then continue those
//! cursors.

use std::collections::HashMap;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::timeout;
use tracing::{debug, info};

use super::audit::Audit;
use super::client::Client;
use super::error::KubeError;
use super::events::{Event, Lines, split};
use super::list::Listing;
use super::object::{Keep, Object, TypeMeta};
use crate::feed::Sink;
use crate::model::{FeedEvent, Key, Past, PastStep, PastValue, Revision};

/// How far back it is asked for at first, in revisions of the server. What the server has is not known before it refuses.
const FURTHEST: u64 = 20_000;

/// How many revisions to begin from are tried. A refusal names the next one, or it is nearer by this factor.
const BASES: u32 = 8;
const NEARER: u64 = 4;

/// The most that is read, in updates and in bytes of keys.
const UPDATES: usize = 200_000;
const KEY_BYTES: usize = 32 << 20;

/// How long the server is asked to keep the watch open.
const SECONDS: u64 = 30;

/// What the server still has arrives at once. When nothing has for so long, it may be all.
const QUIET: Duration = Duration::from_millis(300);

/// How long one attempt may take, with the states that may have to be read.
const DEADLINE: Duration = Duration::from_secs(60);

/// How many times it is tried, and the pause after a failure.
const TRIES: u32 = 5;
const PAUSE: Duration = Duration::from_secs(1);

/// A backfill under way; dropping it stops it.
#[derive(Debug)]
pub(super) struct Backfill(JoinHandle<()>);

impl Drop for Backfill {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// What is read.
pub(super) struct Source {
    pub(super) client: Client,
    pub(super) listing: Listing,
    pub(super) type_meta: TypeMeta,
    pub(super) keep: Keep,
}

impl Source {
    /// Reads the changes up to revision `end`, and gives them to the cache.
    pub(super) fn start(self, end: Revision, sink: Sink) -> Backfill {
        Backfill(tokio::spawn(async move {
            let mut past = None;
            for _ in 0..TRIES {
                match self.read(end).await {
                    Ok(read) => {
                        past = read;
                        break;
                    }
                    Err(error) => debug!(%error, "reading the history before {end} again"),
                }
                tokio::time::sleep(PAUSE).await;
            }
            if let Some(past) = &past {
                let (updates, from) = (past.steps.len(), past.base.0);
                info!(updates, from, through = end.0, "history read: older cursors can be continued");
            }
            // It fails only once the cache has stopped.
            _ = sink.send(FeedEvent::Past { end, past }).await;
        }))
    }

    /// The changes that the server still has, up to `end`; `None` if it cannot tell that they are all.
    async fn read(&self, end: Revision) -> Result<Option<Past>, KubeError> {
        // From revision 0, a server would send what it has instead of changes.
        let mut base = Revision(end.0.saturating_sub(FURTHEST).max(1));
        for _ in 0..BASES {
            if base >= end {
                break;
            }
            let Ok(read) = timeout(DEADLINE, self.read_from(base, end)).await else { return Ok(None) };
            match read {
                Err(KubeError::Expired { oldest }) => {
                    let nearer = Revision(end.0 - (end.0 - base.0) / NEARER);
                    base = oldest.filter(|oldest| *oldest > base).unwrap_or(nearer);
                }
                read => return read,
            }
        }
        Ok(None)
    }

    async fn audit(&self, at: Revision) -> Result<Audit, KubeError> {
        Audit::ask(&self.client, Listing { at: Some(at), ..self.listing.clone() }).await
    }

    /// The changes after `base` up to `end`.
    async fn read_from(&self, base: Revision, end: Revision) -> Result<Option<Past>, KubeError> {
        let Listing { path, selectors, .. } = &self.listing;
        let path = format!("{path}?watch=true&resourceVersion={base}&timeoutSeconds={SECONDS}{selectors}");
        let mut lines = Lines::new(self.client.open(&path, "a watch").await?);
        let mut steps = Steps::default();
        // The state at `base` and at `end`, asked for only if no event shows that all have arrived.
        let mut states: Option<[Audit; 2]> = None;
        loop {
            let some = match timeout(QUIET, lines.next()).await {
                Ok(some) => some?,
                Err(_) => {
                    let [from, to] = match &mut states {
                        Some(states) => states,
                        none => none.insert([self.audit(base).await?, self.audit(end).await?]),
                    };
                    if steps.lead(from, to) {
                        return Ok(Some(steps.past(base, end)));
                    }
                    continue;
                }
            };
            let Some(some) = some else { return Ok(None) };
            for line in split(&some) {
                let (object, is_set, is_new) = match Event::read(line, &self.type_meta, self.keep)? {
                    Event::Bookmark { .. } => continue,
                    Event::Set { object, is_new } => (object, true, is_new),
                    Event::Deleted(object) => (object, false, false),
                };
                if object.revision > end {
                    // A watch delivers in order: all before it have arrived.
                    return Ok(Some(steps.past(base, end)));
                }
                steps.take(object, is_set, is_new);
                if steps.steps.len() > UPDATES || steps.key_bytes > KEY_BYTES {
                    return Ok(None);
                }
            }
        }
    }
}

/// The changes that were read.
#[derive(Default)]
struct Steps {
    steps: Vec<PastStep>,
    /// The last value of each key.
    last: HashMap<Vec<u8>, PastValue>,
    key_bytes: usize,
    last_set: Revision,
    /// Creations minus deletions.
    balance: i64,
}

impl Steps {
    fn take(&mut self, object: Object, is_set: bool, is_new: bool) {
        let Object { key, revision, value } = object;
        let after = if is_set { PastValue::of(&key, &value) } else { PastValue::Absent };
        let unseen = if is_new { PastValue::Absent } else { PastValue::Unknown };
        match is_set {
            true => (self.last_set, self.balance) = (revision, self.balance + i64::from(is_new)),
            false => self.balance -= 1,
        }
        self.key_bytes += key.len();
        let shared = Key::copy_from(&key);
        let before = self.last.insert(key, after).unwrap_or(unseen);
        self.steps.push(PastStep { revision, key: shared, before, after, entry: None });
    }

    /// Whether these are all changes from one state to the other: all that was set is there, and as many deletions as there
    /// must be.
    fn lead(&self, from: &Audit, to: &Audit) -> bool {
        self.last_set.max(from.last_set) >= to.last_set
            && from.objects.checked_add_signed(self.balance) == Some(to.objects)
    }

    fn past(self, base: Revision, through: Revision) -> Past {
        Past { base, through, leads_to_the_end: true, steps: self.steps }
    }
}
