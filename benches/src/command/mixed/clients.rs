//! Those who write and those who join, until the time is over.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use crumbd_bench::load::{Board, Joiner, LoadError, Publisher, Writer};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval};

use super::figures::Tally;
use crate::command::text::Text;

/// Updates in a batch of the writers.
pub(super) const BATCH: u64 = 10;

/// When to write: once a period, until the end.
pub(super) struct Pace {
    ticks: Interval,
    end: Instant,
}

impl Pace {
    pub(super) fn new(period: Duration, end: Instant) -> Self {
        let mut ticks = interval(period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        Self { ticks, end }
    }

    /// Waits for the next time to write; says whether there is one.
    async fn goes_on(&mut self) -> bool {
        if Instant::now() >= self.end {
            return false;
        }
        self.ticks.tick().await;
        true
    }
}

pub(super) async fn write(
    mut writer: Writer,
    text: Text,
    mut number: u64,
    mut pace: Pace,
    tally: &Tally,
) -> Result<(), LoadError> {
    let mut body = String::new();
    while pace.goes_on().await {
        text.write(&mut body, number, BATCH);
        number += BATCH;
        let written = writer.write(body.as_bytes()).await?;
        tally.updates.fetch_add(BATCH, Relaxed);
        tally.refused_writes.fetch_add(written.refused, Relaxed);
    }
    Ok(())
}

pub(super) async fn publish(
    mut publisher: Publisher,
    board: &Board,
    mut pace: Pace,
    tally: &Tally,
) -> Result<(), LoadError> {
    while pace.goes_on().await {
        let written = publisher.publish(board).await?;
        tally.refused_writes.fetch_add(written.refused, Relaxed);
    }
    Ok(())
}

pub(super) async fn join_again_and_again(
    joiner: Joiner,
    client: usize,
    slow: bool,
    end: Instant,
    tally: Arc<Tally>,
) {
    while Instant::now() < end {
        let began = Instant::now();
        match joiner.join(client).await {
            Ok(joined) if slow => _ = tally.slow_bytes.fetch_add(joined.bytes, Relaxed),
            Ok(joined) => {
                tally.join_latency.record(began.elapsed());
                tally.joined.fetch_add(1, Relaxed);
                tally.joiners_refused.fetch_add(joined.refused, Relaxed);
            }
            Err(error) => {
                tally.joiners_failed.fetch_add(1, Relaxed);
                tally.first_joiner_failure.lock().get_or_insert(error.to_string());
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}
