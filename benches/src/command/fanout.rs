//! `crumbd-bench fanout`.

use std::sync::Arc;
use std::time::Duration;

use clap::{Args, ValueEnum};
use crumbd::cli::Failure;
use crumbd::cli::units::{Span, parse_wait};
use crumbd::wire::MediaType;
use crumbd_bench::load::{Board, Clock, Counts, Crowd, CrumbdPoll, Percentiles, Publisher};
use serde::Serialize;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::bar::Bar;
use super::daemon::{Measured, Options};
use super::limits;
use super::report::{self, Report, Server, grouped, percentiles, size};

/// How long the waiters may take to connect.
const CONNECTING: Duration = Duration::from_secs(120);

/// How long the waiters get to be parked when others may wake them.
const SETTLING: Duration = Duration::from_secs(2);

/// Hold many long polls and wake them
///
/// Each waiter is a keep-alive connection that follows the cursors for ever. A writer publishes: in
/// rounds, the next when all have heard and are parked again, or at a steady --rate. Every publication
/// carries a number, so a waiter that missed one is known. Memory per waiter is what the daemon grows by: measure
/// a freshly started one, since memory that was freed before is used again.
#[derive(Args)]
pub(super) struct Fanout {
    #[command(flatten)]
    options: Options,
    /// How many wait.
    #[arg(long, default_value_t = 1000, value_parser = limits::clients::<usize>(), allow_hyphen_values = true)]
    waiters: usize,
    /// Publish so many times, each when all have heard the one before and wait again.
    #[arg(long, default_value_t = 20, conflicts_with_all = ["rate", "no_write"], value_parser = limits::many(), allow_hyphen_values = true)]
    rounds: u64,
    /// Publish so many times a second instead, whether all have heard or not.
    #[arg(long, conflicts_with = "no_write", value_parser = limits::publications, allow_hyphen_values = true)]
    rate: Option<f64>,
    /// How long to publish at that rate, or to listen with --no-write.
    #[arg(long, default_value = "10s", value_name = "TIME", value_parser = parse_wait, allow_hyphen_values = true)]
    duration: Span,
    /// Publish nothing: measure what comes by itself, from a feed that cannot be written. Latency then counts
    /// from the first waiter that heard.
    #[arg(long)]
    no_write: bool,
    /// Each waiter follows a prefix of its own, and each publication is for one of them.
    #[arg(long, conflicts_with = "no_write")]
    prefix_each: bool,
    /// Size of a published value.
    #[arg(long, default_value_t = 256, value_name = "BYTES", value_parser = limits::value_bytes(), allow_hyphen_values = true)]
    value_bytes: usize,
    /// What the waiters ask for.
    #[arg(long, value_enum, default_value_t)]
    accept: Accept,
    /// How long a publication may take to reach all.
    #[arg(long, default_value = "60s", value_name = "TIME", value_parser = parse_wait, allow_hyphen_values = true)]
    deadline: Span,
}

/// The media types.
#[derive(Clone, Copy, Default, ValueEnum)]
pub(super) enum Accept {
    /// One JSON object.
    #[default]
    Json,
    /// One record a line.
    Ndjson,
    /// The binary form of the Rust client.
    Bincode,
}

impl Accept {
    pub(super) fn media(self) -> &'static str {
        match self {
            Self::Json => MediaType::Json.as_str(),
            Self::Ndjson => MediaType::Ndjson.as_str(),
            Self::Bincode => MediaType::Bincode.as_str(),
        }
    }
}

#[derive(Default, Serialize)]
struct Figures {
    url: String,
    waiters: usize,
    publications: u64,
    refused_writes: u64,
    /// Waiters that did not hear the last publication.
    lost: u64,
    #[serde(flatten)]
    counts: Counts,
    latency: Percentiles,
    /// From the first publication until all were parked again after the last.
    seconds: f64,
    server: Server,
    cpu_us_per_wake: Option<f64>,
    memory_parked_bytes: u64,
    memory_per_waiter_bytes: Option<f64>,
}

