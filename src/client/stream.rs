//! Following a daemon for ever, over one long answer.

use std::time::Duration;

use super::pause::Pause;
use super::reading::{Body, Reading};
use super::standing::Standing;
use super::{Client, ClientError, Gap, Mirror, Progress, Records, Step};
use crate::model::Key;
use crate::wire::Mode;

/// How long a daemon may be silent: three times what it is between two heartbeats when nobody says otherwise.
pub const DEFAULT_SILENCE: Duration = Duration::from_secs(45);

/// Keeps a mirror up to date by `/v1/stream`.
///
/// What the stream is better at: a change costs no request, so it arrives sooner after the one before, and many
/// at once cost less. What it needs for that is a heartbeat, since a connection that is dead looks like one on
/// which nothing happens; one that is silent for too long is given up. A body that was cut off is
/// forgotten, and the next stream goes on from the last whole one.
#[derive(Debug)]
pub struct StreamFollower {
    client: Client,
    prefix: Option<Key>,
    silence: Duration,
    standing: Standing,
    pause: Pause,
    /// The stream that is being read.
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    records: Records,
    reading: Reading,
}

impl StreamFollower {
    /// Follows the keys with this prefix, or all. A daemon that says nothing for as long as `silence`, not even a
    /// heartbeat, counts as gone.
    pub fn new(client: Client, prefix: Option<Key>, silence: Duration) -> Self {
        let (standing, pause) = Default::default();
        Self { client, prefix, silence, standing, pause, open: None }
    }

    /// The mirror as it stands.
    pub fn mirror(&self) -> &Mirror {
        self.standing.mirror()
    }

    /// Waits for the next change. The first step is the snapshot.
    ///
    /// A stream that ends is followed by another one. Not cancel-safe.
    ///
    /// # Errors
    /// As [`Follower::step`](super::Follower::step).
    pub async fn step(&mut self, progress: impl FnMut(Progress)) -> Result<Step, ClientError> {
        let step = self.try_step(progress).await;
        self.pause.after(&step);
        if let Err(error) = &step {
            self.open = None;
            if error.casts_doubt() {
                self.standing.lose(error.gap().unwrap_or(Gap::Doubt));
            }
        }
        step
    }

    async fn try_step(&mut self, mut progress: impl FnMut(Progress)) -> Result<Step, ClientError> {
        loop {
            let Open { mut records, mut reading } = match self.open.take() {
                Some(open) => open,
                None => self.connect().await?,
            };
            let Some(body) = next_body(&mut records, &mut reading, &mut progress).await? else {
                // It was ended, and not cut off: the daemon stops, or the connection is old, or the rights are.
                if reading.is_under_way() || !records.has_begun() {
                    return Err(self.client.broke_off("the stream ended too early"));
                }
                continue;
            };
            let rights = records.rights().map(str::to_owned);
            self.open = Some(Open { records, reading });
            match body {
                Body::Snapshot(header, mirror) => {
                    return Ok(self.standing.replace(header, mirror, rights.as_deref()));
                }
                // Only that the cursor has moved on.
                Body::Updates(header, _) if header.mode == Some(Mode::None) => {
                    header.cursor.into_iter().for_each(|cursor| self.standing.move_to(cursor));
                }
                Body::Updates(header, updates) => return self.standing.updates(header, updates),
                Body::Reset(reason) => {
                    let others = !self.standing.are_mine(rights.as_deref()) || reason != "cursor-gone";
                    self.standing.lose(if others { Gap::RightsChanged } else { Gap::CursorGone });
                }
            }
        }
    }

    async fn connect(&mut self) -> Result<Open, ClientError> {
        let (prefix, silence) = (self.prefix.as_ref(), self.silence);
        let from = self.standing.place();
        let continues = from.is_some();
        let mut records = self.client.stream(from, prefix, silence).await?;
        if continues && !self.standing.are_mine(records.rights()) && self.standing.has_no_rights() {
            // A daemon that had no tokens before does not know that the state was told under others.
            self.standing.lose(Gap::RightsChanged);
            records = self.client.stream(None, prefix, silence).await?;
        }
        Ok(Open { records, reading: Reading::default() })
    }

    /// How long to wait after a failure: longer each time, and never the same for two clients.
    pub fn pause(&self) -> Duration {
        self.pause.next()
    }
}

/// The next whole body; none when the stream has ended.
async fn next_body(
    records: &mut Records,
    reading: &mut Reading,
    progress: &mut impl FnMut(Progress),
) -> Result<Option<Body>, ClientError> {
    while let Some(record) = records.next().await? {
        if let Some(body) = reading.take(record, progress)? {
            return Ok(Some(body));
        }
    }
    Ok(None)
}
