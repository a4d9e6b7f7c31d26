//! A follower over long polls or over a stream.

use std::time::Duration;

use crate::client::{ClientError, Follower, Mirror, Progress, Step, StreamFollower};

/// The follower of this command. Boxed, because the two differ much in size and there is only one.
pub(super) enum AnyFollower {
    LongPoll(Box<Follower>),
    Stream(Box<StreamFollower>),
}

impl AnyFollower {
    pub(super) async fn step(&mut self, progress: impl FnMut(Progress)) -> Result<Step, ClientError> {
        match self {
            Self::LongPoll(follower) => follower.step(progress).await,
            Self::Stream(follower) => follower.step(progress).await,
        }
    }

    pub(super) fn mirror(&self) -> &Mirror {
        match self {
            Self::LongPoll(follower) => follower.mirror(),
            Self::Stream(follower) => follower.mirror(),
        }
    }

    pub(super) fn pause(&self) -> Duration {
        match self {
            Self::LongPoll(follower) => follower.pause(),
            Self::Stream(follower) => follower.pause(),
        }
    }
}
