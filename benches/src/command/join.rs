//! `crumbd-bench join`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use clap::{Args, ValueEnum};
use crumbd::cli::Failure;
use crumbd::cli::units::{Span, parse_wait};
use crumbd_bench::load::{Joined, Joiner, Latencies, LoadError, Percentiles, Target, Writer};
use serde::Serialize;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use super::bar::Bar;
use super::daemon::{Measured, Options};
use super::fanout::Accept;
use super::limits;
use super::report::{self, Report, Server, grouped, percentiles, size};
use super::text::Text;

/// How often the daemon's memory is looked at.
const LOOK: Duration = Duration::from_millis(50);

/// Updates in a batch of `--fill`.
const FILLING: u64 = 1000;

/// Keys that `--rate` writes.
const CHANGING_KEYS: u64 = 1000;

/// Let many clients fetch the whole state at once
///
/// A joiner fetches the current breadcrumb and then asks once for what came after it: only then is it in
/// sync. Where the daemon says 503 it comes back when it was told to, as clients do.
#[derive(Args)]
pub(super) struct Join {
    #[command(flatten)]
    options: Options,
    /// How many join.
    #[arg(long, default_value_t = 100, value_parser = limits::clients::<usize>(), allow_hyphen_values = true)]
    joiners: usize,
    /// What they ask for.
    #[arg(long, value_enum, default_value_t)]
    accept: Accept,
    /// How they want it compressed. Nothing is decompressed: that is the clients' own cost.
    #[arg(long, value_enum, default_value_t)]
    encoding: Encoding,
    /// First write so many keys.
    #[arg(long, value_name = "KEYS", value_parser = limits::many(), allow_hyphen_values = true)]
    fill: Option<u64>,
    /// Size of the values, those of --fill and those of --rate.
    #[arg(long, default_value_t = 200, value_name = "BYTES", value_parser = limits::value_bytes(), allow_hyphen_values = true)]
    value_bytes: usize,
    /// Updates a second that are written meanwhile.
    #[arg(long, default_value_t = 0, value_parser = limits::rate(), allow_hyphen_values = true)]
    rate: u32,
    /// How long all may take together.
    #[arg(long, default_value = "5m", value_name = "TIME", value_parser = parse_wait, allow_hyphen_values = true)]
    deadline: Span,
}

/// The content codings.
#[derive(Clone, Copy, Default, ValueEnum)]
enum Encoding {
    /// None.
    #[default]
    Identity,
    Zstd,
    Gzip,
}

impl Encoding {
    fn as_str(self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::Zstd => "zstd",
            Self::Gzip => "gzip",
        }
    }
}

#[derive(Default, Serialize)]
struct Figures {
    url: String,
    keys: u64,
    joiners: usize,
    in_sync: u64,
    failed: u64,
    first_failure: Option<String>,
    /// Answers 503 and 429.
    refused: u64,
    /// Times that a cursor was gone before its joiner had used it.
    gone: u64,
    /// All snapshots together.
    body_bytes: u64,
    snapshot_bytes: u64,
    /// Until the last joiner was in sync.
    seconds: f64,
    latency: Percentiles,
    written_meanwhile: u64,
    server: Server,
    memory_peak_bytes: u64,
    /// Whether the kernel told the peak.
    kernel_marks: bool,
    /// Peak less what it was before they came; sampled where the kernel's own mark cannot be reset.
    memory_grown_bytes: u64,
}

