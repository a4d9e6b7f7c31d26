//! Translates records of NDJSON into events for the cache.

use tracing::{error, warn};

use super::lines::LastLine;
use super::{FeedError, Sink};
use crate::model::{Batch, Change, FeedEvent, Grouping, ResyncClaim, Revision, SyncStatus, Update};
use crate::value::Recurring;
use crate::wire::{self, End, Record};

/// The most updates in one event. Updates of one revision are never split.
const BATCH: usize = 1000;

/// The most bytes of keys and values in one event, because the buffer to the cache is bounded by the number of events.
const BATCH_BYTES: usize = 1 << 20;

/// The bad records of one reading that are logged one by one; the rest is only counted.
const LOGGED: u64 = 100;

/// The byte order mark with which some editors begin a file. It is not part of the first record.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// A snapshot or breadcrumb without its `end`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Unclosed {
    /// `snapshot` or `breadcrumb`.
    pub(super) what: &'static str,
    /// The line at which it begins.
    pub(super) line: u64,
}

/// Takes records in order and sends events. It holds updates back until [`Translator::flush`], so that many lines
/// make one event.
pub(super) struct Translator {
    sink: Sink,
    /// The file's name, for messages.
    source: String,
    strict: bool,
    line: u64,
    records: u64,
    malformed: u64,
    /// What is logged of the bad lines that are not logged each.
    unlogged: Recurring,
    updates: Vec<Update>,
    /// Bytes of keys and values in `updates`.
    bytes: usize,
    /// The open `breadcrumb` … `end`, whose updates are one revision.
    breadcrumb: Option<OpenBreadcrumb>,
    /// The line of the open `snapshot` … `end`.
    snapshot_line: Option<u64>,
    /// Whether a whole `snapshot` … `end` was read.
    had_snapshot: bool,
    /// The last status that a record named.
    named_status: Option<SyncStatus>,
}

struct OpenBreadcrumb {
    line: u64,
    revision: Option<Revision>,
}

impl Translator {
    pub(super) fn new(sink: Sink, source: String, strict: bool) -> Self {
        Self {
            sink,
            source,
            strict,
            line: 0,
            records: 0,
            malformed: 0,
            unlogged: Recurring::default(),
            updates: Vec::new(),
            bytes: 0,
            breadcrumb: None,
            snapshot_line: None,
            had_snapshot: false,
            named_status: None,
        }
    }

    /// Takes one line, without its line break.
    pub(super) async fn line(&mut self, line: &[u8]) -> Result<(), FeedError> {
        self.line += 1;
        let line = if self.line == 1 { line.strip_prefix(BYTE_ORDER_MARK).unwrap_or(line) } else { line };
        if line.iter().all(u8::is_ascii_whitespace) {
            return Ok(());
        }
        let text = std::str::from_utf8(line).map_err(|error| format!("not UTF-8: {error}"));
        match text.and_then(|text| wire::parse_record(text).map_err(|error| error.to_string())) {
            Ok(record) => match claim(&record) {
                Some(claimed) if claimed > Revision::MAX_CLAIM => {
                    let reason = format!(
                        "the revision {claimed} is above {}, the highest that a feed may claim",
                        Revision::MAX_CLAIM
                    );
                    self.unreadable(changed(record, &reason), &reason).await
                }
                _ => self.record(record).await,
            },
            Err(reason) => {
                let key = wire::changed_key(&String::from_utf8_lossy(line));
                self.unreadable(key.map(|key| Change::Unreadable(key, reason.clone())), &reason).await
            }
        }
    }

    /// Takes a line that is too long, by its beginning.
    pub(super) async fn overlong_line(&mut self, beginning: &[u8], limit: usize) -> Result<(), FeedError> {
        self.line += 1;
        let reason = format!("the line is longer than {limit} bytes");
        let key = wire::changed_key(&String::from_utf8_lossy(beginning));
        self.unreadable(key.map(|key| Change::Unreadable(key, reason.clone())), &reason).await
    }

    /// Takes a last line that ends in the middle. It may still be being written, so the key that it would change is
    /// left as it is.
    pub(super) fn cut_line(&mut self) -> Result<(), FeedError> {
        self.line += 1;
        self.bad("it ends in the middle")
    }

