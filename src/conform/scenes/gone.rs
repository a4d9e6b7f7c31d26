//! Cursors that are gone, and the state after them.

use super::super::daemon::{Cut, Ending, Fault, Kind, state_of};
use super::super::scene::{Scene, scene};
use super::super::stage::{Broken, FIRST_REVISION, Given, Stage, shown_of};
use crate::model::SyncStatus;

pub(super) const SCENES: &[Scene] = &[
    scene!(
        "cursor-gone",
        Gone,
        BOTH,
        cursor_gone,
        "The cursor is gone (410, or a reset in a stream): the difference is told."
    ),
    scene!(
        "cursor-gone-cut-off",
        Gone,
        BOTH,
        cut_off,
        "The cursor is gone, and the new state is cut off twice."
    ),
    scene!(
        "cursor-gone-tampered",
        Proof,
        BOTH,
        tampered,
        "The cursor is gone, and the new state is not the one of its digest."
    ),
    scene!(
        "cursor-gone-unavailable",
        Gone,
        POLL,
        unavailable,
        "The cursor is gone, and the new state is answered 503 and 502 first."
    ),
    scene!(
        "cursor-gone-same-state",
        Gone,
        BOTH,
        same_state,
        "The cursor is gone, and the new state is the old one: nothing is told."
    ),
    scene!(
        "permission-changed",
        Gone,
        POLL,
        permission_changed,
        "A wait is answered 403 because the rights have changed: the state is read again."
    ),
    scene!(
        "settle",
        Settle,
        BOTH,
        settle,
        "The cursor is gone and the new state is not in sync: what is missing stays until it is."
    ),
    scene!(
        "settle-slowly",
        Settle,
        BOTH,
        settle_slowly,
        "The same, and more keys come back before it is in sync."
    ),
];

const CHANGES: [(&str, Option<&str>); 5] =
    [("a", Some("2")), ("b", None), ("c", None), ("e", Some("5")), ("f", Some("6"))];

async fn cursor_gone(stage: &mut Stage) -> Result<(), Broken> {
    stage.follows(Given::default()).await?;
    lose(stage);
    stage.reaches().await?;
    go_on(stage).await
}

/// Changes the world, and keeps no cursor from before.
fn lose(stage: &Stage) {
    stage.daemon().world(|world| {
        world.change(&CHANGES);
        world.forget_old();
    });
}

async fn go_on(stage: &mut Stage) -> Result<(), Broken> {
    stage.waits().await?;
    stage.daemon().world(|world| world.change(&[("b", Some("back")), ("e", None)]));
    stage.reaches().await
}

/// Rights that change are no reason to end: the answer to the next request tells whether any are left.
async fn permission_changed(stage: &mut Stage) -> Result<(), Broken> {
    stage.follows(Given::default()).await?;
    let detail = "what this token may read has changed while the request waited";
    stage.daemon().fail(Kind::Follow, Fault::problem(403, "permission-changed", detail));
    stage.daemon().world(|world| world.change(&[("a", Some("2"))]));
    stage.until("a wait is answered 403", |stage| stage.daemon().pending_faults() == 0).await?;
    stage.daemon().world(|world| world.change(&[("b", None)]));
    stage.reaches().await?;
    stage.read_the_state(2)
}

async fn cut_off(stage: &mut Stage) -> Result<(), Broken> {
    stage.follows(Given::default()).await?;
    stage.daemon().fail(Kind::State, Fault::CutBody(Cut::Half, Ending::Closed));
    stage.daemon().fail(Kind::State, Fault::CutBody(Cut::BeforeEnd, Ending::Closed));
    lose(stage);
    stage
        .until("the state is asked for until it is whole", |stage| stage.daemon().pending_faults() == 0)
        .await?;
    stage.reaches().await?;
    go_on(stage).await
}

async fn tampered(stage: &mut Stage) -> Result<(), Broken> {
    stage.follows(Given::default()).await?;
    stage.daemon().fail(Kind::State, Fault::Lie(super::super::daemon::Lie::Value));
    lose(stage);
    stage.reaches().await?;
    go_on(stage).await
}

async fn unavailable(stage: &mut Stage) -> Result<(), Broken> {
    stage.follows(Given::default()).await?;
    let busy = Fault::problem(503, "over-budget", "too many snapshots are on their way");
    stage.daemon().fail(Kind::State, busy.with("Retry-After", 1));
    stage.daemon().fail(Kind::State, super::failures::bad_gateway());
    lose(stage);
    stage.reaches().await?;
    go_on(stage).await
}

async fn same_state(stage: &mut Stage) -> Result<(), Broken> {
    stage.follows(Given::default()).await?;
    let state = stage.daemon().newest().state;
    stage.daemon().world(|world| {
        world.replace(SyncStatus::InSync, state);
        world.forget_old();
    });
    stage.waits().await?;
    go_on(stage).await
}

async fn settle(stage: &mut Stage) -> Result<(), Broken> {
    stage.follows(Given::default()).await?;
    resync_begins(stage).await?;
    stage.daemon().world(|world| world.set_status(SyncStatus::InSync));
    stage.reaches().await?;
    go_on(stage).await
}

/// The daemon has lost its state and has read a part of it again.
async fn resync_begins(stage: &mut Stage) -> Result<(), Broken> {
    let part = state_of(FIRST_REVISION + 1, [("a", "2"), ("z", "new")]);
    let mut union = stage.shown().clone();
    union.extend(shown_of(&part));
    stage.daemon().world(|world| {
        world.replace(SyncStatus::ResyncInProgress, part);
        world.forget_old();
    });
    stage.instead_of_the_newest(union);
    stage.reaches().await?;
    stage.waits().await
}

async fn settle_slowly(stage: &mut Stage) -> Result<(), Broken> {
    stage.follows(Given::default()).await?;
    resync_begins(stage).await?;
    for changes in
        [&[("b", Some("\"two\"")), ("y", Some("new"))][..], &[("c", Some("3")), ("z", Some("newer"))]]
    {
        let mut union = stage.shown().clone();
        stage.daemon().world(|world| world.change(changes));
        union.extend(shown_of(&stage.daemon().newest().state));
        stage.instead_of_the_newest(union);
        stage.reaches().await?;
        stage.waits().await?;
    }
    stage.daemon().world(|world| world.set_status(SyncStatus::InSync));
    stage.reaches().await?;
    go_on(stage).await
}
