//! One reader of a stream.

use std::fmt;

use super::FORMAT;
use super::frame::{Frame, Telling};
use super::subjects::Entered;
use crate::model::Cursor;
use crate::trail::stream::{CloseReason, Message, StreamError, Subscription};
use crate::view::answer::end;
use crate::view::follow::UpToNow;
use crate::view::pace::Pace;
use crate::view::{Answer, Next, OwnedScope, Reason, Scope, View, ViewError};
use crate::wire::{BodyWriter, Mode};

/// A reader gets breadcrumbs one by one as long as no more than so many wait for it, and else one
/// squash.
const FEW: usize = 16;

/// What a reader is told.
#[derive(Debug)]
pub enum Told {
    /// What it has cannot be continued: it shall forget it, a snapshot follows.
    Reset,
    /// The whole state.
    Snapshot(Answer),
    /// What changed since.
    Updates(Answer),
}

/// Why a stream has ended.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Ended {
    /// Somebody ended it.
    #[error("{0}")]
    Closed(CloseReason),
    /// The state could not be told. Coming again may help.
    #[error("{0}")]
    Failed(String),
}

/// Tells one reader the state and all that happens to it. It is made by [`View::stream`].
pub struct Stream {
    view: View,
    scope: OwnedScope,
    subscription: Subscription<Frame>,
    _entered: Entered,
    /// Where the reader stands, unless it has nothing.
    cursor: Option<Cursor>,
    source: Source,
    /// Messages of the list to be read although there are many, since there is no other way on.
    unavoidable: usize,
    /// Read, and not told yet.
    held: Option<Told>,
}

/// Where the next thing comes from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Source {
    /// A squash. What the list holds is of no use to this reader.
    Squash,
    /// A squash if that can be had; else the list, where the reader has its place.
    SquashOrList,
    List,
}

impl Stream {
    pub(super) fn new(
        view: View,
        scope: OwnedScope,
        from: Option<Cursor>,
        subscription: Subscription<Frame>,
        entered: Entered,
    ) -> Self {
        let source = if from.is_some() { Source::Squash } else { Source::List };
        Self {
            view,
            scope,
            subscription,
            _entered: entered,
            cursor: from,
            source,
            unavoidable: 0,
            held: None,
        }
    }

    /// Where the reader stands, unless it has nothing.
    pub fn cursor(&self) -> Option<Cursor> {
        self.cursor
    }

    /// What the reader has is of no use whatever its cursor is: it shall begin anew.
    ///
    /// # Errors
    /// [`Ended`].
    pub fn start_over(&mut self) -> Result<(), Ended> {
        self.source = Source::List;
        Ok(self.subscription.start_over()?)
    }

    /// Waits for the next thing to tell. It is made now, not before. Cancel-safe.
    ///
    /// # Errors
    /// [`Ended`], for good.
    pub async fn next(&mut self) -> Result<Told, Ended> {
        loop {
            if let Some(told) = self.held.take() {
                return Ok(told);
            }
            let told = match (self.source, self.cursor) {
                (Source::List, _) | (_, None) => self.read().await?,
                (_, Some(cursor)) => self.squash(cursor).await?,
            };
            if let Some(told) = told {
                return Ok(told);
            }
        }
    }

    /// The next message of the list, unless it is only for us.
    async fn read(&mut self) -> Result<Option<Told>, Ended> {
        let mut waits = false;
        if self.cursor.is_some() && self.unavoidable == 0 {
            match self.subscription.unread(FEW + 1) {
                None => self.source = Source::Squash,
                Some(unread) if unread > FEW => self.source = Source::SquashOrList,
                Some(unread) => waits = unread == 0,
            }
            if self.source != Source::List {
                return Ok(None);
            }
        }
        let pace = self.view.pace.clone();
        let waiting = pace.as_deref().map(Pace::wait);
        let message = self.subscription.next().await?;
        self.unavoidable = self.unavoidable.saturating_sub(1);
        let events = match message {
            // Who has nothing need not be told to forget it.
            Message::NewSnapshotToFollow => return Ok(self.cursor.take().map(|_| Told::Reset)),
            Message::EndOfSnapshot { .. } => return Ok(None),
            Message::Events(events) => events,
        };
        // One for a subject and a breadcrumb.
        let told = events.as_slice().first().map(|frame| frame.told.clone());
        let Some(Telling::Body(answer)) = told else {
            self.source = Source::Squash;
            return Ok(None);
        };
        self.cursor = Some(answer.cursor);
        let told = if answer.mode == Mode::Snapshot { Told::Snapshot } else { Told::Updates };
        if let (Some(pace), true) = (&pace, waits) {
            // Held while it waits for its turn, so that nothing is lost where this is cancelled.
            self.held = Some(told(answer));
            pace.turn().await;
            drop(waiting);
            return Ok(None);
        }
        Ok(Some(told(answer)))
    }

