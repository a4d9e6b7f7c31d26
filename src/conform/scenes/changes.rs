//! Deltas, squashes and changes of status.

use std::time::Duration;

use super::super::daemon::{Fault, Kind};
use super::super::scene::{Scene, scene};
use super::super::stage::{Broken, Given, Stage};
use crate::model::SyncStatus;

pub(super) const SCENES: &[Scene] = &[
    scene!(
        "delta",
        Resume,
        BOTH,
        delta,
        "Keys are new, updated and deleted, one breadcrumb after the other."
    ),
    scene!("squash", Resume, BOTH, squash, "Several breadcrumbs come while the client is busy with one."),
    scene!("status-only", Resume, BOTH, status_only, "The status changes and no key does."),
    scene!(
        "connection-close",
        Resume,
        BOTH,
        connection_close,
        "Each answer is the last one of its connection."
    ),
    scene!(
        "connection-dropped",
        Resume,
        POLL,
        connection_dropped,
        "Each connection ends after its first answer, which does not say so."
    ),
    scene!(
        "connection-kept",
        Connection,
        POLL,
        connection_kept,
        "Many answers come, and each would leave its connection open: at most 3 connections are made."
    ),
    scene!("chunked", Whole, BOTH, chunked, "Bodies come in chunks, without Content-Length."),
];

async fn delta(stage: &mut Stage) -> Result<(), Broken> {
    stage.follows(Given::default()).await?;
    for changes in [
        &[("e", Some("5"))][..],
        &[("e", Some("6")), ("a", Some("\"one\""))],
        &[("e", None), ("b", None)],
        &[("b", Some(""))],
        &[("a", None), ("c", Some("3")), ("f", Some("null"))],
    ] {
        stage.daemon().world(|world| world.change(changes));
        stage.reaches().await?;
    }
    stage.read_the_state(1)
}

async fn squash(stage: &mut Stage) -> Result<(), Broken> {
    stage.follows(Given::default()).await?;
    stage.daemon().fail(Kind::Follow, Fault::Slow(4, Duration::from_millis(100)));
    stage.daemon().world(|world| world.change(&[("a", Some("2"))]));
    stage
        .until("the first of the changes is on its way", |stage| stage.daemon().pending_faults() == 0)
        .await?;
    for changes in [
        &[("a", Some("3")), ("e", Some("5"))][..],
        &[("e", None), ("b", None), ("f", Some("6"))],
        &[("a", Some("4")), ("f", Some("7")), ("g", Some("8"))],
        &[("b", Some("\"two\"")), ("d", None)],
    ] {
        stage.daemon().world(|world| world.change(changes));
    }
    stage.reaches().await?;
    stage.read_the_state(1)
}

async fn status_only(stage: &mut Stage) -> Result<(), Broken> {
    stage.follows(Given::default()).await?;
    for status in [SyncStatus::ResyncInProgress, SyncStatus::WaitForDatastore, SyncStatus::InSync] {
        stage.daemon().world(|world| world.set_status(status));
        stage.reaches().await?;
    }
    stage.daemon().world(|world| world.change(&[("a", Some("2"))]));
    stage.reaches().await?;
    stage.read_the_state(1)
}

async fn connection_close(stage: &mut Stage) -> Result<(), Broken> {
    stage.daemon().set(|settings| settings.close = true);
    stage.follows(Given::default()).await?;
    for value in ["2", "3", "4"] {
        stage.daemon().world(|world| world.change(&[("a", Some(value))]));
        stage.reaches().await?;
    }
    stage.daemon().end_streams(None);
    stage.waits().await?;
    stage.daemon().world(|world| world.change(&[("a", Some("5"))]));
    stage.reaches().await?;
    stage.read_the_state(1)
}

async fn connection_dropped(stage: &mut Stage) -> Result<(), Broken> {
    stage.daemon().set(|settings| settings.drop = true);
    stage.follows(Given::default()).await?;
    for value in ["2", "3", "4"] {
        stage.daemon().world(|world| world.change(&[("a", Some(value)), ("e", Some(value))]));
        stage.reaches().await?;
    }
    stage.read_the_state(1)
}

async fn connection_kept(stage: &mut Stage) -> Result<(), Broken> {
    stage.daemon().set(|settings| settings.longest_wait = Duration::from_millis(500));
    stage.follows(Given::default()).await?;
    for value in ["2", "3", "4", "5", "6", "7", "8", "9"] {
        stage.daemon().world(|world| world.change(&[("a", Some(value))]));
        stage.reaches().await?;
    }
    stage.waits().await?;
    stage.used_connections(3)?;
    stage.read_the_state(1)
}

async fn chunked(stage: &mut Stage) -> Result<(), Broken> {
    stage.daemon().set(|settings| settings.chunked = true);
    stage.follows(Given::default()).await?;
    for value in ["2", "3"] {
        stage.daemon().world(|world| world.change(&[("a", Some(value)), ("e", Some(value))]));
        stage.reaches().await?;
    }
    stage.read_the_state(1)
}
