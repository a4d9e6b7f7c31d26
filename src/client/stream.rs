//! Follows a daemon for ever, over one long answer.

use std::time::Duration;

use super::backoff::Backoff;
use super::body_decoder::{Body, BodyDecoder};
use super::follower_state::FollowerState;
use super::{Client, ClientError, Gap, Mirror, Progress, Records, Step};
use crate::model::Key;
use crate::wire::Mode;

/// How long a daemon may be silent by default: three times the default interval of its heartbeats.
pub const DEFAULT_SILENCE: Duration = Duration::from_secs(45);

/// Keeps a mirror up to date by `/v1/stream`.
///
/// Over a stream a change costs no request, so it arrives sooner after the one before, and many changes at once cost
/// less. A stream needs a heartbeat: a dead connection looks like one on which nothing happens, so one that is silent
/// for too long is given up. A body that was cut off is dropped, and the next stream continues from the last whole
/// one.
#[derive(Debug)]
pub struct StreamFollower {
    client: Client,
    prefix: Option<Key>,
    silence: Duration,
    state: FollowerState,
    backoff: Backoff,
    /// The open stream.
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    records: Records,
    decoder: BodyDecoder,
}

impl StreamFollower {
    /// Follows the keys with this prefix, or all. A daemon that sends nothing for `silence`, not even a heartbeat,
    /// counts as gone.
    pub fn new(client: Client, prefix: Option<Key>, silence: Duration) -> Self {
        let (state, backoff) = Default::default();
        Self { client, prefix, silence, state, backoff, open: None }
    }

    /// The mirror.
    pub fn mirror(&self) -> &Mirror {
        self.state.mirror()
    }

    /// Waits for the next change. The first step is the snapshot.
    ///
    /// When a stream ends, another one is opened. Not cancel-safe.
    ///
    /// # Errors
    /// As [`Follower::step`](super::Follower::step).
    pub async fn step(&mut self, progress: impl FnMut(Progress)) -> Result<Step, ClientError> {
        let step = self.try_step(progress).await;
        self.backoff.record(&step);
        if let Err(error) = &step {
            self.open = None;
            if error.invalidates_state() {
                self.state.lose(error.gap().unwrap_or(Gap::Mismatch));
            }
        }
        step
    }

    async fn try_step(&mut self, mut progress: impl FnMut(Progress)) -> Result<Step, ClientError> {
        loop {
            let Open { mut records, mut decoder } = match self.open.take() {
                Some(open) => open,
                None => self.connect().await?,
            };
            let Some(body) = next_body(&mut records, &mut decoder, &mut progress).await? else {
                // It was ended and not cut off: the daemon stops, or the connection or its rights have expired.
                if decoder.is_under_way() || !records.has_begun() {
                    return Err(self.client.broke_off("the stream ended too early"));
                }
                continue;
            };
            let rights = records.rights().map(str::to_owned);
            self.open = Some(Open { records, decoder });
            match body {
                Body::Snapshot(header, mirror) => {
                    return Ok(self.state.replace(header, mirror, rights.as_deref()));
                }
                // Only the cursor has advanced.
                Body::Updates(header, _) if header.mode == Some(Mode::None) => {
                    header.cursor.into_iter().for_each(|cursor| self.state.move_to(cursor));
                }
                Body::Updates(header, updates) => return self.state.updates(header, updates),
                Body::Reset(reason) => {
                    let others = !self.state.has_rights(rights.as_deref()) || reason != "cursor-gone";
                    self.state.lose(if others { Gap::RightsChanged } else { Gap::CursorGone });
                }
            }
        }
    }

    async fn connect(&mut self) -> Result<Open, ClientError> {
        let (prefix, silence) = (self.prefix.as_ref(), self.silence);
        let from = self.state.resume_from();
        let continues = from.is_some();
        let mut records = self.client.stream(from, prefix, silence).await?;
        if continues && !self.state.has_rights(records.rights()) && self.state.has_no_rights() {
            // A daemon that had no tokens before does not know that the state was read under other rights.
            self.state.lose(Gap::RightsChanged);
            records = self.client.stream(None, prefix, silence).await?;
        }
        Ok(Open { records, decoder: BodyDecoder::default() })
    }

    /// The time to wait after a failure: longer each time, and never the same for two clients.
    pub fn pause(&self) -> Duration {
        self.backoff.pause()
    }
}

/// The next whole body; none when the stream has ended.
async fn next_body(
    records: &mut Records,
    decoder: &mut BodyDecoder,
    progress: &mut impl FnMut(Progress),
) -> Result<Option<Body>, ClientError> {
    while let Some(record) = records.next().await? {
        if let Some(body) = decoder.take(record, progress)? {
            return Ok(Some(body));
        }
    }
    Ok(None)
}
