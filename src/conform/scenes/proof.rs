//! Answers that are whole and say something wrong.

use super::super::daemon::{Fault, Kind, Lie};
use super::super::scene::{Scene, scene};
use super::super::stage::{Broken, Given, Stage};

pub(super) const SCENES: &[Scene] = &[
    scene!("digest-wrong-value", Proof, BOTH, value, "An update has another value than the digest says."),
    scene!(
        "digest-missing-record",
        Proof,
        BOTH,
        record,
        "The last record of a body is missing, and its count and digest are right."
    ),
    scene!("digest-wrong", Proof, BOTH, digest, "The digest of a body is wrong."),
    scene!("count-wrong", Proof, BOTH, count, "The count of a body is wrong, and its digest is right."),
];

/// Lies once, and sees that the client reads the state again and then goes on.
async fn lie(stage: &mut Stage, lie: Lie) -> Result<(), Broken> {
    stage.follows(Given::default()).await?;
    let before = stage.count(Kind::State);
    stage.daemon().fail(Kind::Follow, Fault::Lie(lie));
    stage.daemon().world(|world| world.change(&[("a", Some("2")), ("b", None), ("e", Some("5"))]));
    let what = "a request for the whole state, because count and digest are not those of the answer";
    stage.until(what, |stage| stage.count(Kind::State) > before).await?;
    stage.reaches().await?;
    stage.waits().await?;
    stage.daemon().world(|world| world.change(&[("b", Some("again"))]));
    stage.reaches().await?;
    stage.read_the_state(before + 1)
}

async fn value(stage: &mut Stage) -> Result<(), Broken> {
    lie(stage, Lie::Value).await
}

async fn record(stage: &mut Stage) -> Result<(), Broken> {
    lie(stage, Lie::Record).await
}

async fn digest(stage: &mut Stage) -> Result<(), Broken> {
    lie(stage, Lie::Digest).await
}

async fn count(stage: &mut Stage) -> Result<(), Broken> {
    lie(stage, Lie::Count).await
}
