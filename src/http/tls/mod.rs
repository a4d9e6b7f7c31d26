//! TLS of the server.
//!
//! An accepted connection is counted against the budget. Then its task does the handshake (`handshake.rs`), within the
//! header timeout. The result is a byte stream that both fronts serve.
//!
//! Certificates are reloaded when their files change. New connections use the newest ones; open connections keep theirs.
//! Invalid files change nothing and are read again every second, so they may be replaced in any order.

mod certificate;
mod connection;
mod files;
mod handshake;
mod identity;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use tracing::{error, info, warn};

use crate::http::serve::reload::{LoadRecord, LoadReport, Reloadable, Stamp};
use crate::value::{Recurring, Value};
use files::Loaded;
pub use files::{TlsError, TlsFiles, UnusableError};
pub(super) use handshake::{refuse, serve};

/// A warning is logged when the server's certificate expires within this time.
const EXPIRY_WARNING: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// The server's TLS settings, from files that may change.
pub struct Tls {
    files: TlsFiles,
    newest: Value<Arc<Loaded>>,
    /// Locked while the files are read.
    log: Mutex<LoadLog>,
    record: LoadRecord,
}

/// The last load of the files, and what was logged of it.
#[derive(Default)]
struct LoadLog {
    stamps: Vec<Option<Stamp>>,
    /// The error of the files, while they have one.
    error: Option<String>,
    /// What is logged of it.
    failing: Recurring,
    /// The logged state of the certificate's expiry.
    expiry: Option<Expiry>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Expiry {
    Soon,
    Expired,
}

impl Tls {
    /// Loads the files.
    ///
    /// # Errors
    /// [`TlsError`].
    pub fn open(files: TlsFiles) -> Result<Arc<Self>, TlsError> {
        let mut log = LoadLog { stamps: stamps(&files), ..LoadLog::default() };
        let loaded = files.load()?;
        log.warn_of_expiry(&files, loaded.expires);
        let (newest, log) = (Value::of(Arc::new(loaded)), Mutex::new(log));
        Ok(Arc::new(Self { files, newest, log, record: LoadRecord::new() }))
    }

    /// The settings for a new handshake.
    fn newest(&self) -> Option<Arc<Loaded>> {
        self.newest.current()
    }
}

impl Reloadable for Tls {
    fn name(&self) -> &'static str {
        "certificates"
    }

    fn reload(&self, forced: bool) {
        let mut log = self.log.lock();
        // Taken before the files are read, so that a change meanwhile is noticed the next time.
        let stamps = stamps(&self.files);
        // After an error the files are always read: a file that was written while it was read keeps its stamp.
        if forced || log.error.is_some() || stamps != log.stamps {
            log.stamps = stamps;
            match self.files.load() {
                Ok(loaded) => {
                    log.error = None;
                    self.record.succeeded();
                    let path = self.files.certificate.display();
                    match log.failing.ended() {
                        Some(end) => info!(
                            times = end.times,
                            lasted = %end.lasted(),
                            "certificates read from {path}, which are good again"
                        ),
                        None => info!("certificates read from {path}"),
                    }
                    log.expiry = None;
                    self.newest.set(Arc::new(loaded));
                }
                Err(error) => {
                    let error = error.to_string();
                    self.record.failed(&error);
                    let due = log.failing.failed(&error);
                    if let Some(times) = due.or(forced.then_some(1)) {
                        error!(times, "{error}; new connections get the previous certificate");
                    }
                    log.error = Some(error);
                }
            }
        }
        log.warn_of_expiry(&self.files, self.expires());
    }

    fn report(&self) -> LoadReport {
        self.record.report()
    }

    fn expires(&self) -> Option<SystemTime> {
        self.newest().and_then(|loaded| loaded.expires)
    }
}

impl LoadLog {
    /// Warns once that the certificate expires soon, and once that it has expired.
    fn warn_of_expiry(&mut self, files: &TlsFiles, expires: Option<SystemTime>) {
        let Some(expires) = expires else { return };
        let now = SystemTime::now();
        let expiry = match expires {
            past if past <= now => Expiry::Expired,
            soon if soon <= now + EXPIRY_WARNING => Expiry::Soon,
            _ => return,
        };
        if self.expiry.replace(expiry) == Some(expiry) {
            return;
        }
        let (path, at) = (files.certificate.display(), humantime::format_rfc3339_seconds(expires));
        match expiry {
            Expiry::Soon => warn!("TLS certificate {path} expires at {at}; replace the file soon"),
            Expiry::Expired => warn!("TLS certificate {path} expired at {at}; clients will refuse it"),
        }
    }
}

fn stamps(files: &TlsFiles) -> Vec<Option<Stamp>> {
    files.paths().map(Stamp::of).collect()
}
