//! A password that may change while the daemon runs.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;
use tracing::warn;

/// A password, and the file that it is read from again at each login. Clones share what was read last.
#[derive(Clone)]
pub struct Password {
    file: Option<PathBuf>,
    last: Arc<Mutex<String>>,
}

impl Password {
    /// One that stays as it is.
    pub fn of(password: String) -> Self {
        Self { file: None, last: Arc::new(Mutex::new(password)) }
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
                Ok(text) => *self.last.lock() = without_line_break(text),
                // Whoever rotates it may take the old one away first.
                Err(error) => warn!(
                    "etcd password file {}: {error}; using the password that was read last",
                    path.display()
                ),
            }
        }
        self.last.lock().clone()
    }
}

fn without_line_break(mut text: String) -> String {
    text.truncate(text.trim_end_matches(['\n', '\r']).len());
    text
}
