//! Answers that say: later.

use std::time::{Duration, Instant, SystemTime};

use super::super::daemon::{Fault, Kind, Request};
use super::super::scene::{Scene, scene};
use super::super::stage::{Broken, Given, Stage};

pub(super) const SCENES: &[Scene] = &[
    scene!(
        "retry-after-503",
        Later,
        BOTH,
        unavailable,
        "503 with Retry-After: 2 comes in the place of the updates."
    ),
    scene!(
        "retry-after-429",
        Later,
        BOTH,
        too_many,
        "429 with Retry-After: 2 comes in the place of the first state."
    ),
    scene!("retry-after-503-twice", Later, POLL, twice, "503 with Retry-After: 1 comes twice."),
    scene!(
        "retry-after-date",
        Later,
        BOTH,
        date,
        "503 comes with an HTTP date in Retry-After, some seconds ahead."
    ),
    scene!(
        "retry-after-odd",
        Later,
        BOTH,
        odd,
        "503 comes with words, a negative number, a wrong date and nothing in Retry-After."
    ),
    scene!("503-without-retry-after", Pace, BOTH, no_time, "503 comes without Retry-After."),
    scene!("502-html", Pace, BOTH, html, "A proxy answers 502 with an HTML page, several times."),
    scene!("504-and-500", Pace, BOTH, other, "504 and 500 come, one after the other."),
];

/// A page of a proxy.
pub(super) fn bad_gateway() -> Fault {
    Fault::Instead {
        status: 502,
        headers: vec![("Content-Type", "text/html".to_owned())],
        body: "<html><head><title>502 Bad Gateway</title></head><body>{\"entries\":[]}</body></html>\n"
            .to_owned(),
    }
}

fn busy() -> Fault {
    Fault::problem(503, "over-budget", "over the limit of --max-waiters: come back later")
}

/// Sees that the request after this one came in time.
fn later((met, next): (Request, Request), seconds: u64) -> Result<(), Broken> {
    let answered = met.answer.map_or(met.at, |(at, _)| at);
    let pause = next.at.saturating_duration_since(answered);
    // Timers of some languages are early by a millisecond.
    let (least, most) = (Duration::from_millis(seconds * 1000 - 20), Duration::from_secs(seconds + 10));
    match pause >= least && pause <= most {
        true => Ok(()),
        false => Err(Broken::new(
            format!("a pause of {seconds} to {} s before the next request", seconds + 10),
            format!("the next request after {:.2} s: {}", pause.as_secs_f64(), next.target),
        )),
    }
}

async fn unavailable(stage: &mut Stage) -> Result<(), Broken> {
    stage.follows(Given::default()).await?;
    let cursor = stage.daemon().newest().cursor.to_string();
    stage.daemon().fail(Kind::Follow, busy().with("Retry-After", 2));
    later(stage.continues("503", &cursor).await?, 2)?;
    stage.daemon().world(|world| world.change(&[("a", Some("2"))]));
    stage.reaches().await?;
    stage.read_the_state(1)
}

async fn too_many(stage: &mut Stage) -> Result<(), Broken> {
    let many = Fault::problem(429, "too-many-requests", "too many requests: come back later");
    stage.daemon().fail(Kind::State, many.with("Retry-After", 2));
    stage.start(Given::default())?;
    later(stage.asks_again("429").await?, 2)?;
    stage.reaches().await
}

async fn twice(stage: &mut Stage) -> Result<(), Broken> {
    stage.follows(Given::default()).await?;
    for _ in 0..2 {
        stage.daemon().fail(Kind::Follow, busy().with("Retry-After", 1));
    }
    later(stage.asks_again("503").await?, 1)?;
    later(stage.asks_again("503").await?, 1)?;
    stage.daemon().world(|world| world.change(&[("a", Some("2"))]));
    stage.reaches().await?;
    stage.read_the_state(1)
}

async fn date(stage: &mut Stage) -> Result<(), Broken> {
    stage.follows(Given::default()).await?;
    let cursor = stage.daemon().newest().cursor.to_string();
    let date = SystemTime::now() + Duration::from_secs(5);
    // A date has no fractions of a second, and a client may cut off one more.
    let least = Instant::now() + Duration::from_secs(3);
    let text = httpdate::fmt_http_date(date);
    stage.daemon().fail(Kind::Follow, busy().with("Retry-After", &text));
    let (met, next) = stage.continues("503", &cursor).await?;
    let most = met.answer.map_or(met.at, |(at, _)| at) + Duration::from_secs(15);
    if next.at < least || next.at > most {
        let pause = next.at.saturating_duration_since(met.at);
        let expected = format!("a request 0 to 10 s after {text}, which was 4 to 5 s ahead");
        return Err(Broken::new(expected, format!("the next request after {:.2} s", pause.as_secs_f64())));
    }
    stage.daemon().world(|world| world.change(&[("a", Some("2"))]));
    stage.reaches().await?;
    stage.read_the_state(1)
}

async fn odd(stage: &mut Stage) -> Result<(), Broken> {
    stage.follows(Given::default()).await?;
    for value in ["soon", "-1", "Wed, 99 Nov 2026 25:99:99 GMT", ""] {
        let cursor = stage.daemon().newest().cursor.to_string();
        stage.daemon().fail(Kind::Follow, busy().with("Retry-After", value));
        stage.continues("503", &cursor).await?;
        stage.daemon().world(|world| world.change(&[("a", Some(value))]));
        stage.reaches().await?;
        stage.waits().await?;
    }
    stage.read_the_state(1)
}

async fn failing(stage: &mut Stage, faults: Vec<Fault>) -> Result<(), Broken> {
    stage.follows(Given::default()).await?;
    let cursor = stage.daemon().newest().cursor.to_string();
    for fault in faults {
        stage.daemon().fail(Kind::Follow, fault);
    }
    stage.until("all of the answers have come", |stage| stage.daemon().pending_faults() == 0).await?;
    let other =
        |request: &Request| request.kind == Kind::Follow && request.cursor.as_deref() != Some(&cursor);
    if let Some(other) = stage.requests().into_iter().find(other) {
        return Err(Broken::new("the same request again", other.target));
    }
    stage.daemon().world(|world| world.change(&[("a", Some("2"))]));
    stage.reaches().await?;
    stage.read_the_state(1)
}

async fn no_time(stage: &mut Stage) -> Result<(), Broken> {
    failing(stage, vec![busy()]).await
}

async fn html(stage: &mut Stage) -> Result<(), Broken> {
    failing(stage, vec![bad_gateway(), bad_gateway(), bad_gateway()]).await
}

async fn other(stage: &mut Stage) -> Result<(), Broken> {
    let error =
        |status| Fault::Instead { status, headers: Vec::new(), body: "no answer from upstream".to_owned() };
    failing(stage, vec![error(504), error(500)]).await
}
