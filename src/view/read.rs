//! Reads of a state: all of it, a page, one key, or the difference between two states.

use tokio::time::Instant;

use super::answer::{BreadcrumbInfo, end};
use super::body_cache::{Admit, Span, UNCOUNTED_BYTES};
use super::catch_up::{CatchUp, Start, up_to};
use super::{Account, Answer, Body, Format, KeySelector, Reason, View, ViewError, changes};
use crate::cache::{Breadcrumb, Position};
use crate::model::{Cursor, Entry, History, Key, Sequence};
use crate::wire::{BodyWriter, Mode, PutKind};

/// A key at one breadcrumb.
#[derive(Debug)]
pub struct KeyRead {
    /// The entry; `None` if the key is absent.
    pub entry: Option<Entry>,
    /// The cursor of the state that was read.
    pub cursor: Cursor,
    /// The sequence number of the breadcrumb that was read.
    pub sequence: Sequence,
}

/// A request for some entries of a state.
#[derive(Debug, Clone)]
pub struct Page {
    /// The keys to select from.
    pub keys: KeySelector,
    /// The key after which the page begins.
    pub start_after: Option<Key>,
    /// The largest number of entries.
    pub limit: usize,
}

impl View {
    /// The state at this breadcrumb or a newer one, charged to this account.
    ///
    /// # Errors
    /// [`ViewError::OverBudget`], [`ViewError::Encoding`].
    pub async fn current(
        &self,
        at_least: Sequence,
        keys: &KeySelector,
        format: Format,
        account: &Account,
    ) -> Result<Answer, ViewError> {
        self.snapshots.current(at_least, keys, format, account).await.map(|(answer, _)| answer)
    }

    /// The newest breadcrumb.
    ///
    /// # Errors
    /// [`ViewError::Starting`].
    pub fn newest(&self) -> Result<Breadcrumb, ViewError> {
        let crumb = self.cache.current_breadcrumb();
        if crumb.is_provisional() { Err(ViewError::Starting) } else { Ok(crumb) }
    }

    /// The sequence number of the breadcrumb at this cursor; if it is not kept, that of the newest one.
    pub fn sequence_at(&self, cursor: Cursor) -> Sequence {
        match self.cache.locate(cursor) {
            Position::At(breadcrumb) => breadcrumb.sequence(),
            _ => self.cache.newest_sequence(),
        }
    }

    /// The state at a kept cursor. Waits until the deadline for a cursor ahead of this daemon.
    ///
    /// # Errors
    /// [`ViewError::Gone`], [`ViewError::Ahead`], [`ViewError::Starting`], [`ViewError::OverBudget`],
    /// [`ViewError::Encoding`].
    pub async fn kept(
        &self,
        cursor: Cursor,
        keys: &KeySelector,
        format: Format,
        account: &Account,
        deadline: Instant,
    ) -> Result<Answer, ViewError> {
        let crumb = self.state_at(cursor, deadline).await?;
        self.snapshots.kept(crumb, cursor, keys, format, account).await
    }

