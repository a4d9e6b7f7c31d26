//! How figures are shown: a table for people, one JSON object for machines.

use crumbd::cli::Failure;
use crumbd::cli::units::Bytes;
use crumbd_bench::load::{Cpu, Percentiles, Process};
use serde::Serialize;
use tokio::time::Instant;

use super::output;

/// What a measurement found.
pub(super) trait Report: Serialize {
    /// What was done, as a headline.
    fn title(&self) -> String;

    /// Name and figures.
    fn lines(&self) -> Vec<(&'static str, String)>;

    /// What makes the whole measurement a failure, beside what ended it.
    fn fault(&self) -> Option<String>;
}

#[derive(Serialize)]
struct Whole<'a, R> {
    #[serde(flatten)]
    report: &'a R,
    /// Why it ended early, or what was found to be wrong.
    error: Option<&'a str>,
}

/// Runs a measurement until it ends or is interrupted, completes the figures with what was counted, and
/// shows what there is.
///
/// # Errors
/// What ended it early, or what it found to be wrong.
pub(super) async fn shown<R: Report>(
    json: bool,
    work: impl AsyncFnOnce(&mut R) -> Result<(), Failure>,
    finish: impl FnOnce(&mut R),
    report: &mut R,
) -> Result<(), Failure> {
    let ended: Result<(), Failure> = tokio::select! {
        ended = work(report) => ended,
        _ = tokio::signal::ctrl_c() => Err("interrupted: the figures are of what was done until then".into()),
    };
    finish(report);
    let error = ended.err().map(|error| error.to_string()).or_else(|| report.fault());
    if json {
        let whole = Whole { report, error: error.as_deref() };
        output::line(serde_json::to_string(&whole)?)?;
    } else {
        let lines = report.lines().into_iter().map(|(name, figures)| format!("\n  {name:<18} {figures}"));
        output::line(report.title() + &lines.collect::<String>())?;
    }
    error.map_or(Ok(()), |error| Err(error.into()))
}

const UNKNOWN: &str = "unknown: the daemon is not on this machine, or it is somebody else's (--pid)";

/// CPU and memory of the daemon, where it could be looked at, over the measured time.
#[derive(Debug, Default, Serialize)]
pub(super) struct Server {
    pub(super) pid: Option<u32>,
    pub(super) cpu_seconds: f64,
    pub(super) user_seconds: f64,
    pub(super) system_seconds: f64,
    pub(super) memory_before_bytes: u64,
    pub(super) memory_after_bytes: u64,
    /// How long it was measured.
    #[serde(skip)]
    pub(super) seconds: f64,
    #[serde(skip)]
    pub(super) process: Option<Process>,
    #[serde(skip)]
    began: Option<(Instant, Cpu)>,
}

impl Server {
    /// A daemon that has no work of ours yet.
    pub(super) fn new(process: Option<Process>) -> Self {
        let pid = process.as_ref().map(|process| process.pid());
        let mut server = Self { pid, process, ..Self::default() };
        server.memory_before_bytes = server.memory();
        server
    }

    /// Now; 0 when it cannot be known.
    pub(super) fn memory(&self) -> u64 {
        self.process.as_ref().map_or(0, |process| process.memory())
    }

    fn cpu(&mut self) -> Cpu {
        self.process.as_mut().map_or(Cpu::default(), |process| process.cpu())
    }

    /// The measured time begins.
    pub(super) fn begin(&mut self) {
        self.began = Some((Instant::now(), self.cpu()));
    }

    /// The measured time has ended, unless it had before.
    pub(super) fn end(&mut self) {
        if let Some((began, before)) = self.began.take() {
            self.seconds = began.elapsed().as_secs_f64();
            let spent = (self.cpu() - before).shared_out();
            self.cpu_seconds = spent.total.as_secs_f64();
            self.user_seconds = spent.user.as_secs_f64();
            self.system_seconds = spent.system.as_secs_f64();
            self.memory_after_bytes = self.memory();
        }
    }

    /// `0.68 of a core (user 0.44, system 0.24)`.
    pub(super) fn cores(&self) -> String {
        let Some(pid) = self.pid else { return UNKNOWN.to_owned() };
        let part = |cpu: f64| cpu / self.seconds.max(1e-9);
        let (user, system) = (part(self.user_seconds), part(self.system_seconds));
        format!("{:.2} of a core (user {user:.2}, system {system:.2}), pid {pid}", part(self.cpu_seconds))
    }

    /// `19.3 µs a wake (user 7.1, system 12.2)`.
    pub(super) fn cpu_per(&self, count: u64, what: &str) -> String {
        let Some(pid) = self.pid else { return UNKNOWN.to_owned() };
        if count == 0 {
            return format!("no {what}, pid {pid}");
        }
        let us = |seconds: f64| seconds * 1e6 / count as f64;
        let unit = |us: f64| if us < 1000.0 { (us, "µs") } else { (us / 1000.0, "ms") };
        let (total, name) = unit(us(self.cpu_seconds));
        let scale = if name == "µs" { 1.0 } else { 1000.0 };
        let (user, system) = (us(self.user_seconds) / scale, us(self.system_seconds) / scale);
        format!("{total:.1} {name} a {what} (user {user:.1}, system {system:.1}), pid {pid}")
    }
}

/// `p50 12.1  p90 17.3  p99 19.9  max 20.4 ms`.
pub(super) fn percentiles(found: &Percentiles) -> String {
    if found.count == 0 {
        return "none".to_owned();
    }
    let Percentiles { p50_ms, p90_ms, p99_ms, max_ms, .. } = found;
    let digits = if *p99_ms < 10.0 { 2 } else { 1 };
    format!("p50 {p50_ms:.digits$}  p90 {p90_ms:.digits$}  p99 {p99_ms:.digits$}  max {max_ms:.digits$} ms")
}

pub(super) fn size(bytes: u64) -> String {
    Bytes(usize::try_from(bytes).unwrap_or(usize::MAX)).to_string()
}

/// `1234567` as `1,234,567`.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let groups = digits.as_bytes().rchunks(3).rev().map(|group| String::from_utf8_lossy(group).into_owned());
    groups.collect::<Vec<_>>().join(",")
}
