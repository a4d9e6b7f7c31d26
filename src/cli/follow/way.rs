//! The ways to follow.

use std::time::Duration;

use crate::client::{ClientError, Follower, Mirror, Progress, Step, StreamFollower};

/// One of them. Each is boxed: there is one.
pub(super) enum Way {
    Polls(Box<Follower>),
    Stream(Box<StreamFollower>),
}

impl Way {
    pub(super) async fn step(&mut self, progress: impl FnMut(Progress)) -> Result<Step, ClientError> {
        match self {
            Self::Polls(follower) => follower.step(progress).await,
            Self::Stream(follower) => follower.step(progress).await,
        }
    }

    pub(super) fn mirror(&self) -> &Mirror {
        match self {
            Self::Polls(follower) => follower.mirror(),
            Self::Stream(follower) => follower.mirror(),
        }
    }

    pub(super) fn pause(&self) -> Duration {
        match self {
            Self::Polls(follower) => follower.pause(),
            Self::Stream(follower) => follower.pause(),
        }
    }
}
