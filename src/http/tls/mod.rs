//! TLS of the server's own connections.
//!
//! A connection is accepted, counted against the budget, and then shakes hands in a task of its own
//! (`handshake.rs`), within the time that the head of a request may take: who is silent there holds up nobody. What
//! comes out is a stream like any other, and both fronts serve it.
//!
//! Certificates are read again when their files change. What a handshake needs is one [`Value`]: each new
//! connection takes the newest, and those that are open go on with what they have. Files that cannot be used
//! change nothing and are looked at again every second, so it does not matter in which order they are exchanged.

mod certificate;
mod files;
mod handshake;
mod identity;
mod stream;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use tracing::{error, info, warn};

use crate::http::serve::reload::{Reread, Stamp};
use crate::value::Value;
use files::Loaded;
pub use files::{TlsError, TlsFiles};
pub(super) use handshake::{refuse, serve};

/// So long before the server's certificate expires somebody should know.
const NEAR: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// The server's side of TLS, by files that may change.
pub struct Tls {
    files: TlsFiles,
    newest: Value<Arc<Loaded>>,
    /// Held while the files are read.
    seen: Mutex<Seen>,
}

/// What is known of the files.
#[derive(Default)]
struct Seen {
    stamps: Vec<Option<Stamp>>,
    /// What is wrong with them, as it was logged.
    fault: Option<String>,
    /// What was logged of the certificate's end.
    warned: Option<Warned>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Warned {
    Near,
    Revocation,
}

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    /// [`TlsError`].
    pub fn open(files: TlsFiles) -> Result<Arc<Self>, TlsError> {
        let mut seen = Seen { stamps: stamps(&files), ..Seen::default() };
        let loaded = files.load()?;
        seen.watch_expiry(&files, loaded.expires);
        Ok(Arc::new(Self { files, newest: Value::of(Arc::new(loaded)), seen: Mutex::new(seen) }))
    }

    /// What a handshake that begins now needs.
    fn newest(&self) -> Option<Arc<Loaded>> {
        self.newest.current()
    }
}

impl Reread for Tls {
    fn what(&self) -> &'static str {
        "certificates"
    }

    fn read_again(&self, asked: bool) {
        let mut seen = self.seen.lock();
        // Before they are read: what changes meanwhile is seen the next time.
        let stamps = stamps(&self.files);
        // A fault may go away without a trace in the stamps: a file that is written to while it is read.
        if asked || seen.fault.is_some() || stamps != seen.stamps {
            seen.stamps = stamps;
            match self.files.load() {
                Ok(loaded) => {
                    let was_faulty = seen.fault.take().is_some();
                    let again = if was_faulty { ", which are good again" } else { "" };
                    info!("certificates read from {}{again}", self.files.certificate.display());
                    seen.warned = None;
                    self.newest.set(Arc::new(loaded));
                }
                Err(error) => {
                    let error = error.to_string();
                    if asked || seen.fault.as_ref() != Some(&error) {
                        error!("{error}; new connections get the certificate that was read before");
                    }
                    seen.fault = Some(error);
                }
            }
        }
        seen.watch_expiry(&self.files, self.newest().and_then(|loaded| loaded.expires));
    }
}

impl Seen {
    /// Says once that the certificate will expire, and once that it has.
    fn watch_expiry(&mut self, files: &TlsFiles, expires: Option<SystemTime>) {
        let Some(expires) = expires else { return };
        let now = SystemTime::now();
        let state = match expires {
            over if over <= now => Warned::Revocation,
            near if near <= now + NEAR => Warned::Near,
            _ => return,
        };
        if self.warned.replace(state) == Some(state) {
            return;
        }
        let (path, at) = (files.certificate.display(), humantime::format_rfc3339_seconds(expires));
        match state {
            Warned::Near => warn!("TLS certificate {path} expires at {at}: replace the file soon"),
            Warned::Revocation => warn!("TLS certificate {path} has expired at {at}: clients will refuse it"),
        }
    }
}

fn stamps(files: &TlsFiles) -> Vec<Option<Stamp>> {
    files.paths().map(Stamp::of).collect()
}
