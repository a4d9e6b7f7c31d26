//! Opening the store of a push feed. Whatever is not proved is not served.

use tracing::{info, warn};

use super::acknowledged::AcknowledgedFile;
use super::database::{self, Access, Open};
use super::directory::{Kept, Lock, StateDir};
use super::journal::PushJournal;
use super::load::{self, Contents, Owner};
use super::row::{Base, StoreRow};
use super::writer::Writer;
use super::{Damage, StateError};
use crate::cache::Journal;
use crate::model::History;

/// What a push feed is called in a database.
pub(super) const FEED: &str = "push:";

/// What a push feed finds in its state directory.
pub struct PushStore {
    /// What was kept.
    pub kept: Kept,
    /// Where new changes go. It holds the lock of the directory.
    pub journal: Box<dyn Journal>,
}

impl StateDir {
    /// Opens the store of a push feed, or begins one where there is none.
    ///
    /// # Errors
    /// Another daemon uses the directory, or it holds something that cannot be read, is another feed's, or is not what
    /// was written. Then nothing was changed.
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

    /// For `serve --check`: whether the store can be proved, or begun. Nothing is written.
    pub(super) fn check_store(&self) -> Result<(), StateError> {
        if self.holds_old_log()? {
            return Err(StateError::OldFormat(self.path().to_owned()));
        }
        let known = AcknowledgedFile::open(&self.acknowledged(), false)?;
        match (self.open(Access::Read)?, known) {
            (Some((open, owner)), Some(file)) => load::contents(&open)?.prove(&file, &owner, self),
            (Some((open, _)), None) => load::contents(&open).map(drop),
            (None, Some(file)) => self.is_unused(&file),
            (None, None) => Ok(()),
        }
    }

    /// That a database is missing is no fault as long as nothing of it was acknowledged.
    fn is_unused(&self, file: &AcknowledgedFile) -> Result<(), StateError> {
        if file.said().number == 0 {
            return Ok(());
        }
        Err(StateError::damaged(&self.database(), Damage::Missing("the file")))
    }

    fn begin(&self, lock: Lock) -> Result<(Contents, PushJournal), StateError> {
        let path = self.acknowledged();
        AcknowledgedFile::open(&path, false)?.iter().try_for_each(|file| self.is_unused(file))?;
        let id = fastrand::u64(..);
        let acknowledged = AcknowledgedFile::create(&path, id, 0)?;
        let base = Base::empty();
        let open = database::create(&self.database(), &StoreRow { id, feed: FEED }, &base)?;
        info!("a new store was begun in {}", self.path().display());
        let contents = load::contents(&open)?;
        let writer = Writer::open(open, id, &contents, self.window());
        Ok((contents, PushJournal::new(writer, Some(acknowledged), path, lock)))
    }

    /// Everything is proved before the first byte is written: a store that is refused is left as it was.
    fn resume(&self, open: Open, owner: &Owner, lock: Lock) -> Result<(Contents, PushJournal), StateError> {
        let path = self.acknowledged();
        let mut contents = load::contents(&open)?;
        drop(open);
        let known = AcknowledgedFile::open(&path, false)?;
        if let Some(file) = &known {
            contents.prove(file, owner, self)?;
        }
        let mut writer = Writer::closed(self.database(), owner.id, &contents, self.window());
        let acknowledged = match writer.reopen() {
            Ok(()) if known.is_some() => {
                let mut file = AcknowledgedFile::open(&path, true)?;
                file.iter_mut().try_for_each(|file| file.reach(contents.last_number()))?;
                file
            }
            Ok(()) => Some(self.begin_anew(&mut writer, &mut contents, owner)?),
            Err(error @ StateError::ReadOnly(_)) if known.is_some() => {
                warn!("{error}: reading is served, writes are refused until it can be written");
                None
            }
            Err(error) => return Err(error),
        };
        Ok((contents, PushJournal::new(writer, acknowledged, path, lock)))
    }

    /// Nobody can tell whether this is the newest state of the store: a copy that was put back looks the same. So it is
    /// served as another history, and nobody takes it for a later state of the one before.
    fn begin_anew(
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
    /// Compares them with what was acknowledged, and drops what was refused.
    fn prove(&mut self, file: &AcknowledgedFile, owner: &Owner, dir: &StateDir) -> Result<(), StateError> {
        let said = file.said();
        if said.store != owner.id {
            return Err(StateError::damaged(&dir.acknowledged(), Damage::OtherStore));
        }
        let found = self.last_number();
        if found < said.number {
            let damage = Damage::LostTail { found, acknowledged: said.number };
            return Err(StateError::damaged(&dir.database(), damage));
        }
        if said.rest_refused && found > said.number {
            let kept = usize::try_from(said.number.saturating_sub(self.base.number)).unwrap_or(usize::MAX);
            self.breadcrumbs.truncate(kept);
            self.row_bytes.truncate(kept);
        }
        Ok(())
    }
}
