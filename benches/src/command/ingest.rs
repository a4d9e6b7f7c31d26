//! `crumbd-bench ingest`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use clap::Args;
use crumbd::cli::Failure;
use crumbd::cli::units::{Span, parse_wait};
use crumbd::wire::MediaType;
use crumbd_bench::load::{Board, Clock, Crowd, CrumbdPoll, Latencies, LoadError, Percentiles, Writer};
use serde::Serialize;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::bar::Bar;
use super::daemon::{Measured, Options};
use super::limits;
use super::report::{self, Report, Server, grouped, percentiles, size};
use super::text::Text;

/// How long the waiters may take to connect.
const CONNECTING: Duration = Duration::from_secs(120);

/// How often the bar moves.
const LOOK: Duration = Duration::from_millis(200);

/// Write as fast as the daemon takes it
///
/// Writers post batches of updates, each as soon as its last one is answered: the answer comes when the
/// batch can be read. With --waiters, so many follow every change meanwhile.
#[derive(Args)]
pub(super) struct Ingest {
    #[command(flatten)]
    options: Options,
    /// Updates in a batch.
    #[arg(long, default_value_t = 100, value_parser = limits::batch(), allow_hyphen_values = true)]
    batch: u64,
    /// Different keys. Each is set again and again, in turn.
    #[arg(long, default_value_t = 10_000, value_parser = limits::many(), allow_hyphen_values = true)]
    keys: u64,
    /// Size of a value.
    #[arg(long, default_value_t = 200, value_name = "BYTES", value_parser = limits::value_bytes(), allow_hyphen_values = true)]
    value_bytes: usize,
    /// Writers at once.
    #[arg(long, default_value_t = 2, value_parser = limits::clients::<u64>(), allow_hyphen_values = true)]
    writers: u64,
    /// How long to write.
    #[arg(long, default_value = "10s", value_name = "TIME", value_parser = parse_wait, allow_hyphen_values = true)]
    duration: Span,
    /// Write so many updates, however long it takes.
    #[arg(long, conflicts_with = "duration", value_parser = limits::many(), allow_hyphen_values = true)]
    updates: Option<u64>,
    /// How many follow every change meanwhile, as in `bench fanout`.
    #[arg(long, default_value_t = 0, value_parser = limits::clients_if_any::<usize>(), allow_hyphen_values = true)]
    waiters: usize,
    /// What they follow. Written are keys that begin with bench/ingest/, so that bench/other/ shows what waiters cost
    /// that are not interested.
    #[arg(long, requires = "waiters")]
    prefix: Option<String>,
}

#[derive(Default, Serialize)]
struct Figures {
    url: String,
    batch: u64,
    keys: u64,
    writers: u64,
    waiters: usize,
    updates: u64,
    updates_per_second: f64,
    /// Times that a write was told to come back later.
    refused: u64,
    /// Of a batch, from its beginning until it can be read.
    latency: Percentiles,
    seconds: f64,
    /// Answers that the waiters got meanwhile.
    wakes: u64,
    server: Server,
}

/// What the writers do together.
#[derive(Default)]
struct Together {
    /// Updates that a writer has taken on.
    taken: AtomicU64,
    written: AtomicU64,
    refused: AtomicU64,
    latencies: Latencies,
}