    /// What leads from the cursor to now, and then on along the list.
    async fn squash(&mut self, cursor: Cursor) -> Result<Option<Told>, Ended> {
        // In this order: see `trail/stream/skip.rs`.
        let Some(newest) = self.subscription.newest() else { return Err(self.closed().await) };
        let (told, sequence) = match self.view.up_to_now(cursor, Scope::from(&self.scope), FORMAT).await {
            Ok(UpToNow::Answer(answer)) => {
                self.cursor = Some(answer.cursor);
                let sequence = answer.sequence;
                (Some(Told::Updates(answer)), sequence)
            }
            Ok(UpToNow::Nothing { cursor, sequence }) if !self.is_cousin(cursor) => {
                self.cursor = Some(cursor);
                (None, sequence)
            }
            Ok(UpToNow::Nothing { .. } | UpToNow::NotYet) => {
                drop(newest);
                return self.wait(cursor).await;
            }
            Err(ViewError::Gone { .. }) => {
                drop(newest);
                return self.gone();
            }
            Err(error) => return Err(Ended::Failed(error.to_string())),
        };
        self.subscription.skip_to(newest, sequence.0);
        if self.cursor.is_some_and(|cursor| !self.is_cousin(cursor)) {
            self.source = Source::List;
        }
        Ok(told)
    }

    /// What comes after a cursor of which the list does not speak: one that is ahead, or is named
    /// in another history's terms, or whose past is being found out.
    async fn wait(&mut self, cursor: Cursor) -> Result<Option<Told>, Ended> {
        let never = std::future::pending::<Reason>();
        match self.view.next(cursor, Scope::from(&self.scope), FORMAT, never).await {
            Ok(Next::Answer(answer)) => {
                self.cursor = Some(answer.cursor);
                Ok(Some(Told::Updates(answer)))
            }
            Ok(Next::Nothing { .. }) => Err(self.closed().await),
            Err(ViewError::Gone { .. }) => self.gone(),
            Err(error) => Err(Ended::Failed(error.to_string())),
        }
    }

    /// The cursor cannot be squashed from: goes on along the list if there is a place in it, else begins anew.
    fn gone(&mut self) -> Result<Option<Told>, Ended> {
        let has_place = self.source == Source::SquashOrList && self.subscription.unread(1).is_some();
        if has_place {
            (self.source, self.unavoidable) = (Source::List, FEW);
        } else {
            self.start_over()?;
        }
        Ok(None)
    }

    /// The list ends, and the subscription tells why.
    async fn closed(&mut self) -> Ended {
        loop {
            if let Err(error) = self.subscription.next().await {
                return error.into();
            }
        }
    }

    /// Whether it is good here, but in the terms of another history, in which the list does not speak.
    fn is_cousin(&self, cursor: Cursor) -> bool {
        cursor.history != self.view.cache.current_breadcrumb().kvs().history()
    }

    /// An empty step to a newer cursor, if all that happened since the reader's does not concern it:
    /// for a word now and then, so that a reader of a quiet scope does not fall out of the window.
    pub fn passed_by(&mut self) -> Option<Answer> {
        let cursor = self.cursor.filter(|_| self.held.is_none())?;
        // First how far the lists go, then whether there is anything in this one.
        let published = *self.view.streams.published.read();
        let now = published.cursor;
        let newer = now.history == cursor.history && now.revision > cursor.revision;
        if self.source != Source::List || !newer || self.subscription.unread(1) != Some(0) {
            return None;
        }
        let (mode, reason) = (Mode::None, Reason::Timeout);
        let header = published.header(now, Some(cursor), mode, reason, Scope::from(&self.scope).is_all());
        let body = BodyWriter::breadcrumb(FORMAT.media, &header, 0).finish(&end(&header));
        self.cursor = Some(now);
        let (sequence, body) = (published.sequence, body.into());
        let timestamp = published.timestamp;
        Some(Answer { cursor: now, mode, reason, sequence, timestamp, body, format: FORMAT, at_once: false })
    }
}

impl From<StreamError> for Ended {
    fn from(error: StreamError) -> Self {
        match error {
            StreamError::Closed(reason) => Self::Closed(reason),
            failed => Self::Failed(failed.to_string()),
        }
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream")
            .field("scope", &self.scope)
            .field("cursor", &self.cursor)
            .field("subscription", &self.subscription)
            .finish_non_exhaustive()
    }
}
