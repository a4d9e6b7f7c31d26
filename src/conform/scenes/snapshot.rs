//! The first state.

use super::super::daemon::{Cut, Ending, Fault, Kind};
use super::super::daemon::{Lie, state_of};
use super::super::scene::{Scene, scene};
use super::super::stage::{Broken, FIRST_REVISION, Given, Stage};
use crate::model::SyncStatus;

pub(super) const SCENES: &[Scene] = &[
    scene!("snapshot", Resume, BOTH, snapshot, "The state is read once, and then followed."),
    scene!(
        "snapshot-20000-keys",
        Whole,
        BOTH,
        large,
        "A state of 20,000 keys is read whole, and then followed."
    ),
    scene!(
        "snapshot-not-in-sync",
        Settle,
        BOTH,
        not_in_sync,
        "The first state comes before the daemon is in sync."
    ),
    scene!("snapshot-cut-off", Whole, BOTH, cut_off, "The first state is cut off in the middle, twice."),
    scene!(
        "snapshot-tampered",
        Proof,
        BOTH,
        tampered,
        "A value of the first state is not the one of the digest."
    ),
];

async fn snapshot(stage: &mut Stage) -> Result<(), Broken> {
    stage.follows(Given::default()).await?;
    stage.daemon().world(|world| world.change(&[("a", Some("2"))]));
    stage.reaches().await?;
    stage.read_the_state(1)
}

async fn large(stage: &mut Stage) -> Result<(), Broken> {
    let entries =
        (0..20_000).map(|n| (format!("key/{n:05}"), format!("{{\"n\":{n},\"text\":\"value {n}\"}}")));
    let state = state_of(FIRST_REVISION, entries);
    stage.daemon().world(|world| world.replace(SyncStatus::InSync, state));
    stage.follows(Given::default()).await?;
    stage.daemon().world(|world| world.change(&[("key/00000", None), ("key/19999", Some("last"))]));
    stage.reaches().await?;
    stage.read_the_state(1)
}

async fn not_in_sync(stage: &mut Stage) -> Result<(), Broken> {
    stage.daemon().world(|world| world.set_status(SyncStatus::ResyncInProgress));
    stage.follows(Given::default()).await?;
    stage.daemon().world(|world| world.change(&[("e", Some("5")), ("a", Some("2"))]));
    stage.reaches().await?;
    stage.daemon().world(|world| world.set_status(SyncStatus::InSync));
    stage.reaches().await?;
    stage.read_the_state(1)
}

async fn cut_off(stage: &mut Stage) -> Result<(), Broken> {
    stage.daemon().fail(Kind::State, Fault::CutBody(Cut::Half, Ending::Closed));
    stage.daemon().fail(Kind::State, Fault::CutBody(Cut::BeforeEnd, Ending::Closed));
    stage.follows(Given::default()).await?;
    stage.daemon().world(|world| world.change(&[("a", Some("2"))]));
    stage.reaches().await
}

async fn tampered(stage: &mut Stage) -> Result<(), Broken> {
    stage.daemon().fail(Kind::State, Fault::Lie(Lie::Value));
    stage.follows(Given::default()).await?;
    stage.daemon().world(|world| world.change(&[("a", Some("2"))]));
    stage.reaches().await
}
