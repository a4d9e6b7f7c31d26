//! States without a key.

use std::time::Duration;

use super::super::daemon::{Kind, State, state_of};
use super::super::scene::{Scene, scene};
use super::super::stage::{Broken, FIRST_REVISION, Given, Stage, shown_of};
use crate::model::SyncStatus;

pub(super) const SCENES: &[Scene] = &[
    scene!(
        "empty-held",
        Empty,
        BOTH,
        held,
        "The cursor is gone and the new state is empty: the client keeps its keys until there are some."
    ),
    scene!(
        "empty-settles",
        Empty,
        BOTH,
        settles,
        "The same, and the first keys come before the daemon is in sync: what is missing stays until it is."
    ),
    scene!(
        "empty-not-in-sync",
        Empty,
        BOTH,
        not_in_sync,
        "The new state is empty because the daemon has read nothing yet: the keys stay."
    ),
    scene!(
        "empty-allowed",
        Empty,
        BOTH,
        allowed,
        "The same, and the application agreed: the keys are deleted."
    ),
    scene!(
        "empty-by-deletions",
        Empty,
        BOTH,
        deletions,
        "The last key is deleted: an empty state like any other."
    ),
    scene!(
        "rights-narrowed-to-nothing",
        Empty,
        BOTH,
        narrowed,
        "The rights change (403, or a reset of permission-changed) to no key at all: all keys are deleted."
    ),
    scene!(
        "rights-narrowed-not-in-sync",
        Empty,
        BOTH,
        narrowed_not_in_sync,
        "The same before the daemon is in sync: the keys stay until it is."
    ),
    scene!("empty-at-first", Empty, BOTH, at_first, "The first state is empty, and then has keys."),
];

/// The store is emptied, and keeps no cursor.
fn empty(stage: &Stage) {
    stage.daemon().world(|world| {
        world.replace(SyncStatus::InSync, State::new());
        world.forget_old();
    });
}

/// The state is empty, and the client keeps its keys. Whether it follows the empty state or reads the state again is
/// its choice.
async fn is_held(stage: &mut Stage) -> Result<(), Broken> {
    stage.follows(Given::default()).await?;
    empty(stage);
    stage.holds().await?;
    let (daemon, asked) = (stage.daemon(), stage.count(Kind::State));
    let cursor = daemon.newest().cursor.to_string();
    let asks_again = |stage: &Stage| daemon.is_waited_for(&cursor) || stage.count(Kind::State) > asked;
    stage
        .until("the client waits for what comes after the empty state, or reads the state again", asks_again)
        .await
}

async fn held(stage: &mut Stage) -> Result<(), Broken> {
    is_held(stage).await?;
    stage.daemon().world(|world| world.change(&[("a", Some("2")), ("e", Some("5"))]));
    stage.reaches().await?;
    stage.waits().await?;
    is_paced(stage)
}

async fn settles(stage: &mut Stage) -> Result<(), Broken> {
    is_held(stage).await?;
    let part = state_of(FIRST_REVISION + 2, [("a", "2"), ("e", "5")]);
    let mut union = stage.shown().clone();
    union.extend(shown_of(&part));
    stage.daemon().world(|world| world.replace(SyncStatus::ResyncInProgress, part));
    stage.instead_of_the_newest(union);
    stage.reaches().await?;
    stage.waits().await?;
    stage.daemon().world(|world| world.set_status(SyncStatus::InSync));
    stage.reaches().await?;
    stage.waits().await?;
    is_paced(stage)
}

fn is_paced(stage: &Stage) -> Result<(), Broken> {
    match stage.count(Kind::State) {
        count if count <= 30 => Ok(()),
        count => {
            Err(Broken::new("pauses between two readings of an empty state", format!("{count} requests")))
        }
    }
}

