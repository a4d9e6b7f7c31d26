//! Answers that do not come, and answers that come slowly.

use std::time::Duration;

use super::super::daemon::{Fault, Kind};
use super::super::scene::{Scene, scene};
use super::super::stage::{Broken, Given, Stage};

pub(super) const SCENES: &[Scene] = &[
    scene!("silence", Silence, BOTH, no_answer, "No answer comes to the request for what comes next."),
    scene!(
        "silence-at-first",
        Silence,
        BOTH,
        at_first,
        "No answer comes to the request for the first state."
    ),
    scene!("silent-stream", Silence, STREAM, silent_stream, "A stream says nothing, not even heartbeats."),
    scene!("stalled-event", Silence, STREAM, stalled, "Half of an event comes, and then nothing."),
    scene!(
        "heartbeats",
        Silence,
        STREAM,
        heartbeats,
        "A stream has nothing but heartbeats for longer than the limit."
    ),
    scene!(
        "quiet-polls",
        Silence,
        POLL,
        quiet_polls,
        "Nothing changes for longer than the limit: each poll waits for less."
    ),
    scene!(
        "slow-body",
        Silence,
        BOTH,
        slow,
        "Bodies come slowly, for longer than the limit, and are not given up."
    ),
];

/// How long the client waits in these scenes.
const LIMIT: Duration = Duration::from_secs(3);

fn given() -> Given {
    Given { timeout: Some(LIMIT), ..Given::default() }
}

fn beats(stage: &Stage) {
    stage.daemon().set(|settings| settings.heartbeat = Some(LIMIT / 3));
}

async fn no_answer(stage: &mut Stage) -> Result<(), Broken> {
    beats(stage);
    stage.follows(given()).await?;
    // The request that comes next, also where a long poll is on its way: its answer is on its way too.
    let cursor = stage.daemon().newest().cursor.to_string();
    stage.daemon().fail(Kind::Follow, Fault::NoAnswer);
    stage.continues("nothing, for ever", &cursor).await?;
    stage.daemon().world(|world| world.change(&[("a", Some("2"))]));
    stage.reaches().await?;
    stage.read_the_state(1)
}

async fn at_first(stage: &mut Stage) -> Result<(), Broken> {
    beats(stage);
    stage.daemon().fail(Kind::State, Fault::NoAnswer);
    stage.start(given())?;
    stage.reaches().await
}

async fn silent_stream(stage: &mut Stage) -> Result<(), Broken> {
    stage.daemon().set(|settings| settings.heartbeat = None);
    stage.follows(given()).await?;
    let cursor = stage.daemon().newest().cursor.to_string();
    stage.continues("a stream", &cursor).await?;
    beats(stage);
    stage.daemon().end_streams(None);
    stage.waits().await?;
    stage.daemon().world(|world| world.change(&[("a", Some("2"))]));
    stage.reaches().await?;
    stage.read_the_state(1)
}

async fn stalled(stage: &mut Stage) -> Result<(), Broken> {
    beats(stage);
    stage.follows(given()).await?;
    let cursor = stage.daemon().newest().cursor.to_string();
    stage.daemon().fail(Kind::Follow, Fault::Stall);
    stage.daemon().world(|world| world.change(&[("a", Some("2")), ("b", None)]));
    stage.continues("silence in the middle", &cursor).await?;
    stage.reaches().await?;
    stage.read_the_state(1)
}

async fn heartbeats(stage: &mut Stage) -> Result<(), Broken> {
    beats(stage);
    stage.follows(given()).await?;
    let before = stage.requests().len();
    stage.shows_nothing_new(LIMIT * 2, "nothing changes").await?;
    let asked = stage.requests().len() - before;
    if asked > 0 {
        let expected = "the same stream: heartbeats are bytes";
        return Err(Broken::new(expected, format!("{asked} more request(s)")));
    }
    stage.daemon().world(|world| world.change(&[("a", Some("2"))]));
    stage.reaches().await
}

async fn quiet_polls(stage: &mut Stage) -> Result<(), Broken> {
    stage.follows(given()).await?;
    stage.shows_nothing_new(LIMIT * 2, "nothing changes").await?;
    let polls: Vec<_> = stage.requests().into_iter().filter(|request| request.kind == Kind::Follow).collect();
    let (last, answered) = polls.split_last().map_or((None, &[][..]), |(last, rest)| (Some(last), rest));
    if let Some(unanswered) = answered.iter().find(|poll| poll.answer.is_none()) {
        let expected = format!("a wait= that is shorter than {LIMIT:?}, so that each poll is answered");
        return Err(Broken::new(expected, format!("{} was given up", unanswered.target)));
    }
    if last.is_none() || answered.is_empty() {
        return Err(Broken::new("one poll after the other", format!("{} of them", polls.len())));
    }
    stage.daemon().world(|world| world.change(&[("a", Some("2"))]));
    stage.reaches().await?;
    stage.read_the_state(1)
}

async fn slow(stage: &mut Stage) -> Result<(), Broken> {
    beats(stage);
    let slow = || Fault::Slow(10, Duration::from_millis(450));
    stage.daemon().fail(Kind::State, slow());
    stage.follows(given()).await?;
    stage.daemon().fail(Kind::Follow, slow());
    stage.daemon().world(|world| world.change(&[("a", Some("2")), ("e", Some("5"))]));
    stage.reaches().await?;
    match stage.told() {
        0 | 1 => Err(Broken::new("a line for each of the two bodies", format!("{} lines", stage.told()))),
        _ => stage.read_the_state(1),
    }
}
