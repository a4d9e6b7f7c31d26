//! Times in which nobody answers, and the pauses of a client in them.

use std::time::Duration;

use super::super::daemon::Fault;
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
        "Every connection ends without an answer for 12 seconds: the pauses grow and are random."
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
        "outage-and-cursor-gone",
        Gone,
        BOTH,
        gone,
        "Nobody listens for a second, and then the cursor is gone."
    ),
    scene!("restart", Resume, BOTH, restart, "The daemon is restarted: the client goes on from its cursor."),
];

/// The time in which a client is back after a short outage.
const BACK_WITHIN: Duration = Duration::from_secs(10);

async fn outage(stage: &mut Stage) -> Result<(), Broken> {
    stage.follows(Given::default()).await?;
    let daemon = stage.daemon();
    daemon.go().await?;
    daemon.world(|world| world.change(&[("a", Some("2")), ("b", None)]));
    stage.shows_nothing_new(Duration::from_secs(2), "nobody listens").await?;
    daemon.come_back().await?;
    stage.reaches_within(BACK_WITHIN).await?;
    stage.read_the_state(1)
}

async fn at_start(stage: &mut Stage) -> Result<(), Broken> {
    let daemon = stage.daemon();
    daemon.go().await?;
    stage.start(Given::default())?;
    stage.shows_nothing_new(Duration::from_secs(2), "nobody listens").await?;
    daemon.come_back().await?;
    stage.reaches_within(BACK_WITHIN).await
}

async fn pace(stage: &mut Stage) -> Result<(), Broken> {
    let times = fail_for(stage, Fault::Close, Duration::from_secs(12)).await?;
    let gaps: Vec<f64> = times.windows(2).map(|pair| (pair[1] - pair[0]).as_secs_f64()).collect();
    let text: Vec<_> = gaps.iter().map(|gap| format!("{gap:.2}")).collect();
    let text = format!("pauses of {} s", text.join(", "));
    // Some libraries repeat a request by themselves, once, at once.
    let paused: Vec<f64> = gaps.into_iter().filter(|gap| *gap > 0.02).collect();
    if times.len() < 2 {
        return Err(Broken::new("a client that tries again within 12 s", "no request"));
    }
    // With full jitter two neighbours are alike now and then, but not all of them.
    let alike = |a: f64, b: f64| (a - b).abs() <= 0.02 * b + 0.01;
    let pairs = || paused.windows(2);
    let regular = pairs().all(|pair| alike(pair[1], pair[0])) || pairs().all(|p| alike(p[1], 2.0 * p[0]));
    match paused.len() >= 3 && regular {
        true => Err(Broken::new("random pauses, so that not all clients come back at once", text)),
        false => Ok(()),
    }
}

async fn proxy(stage: &mut Stage) -> Result<(), Broken> {
    fail_for(stage, super::failures::bad_gateway(), Duration::from_secs(6)).await.map(drop)
}

async fn streams_end(stage: &mut Stage) -> Result<(), Broken> {
    fail_for(stage, Fault::EndsAtOnce, Duration::from_secs(6)).await.map(drop)
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
    daemon.come_back().await?;
    stage.reaches_within(BACK_WITHIN).await?;
    stage.waits().await?;
    daemon.world(|world| world.change(&[("a", Some("3"))]));
    stage.reaches().await
}

/// Has this fault at every request for this time, then none, and gives the times of the requests in it.
async fn fail_for(
    stage: &mut Stage,
    fault: Fault,
    time: Duration,
) -> Result<Vec<std::time::Instant>, Broken> {
    stage.follows(Given::default()).await?;
    let daemon = stage.daemon();
    let (before, begin) = (stage.requests().len(), std::time::Instant::now());
    daemon.down(fault);
    daemon.world(|world| world.change(&[("a", Some("2"))]));
    stage.shows_nothing_new(time, "no answer is one").await?;
    let times: Vec<_> = stage.requests().iter().skip(before).map(|request| request.at).collect();
    let early =
        times.iter().filter(|at| at.saturating_duration_since(begin) < Duration::from_secs(5)).count();
    if early > 10 {
        return Err(Broken::new(
            "at most 10 requests in the first 5 s of an outage",
            format!("{early} requests"),
        ));
    }
    daemon.set(|settings| settings.down = None);
    // A pause has at most 30 s.
    stage.reaches_within(Duration::from_secs(32)).await?;
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
