//! Reloading of files that change while the daemon runs: tokens and certificates.

use std::fs::OpenOptions;
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use parking_lot::RwLock;
use rustix::fs::OFlags;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::MissedTickBehavior;
use tracing::{info, warn};

use crate::value::Recurring;

/// How often files are checked for changes.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// A reload that takes longer than this is logged: the file system may hang.
const SLOW_RELOAD: Duration = Duration::from_secs(10);

/// The content of a file that is small and regular. A pipe could block, and a device could be endless.
///
/// # Errors
/// The file cannot be read, is no regular file, or has more than `max` bytes.
pub(crate) fn read_regular(path: &Path, max: u64) -> io::Result<Vec<u8>> {
    let mut options = OpenOptions::new();
    let nonblocking = OFlags::NONBLOCK.bits().cast_signed();
    let file = options.read(true).custom_flags(nonblocking).open(path)?;
    let found = file.metadata()?;
    if !found.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let mut content = Vec::new();
    file.take(max.saturating_add(1)).read_to_end(&mut content)?;
    if content.len() as u64 > max {
        return Err(io::Error::other(format!("it has more than {max} bytes")));
    }
    Ok(content)
}

/// The metadata that differs between two versions of a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::http) struct Stamp {
    modified: Option<SystemTime>,
    /// The time of the last change of content or metadata. Unlike the time of modification nobody can set it back.
    changed: (i64, i64),
    bytes: u64,
    inode: u64,
}

impl Stamp {
    /// The stamp of a file; `None` if it cannot be found.
    pub(in crate::http) fn of(path: &Path) -> Option<Self> {
        let found = std::fs::metadata(path).ok()?;
        let changed = (found.ctime(), found.ctime_nsec());
        Some(Self { modified: found.modified().ok(), changed, bytes: found.len(), inode: found.ino() })
    }
}

/// Settings that were read from files and can be reloaded.
pub(crate) trait Reloadable: Send + Sync + 'static {
    /// The plural name for the log.
    fn name(&self) -> &'static str;

    /// Reads the files if they have changed, or in any case if `forced`. If they are invalid, it logs the error and keeps
    /// the current settings. May block.
    fn reload(&self, forced: bool);

    /// The results of the readings. Does not wait for a reload.
    fn report(&self) -> LoadReport;

    /// The time at which the settings expire, if they do.
    fn expires(&self) -> Option<SystemTime> {
        None
    }
}

/// The results of reading files.
#[derive(Clone, Debug)]
pub(crate) struct LoadReport {
    /// The last time at which they were read, and valid.
    pub(in crate::http) read: SystemTime,
    /// The fault of the files as a sentence, and the time at which it was found; `None` if they are valid. What was read
    /// before is in force.
    pub(in crate::http) fault: Option<(String, SystemTime)>,
    /// How often they were invalid when they were read.
    pub(in crate::http) failures: u64,
}

/// The same where the files are read.
pub(in crate::http) struct LoadRecord(RwLock<LoadReport>);

impl LoadRecord {
    /// The files were read just now.
    pub(in crate::http) fn new() -> Self {
        Self(RwLock::new(LoadReport { read: SystemTime::now(), fault: None, failures: 0 }))
    }

    /// The files were read, and are valid.
    pub(in crate::http) fn succeeded(&self) {
        let mut report = self.0.write();
        (report.read, report.fault) = (SystemTime::now(), None);
    }

    /// The files could not be used.
    pub(in crate::http) fn failed(&self, fault: &str) {
        let mut report = self.0.write();
        report.failures += 1;
        let since = report.fault.as_ref().map_or_else(SystemTime::now, |(_, since)| *since);
        report.fault = Some((fault.to_owned(), since));
    }

    /// The results so far.
    pub(in crate::http) fn report(&self) -> LoadReport {
        self.0.read().clone()
    }
}

/// The files that are reloaded at SIGHUP, and within about a second after a change.
///
/// SIGHUP is caught even if there is nothing to reload: people send it to daemons, and by default it ends the process.
pub(crate) struct Reload {
    hangup: Option<Signal>,
    files: Vec<Arc<dyn Reloadable>>,
}

impl Reload {
    /// A reload without files that catches SIGHUP from now on.
    pub(crate) fn catch_hangup() -> Self {
        let hangup = signal(SignalKind::hangup())
            .inspect_err(|error| warn!(%error, "cannot catch SIGHUP; it will end this process"))
            .ok();
        Self { hangup, files: Vec::new() }
    }

    /// Adds files to reload.
    pub(crate) fn add(&mut self, files: Arc<dyn Reloadable>) {
        self.files.push(files);
    }

    /// Reloads changed files, for ever.
    pub(crate) async fn run(mut self) {
        let slow = Recurring::default();
        let mut tick = tokio::time::interval(CHECK_INTERVAL);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let forced = tokio::select! {
                () = received(self.hangup.as_mut()) => true,
                _ = tick.tick(), if !self.files.is_empty() => false,
            };
            if forced {
                info!("SIGHUP: {}", self.announcement());
            }
            for files in &self.files {
                let files = Arc::clone(files);
                // A file may be large or on a slow disk.
                let name = files.name();
                let mut reload = tokio::task::spawn_blocking(move || files.reload(forced));
                if tokio::time::timeout(SLOW_RELOAD, &mut reload).await.is_err() {
                    if let Some(times) = slow.failed(name) {
                        warn!(
                            times,
                            "reading {name} takes longer than {SLOW_RELOAD:?}; until it ends nothing is reloaded"
                        );
                    }
                    _ = reload.await;
                }
            }
        }
    }

    fn announcement(&self) -> String {
        let names: Vec<&str> = self.files.iter().map(|files| files.name()).collect();
        match names[..] {
            [] => "nothing to reload: neither --tokens nor --tls-cert is set".to_owned(),
            _ => format!("reloading {}", names.join(" and ")),
        }
    }
}

async fn received(hangup: Option<&mut Signal>) {
    if let Some(hangup) = hangup
        && hangup.recv().await.is_some()
    {
        return;
    }
    std::future::pending().await
}
