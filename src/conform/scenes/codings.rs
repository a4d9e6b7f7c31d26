//! Content codings.

use super::super::daemon::{Cut, Ending, Fault, Kind, state_of};
use super::super::scene::{Scene, scene};
use super::super::stage::{Broken, FIRST_REVISION, Given, Stage};
use crate::model::SyncStatus;
use crate::wire::Coding;

pub(super) const SCENES: &[Scene] = &[
    scene!("gzip", Coding, BOTH, gzip, "Bodies come in gzip where the client accepts it."),
    scene!("zstd", Coding, BOTH, zstd, "Bodies come in zstd where the client accepts it."),
    scene!(
        "coded-cut-off",
        Whole,
        POLL,
        cut_off,
        "A coded body ends in the middle, and its last chunk comes."
    ),
];

/// Serves much that compresses well, so that every body is coded where the client accepts it.
async fn coded(stage: &mut Stage, coding: Coding, cut: bool) -> Result<(), Broken> {
    let state = |n: u32| {
        let entries =
            (0..300).map(|key| (format!("key/{key}"), format!("{{\"value\":\"the same again {n}\"}}")));
        state_of(FIRST_REVISION + u64::from(n), entries)
    };
    let daemon = stage.daemon();
    daemon.set(|settings| settings.prefer = coding);
    daemon.world(|world| world.replace(SyncStatus::InSync, state(0)));
    stage.follows(Given::default()).await?;
    for n in 1..4 {
        let before = daemon.newest().cursor.to_string();
        if cut {
            daemon.fail(Kind::Follow, Fault::CutBody(Cut::Half, Ending::Clean));
        }
        daemon.world(|world| world.replace(SyncStatus::InSync, state(n)));
        if cut {
            stage.continues("cut off after", &before).await?;
        }
        stage.reaches().await?;
        stage.waits().await?;
    }
    stage.read_the_state(1)
}

async fn gzip(stage: &mut Stage) -> Result<(), Broken> {
    coded(stage, Coding::Gzip, false).await
}

async fn zstd(stage: &mut Stage) -> Result<(), Broken> {
    coded(stage, Coding::Zstd, false).await
}

async fn cut_off(stage: &mut Stage) -> Result<(), Broken> {
    coded(stage, Coding::Gzip, true).await
}
