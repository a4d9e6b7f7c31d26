//! Clients that follow a prefix.

use std::time::Duration;

use super::super::daemon::{Kind, state_of};
use super::super::scene::{Scene, scene};
use super::super::stage::{Broken, FIRST_REVISION, Given, Stage};
use crate::model::SyncStatus;

pub(super) const SCENES: &[Scene] = &[
    scene!("prefix", Prefix, BOTH, prefix, "A prefix is followed; count and digest are left out."),
    scene!(
        "prefix-odd-bytes",
        Prefix,
        BOTH,
        odd,
        "The prefix has a space, +, &, %, =, #, quotes and letters beyond ASCII."
    ),
    scene!("prefix-gone", Gone, BOTH, gone, "The cursor of a client of a prefix is gone."),
    scene!(
        "prefix-moved",
        Move,
        BOTH,
        moved,
        "Changes elsewhere move the cursor, and the old one is no longer kept."
    ),
];

const ODD: &str = "a b+c&d=e%41/é🦀\"'#?;,\\|";

/// The changes below and beside the prefix.
async fn follow(stage: &mut Stage, prefix: &'static str) -> Result<(), Broken> {
    let inside = |name: &str| format!("{prefix}{name}");
    let entries = [(inside(""), "0"), (inside("x"), "1"), (inside("y"), "2"), ("elsewhere".to_owned(), "3")];
    let daemon = stage.daemon();
    daemon.world(|world| world.replace(SyncStatus::InSync, state_of(FIRST_REVISION, entries)));
    stage.follows(Given { prefix: Some(prefix), ..Given::default() }).await?;
    daemon.world(|world| world.change(&[("elsewhere", Some("4")), (&inside("x"), Some("5"))]));
    stage.reaches().await?;
    daemon
        .world(|world| world.change(&[("elsewhere", None), (&inside("y"), None), (&inside("z"), Some("6"))]));
    stage.reaches().await?;
    stage.waits().await?;
    stage.read_the_state(1)
}

async fn prefix(stage: &mut Stage) -> Result<(), Broken> {
    follow(stage, "inside/").await
}

async fn odd(stage: &mut Stage) -> Result<(), Broken> {
    follow(stage, ODD).await
}

async fn gone(stage: &mut Stage) -> Result<(), Broken> {
    follow(stage, "inside/").await?;
    stage.daemon().world(|world| {
        world.change(&[("inside/x", None), ("inside/new", Some("7")), ("elsewhere", Some("8"))]);
        world.forget_old();
    });
    stage.reaches().await
}

async fn moved(stage: &mut Stage) -> Result<(), Broken> {
    let daemon = stage.daemon();
    daemon.set(|settings| {
        settings.longest_wait = Duration::from_millis(400);
        settings.heartbeat = Some(Duration::from_millis(400));
    });
    daemon.world(|world| world.change(&[("inside/x", Some("1"))]));
    stage.follows(Given { prefix: Some("inside/"), ..Given::default() }).await?;
    for value in ["2", "3"] {
        daemon.world(|world| world.change(&[("a", Some(value))]));
        let moved = daemon.newest().cursor.to_string();
        // A stream is told its new cursor by a heartbeat; a long poll by a 204, whose Link it follows.
        stage.waits().await?;
        daemon.end_streams(None);
        let what = format!("a request for what comes after {moved}, to which the cursor has moved");
        let is_it = |stage: &Stage| {
            let last = stage.requests().into_iter().rfind(|request| request.kind == Kind::Follow);
            last.is_some_and(|request| request.cursor.as_deref() == Some(&moved))
        };
        stage.until(&what, is_it).await?;
        daemon.world(|world| world.forget_old());
    }
    stage.waits().await?;
    daemon.world(|world| world.change(&[("inside/x", Some("4")), ("inside/y", Some("5"))]));
    stage.reaches().await?;
    stage.read_the_state(1)
}
