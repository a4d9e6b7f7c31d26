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
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use tracing::{error, info, warn};

use crate::http::serve::reload::{Reloadable, Stamp};
use crate::value::Value;
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
    /// Whether the files had an error when they were last read.
    invalid: AtomicBool,
}

/// The last load of the files, and what was logged of it.
#[derive(Default)]
struct LoadLog {
    stamps: Vec<Option<Stamp>>,
    /// The logged error of the files.
    error: Option<String>,
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
        let (newest, log, invalid) = (Value::of(Arc::new(loaded)), Mutex::new(log), AtomicBool::new(false));
        Ok(Arc::new(Self { files, newest, log, invalid }))
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
                    let had_error = log.error.take().is_some();
                    let again = if had_error { ", which are good again" } else { "" };
                    info!("certificates read from {}{again}", self.files.certificate.display());
                    log.expiry = None;
                    self.newest.set(Arc::new(loaded));
                }
                Err(error) => {
                    let error = error.to_string();
                    if forced || log.error.as_ref() != Some(&error) {
                        error!("{error}; new connections get the previous certificate");
                    }
                    log.error = Some(error);
                }
            }
            self.invalid.store(log.error.is_some(), Ordering::Relaxed);
        }
        log.warn_of_expiry(&self.files, self.expires());
    }

    fn is_invalid(&self) -> bool {
        self.invalid.load(Ordering::Relaxed)
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
