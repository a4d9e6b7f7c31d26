//! Following a daemon for ever.

use std::time::Duration;

use super::{Client, ClientError, Mirror, Progress};
use crate::model::{Entry, Key, Revision};
use crate::wire::{Header, MediaType, Mode, PutKind, Record};

/// The first pause after a failure; it doubles up to the longest, and half of it is random.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// What one step brought.
#[derive(Debug)]
pub struct Step {
    /// The header of the body; its cursor is where the mirror stands now.
    pub header: Header,
    /// What changed in the mirror, as `new`, `updated` and `deleted` records. After a gap: the
    /// difference that the new snapshot made.
    pub changes: Vec<Record>,
    /// The state was read whole: at the start, or after a gap.
    pub snapshot: bool,
}

/// Keeps a mirror up to date.
#[derive(Debug)]
pub struct Follower {
    client: Client,
    prefix: Option<Key>,
    mirror: Mirror,
    failures: u32,
}

impl Follower {
    /// Follows the keys with this prefix, or all.
    pub fn new(client: Client, prefix: Option<Key>) -> Self {
        Self { client, prefix, mirror: Mirror::default(), failures: 0 }
    }

    /// The mirror as it stands.
    pub fn mirror(&self) -> &Mirror {
        &self.mirror
    }

    /// Waits for the next change. The first step is the snapshot.
    ///
    /// A long poll that brings nothing is repeated. Not cancel-safe: a step that was dropped may
    /// have been applied by half.
    ///
    /// # Errors
    /// [`ClientError`]; call again to go on (see [`ClientError::may_pass`] and [`Follower::pause`]). After an
    /// answer that does not fit, the state is read whole.
    pub async fn step(&mut self, progress: impl FnMut(Progress)) -> Result<Step, ClientError> {
        let step = self.try_step(progress).await;
        match &step {
            Ok(_) => self.failures = 0,
            Err(error) if error.may_pass() => self.failures += 1,
            // Whatever the mirror holds now, it cannot be continued.
            Err(_) => {
                self.failures += 1;
                self.mirror = Mirror::default();
            }
        }
        step
    }

    async fn try_step(&mut self, progress: impl FnMut(Progress)) -> Result<Step, ClientError> {
        while let Some(cursor) = self.mirror.cursor() {
            match self.client.next(cursor, self.prefix.as_ref(), MediaType::Bincode).await {
                Ok(Ok(mut records)) => {
                    let mut step = Step { header: Header::default(), changes: Vec::new(), snapshot: false };
                    // Applied only once it is there whole: half a body must not move the mirror.
                    let mut body = Vec::new();
                    while let Some(record) = records.next().await? {
                        body.push(record);
                    }
                    self.apply(body, &mut step)?;
                    return Ok(step);
                }
                Ok(Err(moved_on)) => {
                    self.failures = 0;
                    self.mirror.move_to(moved_on);
                }
                Err(error) if error.is_gone() => break,
                Err(error) => return Err(error),
            }
        }
        self.snapshot(progress).await
    }

    fn apply(&mut self, body: Vec<Record>, step: &mut Step) -> Result<(), ClientError> {
        let Some(Record::End(_)) = body.last() else {
            return Err(ClientError::Protocol("the body has no `end`: it was cut off".to_owned()));
        };
        for record in body {
            self.mirror.apply(&record)?;
            match record {
                Record::Breadcrumb(header) => step.header = header,
                Record::Put { .. } | Record::Deleted { .. } => step.changes.push(record),
                _ => {}
            }
        }
        Ok(())
    }

    async fn snapshot(&mut self, mut progress: impl FnMut(Progress)) -> Result<Step, ClientError> {
        let mut records = self.client.snapshot(None, self.prefix.as_ref(), MediaType::Bincode).await?;
        let mut mirror = Mirror::default();
        let mut header = Header::default();
        let mut ended = false;
        let mut seen = Progress::default();
        while let Some(record) = records.next().await? {
            mirror.apply(&record)?;
            match record {
                Record::Snapshot(found) => {
                    seen.total = found.count;
                    header = found;
                }
                Record::End(_) => ended = true,
                _ => seen.entries += 1,
            }
            progress(seen);
        }
        if !ended {
            return Err(ClientError::Protocol("the snapshot has no `end`: it was cut off".to_owned()));
        }
        header.mode = Some(Mode::Snapshot);
        let before = std::mem::replace(&mut self.mirror, mirror);
        Ok(Step { header, changes: difference(&before, &self.mirror), snapshot: true })
    }

    /// How long to wait after a failure: longer each time, and never the same for two clients.
    pub fn pause(&self) -> Duration {
        let doubled = FIRST_PAUSE.saturating_mul(1 << self.failures.saturating_sub(1).min(16));
        doubled.min(LONGEST_PAUSE).mul_f64(0.5 + fastrand::f64() / 2.0)
    }
}

/// What leads from one mirror to another, in key order.
fn difference(before: &Mirror, after: &Mirror) -> Vec<Record> {
    let put = |entry: &Entry| {
        let kind = match before.get(entry.key()) {
            None => PutKind::New,
            Some(old) if old.same_content(entry) => return None,
            Some(_) => PutKind::Updated,
        };
        Some(Record::Put { kind, entry: entry.clone() })
    };
    let gone = before.iter().filter(|entry| after.get(entry.key()).is_none());
    let revision: Option<Revision> = after.cursor().map(|cursor| cursor.revision);
    let deleted = gone.map(|entry| Record::Deleted { key: entry.to_key(), revision });
    let mut changes: Vec<Record> = after.iter().filter_map(put).chain(deleted).collect();
    changes.sort_by(|a, b| key_of(a).cmp(key_of(b)));
    changes
}

fn key_of(record: &Record) -> &[u8] {
    match record {
        Record::Put { entry, .. } => entry.key(),
        Record::Deleted { key, .. } => key.as_bytes(),
        _ => b"",
    }
}