/// Whether the client says that it holds its keys, or shows them at the new cursor, is its choice.
async fn not_in_sync(stage: &mut Stage) -> Result<(), Broken> {
    stage.follows(Given::default()).await?;
    stage.daemon().world(|world| {
        world.replace(SyncStatus::WaitForDatastore, State::new());
        world.forget_old();
    });
    let shown = stage.shown().clone();
    stage.instead_of_the_newest(shown);
    let (cursor, told) = (stage.daemon().newest().cursor.to_string(), stage.told());
    let what = format!("\"held\", or a line at {cursor} with the old keys");
    stage.until(&what, |stage| stage.has_held() || stage.told() > told).await?;
    let state = state_of(FIRST_REVISION + 2, [("a", "2"), ("b", "\"two\"")]);
    stage.daemon().world(|world| world.replace(SyncStatus::InSync, state));
    stage.reaches().await?;
    stage.waits().await
}

async fn allowed(stage: &mut Stage) -> Result<(), Broken> {
    stage.follows(Given { allow_empty: true, ..Given::default() }).await?;
    empty(stage);
    stage.reaches().await?;
    stage.waits().await?;
    stage.daemon().world(|world| world.change(&[("a", Some("2"))]));
    stage.reaches().await
}

async fn deletions(stage: &mut Stage) -> Result<(), Broken> {
    stage.follows(Given::default()).await?;
    stage.daemon().world(|world| world.change(&[("a", None), ("b", None), ("c", None)]));
    stage.reaches().await?;
    stage.daemon().world(|world| world.change(&[("d", None)]));
    stage.reaches().await?;
    stage.waits().await?;
    stage.daemon().world(|world| world.change(&[("a", Some("2"))]));
    stage.reaches().await?;
    match stage.has_held() {
        true => Err(Broken::new("no \"held\": the keys were deleted one by one", "a line with \"held\"")),
        false => stage.read_the_state(1),
    }
}

/// The rights that no key of these scenes is in.
const NOTHING: &[u8] = b"nothing/";

async fn sees_nothing(stage: &mut Stage) -> Result<(), Broken> {
    let what = "deletions of all keys: the client may see none of them any more";
    stage.until(what, |stage| stage.told() > 0 && stage.shown().is_empty()).await?;
    match stage.has_held() {
        true => {
            let expected = "no \"held\": what may no longer be seen is not kept";
            Err(Broken::new(expected, "a line with \"held\""))
        }
        false => stage.waits().await,
    }
}

async fn narrowed(stage: &mut Stage) -> Result<(), Broken> {
    stage.daemon().change_rights("all", b"");
    stage.follows(Given::default()).await?;
    stage.reads_only(NOTHING);
    stage.daemon().change_rights_and_say_so("none", NOTHING);
    sees_nothing(stage).await?;
    let all = stage.daemon().newest().state.len();
    stage.daemon().change_rights_and_say_so("all again", b"");
    stage.until("the client shows all keys again", |stage| stage.shown().len() == all).await?;
    stage.waits().await?;
    stage.daemon().world(|world| world.change(&[("a", Some("2"))]));
    stage.reaches().await
}

async fn narrowed_not_in_sync(stage: &mut Stage) -> Result<(), Broken> {
    stage.daemon().change_rights("all", b"");
    stage.follows(Given::default()).await?;
    stage.daemon().world(|world| world.set_status(SyncStatus::ResyncInProgress));
    stage.reaches().await?;
    stage.waits().await?;
    let (shown, asked) = (stage.shown().clone(), stage.requests().len());
    stage.instead_of_the_newest(shown.clone());
    stage.reads_only(NOTHING);
    stage.daemon().change_rights_and_say_so("none", NOTHING);
    // A stream may go on from its cursor: it is told the state all the same.
    let what = "a request after the rights have changed";
    stage.until(what, |stage| stage.requests().len() > asked).await?;
    stage.waits().await?;
    stage.during(Duration::from_millis(500)).await?;
    if *stage.shown() != shown {
        let came = format!("{} of {} keys", stage.shown().len(), shown.len());
        return Err(Broken::new("all keys stay until the status is in-sync", came));
    }
    stage.daemon().world(|world| world.set_status(SyncStatus::InSync));
    sees_nothing(stage).await
}

async fn at_first(stage: &mut Stage) -> Result<(), Broken> {
    empty(stage);
    stage.follows(Given::default()).await?;
    stage.daemon().world(|world| world.change(&[("a", Some("2"))]));
    stage.reaches().await?;
    match stage.has_held() {
        true => Err(Broken::new("no \"held\": there was no key before", "a line with \"held\"")),
        false => stage.read_the_state(1),
    }
}
