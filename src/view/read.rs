//! Reading a state: the whole of it, a page, one key, or the difference of two.

use tokio::time::Instant;

use super::answer::{Stand, end, header};
use super::bodies::Subject;
use super::way::up_to;
use super::{Answer, Format, OwnedScope, Reason, Scope, View, ViewError, changes};
use crate::cache::{Breadcrumb, Position};
use crate::model::{Cursor, Entry, Key, Prefixes, Sequence};
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
    pub keys: Prefixes,
    /// Only keys greater than this one.
    pub start_after: Option<Key>,
    /// At most so many.
    pub limit: usize,
}

impl Default for Page {
    /// No entry of all.
    fn default() -> Self {
        Self { keys: Prefixes::everything(), start_after: None, limit: 0 }
    }
}

impl View {
    /// The newest state.
    ///
    /// # Errors
    /// [`ViewError::Starting`], [`ViewError::Encoding`].
    pub async fn current<'a>(
        &self,
        scope: impl Into<Scope<'a>>,
        format: Format,
    ) -> Result<Answer, ViewError> {
        self.newest()?;
        self.pages.current(scope.into(), format).await
    }

    /// The cursor and sequence of the newest state, without making a body.
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
    pub async fn kept<'a>(
        &self,
        cursor: Cursor,
        scope: impl Into<Scope<'a>>,
        format: Format,
        deadline: Instant,
    ) -> Result<Answer, ViewError> {
        let crumb = self.state_at(cursor, deadline).await?;
        self.pages.kept(crumb, cursor, scope.into(), format).await
    }

    /// The breadcrumb whose state is that of the cursor.
    async fn state_at(&self, cursor: Cursor, deadline: Instant) -> Result<Breadcrumb, ViewError> {
        let (asked, cursor) = (cursor, self.adopt(cursor));
        let mut upstream = self.watch_upstream();
        loop {
            let newest = self.newest()?;
            match self.cache.locate(cursor) {
                Position::At(crumb) => return Ok(crumb),
                Position::Ahead if upstream.is_below(cursor) => return Err(self.gone(asked)),
                Position::Ahead => {}
                // The values on the way to a state are not kept, only at its two ends.
                Position::Inside { .. }
                | Position::Before { .. }
                | Position::Awaited(_)
                | Position::Gone
                | Position::OtherHistory => {
                    return Err(self.gone(asked));
                }
            }
            let ahead = ViewError::Ahead { cursor: asked, current: newest.cursor() };
            tokio::select! {
                next = newest.next() => match next {
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
    pub async fn diff<'a>(
        &self,
        from: Cursor,
        to: Cursor,
        scope: impl Into<Scope<'a>>,
        format: Format,
        deadline: Instant,
    ) -> Result<Answer, ViewError> {
        let scope = scope.into();
        let base = self.state_at(from, deadline).await?;
        let target = self.state_at(to, deadline).await?;
        let (sequence, timestamp) = (target.sequence(), target.timestamp());
        let keys = OwnedScope::from(scope);
        let (mode, reason) = (Mode::Squash, Reason::Diff);
        let header = header(&target, to, Some(from), mode, reason, scope.is_all());
        let subject = Subject::Diff { from, to, to_crumb: sequence };
        let encode = move || {
            let between = match base.sequence() <= target.sequence() {
                true => up_to(&base, &target),
                false => up_to(&target, &base),
            };
            let deltas = changes::between_states(&base, &target, &between, Scope::from(&keys));
            let mut writer = BodyWriter::breadcrumb(format.media, &header, changes::size_hint(&deltas));
            changes::write(&mut writer, &deltas);
            writer.finish(&end(&header))
        };
        let body = self.bodies.get(subject, scope, format, encode).await?;
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
        self.pages.note(None);
        let (pages, stand, cursor) = match at {
            None => {
                self.newest()?;
                let newest = self.pages.newest().await?;
                (newest.pages, newest.stand, newest.stand.cursor)
            }
            Some(cursor) => {
                let crumb = self.state_at(cursor, deadline).await?;
                let stand = Stand::of(&crumb);
                (self.pages.pages_of(crumb).await?, stand, cursor)
            }
        };
        let Stand { sequence, timestamp, .. } = stand;
        let (mode, reason) = (Mode::Snapshot, Reason::Read);
        let encode = move || {
            let after = page.start_after.as_ref().map(Key::as_bytes);
            let mut rest = page.keys.iter().flat_map(|prefix| pages.list(prefix.as_bytes(), after));
            let entries: Vec<&Entry> = rest.by_ref().take(page.limit).collect();
            let mut header = stand.header(cursor, None, mode, reason, false);
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
