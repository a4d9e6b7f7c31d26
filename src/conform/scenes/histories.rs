//! Other histories, and stores that were restored.

use super::super::daemon::state_of;
use super::super::scene::{Scene, scene};
use super::super::stage::{Broken, Given, Stage};
use crate::model::SyncStatus;

pub(super) const SCENES: &[Scene] = &[
    scene!(
        "another-history",
        Lower,
        BOTH,
        another_history,
        "The daemon is restarted with a new store, whose revisions begin at 1."
    ),
    scene!(
        "restored-store",
        Lower,
        BOTH,
        restored,
        "The store is restored from a backup: the same history at lower revisions."
    ),
];

async fn another_history(stage: &mut Stage) -> Result<(), Broken> {
    stage.follows(Given::default()).await?;
    let daemon = stage.daemon();
    daemon.go().await?;
    daemon.new_history(1, state_of(1, [("a", "2"), ("new", "1")]));
    daemon.come_back().await?;
    low_revisions(stage).await
}

/// Sees that the client comes to the new state, and follows it.
async fn low_revisions(stage: &mut Stage) -> Result<(), Broken> {
    stage.reaches().await?;
    stage.waits().await?;
    for changes in [&[("a", Some("3"))][..], &[("a", None), ("b", Some("4"))]] {
        stage.daemon().world(|world| world.change(changes));
        stage.reaches().await?;
    }
    stage.read_the_state(2)
}

async fn restored(stage: &mut Stage) -> Result<(), Broken> {
    stage.follows(Given::default()).await?;
    let daemon = stage.daemon();
    daemon.world(|world| world.change(&[("a", Some("2")), ("e", Some("5"))]));
    stage.reaches().await?;
    daemon.restore(7, state_of(7, [("a", "1"), ("b", "\"two\""), ("old", "1")]));
    low_revisions(stage).await?;
    daemon.world(|world| world.set_status(SyncStatus::ResyncInProgress));
    stage.reaches().await
}