    /// Takes a line that cannot be used. If it names a key, that key has changed, and its old value is no longer
    /// current.
    async fn unreadable(&mut self, change: Option<Change>, reason: &str) -> Result<(), FeedError> {
        let Some(change) = change.filter(|_| !self.strict) else { return self.bad(reason) };
        self.sink.upstream().malformed.inc();
        let change = match change {
            Change::Unreadable(key, reason) => {
                Change::Unreadable(key, format!("{} line {}: {reason}", self.source, self.line))
            }
            change => change,
        };
        self.update(Update { change, revision: None }).await
    }

    fn bad(&mut self, reason: &str) -> Result<(), FeedError> {
        let place = format!("{} line {}", self.source, self.line);
        self.sink.upstream().malformed.inc();
        self.malformed += 1;
        if self.strict {
            return Err(FeedError::Strict { place, reason: reason.to_owned() });
        }
        match self.malformed {
            ..=LOGGED => warn!(line = self.line, "{place} is skipped: {reason}"),
            _ => {
                if let Some(times) = self.unlogged.failed("") {
                    warn!(times, "{}: more bad lines than {LOGGED}; the rest is only counted", self.source);
                }
            }
        }
        Ok(())
    }

    async fn record(&mut self, record: Record) -> Result<(), FeedError> {
        self.records += 1;
        match record {
            Record::Put { entry, .. } => {
                let revision = entry.revision();
                self.update(Update { change: Change::Put(entry), revision }).await
            }
            Record::Deleted { key, revision } => {
                self.update(Update { change: Change::Delete(key), revision }).await
            }
            Record::Status(status) => {
                self.flush().await?;
                self.named_status = Some(status);
                self.sink.send(FeedEvent::Status(status)).await
            }
            Record::Snapshot(header) => {
                self.flush().await?;
                if let Some(line) = self.snapshot_line.replace(self.line) {
                    warn!(
                        "{} line {}: a snapshot begins before the one of line {line} has its `end`; that one is dropped",
                        self.source, self.line
                    );
                }
                self.breadcrumb = None;
                let whole_at = Some(header.revision.unwrap_or_default());
                self.sink.send(FeedEvent::ResyncBegin { history: None, whole_at, lossy: false }).await
            }
            Record::Breadcrumb(header) => {
                if self.breadcrumb.is_some() {
                    return self.bad("a `breadcrumb` before the `end` of the one before");
                }
                self.flush().await?;
                self.breadcrumb = Some(OpenBreadcrumb { line: self.line, revision: header.revision });
                Ok(())
            }
            Record::End(end) => self.end(end).await,
            // The snapshot that follows it is enough.
            Record::Reset { .. } | Record::Step(_) => Ok(()),
        }
    }

    async fn update(&mut self, update: Update) -> Result<(), FeedError> {
        let same = self
            .updates
            .last()
            .is_some_and(|last| update.revision.is_some() && last.revision == update.revision);
        let is_full = self.updates.len() >= BATCH || self.bytes >= BATCH_BYTES;
        if is_full && !same && self.breadcrumb.is_none() {
            self.flush().await?;
        }
        if let Err(reason) = self.sink.check(&update) {
            return self.bad(&reason.to_string());
        }
        self.bytes += match &update.change {
            Change::Put(entry) => entry.payload_bytes(),
            change => change.key().len(),
        };
        self.updates.push(update);
        Ok(())
    }

    async fn end(&mut self, end: End) -> Result<(), FeedError> {
        if let Some(OpenBreadcrumb { revision, .. }) = self.breadcrumb.take() {
            let mut updates = std::mem::take(&mut self.updates);
            self.bytes = 0;
            updates.iter_mut().for_each(|update| update.revision = revision);
            return self.send(updates, Grouping::Whole).await;
        }
        if self.snapshot_line.is_none() {
            return self.bad("an `end` without a `snapshot` or `breadcrumb` before it");
        }
        self.had_snapshot = true;
        self.close_snapshot(ResyncClaim { count: end.count, digest: end.digest }, true).await
    }

    async fn close_snapshot(&mut self, claim: ResyncClaim, complete: bool) -> Result<(), FeedError> {
        self.flush().await?;
        self.snapshot_line = None;
        self.sink.send(FeedEvent::ResyncEnd { revision: None, claim, complete }).await
    }

    /// Sends the updates that are held back, unless they belong to an open breadcrumb.
    pub(super) async fn flush(&mut self) -> Result<(), FeedError> {
        if self.breadcrumb.is_some() || self.updates.is_empty() {
            return Ok(());
        }
        let updates = std::mem::take(&mut self.updates);
        self.bytes = 0;
        self.send(updates, Grouping::ByRevision).await
    }

