//! The key of the daemon's cursors.
//!
//! `--cursor-key` gives one. Without it a daemon with tokens makes its key of the tokens file, so that replicas with the
//! same file have the same key. That key changes with the tokens, so the state directory keeps the keys of earlier runs.

use std::path::{Path, PathBuf};

use tracing::{info, warn};

use crate::cli::config::Settings;
use crate::http::auth::{TokenError, Tokens, random_secret};
use crate::model::{CursorKey, CursorKeyError};
use crate::state;

/// A cursor key that cannot be used.
#[derive(Debug, thiserror::Error)]
pub(in crate::cli) enum KeyFileError {
    #[error("cursor key file {}: {source}", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("cursor key file {}: {source}", path.display())]
    Invalid { path: PathBuf, source: CursorKeyError },
    #[error(transparent)]
    Random(#[from] TokenError),
}

/// The key in the file of `--cursor-key`, if that is given.
pub(super) fn given(settings: &Settings) -> Result<Option<CursorKey>, KeyFileError> {
    let Some(path) = settings.cursor_key() else { return Ok(None) };
    let text = std::fs::read_to_string(path)
        .map_err(|source| KeyFileError::Read { path: path.to_owned(), source })?;
    parse(path, &text).map(Some)
}

/// The key for a daemon that was given none. Without tokens it needs none: every client may read everything.
pub(super) fn own(tokens: Option<&Tokens>, settings: &Settings) -> Result<CursorKey, KeyFileError> {
    let Some(tokens) = tokens else { return Ok(CursorKey::default()) };
    let secret = match tokens.shared_secret() {
        Some(secret) => {
            info!(
                "cursors are sealed with a key made of the tokens file; --cursor-key gives one that stays the same"
            );
            secret
        }
        None => {
            warn!(
                "cursors are good until this process ends, and no other replica continues them: the tokens file has too \
                 few tokens to make a secret key of; `openssl rand -hex 32` makes a file for --cursor-key"
            );
            random_secret()?
        }
    };
    let Some((directory, _)) = settings.state() else { return parse(Path::new("(made)"), &secret) };
    match state::cursor_secrets(&directory, &secret, CursorKey::MAX_SECRETS) {
        Ok(secrets) => parse(&directory, &secrets),
        Err(error) => {
            warn!("the cursor key cannot be kept for the next start: {error}");
            parse(&directory, &secret)
        }
    }
}

fn parse(path: &Path, text: &str) -> Result<CursorKey, KeyFileError> {
    text.parse().map_err(|source| KeyFileError::Invalid { path: path.to_owned(), source })
}
