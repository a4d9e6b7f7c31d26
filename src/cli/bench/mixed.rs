//! `crumbd bench mixed`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use clap::Args;
use parking_lot::Mutex;
use serde::Serialize;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::bar::Bar;
use super::daemon::{Measured, Options};
use super::fanout::Accept;
use super::report::{self, Report, Server, grouped, percentiles, size};
use super::text::Text;
use crate::cli::Failure;
use crate::cli::units::{Bytes, Span};
use crate::load::{
    Board, Clock, Counts, Crowd, CrumbdPoll, Joiner, Latencies, LoadError, Mirrored, Mirrors, Percentiles,
    Publisher, Writer,
};
use crate::model::Revision;

/// How long the waiters may take to connect, and the mirrors to read the state.
const CONNECTING: Duration = Duration::from_secs(120);

/// Updates in a batch of the writers.
const BATCH: u64 = 10;

/// Every so many updates deletes its key.
const DELETES: u64 = 16;

/// Everything at once: is anybody told something wrong?
///
/// Waiters follow, joiners fetch the state again and again, slow readers take it a few bytes at a time, and
/// writers write, with deletions among it. Mirrors hold copies of the state and compare count and digest at
/// every cursor. At the end all writing stops, and everybody must arrive at the same state.
#[derive(Args)]
pub(super) struct Mixed {
    #[command(flatten)]
    options: Options,
    /// How many follow every change.
    #[arg(long, default_value_t = 500)]
    waiters: usize,
    /// How many fetch the whole state, again and again.
    #[arg(long, default_value_t = 8)]
    joiners: usize,
    /// How many fetch it slowly.
    #[arg(long, default_value_t = 2)]
    slow_readers: usize,
    /// How much a slow reader takes in a second.
    #[arg(long, default_value = "256KiB", value_name = "BYTES")]
    slow_rate: Bytes,
    /// How many check every answer.
    #[arg(long, default_value_t = 4)]
    mirrors: usize,
    /// How many write.
    #[arg(long, default_value_t = 2)]
    writers: u32,
    /// Updates a second of all writers together.
    #[arg(long, default_value_t = 1000)]
    rate: u32,
    /// Numbered publications a second beside them, by which a waiter that missed something is known.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    publications: u32,
    /// Different keys that are written.
    #[arg(long, default_value_t = 10_000)]
    keys: u64,
    /// Size of a value.
    #[arg(long, default_value_t = 200, value_name = "BYTES")]
    value_bytes: usize,
    /// What waiters and joiners ask for. Mirrors speak the binary form.
    #[arg(long, value_enum, default_value_t)]
    accept: Accept,
    /// How long.
    #[arg(long, default_value = "15s", value_name = "TIME")]
    duration: Span,
    /// How long it may take, after the last write, until everybody has arrived.
    #[arg(long, default_value = "60s", value_name = "TIME")]
    deadline: Span,
}

#[derive(Default, Serialize)]
struct Figures {
    url: String,
    waiters: usize,
    keys: u64,
    updates: u64,
    publications: u64,
    refused_writes: u64,
    lost: u64,
    #[serde(flatten)]
    counts: Counts,
    wake_latency: Percentiles,
    joined: u64,
    joiners_refused: u64,
    joiners_failed: u64,
    first_joiner_failure: Option<String>,
    join_latency: Percentiles,
    slow_readers: usize,
    slow_bytes: u64,
    mirrors: Mirrored,
    seconds: f64,
    server: Server,
}

/// What the clients count, beside the board.
#[derive(Default)]
struct Tally {
    updates: AtomicU64,
    refused_writes: AtomicU64,
    joined: AtomicU64,
    joiners_refused: AtomicU64,
    joiners_failed: AtomicU64,
    slow_bytes: AtomicU64,
    first_joiner_failure: Mutex<Option<String>>,
    join_latency: Latencies,
}

