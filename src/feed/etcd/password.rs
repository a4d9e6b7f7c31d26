//! A password that may change while the daemon runs.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;
use tracing::{info, warn};

use crate::value::Recurring;

/// A password, and the file that it is read from again at each login. Clones share what was read last.
#[derive(Clone)]
pub struct Password {
    file: Option<PathBuf>,
    last: Arc<Mutex<String>>,
    unreadable: Arc<Recurring>,
}

impl Password {
    /// One that stays as it is.
    pub fn of(password: String) -> Self {
        Self { file: None, last: Arc::new(Mutex::new(password)), unreadable: Arc::default() }
    }

    /// The content of a file, without the line break at its end.
    ///
    /// # Errors
    /// When it cannot be read now. Later that is only logged, and the one that was read last is used.
    pub fn in_file(path: PathBuf) -> io::Result<Self> {
        let password = without_line_break(std::fs::read_to_string(&path)?);
        Ok(Self { file: Some(path), ..Self::of(password) })
    }

    /// The password as it is now.
    pub(super) async fn now(&self) -> String {
        if let Some(path) = &self.file {
            match tokio::fs::read_to_string(path).await {
                Ok(text) => {
                    *self.last.lock() = without_line_break(text);
                    if let Some(end) = self.unreadable.ended() {
                        let path = path.display();
                        info!(times = end.times, lasted = %end.lasted(), "etcd password file {path} can be read again");
                    }
                }
                // Whoever rotates it may take the old one away first.
                Err(error) => {
                    if let Some(times) = self.unreadable.failed(&error.to_string()) {
                        let path = path.display();
                        warn!(
                            times,
                            "etcd password file {path}: {error}; using the password that was read last"
                        );
                    }
                }
            }
        }
        self.last.lock().clone()
    }
}

fn without_line_break(mut text: String) -> String {
    text.truncate(text.trim_end_matches(['\n', '\r']).len());
    text
}
