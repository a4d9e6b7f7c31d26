//! Asks, checks, tells, and asks again.

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::application::Application;
use super::endpoints::Endpoints;
use super::event::{Event, Retry};
use super::pace::Pace;
use super::session::{Answer, Session};
use crate::client::{CheckedState, ClientError, Gap, MirrorSnapshot};
use crate::wire::{Header, Mode, Record};

/// Answers in a row that cannot be used, after which the whole state is read.
const MAX_UNUSABLE_ANSWERS: u32 = 3;

/// Follows a daemon for ever.
pub(super) struct Engine {
    pub(super) endpoints: Endpoints,
    pub(super) session: Session,
    pub(super) application: Application,
    /// The daemon's state, as far as it was told.
    pub(super) state: CheckedState,
    /// Why the state cannot be continued, if so.
    gap: Option<Gap>,
    pace: Pace,
    unusable_answers: u32,
    allow_empty: watch::Receiver<bool>,
}

impl Engine {
    pub(super) fn new(
        endpoints: Endpoints,
        session: Session,
        resumed: Option<MirrorSnapshot>,
        allow_empty: watch::Receiver<bool>,
    ) -> Self {
        let (state, application) = match resumed {
            Some(snapshot) => (CheckedState::from(snapshot.clone()), Application::resuming(snapshot)),
            None => Default::default(),
        };
        let (gap, pace, unusable_answers) = (None, Pace::new(), 0);
        Self { endpoints, session, application, state, gap, pace, unusable_answers, allow_empty }
    }

    /// The next event. An error is one that asking again does not mend; the next call asks again all the same, after a
    /// pause.
    pub(super) async fn next(&mut self) -> Result<Event, ClientError> {
        loop {
            let mut allow_empty = self.allow_empty.clone();
            let is_holding = self.application.is_holding();
            let stepped = tokio::select! {
                biased;
                Ok(_) = allow_empty.wait_for(|allow| *allow), if is_holding => {
                    Ok(self.application.agree(&self.state.snapshot()))
                }
                stepped = self.step() => stepped,
            };
            match stepped {
                Ok(Some(event)) => return Ok(event),
                Ok(None) => {}
                Err(error) => {
                    // The answer to the question for the whole state cannot be that it is gone.
                    let asked_on = self.gap.is_none() && self.state.cursor().is_some();
                    if let Some(gap) = error.gap().filter(|_| asked_on) {
                        self.lose(gap);
                        self.pace.repeats();
                        continue;
                    }
                    return self.failed(error);
                }
            }
        }
    }

    async fn step(&mut self) -> Result<Option<Event>, ClientError> {
        self.wait().await;
        self.advance().await
    }

    async fn wait(&mut self) {
        if self.session.is_streaming() {
            return;
        }
        sleep_until(self.pace.until()).await;
        let may_be_asked = self.endpoints.choose(Instant::now());
        sleep_until(may_be_asked).await;
    }

    async fn advance(&mut self) -> Result<Option<Event>, ClientError> {
        let known = self.state.snapshot();
        let continued = (self.gap.is_none() && known.cursor().is_some()).then_some(&known);
        let asked = Instant::now();
        let answer = self.session.ask(self.endpoints.current(), continued).await?;
        let told = match answer {
            Answer::State(header, state) => {
                self.state = state;
                let header = Header { mode: Some(Mode::Snapshot), ..header };
                let (gap, allow_empty) = (self.gap.take(), self.allow_empty());
                self.application.replace(header, &self.state.snapshot(), gap, allow_empty)
            }
            Answer::Updates(header, records) => {
                let told = self.update(header, &records)?;
                let is_empty = matches!(&told, Some(Event::Changed(changed)) if changed.changes.is_empty());
                if is_empty && self.state.cursor() == known.cursor() && !self.session.is_streaming() {
                    self.moved_nothing(asked);
                    return Ok(Some(Event::Unchanged));
                }
                told
            }
            Answer::Moved(cursor) => {
                self.state.move_to(cursor);
                self.application.move_to(&self.state.snapshot());
                if known.cursor() == Some(cursor) {
                    self.moved_nothing(asked);
                } else {
                    self.pace.answered();
                }
                return Ok(Some(Event::Unchanged));
            }
            Answer::Lost(gap) => {
                self.lose(gap);
                self.pace.repeats();
                return Ok(None);
            }
            Answer::Ended => {
                self.pace.repeats();
                return Ok(None);
            }
        };
        self.unusable_answers = 0;
        self.pace.answered();
        Ok(told)
    }

    /// The answer leads nowhere. If it came at once, the next one would too.
    fn moved_nothing(&mut self, asked: Instant) {
        if self.session.is_streaming() || asked.elapsed() >= self.endpoints.current().wait() / 2 {
            self.pace.answered();
        } else {
            self.pace.failed();
        }
    }

    /// Applies a whole body of updates. If it does not match, the state stays as it was.
    fn update(&mut self, header: Header, records: &[Record]) -> Result<Option<Event>, ClientError> {
        let mut next = self.state.clone();
        let mut changes = Vec::with_capacity(records.len());
        for record in records {
            changes.extend(next.apply(record)?);
        }
        next.describe(&header);
        self.state = next;
        let allow_empty = self.allow_empty();
        Ok(self.application.update(header, changes, &self.state.snapshot(), allow_empty))
    }

    fn allow_empty(&self) -> bool {
        *self.allow_empty.borrow()
    }

    /// The state cannot be continued. It is kept, so that the difference to the next one can be told.
    fn lose(&mut self, gap: Gap) {
        // The first reason led to the others.
        self.gap.get_or_insert(gap);
    }

    fn failed(&mut self, error: ClientError) -> Result<Event, ClientError> {
        self.session.close();
        if error.is_unusable_answer() {
            self.unusable_answers += 1;
            if matches!(error, ClientError::Mismatch(_)) || self.unusable_answers >= MAX_UNUSABLE_ANSWERS {
                self.lose(Gap::Mismatch);
            }
        }
        self.endpoints.failed(error.retry_after());
        let mut pause = self.pace.failed();
        if error.ends_a_follower() {
            return Err(error);
        }
        let now = Instant::now();
        pause = pause.max(self.endpoints.choose(now).saturating_duration_since(now));
        Ok(Event::Retry(Retry { error, pause }))
    }
}