impl Join {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let mut daemon = self.options.find(self.joiners).await?;
        if self.fill.is_some() || self.rate > 0 {
            daemon.must_be_writable("; without --fill and --rate it need not be")?;
        }
        let mut figures = Figures { url: daemon.url.clone(), joiners: self.joiners, ..Figures::default() };
        let latencies = Latencies::default();
        let work = async |figures: &mut Figures| self.drive(&mut daemon, &latencies, figures).await;
        let finish = |figures: &mut Figures| {
            figures.latency = latencies.percentiles();
            figures.complete();
        };
        report::shown(self.options.json, work, finish, &mut figures).await
    }

    async fn drive(
        &self,
        daemon: &mut Measured,
        latencies: &Latencies,
        figures: &mut Figures,
    ) -> Result<(), Failure> {
        if let Some(keys) = self.fill {
            fill(&daemon.target, keys, self.value_bytes).await?;
        }
        daemon.cursor()?;
        let joiner = Joiner::new(&daemon.target, self.accept.media(), self.encoding.as_str());
        // The first one pays for what all share: the body in this form.
        let late = |what: &str| LoadError::Late { what: what.to_owned(), after: self.deadline.0 };
        let first = timeout(self.deadline.0, joiner.join(0)).await;
        figures.snapshot_bytes = first.map_err(|_| late("the first joiner is in sync"))??.bytes;
        figures.keys = daemon.ask().await?.count;
        let written = Arc::new(AtomicU64::new(0));
        let _writing = self.start_writing(&daemon.target, &written);

        figures.server = Server::new(daemon.process.take());
        figures.kernel_marks = figures.server.process.as_ref().is_some_and(|process| process.forget_peak());
        figures.server.begin();
        let ended = timeout(self.deadline.0, self.join(&joiner, latencies, &written, figures)).await;
        Ok(ended.map_err(|_| late("all joiners are in sync"))?)
    }

    async fn join(&self, joiner: &Joiner, latencies: &Latencies, written: &AtomicU64, figures: &mut Figures) {
        let mut joining = JoinSet::new();
        for client in 0..self.joiners {
            let joiner = joiner.clone();
            joining.spawn(async move {
                let began = Instant::now();
                (joiner.join(client).await, began.elapsed())
            });
        }
        let bar = Bar::new("joined", self.joiners as u64);
        let mut ticks = interval(LOOK);
        loop {
            tokio::select! {
                joined = joining.join_next() => match joined {
                    None => break,
                    Some(Ok((Ok(Joined { bytes, refused, gone }), took))) => {
                        latencies.record(took);
                        figures.in_sync += 1;
                        figures.body_bytes += bytes;
                        figures.refused += refused;
                        figures.gone += gone;
                        bar.at(figures.in_sync);
                    }
                    Some(Ok((Err(error), _))) => figures.failed(error.to_string()),
                    Some(Err(error)) => figures.failed(error.to_string()),
                },
                _ = ticks.tick() => {
                    figures.written_meanwhile = written.load(Relaxed);
                    let now = figures.server.process.as_ref().map_or(0, |process| process.memory_now());
                    figures.memory_peak_bytes = figures.memory_peak_bytes.max(now);
                }
            }
        }
        figures.server.end();
        figures.written_meanwhile = written.load(Relaxed);
    }

    fn start_writing(&self, target: &Target, written: &Arc<AtomicU64>) -> Option<Writing> {
        let period = Duration::from_secs(1).checked_div(self.rate)?;
        let (target, written, rate) = (target.clone(), written.clone(), self.rate);
        let text = Text::new("join", CHANGING_KEYS, self.value_bytes);
        Some(Writing(tokio::spawn(async move {
            let mut writer = Writer::of_updates(&target).await?;
            let (began, mut body) = (Instant::now(), String::new());
            let mut ticks = interval(period.max(Duration::from_millis(1)));
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                let due = began.elapsed().as_secs_f64() * f64::from(rate);
                let done = written.load(Relaxed);
                // What is late goes out together: the rate holds however long one write takes.
                let count = (due as u64).saturating_sub(done);
                if count > 0 {
                    text.write(&mut body, done, count);
                    writer.write(body.as_bytes()).await?;
                    written.fetch_add(count, Relaxed);
                }
            }
        })))
    }
}

/// A writer, until this is dropped.
struct Writing(JoinHandle<Result<(), LoadError>>);

impl Drop for Writing {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn fill(target: &Target, keys: u64, value_bytes: usize) -> Result<(), LoadError> {
    let bar = Bar::new("filling", keys);
    let mut writer = Writer::of_updates(target).await?;
    let (text, mut body, mut first) = (Text::new("join", keys, value_bytes), String::new(), 0);
    while first < keys {
        let last = keys.min(first + FILLING);
        text.write(&mut body, first, last - first);
        writer.write(body.as_bytes()).await?;
        bar.at(last);
        first = last;
    }
    Ok(())
}

impl Figures {
    fn complete(&mut self) {
        self.server.end();
        self.seconds = self.server.seconds;
        if let (true, Some(process)) = (self.kernel_marks, &self.server.process) {
            self.memory_peak_bytes = self.memory_peak_bytes.max(process.peak());
        }
        self.memory_grown_bytes = self.memory_peak_bytes.saturating_sub(self.server.memory_before_bytes);
    }

    fn failed(&mut self, reason: String) {
        self.failed += 1;
        self.first_failure.get_or_insert(reason);
    }
}

impl Report for Figures {
    fn title(&self) -> String {
        let Self { url, keys, joiners, snapshot_bytes, .. } = self;
        format!(
            "join: {} at once to {url}, {} keys, a snapshot of {}",
            grouped(*joiners as u64),
            grouped(*keys),
            size(*snapshot_bytes)
        )
    }

    fn lines(&self) -> Vec<(&'static str, String)> {
        let rate = self.body_bytes as f64 / self.seconds.max(1e-9);
        vec![
            (
                "in sync",
                format!(
                    "{} of {} after {:.2} s; {} in all, {}/s",
                    grouped(self.in_sync),
                    grouped(self.joiners as u64),
                    self.seconds,
                    size(self.body_bytes),
                    size(rate as u64)
                ),
            ),
            (
                "failures",
                format!(
                    "{} failed, {} refused for a while, {} cursors gone",
                    self.failed, self.refused, self.gone
                ),
            ),
            ("latency", percentiles(&self.latency)),
            ("written meanwhile", format!("{} updates", grouped(self.written_meanwhile))),
            ("server CPU", self.server.cpu_per(self.in_sync, "joiner")),
            (
                "server memory",
                format!(
                    "{} before, {} at most: {} more",
                    size(self.server.memory_before_bytes),
                    size(self.memory_peak_bytes),
                    size(self.memory_grown_bytes)
                ),
            ),
        ]
    }

    fn fault(&self) -> Option<String> {
        let first = self.first_failure.as_ref()?;
        Some(format!("{} of {} joiners have failed; the first: {first}", self.failed, self.joiners))
    }
}
