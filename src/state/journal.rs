//! The journal of a push feed, whose directory is the datastore.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use tracing::{error, info, warn};

use super::StateError;
use super::acknowledged::AcknowledgedFile;
use super::directory::Lock;
use super::writer::Writer;
use crate::cache::{BreadcrumbRecord, Journal, JournalError};
use crate::value::Recurring;

/// After a failure the database is opened again, which may read all of it. The pause before the next try is this many
/// times what the last one took: a small database is tried at once, a large one does not keep the disk busy.
const TRY_AGAIN: u32 = 5;

/// The pause after a failure in the background.
const FOLD_AGAIN: Duration = Duration::from_secs(60);

/// Writes each breadcrumb into the database before it can be read.
pub(super) struct PushJournal {
    writer: Writer,
    /// `None` until it can be opened for writing.
    acknowledged: Option<AcknowledgedFile>,
    acknowledged_path: PathBuf,
    refusing: Option<Failure>,
    /// What is logged of it.
    refused: Recurring,
    /// Whether a refused write may be on the disk without a note that it was refused.
    unsettled: bool,
    reopening_took: Duration,
    fold_failed: Option<Failure>,
    folding: Recurring,
    _lock: Lock,
}

/// A failure, and the time of the last try.
struct Failure {
    reason: String,
    tried: Instant,
}

impl Failure {
    fn now(error: &StateError) -> Self {
        Self { reason: error.to_string(), tried: Instant::now() }
    }
}

impl Journal for PushJournal {
    fn append(&mut self, record: &BreadcrumbRecord<'_>) -> Result<(), JournalError> {
        self.recover()?;
        let row = self.writer.encode(0, record);
        self.writer.append(vec![row]).map_err(|error| self.revoke(&error))?;
        self.acknowledge().map_err(|error| {
            self.writer.forget_last();
            self.revoke(&error)
        })?;
        self.refusing = None;
        if let Some(end) = self.refused.ended() {
            info!(times = end.times, lasted = %end.lasted(), "the state directory can be written again: writes are taken");
        }
        Ok(())
    }

    fn refuses(&self) -> Option<String> {
        self.refusing.as_ref().map(|refusing| refusing.reason.clone())
    }

    fn idle(&mut self) -> bool {
        let not_again = |failure: &Failure| failure.tried.elapsed() < FOLD_AGAIN;
        if !self.writer.is_open() || self.fold_failed.as_ref().is_some_and(not_again) {
            return false;
        }
        match self.writer.fold_some() {
            Ok(more) => {
                self.fold_failed = None;
                if let Some(end) = self.folding.ended() {
                    info!(times = end.times, lasted = %end.lasted(), "old breadcrumbs can be folded into the entries again");
                }
                more
            }
            Err(error) => {
                if let Some(times) = self.folding.failed(&error.to_string()) {
                    warn!(times, "old breadcrumbs cannot be folded into the entries, and pile up: {error}");
                }
                self.fold_failed = Some(Failure::now(&error));
                false
            }
        }
    }
}

impl PushJournal {
    /// A journal that continues after the contents that were read. Writes are refused until the database and the file
    /// of what was acknowledged are both open for writing.
    pub(super) fn new(
        writer: Writer,
        acknowledged: Option<AcknowledgedFile>,
        path: PathBuf,
        lock: Lock,
    ) -> Self {
        let (refusing, unsettled, fold_failed, reopening_took) = Default::default();
        Self {
            writer,
            acknowledged,
            acknowledged_path: path,
            refusing,
            unsettled,
            reopening_took,
            fold_failed,
            refused: Recurring::default(),
            folding: Recurring::default(),
            _lock: lock,
        }
    }

    /// The same journal, which could not be opened for writing: that is logged already.
    pub(super) fn that_refuses(mut self, error: &StateError) -> Self {
        let failure = Failure::now(error);
        _ = self.refused.failed(&failure.reason);
        self.refusing = Some(failure);
        self
    }

    fn acknowledge(&mut self) -> Result<(), StateError> {
        let number = self.writer.last_number();
        match &mut self.acknowledged {
            Some(file) => file.reach(number),
            None => Err(StateError::ReadOnly(self.acknowledged_path.clone())),
        }
    }

    /// Opens the files again after a failure, unless that was tried just now.
    fn recover(&mut self) -> Result<(), JournalError> {
        if self.writer.is_open() {
            return Ok(());
        }
        if let Some(refusing) = self
            .refusing
            .as_ref()
            .filter(|refusing| refusing.tried.elapsed() < self.reopening_took * TRY_AGAIN)
        {
            self.log_refused(&refusing.reason);
            return Err(refused(&refusing.reason));
        }
        let started = Instant::now();
        let reopened = self.reopen();
        self.reopening_took = started.elapsed();
        reopened.map_err(|error| {
            self.writer.close();
            refused(&self.report(&error))
        })
    }

    fn reopen(&mut self) -> Result<(), StateError> {
        self.writer.reopen()?;
        if self.acknowledged.is_none() {
            self.acknowledged = AcknowledgedFile::open(&self.acknowledged_path, true)?;
        }
        // The file may still say that everything after this breadcrumb was refused.
        self.acknowledge()?;
        self.unsettled = false;
        Ok(())
    }

    /// Refuses the write that has failed: nothing of it may come back.
    fn revoke(&mut self, error: &StateError) -> JournalError {
        self.writer.close();
        let reason = self.report(error);
        let noted = match &mut self.acknowledged {
            Some(file) => file.refuse_rest(),
            None => Err(StateError::ReadOnly(self.acknowledged_path.clone())),
        };
        // If the refusal cannot be noted, the write is removed at once, by opening the database.
        let Err(second) = noted.or_else(|error| self.writer.reopen().map_err(|_| error)) else {
            self.writer.close();
            return refused(&reason);
        };
        if !std::mem::replace(&mut self.unsettled, true) {
            warn!("{second}: a write that was refused may be there after a restart; its writer is told so");
        }
        JournalError::Unsettled(Box::from(&*reason))
    }

    /// Notes and logs why writes are refused.
    fn report(&mut self, error: &StateError) -> String {
        let failure = Failure::now(error);
        let reason = failure.reason.clone();
        self.log_refused(&reason);
        self.refusing = Some(failure);
        reason
    }

    fn log_refused(&self, reason: &str) {
        if let Some(times) = self.refused.failed(reason) {
            error!(times, "writes are refused: {reason}; reading goes on, and later writes try again");
        }
    }
}

fn refused(reason: &str) -> JournalError {
    JournalError::from(Box::from(reason))
}
