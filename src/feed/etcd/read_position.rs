//! How far the feed has read: what a write waits for.

use tokio::sync::watch;

use super::resume_point::ResumePoint;

/// How far the feed has read its upstream. Everything up to there is in the ingest buffer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Position {
    pub(super) cluster_id: u64,
    /// See [`ResumePoint::generation`].
    pub(super) generation: u64,
    pub(super) revision: i64,
    /// Counts how often the feed began to follow the store. 0: it has not read the store yet.
    pub(super) begun: u64,
    /// False while the feed connects or reads everything.
    pub(super) follows: bool,
}

impl Position {
    /// Whether both are positions in one store.
    pub(super) fn is_same_store(&self, other: &Self) -> bool {
        (self.cluster_id, self.generation) == (other.cluster_id, other.generation)
    }
}

/// The position, as the feed sets it.
#[derive(Clone, Debug, Default)]
pub(super) struct ReadPosition(watch::Sender<Position>);

impl ReadPosition {
    /// The feed begins to follow the store from here.
    pub(super) fn begins(&self, at: &ResumePoint) {
        self.0.send_modify(|position| {
            *position = Position { begun: position.begun + 1, follows: true, ..Position::of(at) };
        });
    }

    /// The feed has read on.
    pub(super) fn advances(&self, at: &ResumePoint) {
        self.0.send_if_modified(|position| {
            let moved = position.revision != at.revision;
            position.revision = at.revision;
            moved
        });
    }

    /// The feed follows the store no more.
    pub(super) fn is_lost(&self) {
        self.0.send_modify(|position| position.follows = false);
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<Position> {
        self.0.subscribe()
    }
}

impl Position {
    fn of(at: &ResumePoint) -> Self {
        let ResumePoint { cluster_id, generation, revision, .. } = *at;
        Self { cluster_id, generation, revision, ..Self::default() }
    }
}
