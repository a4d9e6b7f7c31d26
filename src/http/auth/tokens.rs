//! Tokens from a file: one JSON object a line.
//!
//! ```text
//! # edge agents: made with `crumbd token --name edge --read edge/ --read shared/`
//! {"name":"edge","sha256":"9f86d0…","read":["edge/","shared/"],"write":[]}
//! ```
//!
//! Empty lines and lines that begin with `#` are ignored. The prefix `""` is every key.
//!
//! A file with an error is not used at all: the daemon does not start, or keeps its current tokens and logs the error.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tracing::{error, info};

use crate::http::auth::token::{Hash, Line, hash, unhex};
use crate::http::auth::{Authorizer, Grant, Revocation, Rights};
use crate::http::serve::reload::{Reloadable, Stamp};
use crate::model::{Key, KeySelector};

/// The largest number of prefixes in `read`, and in `write`.
const MAX_PREFIXES: usize = 256;

/// Errors of the tokens file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokensError {
    /// The file cannot be read.
    #[error("tokens file {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// A line is invalid.
    #[error("tokens file {} line {line}: {source}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line number, from 1.
        line: usize,
        /// The error in the line.
        source: LineError,
    },
}

/// Errors in a line of the tokens file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LineError {
    /// It is not the expected JSON object.
    #[error("{0}")]
    Json(serde_json::Error),
    /// Its hash is malformed.
    #[error("sha256 is not 64 hex digits; `crumbd token` prints a token and its line")]
    Hash,
    /// It has too many prefixes.
    #[error("{0} prefixes are too many; the limit is {MAX_PREFIXES}")]
    TooManyPrefixes(usize),
    /// An earlier line has the same token.
    #[error("an earlier line has the same token")]
    Duplicate,
}

/// The tokens of a file and their current rights.
pub struct Tokens {
    path: PathBuf,
    /// Read by every request, without a lock.
    grants: ArcSwap<HashMap<Hash, Grant>>,
    /// The stamp of the file when it was read last. Locked while the file is read.
    read: Mutex<Option<Stamp>>,
}

impl Tokens {
    /// Reads the tokens file.
    ///
    /// # Errors
    /// [`TokensError`].
    pub fn open(path: PathBuf) -> Result<Arc<Self>, TokensError> {
        let tokens = Self { path, grants: ArcSwap::default(), read: Mutex::default() };
        tokens.load(&mut tokens.read.lock())?;
        Ok(Arc::new(tokens))
    }

    /// Reads the file again. A token with unchanged rights keeps its grant; the grants of the others are revoked.
    fn load(&self, read: &mut Option<Stamp>) -> Result<(), TokensError> {
        // Taken before the file is read, so that a change meanwhile is noticed the next time.
        *read = Stamp::of(&self.path);
        let unreadable = |source| TokensError::Read { path: self.path.clone(), source };
        let text = std::fs::read_to_string(&self.path).map_err(unreadable)?;
        let parsed = parse(&text).map_err(|(line, source)| TokensError::Line {
            path: self.path.clone(),
            line,
            source,
        })?;
        let before = self.grants.load_full();
        let grants: HashMap<Hash, Grant> = parsed
            .into_iter()
            .map(|(hash, rights)| {
                let kept = before.get(&hash).filter(|grant| *grant.rights() == rights).cloned();
                (hash, kept.unwrap_or_else(|| Grant::new(rights)))
            })
            .collect();
        let grants = Arc::new(grants);
        // Stored before the old ones are revoked: revoked clients come back at once.
        self.grants.store(Arc::clone(&grants));
        let (mut changed, mut removed) = (0, 0);
        for (hash, old) in before.iter() {
            match grants.get(hash) {
                Some(now) if now.rights() == old.rights() => {}
                Some(_) => {
                    changed += 1;
                    old.revoke(Revocation::Changed);
                }
                None => {
                    removed += 1;
                    old.revoke(Revocation::Removed);
                }
            }
        }
        info!(tokens = grants.len(), changed, removed, "tokens read from {}", self.path.display());
        Ok(())
    }
}

impl Reloadable for Tokens {
    fn name(&self) -> &'static str {
        "tokens"
    }

    fn reload(&self, forced: bool) {
        let mut read = self.read.lock();
        if !forced && *read == Stamp::of(&self.path) {
            return;
        }
        if let Err(error) = self.load(&mut read) {
            error!("{error}; all tokens keep the rights they had");
        }
    }
}

