//! Reading a state: the whole of it, a page, one key, or the difference of two.

use tokio::time::Instant;

use super::answer::{BreadcrumbInfo, end};
use super::body_cache::Subject;
use super::catch_up::{CatchUp, Start, up_to};
use super::{Answer, Format, KeySelector, Reason, View, ViewError, changes};
use crate::cache::Breadcrumb;
use crate::model::{Cursor, Entry, Key, Sequence};
use crate::wire::{BodyWriter, Mode, PutKind};

/// One key at one breadcrumb.
#[derive(Debug)]
pub struct KeyRead {
    /// The entry, unless the key is absent.
    pub entry: Option<Entry>,
    /// The cursor of the state that was read.
    pub cursor: Cursor,
    /// The number of the breadcrumb that it came from.
    pub sequence: Sequence,
}

/// Which entries of a state are wanted.
#[derive(Debug, Clone)]
pub struct Page {
    /// Only these keys.
    pub keys: KeySelector,
    /// Only keys greater than this one.
    pub start_after: Option<Key>,
    /// At most so many.
    pub limit: usize,
}

impl Default for Page {
    /// No entry of all.
    fn default() -> Self {
        Self { keys: KeySelector::ALL, start_after: None, limit: 0 }
    }
}

impl View {
    /// The state as of this breadcrumb or newer.
    ///
    /// # Errors
    /// [`ViewError::Encoding`].
    pub async fn current(
        &self,
        at_least: Sequence,
        keys: &KeySelector,
        format: Format,
    ) -> Result<Answer, ViewError> {
        self.snapshots.current(at_least, keys, format).await.map(|(answer, _)| answer)
    }

    /// The newest breadcrumb.
    ///
    /// # Errors
    /// [`ViewError::Starting`].
    pub fn newest(&self) -> Result<Breadcrumb, ViewError> {
        let crumb = self.cache.current_breadcrumb();
        if crumb.is_provisional() { Err(ViewError::Starting) } else { Ok(crumb) }
    }

    /// The state at a kept cursor. A cursor ahead of this daemon is waited for until the deadline.
    ///
    /// # Errors
    /// [`ViewError::Gone`], [`ViewError::Ahead`], [`ViewError::Starting`], [`ViewError::Encoding`].
    pub async fn kept(
        &self,
        cursor: Cursor,
        keys: &KeySelector,
        format: Format,
        deadline: Instant,
    ) -> Result<Answer, ViewError> {
        let crumb = self.state_at(cursor, deadline).await?;
        self.snapshots.kept(crumb, cursor, keys, format).await
    }

    /// The breadcrumb whose state is that of the cursor.
    async fn state_at(&self, cursor: Cursor, deadline: Instant) -> Result<Breadcrumb, ViewError> {
        let (asked, cursor) = (cursor, self.adopt(cursor));
        let mut upstream = self.watch_upstream();
        loop {
            let delivered = self.fanout.newest();
            let newest = self.newest()?;
            match self.catch_up(asked, cursor, &newest)? {
                CatchUp::UpToDate => return Ok(newest),
                CatchUp::Ahead if upstream.is_below(cursor) => return Err(self.gone(asked)),
                CatchUp::Ahead => {}
                CatchUp::Changes(changes) => match changes.start {
                    Start::Status => return Ok(newest),
                    Start::Breadcrumb(at) => return Ok(at),
                    // The values on the way to a state are not kept, only at its two ends.
                    Start::Inside(_) | Start::Past(..) => return Err(self.gone(asked)),
                },
                CatchUp::PastAwaited(_) => return Err(self.gone(asked)),
            }
            let ahead = ViewError::Ahead { cursor: asked, current: newest.cursor() };
            let Ok(delivered) = delivered else { return Err(ahead) };
            drop(newest);
            tokio::select! {
                next = delivered.next_ref() => match next {
                    Ok(_) => {}
                    Err(_) => return Err(ahead),
                },
                () = upstream.seen() => {}
                () = tokio::time::sleep_until(deadline) => return Err(ahead),
            }
        }
    }

