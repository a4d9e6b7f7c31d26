//! Several replicas.

use std::time::Duration;

use super::super::daemon::{Fault, Kind};
use super::super::scene::{Scene, scene};
use super::super::stage::{Broken, DEADLINE, Given, Stage};
use crate::conform::rule::Rule;

pub(super) const SCENES: &[Scene] = &[
    scene!(
        "failover",
        Resume,
        BOTH,
        failover,
        "The replica goes while the client waits: it goes on at the next one, and back."
    ),
    scene!(
        "failover-base-path",
        Link,
        BOTH,
        base_path,
        "The same with a path and a prefix, which the link takes to the other replica."
    ),
    scene!("first-replica-away", Resume, BOTH, first_away, "The first replica never answers."),
    scene!(
        "replica-behind",
        Ahead,
        BOTH,
        behind,
        "The next replica has not come as far as the client's cursor."
    ),
    scene!("replica-unavailable", Resume, BOTH, unavailable, "The first replica answers 502 from now on."),
];

/// A change at every replica.
fn change(stage: &Stage, changes: &[(&str, Option<&str>)]) {
    for replica in 0..2 {
        stage.replica(replica).world(|world| world.change(changes));
    }
}

async fn fail_over(stage: &mut Stage, given: Given) -> Result<(), Broken> {
    stage.follows(given).await?;
    change(stage, &[("a", Some("2"))]);
    stage.reaches().await?;
    for (going, coming, value) in [(0, 1, "3"), (1, 0, "4")] {
        stage.replica(going).go().await?;
        stage.waits_at(coming).await?;
        change(stage, &[("a", Some(value)), ("e", Some(value))]);
        stage.reaches_at(coming, DEADLINE).await?;
        stage.replica(going).come_back().await?;
    }
    stage.read_the_state(1)
}

async fn failover(stage: &mut Stage) -> Result<(), Broken> {
    stage.add_replica().await?;
    fail_over(stage, Given::default()).await
}

async fn base_path(stage: &mut Stage) -> Result<(), Broken> {
    stage.add_replica().await?;
    for replica in 0..2 {
        stage.replica(replica).set(|settings| settings.base = "/base".to_owned());
        stage.replica(replica).change_rights("r1", b"");
    }
    fail_over(stage, Given { prefix: Some("a"), ..Given::default() }).await
}

async fn first_away(stage: &mut Stage) -> Result<(), Broken> {
    stage.add_replica().await?;
    stage.replica(0).go().await?;
    stage.start(Given::default())?;
    stage.reaches_at(1, DEADLINE).await?;
    stage.waits_at(1).await?;
    change(stage, &[("a", Some("2"))]);
    stage.reaches_at(1, DEADLINE).await
}

async fn behind(stage: &mut Stage) -> Result<(), Broken> {
    let late = stage.add_replica().await?;
    late.set(|settings| {
        settings.longest_wait = Duration::from_millis(500);
        settings.heartbeat = Some(Duration::from_millis(500));
    });
    stage.follows(Given::default()).await?;
    let first = stage.replica(0);
    let changes: [&[_]; 2] = [&[("a", Some("2"))], &[("b", None), ("e", Some("5"))]];
    for changes in changes {
        first.world(|world| world.change(changes));
        stage.reaches().await?;
    }
    stage.waits().await?;
    let ahead = first.newest().cursor.to_string();
    first.go().await?;
    stage.until("the client waits at the replica that is behind", |_| late.is_waited_for(&ahead)).await?;
    stage.shows_nothing_new(Duration::from_secs(2), "this replica is behind").await?;
    let wrong = stage.requests().into_iter().find(|request| {
        request.replica == 1 && (request.kind == Kind::State || request.cursor.as_deref() != Some(&ahead))
    });
    if let Some(wrong) = wrong {
        return Err(
            Broken::new(format!("requests for what comes after {ahead}"), wrong.target).of(Rule::Ahead)
        );
    }
    for changes in changes {
        late.world(|world| world.change(changes));
    }
    stage.until("the client waits at its cursor", |_| late.is_waited_for(&ahead)).await?;
    late.world(|world| world.change(&[("f", Some("6"))]));
    stage.reaches_at(1, DEADLINE).await?;
    stage.read_the_state(1)
}

async fn unavailable(stage: &mut Stage) -> Result<(), Broken> {
    stage.add_replica().await?;
    stage.follows(Given::default()).await?;
    stage.replica(0).down(super::failures::bad_gateway());
    stage.waits_at(1).await?;
    stage.replica(1).world(|world| world.change(&[("a", Some("2"))]));
    stage.reaches_at(1, DEADLINE).await?;
    stage.replica(0).set(|settings| settings.down = Some(Fault::Close));
    stage.read_the_state(1)
}