impl Mixed {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let clients =
            self.waiters + self.joiners + self.slow_readers + 2 * self.mirrors + self.writers as usize;
        let mut daemon = self.options.find(clients).await?;
        daemon.must_be_writable("")?;
        let board = Arc::new(Board::new(self.waiters, Clock::Publisher, 1, |_| 0));
        let tally = Arc::new(Tally::default());
        let clients = (0..self.mirrors).map(|_| self.options.daemon.client());
        let mirrors = Mirrors::start(clients.collect::<Result<_, _>>()?);
        let mut figures = Figures {
            url: daemon.url.clone(),
            waiters: self.waiters,
            slow_readers: self.slow_readers,
            server: Server::new(daemon.process.take()),
            ..Figures::default()
        };
        let work =
            async |figures: &mut Figures| self.drive(&mut daemon, &board, &tally, &mirrors, figures).await;
        let finish = |figures: &mut Figures| figures.complete(&board, &tally, &mirrors);
        report::shown(self.options.json, work, finish, &mut figures).await
    }

    async fn drive(
        &self,
        daemon: &mut Measured,
        board: &Arc<Board>,
        tally: &Arc<Tally>,
        mirrors: &Mirrors,
        figures: &mut Figures,
    ) -> Result<(), Failure> {
        let poll = CrumbdPoll::new(&daemon.target, &daemon.cursor()?, self.accept.media());
        let crowd = Crowd::start(&daemon.target, poll, self.waiters, board.clone());
        let bar = Bar::new("connecting", self.waiters as u64);
        board.all_asked(CONNECTING, |asked| bar.at(asked)).await?;
        // A mirror tries for ever; a waiter soon knows that the daemon is gone.
        tokio::select! {
            followed = mirrors.all_follow(CONNECTING) => followed?,
            disturbed = board.undisturbed(CONNECTING) => disturbed?,
        }
        drop(bar);

        figures.server.begin();
        let loaded = self.load(daemon, board, tally).await;
        figures.server.end();
        loaded?;

        // Nobody writes any more: all must arrive at the state of now.
        board.delivered(board.last_published() * self.waiters as u64, self.deadline.0).await?;
        let last = daemon.ask().await?;
        figures.keys = last.count;
        mirrors.arrive(Revision(last.revision), &last.digest, self.deadline.0).await;
        crowd.end().await;
        Ok(())
    }

    /// Everything at once, for the given time. Ends early when a writer or a waiter fails.
    async fn load(&self, daemon: &Measured, board: &Arc<Board>, tally: &Arc<Tally>) -> Result<(), Failure> {
        let target = &daemon.target;
        let end = Instant::now() + self.duration.0;
        let mut writing: JoinSet<Result<(), LoadError>> = JoinSet::new();
        let each = (self.rate / self.writers.max(1)).max(1);
        let period = Duration::from_secs(BATCH) / each;
        for writer in 0..u64::from(self.writers.min(self.rate)) {
            let text = Text::new("mixed", self.keys, self.value_bytes).with_deletes(DELETES);
            let (target, tally, first) = (target.clone(), tally.clone(), writer << 32);
            writing.spawn(async move {
                write(Writer::of_updates(&target).await?, text, first, period, end, &tally).await
            });
        }
        let publisher = Publisher::connect(target, self.value_bytes, None).await?;
        let period = Duration::from_secs(1) / self.publications;
        let (publishing, on) = (board.clone(), tally.clone());
        writing.spawn(async move { publish(publisher, &publishing, period, end, &on).await });

        let mut reading = JoinSet::new();
        let joiner = Joiner::new(target, self.accept.media(), "identity");
        for reader in 0..self.joiners + self.slow_readers {
            let slow = reader >= self.joiners;
            let rate = self.slow_rate.0 as u64;
            let joiner = if slow { joiner.clone().reading_slowly(rate) } else { joiner.clone() };
            let tally = tally.clone();
            reading.spawn(join_again_and_again(joiner, reader, slow, end, tally));
        }

        let all = async {
            while let Some(ended) = writing.join_next().await {
                ended??;
                if let Some(failure) = board.failure() {
                    return Err(failure.into());
                }
            }
            Ok(())
        };
        let ended = Bar::during("seconds", self.duration.0, all).await;
        // Whoever is in the middle of a snapshot may leave.
        reading.shutdown().await;
        ended
    }
}

async fn write(
    mut writer: Writer,
    text: Text,
    mut number: u64,
    period: Duration,
    end: Instant,
    tally: &Tally,
) -> Result<(), LoadError> {
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut body = String::new();
    while Instant::now() < end {
        ticks.tick().await;
        text.write(&mut body, number, BATCH);
        number += BATCH;
        let written = writer.write(body.as_bytes()).await?;
        tally.updates.fetch_add(BATCH, Relaxed);
        tally.refused_writes.fetch_add(written.refused, Relaxed);
    }
    Ok(())
}