    async fn send(&self, updates: Vec<Update>, grouping: Grouping) -> Result<(), FeedError> {
        if updates.is_empty() {
            return Ok(());
        }
        self.sink.send(FeedEvent::Updates(Batch::new(updates, grouping))).await
    }

    /// The snapshot or breadcrumb that is open.
    pub(super) fn unclosed(&self) -> Option<Unclosed> {
        let breadcrumb =
            self.breadcrumb.as_ref().map(|open| Unclosed { what: "breadcrumb", line: open.line });
        breadcrumb.or(self.snapshot_line.map(|line| Unclosed { what: "snapshot", line }))
    }

    /// The number of lines so far.
    pub(super) fn lines(&self) -> u64 {
        self.line
    }

    /// Whether there was any record.
    pub(super) fn had_records(&self) -> bool {
        self.records > 0
    }

    /// Reports that everything has been read: the status is in-sync, unless the records name another one, or a
    /// snapshot or breadcrumb is open.
    pub(super) async fn caught_up(&mut self) -> Result<(), FeedError> {
        self.flush().await?;
        self.sink.upstream().heard();
        let status = match self.unclosed() {
            Some(_) => SyncStatus::ResyncInProgress,
            None => self.named_status.unwrap_or(SyncStatus::InSync),
        };
        self.sink.send(FeedEvent::Status(status)).await
    }

    /// Notes that nothing more is there for now. That the state is whole is known only after the `end` of a snapshot,
    /// or with a `status` record.
    pub(super) async fn paused(&mut self) -> Result<(), FeedError> {
        if self.had_snapshot || self.named_status.is_some() {
            return self.caught_up().await;
        }
        self.flush().await?;
        self.sink.upstream().heard();
        Ok(())
    }

    /// Ends the input. A state that was cut off is not the upstream's, so it is not called in-sync.
    pub(super) async fn finish(&mut self, last: LastLine) -> Result<(), FeedError> {
        let cut = self.finish_records().await? || last == LastLine::Cut;
        if !cut {
            if let Some(status) = self.named_status.filter(|status| *status != SyncStatus::InSync) {
                let problem = format!("{} has ended with a record of status {status}", self.source);
                warn!("{problem}: it is not in-sync, and stays so");
                self.sink.upstream().has_problem(Some(problem));
            }
            return self.caught_up().await;
        }
        let source = &self.source;
        self.sink.upstream().has_problem(Some(format!("{source} was cut off, so its state is not whole")));
        error!("{source} was cut off: what it says is served, but it is not whole and never called in-sync");
        self.flush().await?;
        self.sink.send(FeedEvent::Status(SyncStatus::ResyncInProgress)).await
    }

    /// Ends a snapshot or breadcrumb that was cut off: the snapshot then deletes nothing, and the breadcrumb is not
    /// applied. Returns whether there was one.
    pub(super) async fn finish_records(&mut self) -> Result<bool, FeedError> {
        let cut = self.unclosed().is_some();
        if let Some(line) = self.snapshot_line {
            let reason = format!(
                "the feed ends before the `end` of the snapshot that begins at line {line}: it was cut off, \
                 so its keys are set and none is deleted"
            );
            self.bad(&reason)?;
            self.close_snapshot(ResyncClaim::default(), false).await?;
        }
        if self.breadcrumb.take().is_some() {
            let lost = std::mem::take(&mut self.updates).len();
            self.bytes = 0;
            let reason = format!(
                "the feed ends before the `end` of a breadcrumb: it was cut off, so its {lost} updates are not applied"
            );
            self.bad(&reason)?;
        }
        self.flush().await?;
        Ok(cut)
    }
}

/// The revision that a record claims.
fn claim(record: &Record) -> Option<Revision> {
    match record {
        Record::Put { entry, .. } => entry.revision(),
        Record::Deleted { revision, .. } => *revision,
        Record::Snapshot(header) | Record::Breadcrumb(header) => header.revision,
        Record::Status(_) | Record::End(_) | Record::Reset { .. } | Record::Step(_) => None,
    }
}

/// The change of a record whose revision cannot be used.
fn changed(record: Record, reason: &str) -> Option<Change> {
    match record {
        Record::Put { entry, .. } => Some(Change::Unreadable(entry.to_key(), reason.to_owned())),
        Record::Deleted { key, .. } => Some(Change::Delete(key)),
        _ => None,
    }
}
