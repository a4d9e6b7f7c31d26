//! Opens the store of a push feed. Only what is proved is served.

use tracing::{info, warn};

use super::acknowledged::AcknowledgedFile;
use super::database::{self, Access, Open};
use super::directory::{Kept, Lock, StateDir};
use super::journal::PushJournal;
use super::load::{Contents, Owner};
use super::row::{Base, StoreRow};
use super::writer::Writer;
use super::{Damage, StateError};
use crate::cache::Journal;
use crate::model::History;

/// The name of a push feed in a database.
pub(super) const FEED: &str = "push:";

/// The store of a push feed.
pub struct PushStore {
    /// The kept state.
    pub kept: Kept,
    /// Takes new changes. It holds the lock of the directory.
    pub journal: Box<dyn Journal>,
}

impl StateDir {
    /// Opens the store of a push feed, or creates it.
    ///
    /// # Errors
    /// Another daemon uses the directory, or its content cannot be read, belongs to another feed, or is damaged. Then
    /// nothing was changed.
    pub fn open_store(&self) -> Result<PushStore, StateError> {
        self.open_or_begin().map_err(|source| {
            let directory = self.path().to_owned();
            match source {
                StateError::Damaged { .. } => StateError::Unproved { directory, source: Box::new(source) },
                other => other,
            }
        })
    }

    fn open_or_begin(&self) -> Result<PushStore, StateError> {
        let lock = self.lock()?;
        if self.holds_old_log()? {
            return Err(StateError::OldFormat(self.path().to_owned()));
        }
        let (contents, journal) = match self.open(Access::Read)? {
            Some((open, owner)) => self.resume(open, &owner, lock)?,
            None => self.begin(lock)?,
        };
        Ok(PushStore { kept: Kept::of(contents), journal: Box::new(journal) })
    }

    /// Checks, for `serve --check`, whether the store can be proved or created, and writes nothing.
    pub(super) fn check_store(&self) -> Result<(), StateError> {
        if self.holds_old_log()? {
            return Err(StateError::OldFormat(self.path().to_owned()));
        }
        let known = AcknowledgedFile::open(&self.acknowledged(), false)?;
        match (self.open(Access::Read)?, known) {
            (Some((open, owner)), Some(file)) => self.contents(&open)?.prove(&file, &owner, self),
            (Some((open, _)), None) => self.contents(&open).map(drop),
            (None, Some(file)) => self.check_unused(&file),
            (None, None) => Ok(()),
        }
    }

    /// Checks that nothing was acknowledged, so that a missing database is no loss.
    fn check_unused(&self, file: &AcknowledgedFile) -> Result<(), StateError> {
        if file.content().number == 0 {
            return Ok(());
        }
        Err(StateError::damaged(&self.database(), Damage::Missing("the file")))
    }

    fn begin(&self, lock: Lock) -> Result<(Contents, PushJournal), StateError> {
        let path = self.acknowledged();
        AcknowledgedFile::open(&path, false)?.iter().try_for_each(|file| self.check_unused(file))?;
        let id = fastrand::u64(..);
        let acknowledged = AcknowledgedFile::create(&path, id, 0)?;
        let base = Base::empty();
        let open = database::create(&self.database(), &StoreRow { id, feed: FEED }, &base)?;
        info!("a new store was begun in {}", self.path().display());
        let contents = self.contents(&open)?;
        let writer = Writer::open(open, id, &contents, self.window());
        Ok((contents, PushJournal::new(writer, Some(acknowledged), path, lock)))
    }

    /// Opens an existing store. Everything is proved before the first byte is written, so a store that is refused is
    /// not changed.
    fn resume(&self, open: Open, owner: &Owner, lock: Lock) -> Result<(Contents, PushJournal), StateError> {
        let path = self.acknowledged();
        let mut contents = self.contents(&open)?;
        drop(open);
        let known = AcknowledgedFile::open(&path, false)?;
        if let Some(file) = &known {
            contents.prove(file, owner, self)?;
        }
        let mut read_only = None;
        let mut writer = Writer::closed(self.database(), owner.id, &contents, self.window());
        let acknowledged = match writer.reopen() {
            Ok(()) if known.is_some() => {
                let mut file = AcknowledgedFile::open(&path, true)?;
                file.iter_mut().try_for_each(|file| file.reach(contents.last_number()))?;
                file
            }
            Ok(()) => Some(self.begin_new_history(&mut writer, &mut contents, owner)?),
            Err(error @ StateError::ReadOnly(_)) if known.is_some() => {
                warn!("{error}: reading is served, writes are refused until it can be written");
                read_only = Some(error);
                None
            }
            Err(error) => return Err(error),
        };
        let journal = PushJournal::new(writer, acknowledged, path, lock);
        Ok((
            contents,
            match read_only {
                Some(error) => journal.that_refuses(&error),
                None => journal,
            },
        ))
    }

    /// Begins another history with the state of the store. Without the file of what was acknowledged, an old copy
    /// that was put back looks like the newest state; under another history no client takes it for a later state.
    fn begin_new_history(
        &self,
        writer: &mut Writer,
        contents: &mut Contents,
        owner: &Owner,
    ) -> Result<AcknowledgedFile, StateError> {
        let history = History::random();
        contents.base.history = history;
        contents.state = contents.state.clone().in_history(history);
        writer.rename_history(contents.base)?;
        let number = contents.last_number();
        let file = AcknowledgedFile::create(&self.acknowledged(), owner.id, number)?;
        warn!(
            "{} is not there, so nobody can tell whether {} is the newest state: it is served as another history, \
             and every client fetches it anew",
            self.acknowledged().display(),
            self.database().display()
        );
        Ok(file)
    }
}

impl Contents {
    /// Checks that everything acknowledged is there, and drops what was refused.
    fn prove(&mut self, file: &AcknowledgedFile, owner: &Owner, dir: &StateDir) -> Result<(), StateError> {
        let acknowledged = file.content();
        if acknowledged.store != owner.id {
            return Err(StateError::damaged(&dir.acknowledged(), Damage::OtherStore));
        }
        let found = self.last_number();
        if found < acknowledged.number {
            let damage = Damage::LostTail { found, acknowledged: acknowledged.number };
            return Err(StateError::damaged(&dir.database(), damage));
        }
        if acknowledged.rest_refused && found > acknowledged.number {
            let kept =
                usize::try_from(acknowledged.number.saturating_sub(self.base.number)).unwrap_or(usize::MAX);
            self.breadcrumbs.truncate(kept);
            self.row_bytes.truncate(kept);
        }
        Ok(())
    }
}
