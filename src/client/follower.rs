//! Following a daemon for ever, one request after the other.

use std::time::Duration;

use super::pause::Pause;
use super::reading::{Body, Reading};
use super::standing::Standing;
use super::{Client, ClientError, Gap, Mirror, Next, Progress, Records, Step};
use crate::model::Key;
use crate::wire::MediaType;

/// Keeps a mirror up to date by long polls.
#[derive(Debug)]
pub struct Follower {
    client: Client,
    prefix: Option<Key>,
    standing: Standing,
    pause: Pause,
}

impl Follower {
    /// Follows the keys with this prefix, or all.
    pub fn new(client: Client, prefix: Option<Key>) -> Self {
        Self { client, prefix, standing: Standing::default(), pause: Pause::default() }
    }

    /// The mirror as it stands.
    pub fn mirror(&self) -> &Mirror {
        self.standing.mirror()
    }

    /// Waits for the next change. The first step is the snapshot.
    ///
    /// A long poll that brings nothing is repeated. Not cancel-safe: a step that was dropped may
    /// have been applied by half.
    ///
    /// # Errors
    /// [`ClientError`]; call again to go on (see [`ClientError::may_pass`] and [`Follower::pause`]). After an
    /// answer that does not fit, the state is read whole.
    pub async fn step(&mut self, progress: impl FnMut(Progress)) -> Result<Step, ClientError> {
        let step = self.try_step(progress).await;
        self.pause.after(&step);
        if step.as_ref().is_err_and(ClientError::casts_doubt) {
            self.standing.lose(Gap::Doubt);
        }
        step
    }

    async fn try_step(&mut self, mut progress: impl FnMut(Progress)) -> Result<Step, ClientError> {
        while let Some((cursor, rights)) = self.standing.place() {
            match self.client.next(cursor, rights, self.prefix.as_ref(), MediaType::Bincode).await {
                Ok(Next::Updates(records)) if self.standing.are_mine(records.rights()) => {
                    let Body::Updates(header, updates) = body(*records, &mut progress).await?.0 else {
                        return Err(ClientError::Protocol("updates were asked for, not a state".to_owned()));
                    };
                    return self.standing.updates(header, updates);
                }
                Ok(Next::Nothing { cursor, rights }) if self.standing.are_mine(rights.as_deref()) => {
                    self.pause.forget();
                    self.standing.move_to(cursor);
                }
                // A daemon that had no tokens before cannot refuse what was asked for without rights.
                Ok(_) => self.standing.lose(Gap::RightsChanged),
                Err(error) => match error.gap() {
                    Some(gap) => self.standing.lose(gap),
                    None => return Err(error),
                },
            }
        }
        let records = self.client.snapshot(None, self.prefix.as_ref(), MediaType::Bincode).await?;
        match body(records, &mut progress).await? {
            (Body::Snapshot(header, mirror), rights) => {
                Ok(self.standing.replace(header, mirror, rights.as_deref()))
            }
            _ => Err(ClientError::Protocol("a state was asked for, not updates".to_owned())),
        }
    }

    /// How long to wait after a failure: longer each time, and never the same for two clients.
    pub fn pause(&self) -> Duration {
        self.pause.next()
    }
}

/// The one body of an answer, and the rights that it was made under.
async fn body(
    mut records: Records,
    progress: &mut impl FnMut(Progress),
) -> Result<(Body, Option<String>), ClientError> {
    let mut reading = Reading::default();
    let mut body = None;
    while let Some(record) = records.next().await? {
        // To its last byte, so that the connection can be used again.
        body = reading.take(record, progress)?.or(body);
    }
    let body = body.filter(|_| !reading.is_under_way());
    let cut_off = || ClientError::Protocol("the body has no `end`: it was cut off".to_owned());
    Ok((body.ok_or_else(cut_off)?, records.rights().map(str::to_owned)))
}
