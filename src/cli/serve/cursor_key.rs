//! The key of the daemon's cursors.

use std::path::{Path, PathBuf};

use ring::rand::{SecureRandom, SystemRandom};
use tracing::{info, warn};

use crate::cli::config::Settings;
use crate::model::{CursorKey, CursorKeyError};
use crate::state::{self, StateError};

/// A cursor key that cannot be used.
#[derive(Debug, thiserror::Error)]
pub(in crate::cli) enum KeyFileError {
    #[error("cursor key file {}: {source}", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("cursor key file {}: {source}", path.display())]
    Invalid { path: PathBuf, source: CursorKeyError },
    #[error(transparent)]
    State(#[from] StateError),
    #[error("cannot make a cursor key: the system provides no random numbers")]
    Random,
}

/// The key in the file of `--cursor-key`, if that is given.
pub(super) fn given(settings: &Settings) -> Result<Option<CursorKey>, KeyFileError> {
    let Some(path) = settings.cursor_key() else { return Ok(None) };
    let text = std::fs::read_to_string(path)
        .map_err(|source| KeyFileError::Read { path: path.to_owned(), source })?;
    parse(path, &text).map(Some)
}

/// The key for a daemon with tokens that was given none: the one in the state directory, or a new one. A daemon without
/// tokens needs none: every client may read everything.
pub(super) fn or_own(given: Option<CursorKey>, settings: &Settings) -> Result<CursorKey, KeyFileError> {
    if let Some(key) = given {
        return Ok(key);
    }
    if !settings.has_tokens() {
        return Ok(CursorKey::default());
    }
    let secret = random_secret()?;
    if let Some((directory, _)) = settings.state() {
        match state::cursor_secret(&directory, || secret.clone()) {
            Ok(kept) => {
                info!(
                    "the cursor key is kept in {}; replicas that shall continue each other's cursors need one \
                     --cursor-key",
                    directory.display()
                );
                return parse(&directory, &kept);
            }
            Err(error) => warn!("the cursor key cannot be kept: {error}"),
        }
    }
    warn!(
        "tokens without --cursor-key: cursors are good until this process ends, and no other replica continues them; \
         `openssl rand -hex 32` makes a key"
    );
    parse(Path::new("(random)"), &secret)
}

fn parse(path: &Path, text: &str) -> Result<CursorKey, KeyFileError> {
    text.parse().map_err(|source| KeyFileError::Invalid { path: path.to_owned(), source })
}

fn random_secret() -> Result<String, KeyFileError> {
    let mut secret = [0; 32];
    SystemRandom::new().fill(&mut secret).map_err(|_| KeyFileError::Random)?;
    Ok(secret.iter().map(|byte| format!("{byte:02x}")).collect())
}
