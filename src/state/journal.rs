//! The store of a push feed: its directory is the datastore itself.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use tracing::{error, info, warn};

use super::StateError;
use super::acknowledged::AcknowledgedFile;
use super::directory::Lock;
use super::writer::Writer;
use crate::cache::{BreadcrumbRecord, Journal, JournalError};

/// After a failure the database is opened again, which may mean to read all of it. That is tried again after so many times
/// what it took the last time: a small one at once, a large one without keeping the disk busy.
const TRY_AGAIN: u32 = 5;

/// What has failed while nobody waits for it is tried again after this.
const FOLD_AGAIN: Duration = Duration::from_secs(60);

/// Writes each breadcrumb into the database before it can be read.
pub(super) struct PushJournal {
    writer: Writer,
    /// `None` until it can be opened for writing.
    acknowledged: Option<AcknowledgedFile>,
    acknowledged_path: PathBuf,
    refusing: Option<Failure>,
    /// Whether something that was refused may be on the disk, with nothing there that says so.
    unsettled: bool,
    reopening_took: Duration,
    fold_failed: Option<Failure>,
    _lock: Lock,
}

/// What has failed, and when it was tried last.
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
        self.writer.append(vec![row]).map_err(|error| self.take_back(&error))?;
        self.acknowledge().map_err(|error| {
            self.writer.forget_last();
            self.take_back(&error)
        })?;
        if self.refusing.take().is_some() {
            info!("the state directory can be written again: writes are taken");
        }
        Ok(())
    }

    fn idle(&mut self) -> bool {
        let not_again = |failure: &Failure| failure.tried.elapsed() < FOLD_AGAIN;
        if !self.writer.is_open() || self.fold_failed.as_ref().is_some_and(not_again) {
            return false;
        }
        match self.writer.fold_some() {
            Ok(more) => {
                self.fold_failed = None;
                more
            }
            Err(error) => {
                warn!("old breadcrumbs cannot be folded into the entries, and pile up: {error}");
                self.fold_failed = Some(Failure::now(&error));
                false
            }
        }
    }
}

impl PushJournal {
    /// A journal that goes on where reading ended. Without the file of what was acknowledged, or with a database that
    /// is only read, writes are refused until both can be opened for writing.
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
            _lock: lock,
        }
    }

    fn acknowledge(&mut self) -> Result<(), StateError> {
        let number = self.writer.last_number();
        match &mut self.acknowledged {
            Some(file) => file.reach(number),
            None => Err(StateError::ReadOnly(self.acknowledged_path.clone())),
        }
    }

    /// Opens again what has failed, if that has not just been tried.
    fn recover(&mut self) -> Result<(), JournalError> {
        if self.writer.is_open() {
            return Ok(());
        }
        if let Some(refusing) = self
            .refusing
            .as_ref()
            .filter(|refusing| refusing.tried.elapsed() < self.reopening_took * TRY_AGAIN)
        {
            return Err(refused(&refusing.reason));
        }
        let started = Instant::now();
        let reopened = self.reopen();
        self.reopening_took = started.elapsed();
        reopened.map_err(|error| {
            self.writer.close();
            refused(&self.complain(&error))
        })
    }

    fn reopen(&mut self) -> Result<(), StateError> {
        self.writer.reopen()?;
        if self.acknowledged.is_none() {
            self.acknowledged = AcknowledgedFile::open(&self.acknowledged_path, true)?;
        }
        // It may say still that what comes after this breadcrumb was refused.
        self.acknowledge()?;
        self.unsettled = false;
        Ok(())
    }

    /// What was being written is refused: nothing of it may come back.
    fn take_back(&mut self, error: &StateError) -> JournalError {
        self.writer.close();
        let reason = self.complain(error);
        let said = match &mut self.acknowledged {
            Some(file) => file.refuse_rest(),
            None => Err(StateError::ReadOnly(self.acknowledged_path.clone())),
        };
        // Where that it was refused cannot be said, it is removed at once; opening the database does so.
        let Err(second) = said.or_else(|error| self.writer.reopen().map_err(|_| error)) else {
            self.writer.close();
            return refused(&reason);
        };
        if !std::mem::replace(&mut self.unsettled, true) {
            warn!("{second}: a write that was refused may be there after a restart; its writer is told so");
        }
        JournalError::Unsettled(Box::from(&*reason))
    }

    /// Says in the log why writes are refused; once for each cause.
    fn complain(&mut self, error: &StateError) -> String {
        let failure = Failure::now(error);
        let reason = failure.reason.clone();
        if self.refusing.as_ref().is_none_or(|before| before.reason != reason) {
            error!("writes are refused: {error}; reading goes on, and later writes try again");
        }
        self.refusing = Some(failure);
        reason
    }
}

fn refused(reason: &str) -> JournalError {
    JournalError::from(Box::from(reason))
}