    /// The kept breadcrumb at the cursor.
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
                    // The state between two steps is not kept.
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
                () = upstream.sighting() => {}
                () = tokio::time::sleep_until(deadline) => return Err(ahead),
            }
        }
    }

    /// The squashed updates from one kept state to another, in either direction.
    ///
    /// # Errors
    /// As [`View::kept`].
    pub async fn diff(
        &self,
        from: Cursor,
        to: Cursor,
        keys: &KeySelector,
        format: Format,
        account: &Account,
        deadline: Instant,
    ) -> Result<Answer, ViewError> {
        let base = self.state_at(from, deadline).await?;
        let target = self.state_at(to, deadline).await?;
        let (sequence, timestamp) = (target.sequence(), target.timestamp());
        let (mode, reason) = (Mode::Squash, Reason::Diff);
        let header = BreadcrumbInfo::of(&target).header(to, Some(from), mode, reason, keys.is_all());
        let span = Span::Diff { from, to, to_sequence: sequence };
        let selected = keys.clone();
        let encode = move |admit: Admit<'_>| {
            let between = match base.sequence() <= target.sequence() {
                true => up_to(&base, &target),
                false => up_to(&target, &base),
            };
            let deltas = changes::between_states(&base, &target, &between, &selected);
            let size = changes::size_hint(&deltas);
            admit(size).then(|| {
                let mut writer = BodyWriter::breadcrumb(format.media, &header, size);
                changes::write(&mut writer, &deltas);
                writer.finish(&end(&header))
            })
        };
        let body = self.bodies.get(span, keys, format, account, true, encode).await?;
        let format = Format { coding: body.coding, ..format };
        let body = body.body;
        Ok(Answer { cursor: to, mode, reason, sequence, timestamp, body, format, at_once: true })
    }

    /// One key, now or at a kept cursor.
    ///
    /// # Errors
    /// As [`View::kept`].
    pub async fn key(&self, key: &Key, at: Option<Cursor>, deadline: Instant) -> Result<KeyRead, ViewError> {
        let (breadcrumb, cursor) = self.state_now_or_at(at, deadline).await?;
        let entry = breadcrumb.kvs().get(key.as_bytes()).cloned();
        Ok(KeyRead { entry, cursor, sequence: breadcrumb.sequence() })
    }

    /// The value of an entry of this history as a body. A large one is counted while requests hold it.
    ///
    /// # Errors
    /// [`ViewError::OverBudget`].
    pub async fn value_body(
        &self,
        history: History,
        entry: &Entry,
        account: &Account,
    ) -> Result<Body, ViewError> {
        let value = entry.value_bytes();
        if value.len() <= UNCOUNTED_BYTES {
            return Ok(value.into());
        }
        let span = Span::Value { history, revision: entry.revision().unwrap_or_default() };
        self.bodies.value(span, Key::copy_from(entry.key()), value, account).await
    }

    async fn state_now_or_at(
        &self,
        at: Option<Cursor>,
        deadline: Instant,
    ) -> Result<(Breadcrumb, Cursor), ViewError> {
        match at {
            Some(cursor) => Ok((self.state_at(cursor, deadline).await?, cursor)),
            None => self.newest().map(|crumb| (crumb.clone(), crumb.cursor())),
        }
    }

    /// A page of entries in key order, now or at a kept cursor. Its header says whether more entries follow.
    ///
    /// # Errors
    /// As [`View::kept`].
    pub async fn page(
        &self,
        page: Page,
        at: Option<Cursor>,
        format: Format,
        account: &Account,
        deadline: Instant,
    ) -> Result<Answer, ViewError> {
        self.snapshots.note_use(None);
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
        let Page { keys, start_after, limit } = page;
        let span = Span::Page { at: cursor, sequence, start_after: start_after.clone(), limit };
        let listed = keys.clone();
        let encode = move |admit: Admit<'_>| {
            let after = start_after.as_ref().map(Key::as_bytes);
            let mut rest = listed.iter().flat_map(|prefix| pages.list(prefix.as_bytes(), after));
            let entries: Vec<&Entry> = rest.by_ref().take(limit).collect();
            let mut header = info.header(cursor, None, mode, reason, false);
            header.more = Some(rest.next().is_some());
            let size = entries.iter().map(|entry| entry.payload_bytes() + 80).sum();
            admit(size).then(|| {
                let mut writer = BodyWriter::snapshot(format.media, &header, size);
                entries.iter().for_each(|entry| writer.put(PutKind::New, entry));
                writer.finish(&end(&header))
            })
        };
        let body = self.bodies.get(span, &keys, format, account, true, encode).await?;
        let format = Format { coding: body.coding, ..format };
        let body = body.body;
        Ok(Answer { cursor, mode, reason, sequence, timestamp, body, format, at_once: true })
    }
}