impl Fanout {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let mut daemon = self.options.find(self.waiters).await?;
        if !self.no_write {
            daemon.must_be_writable("; --no-write measures what comes by itself")?;
        }
        let stride = if self.prefix_each { self.waiters as u64 } else { 1 };
        let (clock, begins) = match self.no_write {
            true => (Clock::FirstWaiter, daemon.status.sequence),
            false => (Clock::Publisher, 0),
        };
        let begins_at = |waiter: usize| if self.prefix_each { waiter as u64 } else { begins };
        let board = Arc::new(Board::new(self.waiters, clock, stride, begins_at));
        let server = Server::new(daemon.process.take());
        let mut figures =
            Figures { url: daemon.url.clone(), waiters: self.waiters, server, ..Figures::default() };
        let work = async |figures: &mut Figures| self.drive(&mut daemon, &board, figures).await;
        let finish = |figures: &mut Figures| figures.complete(&board);
        report::shown(self.options.json, work, finish, &mut figures).await
    }

    async fn drive(
        &self,
        daemon: &mut Measured,
        board: &Arc<Board>,
        figures: &mut Figures,
    ) -> Result<(), Failure> {
        let mut poll = CrumbdPoll::new(&daemon.target, &daemon.cursor()?, self.accept.media());
        if self.prefix_each {
            poll = poll.with_prefix_each();
        }
        if self.no_write {
            poll = poll.with_any_writer();
        }
        let crowd = Crowd::start(&daemon.target, poll, self.waiters, board.clone());
        let bar = Bar::new("connecting", self.waiters as u64);
        board.all_asked(CONNECTING, |asked| bar.at(asked)).await?;
        drop(bar);
        let parked = daemon.parked(self.waiters);
        if self.no_write {
            // The feed may wake them at any time: then they are never all parked.
            _ = tokio::time::timeout(SETTLING, parked).await;
        } else {
            parked.await?;
        }
        figures.memory_parked_bytes = figures.server.memory();

        figures.server.begin();
        let ended = self.publish(daemon, board, figures).await;
        figures.server.end();
        crowd.end().await;
        ended
    }

    async fn publish(
        &self,
        daemon: &mut Measured,
        board: &Board,
        figures: &mut Figures,
    ) -> Result<(), Failure> {
        if self.no_write {
            return self.listen(board, figures).await;
        }
        let prefixes = self.prefix_each.then_some(self.waiters as u64);
        let mut publisher = Publisher::connect(&daemon.target, self.value_bytes, prefixes).await?;
        let hearing = if self.prefix_each { 1 } else { self.waiters as u64 };
        let first = publisher.number();
        let patience = self.deadline.0;
        if let Some(rate) = self.rate {
            let period = Duration::try_from_secs_f64(1.0 / rate);
            let period = period.ok().filter(|period| !period.is_zero());
            let mut ticks = interval(period.ok_or_else(|| format!("--rate {rate} is no rate"))?);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
            let end = Instant::now() + self.duration.0;
            let bar = Bar::new("publishing", (rate * self.duration.0.as_secs_f64()) as u64);
            loop {
                tokio::select! {
                    _ = ticks.tick() => {}
                    ended = board.undisturbed(end.duration_since(Instant::now())) => ended?,
                }
                if Instant::now() >= end {
                    break;
                }
                figures.refused_writes += publisher.publish(board).await?.refused;
                figures.publications = publisher.number() - first;
                bar.at(figures.publications);
            }
            board.delivered(figures.publications * hearing, patience).await?;
        } else {
            let bar = Bar::new("rounds", self.rounds);
            for round in 1..=self.rounds {
                figures.refused_writes += publisher.publish(board).await?.refused;
                figures.publications = round;
                board.delivered(round * hearing, patience).await?;
                daemon.parked(self.waiters).await?;
                bar.at(round);
            }
        }
        Ok(())
    }

    /// Measures what comes by itself.
    async fn listen(&self, board: &Board, figures: &mut Figures) -> Result<(), Failure> {
        let time = self.duration.0;
        Bar::during("listening", time, board.undisturbed(time)).await?;
        // Whoever has not heard what somebody has heard gets the time to.
        let newest = board.newest();
        let end = Instant::now() + self.deadline.0;
        while board.lost(newest) > 0 && Instant::now() < end {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        figures.lost = board.lost(newest);
        Ok(())
    }
}

impl Figures {
    fn complete(&mut self, board: &Board) {
        self.server.end();
        self.seconds = self.server.seconds;
        self.counts = board.counts();
        self.latency = board.latencies.percentiles();
        if self.publications > 0 {
            // With prefixes the numbers begin at the number of waiters.
            self.lost = board.lost(board.last_published());
        }
        if self.server.pid.is_some() {
            let wakes = self.counts.wakes.max(1) as f64;
            self.cpu_us_per_wake = Some(self.server.cpu_seconds * 1e6 / wakes);
            let grown = self.memory_parked_bytes.saturating_sub(self.server.memory_before_bytes);
            self.memory_per_waiter_bytes = Some(grown as f64 / self.waiters as f64);
        }
    }
}

impl Report for Figures {
    fn title(&self) -> String {
        let Self { url, waiters, publications, .. } = self;
        format!(
            "fanout: {} waiters of {url}, {} publications",
            grouped(*waiters as u64),
            grouped(*publications)
        )
    }

    fn lines(&self) -> Vec<(&'static str, String)> {
        let Counts {
            wakes, deliveries, others, idle, holes, refused, reconnects, failed, body_bytes, ..
        } = self.counts;
        let per_second = self.counts.wakes as f64 / self.seconds.max(1e-9);
        let memory = match self.memory_per_waiter_bytes {
            None => "unknown".to_owned(),
            Some(each) => format!(
                "{:.1} KiB a parked waiter ({} before, {} with all parked)",
                each / 1024.0,
                size(self.server.memory_before_bytes),
                size(self.memory_parked_bytes)
            ),
        };
        vec![
            (
                "wakes",
                format!(
                    "{} in {:.2} s ({}/s), {} of bodies; {} deliveries, {} of other writers, {} polls ended idle",
                    grouped(wakes),
                    self.seconds,
                    grouped(per_second as u64),
                    size(body_bytes),
                    grouped(deliveries),
                    grouped(others),
                    grouped(idle)
                ),
            ),
            ("lost", format!("{} waiters behind at the end, {} publications left out", self.lost, holes)),
            (
                "failures",
                format!(
                    "{failed} waiters failed, {refused} polls and {} writes refused for a while, {reconnects} reconnects",
                    self.refused_writes
                ),
            ),
            ("wake latency", percentiles(&self.latency)),
            ("server CPU", self.server.cpu_per(wakes, "wake")),
            ("server memory", memory),
        ]
    }

    fn fault(&self) -> Option<String> {
        match (self.lost, self.counts.holes, self.counts.failed) {
            (0, 0, 0) => None,
            (lost, holes, failed) => Some(format!(
                "{lost} waiters did not hear the last publication, {holes} publications were left out of \
                 answers, {failed} waiters failed"
            )),
        }
    }
}