impl Authorizer for Tokens {
    /// Looks up the token's hash, so that the time it takes reveals nothing of the token.
    fn admit(&self, token: &str) -> Option<Grant> {
        self.grants.load().get(&hash(token)).cloned()
    }
}

/// The rights by the token's hash, or the number of an invalid line and its error.
fn parse(text: &str) -> Result<HashMap<Hash, Rights>, (usize, LineError)> {
    let mut all = HashMap::new();
    let lines = text.lines().map(str::trim).zip(1..);
    for (line, number) in lines.filter(|(line, _)| !line.is_empty() && !line.starts_with('#')) {
        let (hash, rights) = parse_line(line).map_err(|error| (number, error))?;
        if all.insert(hash, rights).is_some() {
            return Err((number, LineError::Duplicate));
        }
    }
    Ok(all)
}

fn parse_line(line: &str) -> Result<(Hash, Rights), LineError> {
    let Line { name: _, sha256, read, write } = serde_json::from_str(line).map_err(LineError::Json)?;
    let hash = unhex(&sha256).ok_or(LineError::Hash)?;
    let prefixes = |list: Vec<String>| match list.len() {
        ..=MAX_PREFIXES => {
            Ok(KeySelector::prefixes(list.into_iter().map(|prefix| Key::new(prefix.into_bytes()))))
        }
        many => Err(LineError::TooManyPrefixes(many)),
    };
    Ok((hash, Rights { read: prefixes(read)?, write: prefixes(write)? }))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // a test may unwrap

    use super::super::NewToken;
    use super::*;

    fn line(token: &NewToken, rights: &str) -> String {
        let line: Line = serde_json::from_str(&token.line).unwrap();
        format!("{{\"sha256\":\"{}\",{rights}}}\n", line.sha256)
    }

    fn made() -> NewToken {
        NewToken::make(None, Vec::new(), Vec::new()).unwrap()
    }

    #[test]
    fn only_grants_whose_rights_have_changed_are_revoked() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tokens");
        let [same, changed, removed] = [made(), made(), made()];
        let (one, other) = (r#""read":["a/","b/"]"#, r#""read":["a/"]"#);
        let first = [line(&same, one), line(&changed, one), line(&removed, one)].concat();
        std::fs::write(&path, first).unwrap();
        let tokens = Tokens::open(path.clone()).unwrap();
        let admit = |token: &NewToken| tokens.admit(&token.token);
        let before = [&same, &changed, &removed].map(|token| admit(token).unwrap());
        // The same rights, written differently.
        let again = [line(&changed, other), line(&same, r#""read":["b/","a/","a/b"],"write":[]"#)].concat();
        std::fs::write(&path, again).unwrap();
        tokens.load(&mut None).unwrap();
        assert_eq!(
            before.map(|grant| grant.revocation()),
            [None, Some(Revocation::Changed), Some(Revocation::Removed)]
        );
        assert!(admit(&same).unwrap().may_read(b"b/c"));
        assert!(!admit(&changed).unwrap().may_read(b"b/c"));
        assert!(admit(&removed).is_none());

        // An invalid file changes nothing.
        std::fs::write(&path, "nonsense").unwrap();
        assert!(tokens.load(&mut None).is_err());
        assert!(admit(&same).is_some_and(|grant| grant.revocation().is_none()));
    }

    #[test]
    fn an_error_names_its_line() {
        let hash = "0".repeat(64);
        let good = format!("{{\"sha256\":\"{hash}\"}}");
        assert_eq!(parse(&format!("\n # a comment\n{good}\n")).unwrap().len(), 1);
        for (text, at) in [
            (format!("{good}\n{good}"), 2),
            (format!("#\n\n{{\"sha256\":\"{hash}\",\"reed\":[]}}"), 3),
            ("{\"sha256\":\"1234\"}".to_owned(), 1),
            (format!("{{\"sha256\":\"{hash}\",\"read\":\"a\"}}"), 1),
            ("{}".to_owned(), 1),
        ] {
            assert_eq!(parse(&text).unwrap_err().0, at, "{text}");
        }
    }
}