async fn publish(
    mut publisher: Publisher,
    board: &Board,
    period: Duration,
    end: Instant,
    tally: &Tally,
) -> Result<(), LoadError> {
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    while Instant::now() < end {
        ticks.tick().await;
        let written = publisher.publish(board).await?;
        tally.refused_writes.fetch_add(written.refused, Relaxed);
    }
    Ok(())
}

async fn join_again_and_again(joiner: Joiner, client: usize, slow: bool, end: Instant, tally: Arc<Tally>) {
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

impl Figures {
    fn complete(&mut self, board: &Board, tally: &Tally, mirrors: &Mirrors) {
        self.server.end();
        self.seconds = self.server.seconds;
        self.mirrors = mirrors.found();
        self.counts = board.counts();
        self.wake_latency = board.latencies.percentiles();
        self.publications = board.last_published();
        self.lost = board.lost(self.publications);
        self.updates = tally.updates.load(Relaxed);
        self.refused_writes = tally.refused_writes.load(Relaxed);
        self.joined = tally.joined.load(Relaxed);
        self.joiners_refused = tally.joiners_refused.load(Relaxed);
        self.joiners_failed = tally.joiners_failed.load(Relaxed);
        self.first_joiner_failure = tally.first_joiner_failure.lock().clone();
        self.join_latency = tally.join_latency.percentiles();
        self.slow_bytes = tally.slow_bytes.load(Relaxed);
    }
}

impl Report for Figures {
    fn title(&self) -> String {
        let Self { url, waiters, mirrors, keys, .. } = self;
        format!(
            "mixed: {} waiters and {} mirrors of {url}, {} keys at the end",
            grouped(*waiters as u64),
            mirrors.mirrors,
            grouped(*keys)
        )
    }

    fn lines(&self) -> Vec<(&'static str, String)> {
        let Mirrored { mirrors, checked, snapshots, wrong, unreachable, in_sync, .. } = &self.mirrors;
        vec![
            (
                "written",
                format!(
                    "{} updates and {} publications in {:.2} s, {} writes refused for a while",
                    grouped(self.updates),
                    grouped(self.publications),
                    self.seconds,
                    self.refused_writes
                ),
            ),
            (
                "mirrors",
                format!(
                    "{} states checked, {wrong} wrong; {in_sync} of {mirrors} hold the final one; {snapshots} \
                     snapshots, {unreachable} failed requests",
                    grouped(*checked)
                ),
            ),
            (
                "waiters",
                format!(
                    "{} wakes, {} deliveries; {} behind at the end, {} publications left out, {} failed",
                    grouped(self.counts.wakes),
                    grouped(self.counts.deliveries),
                    self.lost,
                    self.counts.holes,
                    self.counts.failed
                ),
            ),
            ("wake latency", percentiles(&self.wake_latency)),
            (
                "joiners",
                format!(
                    "{} joined, {} failed, {} refused for a while; {} slow readers took {}",
                    grouped(self.joined),
                    self.joiners_failed,
                    self.joiners_refused,
                    self.slow_readers,
                    size(self.slow_bytes)
                ),
            ),
            ("join latency", percentiles(&self.join_latency)),
            ("server CPU", self.server.cores()),
            (
                "server memory",
                format!(
                    "{} before, {} after",
                    size(self.server.memory_before_bytes),
                    size(self.server.memory_after_bytes)
                ),
            ),
        ]
    }

    fn fault(&self) -> Option<String> {
        let mirrors = &self.mirrors;
        let behind = mirrors.mirrors - mirrors.in_sync;
        let Counts { holes, failed, .. } = self.counts;
        if (self.lost, holes, failed, mirrors.wrong, behind, self.joiners_failed) == (0, 0, 0, 0, 0, 0) {
            return None;
        }
        let first = mirrors.first_failure.as_ref().or(self.first_joiner_failure.as_ref());
        Some(format!(
            "{} waiters behind, {holes} publications left out, {failed} waiters failed; mirrors: {} wrong answers, \
             {behind} without the final state; {} joiners failed{}",
            self.lost,
            mirrors.wrong,
            self.joiners_failed,
            first.map_or(String::new(), |first| format!("; the first failure: {first}"))
        ))
    }
}