impl Ingest {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let mut daemon = self.options.find(self.waiters + self.writers as usize).await?;
        daemon.must_be_writable("")?;
        let Self { batch, keys, writers, waiters, .. } = self;
        let url = daemon.url.clone();
        let server = Server::new(daemon.process.take());
        let mut figures = Figures { url, batch, keys, writers, waiters, server, ..Figures::default() };
        let together = Arc::new(Together::default());
        let board = Arc::new(Board::new(waiters, Clock::FirstWaiter, 1, |_| daemon.status.sequence));
        let work = async |figures: &mut Figures| self.drive(&mut daemon, &board, &together, figures).await;
        let finish = |figures: &mut Figures| {
            figures.server.end();
            figures.seconds = figures.server.seconds;
            figures.updates = together.written.load(Relaxed);
            figures.refused = together.refused.load(Relaxed);
            figures.latency = together.latencies.percentiles();
            figures.updates_per_second = figures.updates as f64 / figures.seconds.max(1e-9);
            figures.wakes = board.counts().wakes;
        };
        report::shown(self.options.json, work, finish, &mut figures).await
    }

    async fn drive(
        &self,
        daemon: &mut Measured,
        board: &Arc<Board>,
        together: &Arc<Together>,
        figures: &mut Figures,
    ) -> Result<(), Failure> {
        let mut poll = CrumbdPoll::new(&daemon.target, &daemon.cursor()?, MediaType::Json.as_str());
        if let Some(prefix) = &self.prefix {
            poll = poll.with_prefix(prefix);
        }
        let crowd = Crowd::start(&daemon.target, poll.with_any_writer(), self.waiters, board.clone());
        let bar = Bar::new("connecting", self.waiters as u64);
        board.all_asked(CONNECTING, |asked| bar.at(asked)).await?;
        drop(bar);

        figures.server.begin();
        let began = Instant::now();
        let end = if self.updates.is_none() { Some(began + self.duration.0) } else { None };
        let text = Text::new("ingest", self.keys, self.value_bytes);
        let mut writing = JoinSet::new();
        for _ in 0..self.writers {
            let writer = Writer::of_updates(&daemon.target).await?;
            let updates = self.updates.unwrap_or(u64::MAX);
            writing.spawn(write(writer, text.clone(), self.batch, together.clone(), updates, end));
        }
        let total = self.updates.unwrap_or(self.duration.0.as_secs());
        let bar = Bar::new(if self.updates.is_some() { "updates" } else { "seconds" }, total);
        let mut ticks = tokio::time::interval(LOOK);
        let done = loop {
            tokio::select! {
                ended = writing.join_next() => match ended {
                    None => break Ok(()),
                    Some(Ok(Ok(()))) => {}
                    Some(Ok(Err(error))) => break Err(Failure::from(error)),
                    Some(Err(error)) => break Err(error.into()),
                },
                _ = ticks.tick() => bar.at(match self.updates {
                    Some(_) => together.written.load(Relaxed),
                    None => began.elapsed().as_secs(),
                }),
            }
        };
        figures.server.end();
        let failed = board.failure();
        crowd.end().await;
        done?;
        failed.map_or(Ok(()), |failure| Err(failure.into()))
    }
}

async fn write(
    mut writer: Writer,
    text: Text,
    batch: u64,
    together: Arc<Together>,
    updates: u64,
    end: Option<Instant>,
) -> Result<(), LoadError> {
    let mut body = String::new();
    while end.is_none_or(|end| Instant::now() < end) {
        let first = together.taken.fetch_add(batch, Relaxed);
        if first >= updates {
            break;
        }
        let count = batch.min(updates - first);
        text.write(&mut body, first, count);
        let began = Instant::now();
        let written = writer.write(body.as_bytes()).await?;
        together.latencies.record(began.elapsed());
        together.written.fetch_add(count, Relaxed);
        together.refused.fetch_add(written.refused, Relaxed);
    }
    Ok(())
}

impl Report for Figures {
    fn title(&self) -> String {
        let Self { url, batch, keys, writers, waiters, .. } = self;
        let followed =
            if *waiters > 0 { format!(", {} waiters", grouped(*waiters as u64)) } else { String::new() };
        format!(
            "ingest: {writers} writers to {url}, {} updates a batch, {} keys{followed}",
            grouped(*batch),
            grouped(*keys)
        )
    }

    fn lines(&self) -> Vec<(&'static str, String)> {
        let mut lines = vec![
            (
                "updates",
                format!(
                    "{}/s ({} in {:.2} s, {} writes refused for a while)",
                    grouped(self.updates_per_second as u64),
                    grouped(self.updates),
                    self.seconds,
                    self.refused
                ),
            ),
            ("batch latency", percentiles(&self.latency)),
            ("server CPU", self.server.cpu_per(self.updates, "update")),
            (
                "server memory",
                format!(
                    "{} before, {} after",
                    size(self.server.memory_before_bytes),
                    size(self.server.memory_after_bytes)
                ),
            ),
        ];
        if self.waiters > 0 {
            lines.insert(1, ("wakes", grouped(self.wakes)));
        }
        lines
    }

    fn fault(&self) -> Option<String> {
        None
    }
}