    /// The squashed updates that lead from one kept state to another, forwards or backwards.
    ///
    /// # Errors
    /// As [`View::kept`].
    pub async fn diff(
        &self,
        from: Cursor,
        to: Cursor,
        keys: &KeySelector,
        format: Format,
        deadline: Instant,
    ) -> Result<Answer, ViewError> {
        let base = self.state_at(from, deadline).await?;
        let target = self.state_at(to, deadline).await?;
        let (sequence, timestamp) = (target.sequence(), target.timestamp());
        let (mode, reason) = (Mode::Squash, Reason::Diff);
        let header = BreadcrumbInfo::of(&target).header(to, Some(from), mode, reason, keys.is_all());
        let subject = Subject::Diff { from, to, to_crumb: sequence };
        let selected = keys.clone();
        let encode = move || {
            let between = match base.sequence() <= target.sequence() {
                true => up_to(&base, &target),
                false => up_to(&target, &base),
            };
            let deltas = changes::between_states(&base, &target, &between, &selected);
            let mut writer = BodyWriter::breadcrumb(format.media, &header, changes::size_hint(&deltas));
            changes::write(&mut writer, &deltas);
            writer.finish(&end(&header))
        };
        let body = self.bodies.get(subject, keys, format, encode).await?;
        let format = Format { coding: body.coding, ..format };
        let body = body.bytes.into();
        Ok(Answer { cursor: to, mode, reason, sequence, timestamp, body, format, at_once: true })
    }

    /// One key, now or at a kept cursor.
    ///
    /// # Errors
    /// As [`View::kept`].
    pub async fn key(&self, key: &Key, at: Option<Cursor>, deadline: Instant) -> Result<KeyRead, ViewError> {
        let (breadcrumb, cursor) = self.state(at, deadline).await?;
        let entry = breadcrumb.kvs().get(key.as_bytes()).cloned();
        Ok(KeyRead { entry, cursor, sequence: breadcrumb.sequence() })
    }

    async fn state(&self, at: Option<Cursor>, deadline: Instant) -> Result<(Breadcrumb, Cursor), ViewError> {
        match at {
            Some(cursor) => Ok((self.state_at(cursor, deadline).await?, cursor)),
            None => self.newest().map(|crumb| (crumb.clone(), crumb.cursor())),
        }
    }

    /// A page of entries in key order, now or at a kept cursor. Its body says whether there are
    /// more, so that pages can be asked for until there are none.
    ///
    /// # Errors
    /// As [`View::kept`].
    pub async fn page(
        &self,
        page: Page,
        at: Option<Cursor>,
        format: Format,
        deadline: Instant,
    ) -> Result<Answer, ViewError> {
        self.snapshots.note(None);
        let (pages, info, cursor) = match at {
            None => {
                self.newest()?;
                let newest = self.snapshots.newest().await?;
                (newest.pages, newest.info, newest.info.cursor)
            }
            Some(cursor) => {
                let crumb = self.state_at(cursor, deadline).await?;
                let info = BreadcrumbInfo::of(&crumb);
                (self.snapshots.pages_of(crumb).await?, info, cursor)
            }
        };
        let BreadcrumbInfo { sequence, timestamp, .. } = info;
        let (mode, reason) = (Mode::Snapshot, Reason::Read);
        let encode = move || {
            let after = page.start_after.as_ref().map(Key::as_bytes);
            let mut rest = page.keys.iter().flat_map(|prefix| pages.list(prefix.as_bytes(), after));
            let entries: Vec<&Entry> = rest.by_ref().take(page.limit).collect();
            let mut header = info.header(cursor, None, mode, reason, false);
            header.more = Some(rest.next().is_some());
            let size = entries.iter().map(|entry| entry.payload_bytes() + 80).sum();
            let mut writer = BodyWriter::snapshot(format.media, &header, size);
            entries.iter().for_each(|entry| writer.put(PutKind::New, entry));
            writer.finish(&end(&header))
        };
        let body = self.bodies.once(format, encode).await?;
        let format = Format { coding: body.coding, ..format };
        let body = body.bytes.into();
        Ok(Answer { cursor, mode, reason, sequence, timestamp, body, format, at_once: true })
    }
}
