//! Answers that are cut off.

use super::super::daemon::{Cut, Ending, Fault, Kind};
use super::super::scene::{Scene, scene};
use super::super::stage::{Broken, Given, Stage};

pub(super) const SCENES: &[Scene] = &[
    scene!("cut-off-half", Whole, BOTH, half, "The updates are cut off in the middle."),
    scene!(
        "cut-off-at-start",
        Whole,
        BOTH,
        at_start,
        "The connection ends before the first byte of the updates."
    ),
    scene!("cut-off-before-end", Whole, BOTH, before_end, "All updates come, and their end does not."),
    scene!(
        "cut-off-last-byte",
        Whole,
        POLL,
        last_byte,
        "The last byte of the body is missing, and Content-Length says so."
    ),
    scene!("cut-off-in-chunk", Whole, POLL, in_chunk, "A body in chunks ends inside a chunk."),
    scene!(
        "cut-off-cleanly",
        Whole,
        BOTH,
        cleanly,
        "Half of the updates come, and the last chunk, as from some proxies."
    ),
    scene!(
        "cut-off-head",
        Move,
        BOTH,
        head,
        "The head of an answer ends after whole lines, without its Link."
    ),
    scene!("no-link", Move, POLL, no_link, "A 200 and a 204 come whole, but without Link and Crumbd-Cursor."),
];

/// Cuts off the next updates, and sees that the client asks for them again.
async fn cut(stage: &mut Stage, cut: Cut, ending: Ending) -> Result<(), Broken> {
    stage.follows(Given::default()).await?;
    cut_once(stage, cut, ending, "2").await?;
    cut_once(stage, cut, ending, "3").await?;
    stage.read_the_state(1)
}

async fn cut_once(stage: &mut Stage, cut: Cut, ending: Ending, value: &str) -> Result<(), Broken> {
    let before = stage.daemon().newest().cursor.to_string();
    let marker = "cut off after";
    stage.daemon().fail(Kind::Follow, Fault::CutBody(cut, ending));
    let changes = [("a", Some(value)), ("b", None), ("e", Some(value)), ("f", Some(value))];
    stage.daemon().world(|world| world.change(&changes));
    stage.continues(marker, &before).await?;
    stage.reaches().await?;
    stage.waits().await
}

async fn half(stage: &mut Stage) -> Result<(), Broken> {
    cut(stage, Cut::Half, Ending::Closed).await
}

async fn at_start(stage: &mut Stage) -> Result<(), Broken> {
    cut(stage, Cut::Start, Ending::Closed).await
}

async fn before_end(stage: &mut Stage) -> Result<(), Broken> {
    cut(stage, Cut::BeforeEnd, Ending::Closed).await
}

async fn last_byte(stage: &mut Stage) -> Result<(), Broken> {
    cut(stage, Cut::LastByte, Ending::Closed).await
}

async fn in_chunk(stage: &mut Stage) -> Result<(), Broken> {
    stage.daemon().set(|settings| settings.chunked = true);
    cut(stage, Cut::BeforeEnd, Ending::Closed).await
}

async fn cleanly(stage: &mut Stage) -> Result<(), Broken> {
    stage.follows(Given::default()).await?;
    cut_once(stage, Cut::Half, Ending::Clean, "2").await?;
    cut_once(stage, Cut::BeforeEnd, Ending::Clean, "3").await?;
    stage.read_the_state(1)
}

async fn head(stage: &mut Stage) -> Result<(), Broken> {
    stage.follows(Given::default()).await?;
    let cursor = stage.daemon().newest().cursor.to_string();
    stage.daemon().fail(Kind::Follow, Fault::CutHead);
    stage.continues("half of a head", &cursor).await?;
    stage.waits().await?;
    stage.daemon().world(|world| world.change(&[("a", Some("2")), ("b", None)]));
    stage.reaches().await?;
    stage.read_the_state(1)
}

async fn no_link(stage: &mut Stage) -> Result<(), Broken> {
    stage.follows(Given::default()).await?;
    let cursor = stage.daemon().newest().cursor.to_string();
    let bare = Fault::Instead { status: 204, headers: Vec::new(), body: String::new() };
    stage.daemon().fail(Kind::Follow, bare);
    stage.continues("204", &cursor).await?;
    stage.waits().await?;
    stage.daemon().fail(Kind::Follow, Fault::NoLink);
    stage.daemon().world(|world| world.change(&[("a", Some("2")), ("b", None)]));
    stage.continues("without its Link", &cursor).await?;
    stage.reaches().await?;
    stage.read_the_state(1)
}
