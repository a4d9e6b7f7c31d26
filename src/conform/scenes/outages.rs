//! Times in which nobody answers, and the pauses of a client in them.

use std::time::{Duration, Instant};

use super::super::daemon::{AtOnce, Fault};
use super::super::scene::{Scene, scene};
use super::super::stage::{Broken, Given, Stage};

pub(super) const SCENES: &[Scene] = &[
    scene!(
        "outage",
        Pace,
        BOTH,
        outage,
        "Nobody listens for 2 seconds: the client is back within 10 seconds."
    ),
    scene!("outage-at-start", Pace, BOTH, at_start, "Nobody listens for the first 2 seconds."),
    scene!(
        "outage-pace",
        Pace,
        BOTH,
        pace,
        "Every connection ends without an answer for 12 seconds: the pauses are random."
    ),
    scene!(
        "outage-of-the-proxy",
        Pace,
        BOTH,
        proxy,
        "A proxy answers 502 for 6 seconds: at most 10 requests in the first 5."
    ),
    scene!(
        "streams-end-at-once",
        Pace,
        STREAM,
        streams_end,
        "Every stream ends before its first body, for 6 seconds."
    ),
    scene!(
        "answer-moves-nothing",
        Pace,
        POLL,
        no_content_at_once,
        "Each poll is answered 204 with the same cursor at once, for 6 seconds: at most 10 requests in the first 5."
    ),
    scene!(
        "answer-of-a-cache",
        Pace,
        POLL,
        same_state_at_once,
        "Each poll is answered 200 with the same cursor at once, without a change or with the same state."
    ),
    scene!(
        "outage-and-cursor-gone",
        Gone,
        BOTH,
        gone,
        "Nobody listens for a second, and then the cursor is gone."
    ),
    scene!("restart", Resume, BOTH, restart, "The daemon is restarted: the client goes on from its cursor."),
];

/// The time in which the next request comes: a pause has at most 30 s, and a busy machine needs some more.
const AFTER_A_PAUSE: Duration = Duration::from_secs(50);

/// The time in which a client is back after a short outage.
const BACK_WITHIN: Duration = Duration::from_secs(10);

async fn outage(stage: &mut Stage) -> Result<(), Broken> {
    stage.follows(Given::default()).await?;
    let daemon = stage.daemon();
    daemon.go().await?;
    daemon.world(|world| world.change(&[("a", Some("2")), ("b", None)]));
    stage.shows_nothing_new(Duration::from_secs(2), "nobody listens").await?;
    comes_back(stage).await?;
    stage.read_the_state(1)
}

/// The client's request is what has to come in time; a busy machine may need longer for the rest.
async fn comes_back(stage: &mut Stage) -> Result<(), Broken> {
    let asked = stage.requests().len();
    stage.daemon().come_back().await?;
    stage.within(BACK_WITHIN, "a request", |stage| stage.requests().len() > asked).await?;
    stage.reaches().await
}

async fn at_start(stage: &mut Stage) -> Result<(), Broken> {
    let daemon = stage.daemon();
    daemon.go().await?;
    stage.start(Given::default())?;
    stage.shows_nothing_new(Duration::from_secs(2), "nobody listens").await?;
    comes_back(stage).await
}

/// Whether pauses are random is judged by three outages: a machine that is busy makes some pauses longer, and random ones
/// are alike now and then.
async fn pace(stage: &mut Stage) -> Result<(), Broken> {
    stage.follows(Given::default()).await?;
    let mut seen = Vec::new();
    for outage in 1..=ROUNDS {
        let times = fail_for(stage, Fault::Close, Duration::from_secs(12)).await?;
        if times.len() < 2 {
            return Err(Broken::new("a client that tries again within 12 s", "no request"));
        }
        let gaps = times.windows(2).map(|pair| (pair[1] - pair[0]).as_secs_f64());
        // Some libraries repeat a request by themselves, once, at once.
        let pauses: Vec<f64> = gaps.filter(|gap| *gap > 0.02).collect();
        if !is_regular(&pauses) {
            return Ok(());
        }
        let text: Vec<_> = pauses.iter().map(|pause| format!("{pause:.2}")).collect();
        seen.push(format!("{} s in outage {outage}", text.join(", ")));
    }
    let expected = "random pauses, so that not all clients come back at once";
    Err(Broken::new(expected, format!("pauses of {}", seen.join("; "))))
}

/// The outages that prove that pauses are not random.
const ROUNDS: usize = 3;

