//! Follows a daemon for ever, one request after the other.

use std::time::Duration;

use super::backoff::Backoff;
use super::body_decoder::{Body, BodyDecoder};
use super::follower_state::FollowerState;
use super::{Client, ClientError, Gap, Mirror, Next, Progress, Records, Step};
use crate::model::Key;
use crate::wire::MediaType;

/// Keeps a mirror up to date by long polls.
#[derive(Debug)]
pub struct Follower {
    client: Client,
    prefix: Option<Key>,
    state: FollowerState,
    backoff: Backoff,
}

impl Follower {
    /// Follows the keys with this prefix, or all.
    pub fn new(client: Client, prefix: Option<Key>) -> Self {
        Self { client, prefix, state: FollowerState::default(), backoff: Backoff::default() }
    }

    /// The mirror.
    pub fn mirror(&self) -> &Mirror {
        self.state.mirror()
    }

    /// Waits for the next change. The first step is the snapshot.
    ///
    /// A long poll without changes is repeated. Not cancel-safe: a step that was dropped may be lost half-way.
    ///
    /// # Errors
    /// [`ClientError`]; call again to continue (see [`ClientError::may_pass`] and [`Follower::pause`]). After an answer
    /// that does not match the state, the whole state is read.
    pub async fn step(&mut self, progress: impl FnMut(Progress)) -> Result<Step, ClientError> {
        let step = self.try_step(progress).await;
        self.backoff.record(&step);
        if step.as_ref().is_err_and(ClientError::invalidates_state) {
            self.state.lose(Gap::Mismatch);
        }
        step
    }

    async fn try_step(&mut self, mut progress: impl FnMut(Progress)) -> Result<Step, ClientError> {
        while let Some((cursor, rights)) = self.state.resume_from() {
            match self.client.next(cursor, rights, self.prefix.as_ref(), MediaType::Bincode).await {
                Ok(Next::Updates(records)) if self.state.has_rights(records.rights()) => {
                    let Body::Updates(header, updates) = body(*records, &mut progress).await?.0 else {
                        return Err(ClientError::Protocol("updates were asked for, not a state".to_owned()));
                    };
                    return self.state.updates(header, updates);
                }
                Ok(Next::Nothing { cursor, rights }) if self.state.has_rights(rights.as_deref()) => {
                    self.backoff.reset();
                    self.state.move_to(cursor);
                }
                // A daemon that had no tokens before cannot refuse what was asked for without rights.
                Ok(_) => self.state.lose(Gap::RightsChanged),
                Err(error) => match error.gap() {
                    Some(gap) => self.state.lose(gap),
                    None => return Err(error),
                },
            }
        }
        let records = self.client.snapshot(None, self.prefix.as_ref(), MediaType::Bincode).await?;
        match body(records, &mut progress).await? {
            (Body::Snapshot(header, mirror), rights) => {
                Ok(self.state.replace(header, mirror, rights.as_deref()))
            }
            _ => Err(ClientError::Protocol("a state was asked for, not updates".to_owned())),
        }
    }

    /// The time to wait after a failure: longer each time, and never the same for two clients.
    pub fn pause(&self) -> Duration {
        self.backoff.pause()
    }
}

/// The body of an answer, and the rights under which it was made.
async fn body(
    mut records: Records,
    progress: &mut impl FnMut(Progress),
) -> Result<(Body, Option<String>), ClientError> {
    let mut decoder = BodyDecoder::default();
    let mut body = None;
    while let Some(record) = records.next().await? {
        // To its last byte, so that the connection can be used again.
        body = decoder.take(record, progress)?.or(body);
    }
    let body = body.filter(|_| !decoder.is_under_way());
    let cut_off = || ClientError::Protocol("the body has no `end`: it was cut off".to_owned());
    Ok((body.ok_or_else(cut_off)?, records.rights().map(str::to_owned)))
}
