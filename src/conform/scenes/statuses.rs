//! Statuses, redirects and media types that are no answer of the daemon.

use super::super::daemon::{ELSEWHERE, Fault, Kind};
use super::super::scene::{Scene, Transport, scene};
use super::super::stage::{Broken, Given, Stage};

pub(super) const SCENES: &[Scene] = &[
    scene!(
        "redirects",
        Status,
        BOTH,
        redirects,
        "302, 301 and 307 come with a Location, which is not asked."
    ),
    scene!(
        "other-statuses",
        Status,
        BOTH,
        others,
        "206, 304, 407, 413, 418 and 421 come, one at a time: the same request is sent again."
    ),
    scene!("early-hints", Status, BOTH, hints, "103 comes twice before each answer."),
    scene!(
        "another-media-type",
        Whole,
        BOTH,
        media_type,
        "The first state and the updates come as text/html first: nothing of them is applied."
    ),
];

fn page(status: u16) -> Fault {
    Fault::Instead {
        status,
        headers: vec![("Content-Type", "text/html; charset=utf-8".to_owned())],
        body: "<html><title>A page</title><p>of something between the client and the daemon</html>\n"
            .to_owned(),
    }
}

async fn redirects(stage: &mut Stage) -> Result<(), Broken> {
    let redirect = |status: u16| {
        let location = format!("{ELSEWHERE}?after={status}");
        (page(status).with("Location", &location), location)
    };
    let (fault, location) = redirect(302);
    stage.daemon().fail(Kind::State, fault);
    stage.follows(Given::default()).await?;
    stage.says_of_a_failure(&["302", &location]).await?;
    for status in [301, 307] {
        let cursor = stage.daemon().newest().cursor.to_string();
        let (fault, location) = redirect(status);
        stage.daemon().fail(Kind::Follow, fault);
        stage.continues(&status.to_string(), &cursor).await?;
        stage.says_of_a_failure(&[&status.to_string(), &location]).await?;
        goes_on(stage, &status.to_string()).await?;
    }
    stage.read_the_state(2)
}

/// Sees that the client is told of a change.
async fn goes_on(stage: &mut Stage, value: &str) -> Result<(), Broken> {
    stage.daemon().world(|world| world.change(&[("a", Some(value))]));
    stage.reaches().await?;
    stage.waits().await
}

async fn others(stage: &mut Stage) -> Result<(), Broken> {
    let plain =
        |status: u16, body: &str| Fault::Instead { status, headers: Vec::new(), body: body.to_owned() };
    stage.daemon().fail(Kind::State, plain(413, "too large"));
    stage.follows(Given::default()).await?;
    for status in [304, 407, 413, 418, 421] {
        let cursor = stage.daemon().newest().cursor.to_string();
        let body = if status == 304 { "" } else { "not now" };
        stage.daemon().fail(Kind::Follow, plain(status, body));
        stage.continues(&status.to_string(), &cursor).await?;
        goes_on(stage, &status.to_string()).await?;
    }
    let cursor = stage.daemon().newest().cursor.to_string();
    match stage.transport {
        // The answer is whole but for its status, so that nothing else tells that it is none.
        Transport::Poll => {
            stage.daemon().fail(Kind::Follow, Fault::Status(206));
            stage.daemon().world(|world| world.change(&[("a", Some("206")), ("b", None)]));
            stage.continues("206", &cursor).await?;
            stage.reaches().await?;
        }
        Transport::Stream => {
            stage.daemon().fail(Kind::Follow, plain(206, ""));
            stage.continues("206", &cursor).await?;
            goes_on(stage, "206").await?;
        }
    }
    stage.read_the_state(2)
}

async fn hints(stage: &mut Stage) -> Result<(), Broken> {
    stage.daemon().set(|settings| settings.hints = true);
    stage.follows(Given::default()).await?;
    for value in ["2", "3"] {
        goes_on(stage, value).await?;
        stage.daemon().end_streams(None);
    }
    stage.waits().await?;
    stage.read_the_state(1)
}

async fn media_type(stage: &mut Stage) -> Result<(), Broken> {
    // A body of a long poll is whole and right, so that nothing else tells that it is no answer.
    let fault = || match stage.transport {
        Transport::Poll => Fault::MediaType("text/html; charset=utf-8"),
        Transport::Stream => page(200),
    };
    let (first, second) = (fault(), fault());
    stage.daemon().fail(Kind::State, first);
    stage.start(Given::default())?;
    let (_, next) = stage.asks_again("of type text/html").await?;
    if next.kind != Kind::State {
        return Err(Broken::new("the request for the whole state again", next.target));
    }
    stage.reaches().await?;
    stage.waits().await?;
    let cursor = stage.daemon().newest().cursor.to_string();
    stage.daemon().fail(Kind::Follow, second);
    stage.daemon().world(|world| world.change(&[("a", Some("2")), ("b", None)]));
    stage.continues("of type text/html", &cursor).await?;
    stage.reaches().await?;
    stage.read_the_state(2)
}