/// Whether three of four pauses are the same multiple of the pause before.
fn is_regular(pauses: &[f64]) -> bool {
    let pairs: Vec<_> = pauses.windows(2).map(|pair| (pair[0], pair[1])).collect();
    let alike = |factor: f64| {
        let is_alike = |(before, pause): &&(f64, f64)| (pause - factor * before).abs() <= 0.05 * pause + 0.02;
        pairs.iter().filter(is_alike).count()
    };
    pairs.len() >= 3 && [1.0, 1.5, 2.0].into_iter().any(|factor| 4 * alike(factor) >= 3 * pairs.len())
}

async fn proxy(stage: &mut Stage) -> Result<(), Broken> {
    stage.follows(Given::default()).await?;
    fail_for(stage, super::failures::bad_gateway(), Duration::from_secs(6)).await.map(drop)
}

async fn streams_end(stage: &mut Stage) -> Result<(), Broken> {
    stage.follows(Given::default()).await?;
    fail_for(stage, Fault::EndsAtOnce, Duration::from_secs(6)).await.map(drop)
}

async fn no_content_at_once(stage: &mut Stage) -> Result<(), Broken> {
    moves_nothing(stage, AtOnce::NoContent).await
}

async fn same_state_at_once(stage: &mut Stage) -> Result<(), Broken> {
    moves_nothing(stage, AtOnce::SameState).await
}

async fn moves_nothing(stage: &mut Stage, at_once: AtOnce) -> Result<(), Broken> {
    stage.follows(Given::default()).await?;
    let daemon = stage.daemon();
    let (before, begin) = (stage.requests().len(), Instant::now());
    daemon.set(|settings| settings.at_once = Some(at_once));
    stage.during(Duration::from_secs(6)).await?;
    few_requests(stage, before, begin, "answers that come at once and move nothing")?;
    daemon.set(|settings| settings.at_once = None);
    daemon.world(|world| world.change(&[("a", Some("2")), ("b", None)]));
    stage.reaches_within(AFTER_A_PAUSE).await?;
    match at_once {
        AtOnce::NoContent => stage.read_the_state(1),
        // No daemon answers a poll with a whole state, so a client may well read it again.
        AtOnce::SameState => Ok(()),
    }
}

/// The times of the requests after the first ones, of which there are few in the first seconds.
fn few_requests(stage: &Stage, before: usize, begin: Instant, of: &str) -> Result<Vec<Instant>, Broken> {
    let times: Vec<_> = stage.requests().iter().skip(before).map(|request| request.at).collect();
    let early =
        times.iter().filter(|at| at.saturating_duration_since(begin) < Duration::from_secs(5)).count();
    match early {
        0..=10 => Ok(times),
        early => {
            let expected = format!("at most 10 requests in the first 5 s of {of}");
            Err(Broken::new(expected, format!("{early} requests")))
        }
    }
}

async fn gone(stage: &mut Stage) -> Result<(), Broken> {
    stage.follows(Given::default()).await?;
    let daemon = stage.daemon();
    daemon.go().await?;
    daemon.world(|world| {
        world.change(&[("a", None), ("b", Some("2")), ("e", Some("5"))]);
        world.forget_old();
    });
    stage.shows_nothing_new(Duration::from_secs(1), "nobody listens").await?;
    comes_back(stage).await?;
    stage.waits().await?;
    daemon.world(|world| world.change(&[("a", Some("3"))]));
    stage.reaches().await
}

/// Has this fault at every request for this time, then none, and gives the times of the requests in it.
async fn fail_for(stage: &mut Stage, fault: Fault, time: Duration) -> Result<Vec<Instant>, Broken> {
    stage.waits().await?;
    let daemon = stage.daemon();
    let (before, begin) = (stage.requests().len(), Instant::now());
    daemon.down(fault);
    let value = format!("after {before} requests");
    daemon.world(|world| world.change(&[("a", Some(&value))]));
    stage.shows_nothing_new(time, "no answer is one").await?;
    let times = few_requests(stage, before, begin, "an outage")?;
    daemon.set(|settings| settings.down = None);
    stage.reaches_within(AFTER_A_PAUSE).await?;
    stage.read_the_state(1)?;
    Ok(times)
}

async fn restart(stage: &mut Stage) -> Result<(), Broken> {
    stage.follows(Given::default()).await?;
    let daemon = stage.daemon();
    for value in ["2", "3"] {
        daemon.go().await?;
        daemon.world(|world| world.change(&[("a", Some(value)), ("e", Some(value))]));
        daemon.come_back().await?;
        stage.reaches().await?;
        stage.waits().await?;
    }
    stage.read_the_state(1)
}
