//! Tokens from a file: one JSON object a line.
//!
//! ```text
//! # edge agents: made with `crumbd token --name edge --read edge/ --read shared/`
//! {"name":"edge","sha256":"9f86d0…","read":["edge/","shared/"],"write":[]}
//! ```
//!
//! Lines, as in all files here, because a line is what one adds, removes and finds in a diff. An empty
//! line and one that begins with `#` do not count; the prefix `""` is every key.
//!
//! The file is taken as a whole or not at all: with a fault in it a daemon does not start, and one
//! that runs keeps the rights that it has and says so in its log.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tracing::{error, info};

use crate::http::auth::token::{Hash, Line, hash, unhex};
use crate::http::auth::{Authorizer, Grant, Revocation, Rights};
use crate::http::serve::reload::{Reread, Stamp};
use crate::model::{Key, KeySelector};

/// Most prefixes that a token may name for reading, and for writing.
const MAX_PREFIXES: usize = 256;

/// Why tokens cannot be taken from the file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokensError {
    /// It cannot be read.
    #[error("tokens file {}: {source}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// A line makes no sense.
    #[error("tokens file {} line {line}: {reason}", path.display())]
    Line {
        /// Which file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong with it.
        reason: String,
    },
}

/// The tokens of a file, and their rights now.
pub struct Tokens {
    path: PathBuf,
    /// Read by every request, without a lock.
    grants: ArcSwap<HashMap<Hash, Grant>>,
    /// What the file looked like when it was read last; held while it is read again.
    read: Mutex<Option<Stamp>>,
}

impl Tokens {
    /// Reads the file.
    ///
    /// # Errors
    /// [`TokensError`].
    pub fn open(path: PathBuf) -> Result<Arc<Self>, TokensError> {
        let tokens = Self { path, grants: ArcSwap::default(), read: Mutex::default() };
        tokens.load(&mut tokens.read.lock())?;
        Ok(Arc::new(tokens))
    }

    /// Reads the file again. A token that has the rights that it had keeps its grant, and nobody is
    /// told; the grants of the others are over.
    fn load(&self, read: &mut Option<Stamp>) -> Result<(), TokensError> {
        // Before it is read: what changes meanwhile is seen the next time.
        *read = Stamp::of(&self.path);
        let fault = |source| TokensError::Read { path: self.path.clone(), source };
        let text = std::fs::read_to_string(&self.path).map_err(fault)?;
        let wanted = parse(&text).map_err(|(line, reason)| TokensError::Line {
            path: self.path.clone(),
            line,
            reason,
        })?;
        let before = self.grants.load_full();
        let grants: HashMap<Hash, Grant> = wanted
            .into_iter()
            .map(|(hash, rights)| {
                let kept = before.get(&hash).filter(|grant| *grant.rights() == rights).cloned();
                (hash, kept.unwrap_or_else(|| Grant::new(rights)))
            })
            .collect();
        let grants = Arc::new(grants);
        // First the new ones: whoever is told comes back at once.
        self.grants.store(Arc::clone(&grants));
        let (mut changed, mut removed) = (0, 0);
        for (hash, old) in before.iter() {
            match grants.get(hash) {
                Some(now) if now.rights() == old.rights() => {}
                Some(_) => {
                    changed += 1;
                    old.end(Revocation::Changed);
                }
                None => {
                    removed += 1;
                    old.end(Revocation::Removed);
                }
            }
        }
        info!(tokens = grants.len(), changed, removed, "tokens read from {}", self.path.display());
        Ok(())
    }
}

impl Reread for Tokens {
    fn what(&self) -> &'static str {
        "tokens"
    }

    fn read_again(&self, asked: bool) {
        let mut read = self.read.lock();
        if !asked && *read == Stamp::of(&self.path) {
            return;
        }
        if let Err(error) = self.load(&mut read) {
            error!("{error}; the tokens keep the rights that they had");
        }
    }
}

impl Authorizer for Tokens {
    /// The hash is looked up, not the token, so how long that takes tells nothing of a token.
    fn admit(&self, token: &str) -> Option<Grant> {
        self.grants.load().get(&hash(token)).cloned()
    }
}

/// The rights by hash; or a line and what is wrong with it.
fn parse(text: &str) -> Result<HashMap<Hash, Rights>, (usize, String)> {
    let mut all = HashMap::new();
    let lines = text.lines().map(str::trim).zip(1..);
    for (line, number) in lines.filter(|(line, _)| !line.is_empty() && !line.starts_with('#')) {
        let fault = |reason: String| (number, reason);
        let Line { name: _, sha256, read, write } =
            serde_json::from_str(line).map_err(|error| fault(error.to_string()))?;
        let hash = unhex(&sha256).ok_or_else(|| {
            fault("sha256 is not 64 hex digits; `crumbd token` makes a token and its line".to_owned())
        })?;
        let prefixes = |list: Vec<String>| match list.len() {
            ..=MAX_PREFIXES => {
                Ok(KeySelector::prefixes(list.into_iter().map(|prefix| Key::new(prefix.into_bytes()))))
            }
            many => Err(fault(format!("{many} prefixes; the limit is {MAX_PREFIXES}"))),
        };
        let rights = Rights { read: prefixes(read)?, write: prefixes(write)? };
        if all.insert(hash, rights).is_some() {
            return Err(fault("the same token is there twice".to_owned()));
        }
    }
    Ok(all)
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
    fn only_grants_whose_rights_have_changed_are_over() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tokens");
        let [same, changed, removed] = [made(), made(), made()];
        let (one, other) = (r#""read":["a/","b/"]"#, r#""read":["a/"]"#);
        let first = [line(&same, one), line(&changed, one), line(&removed, one)].concat();
        std::fs::write(&path, first).unwrap();
        let tokens = Tokens::open(path.clone()).unwrap();
        let admit = |token: &NewToken| tokens.admit(&token.token);
        let before = [&same, &changed, &removed].map(|token| admit(token).unwrap());
        // The same rights in other words.
        let again = [line(&changed, other), line(&same, r#""read":["b/","a/","a/b"],"write":[]"#)].concat();
        std::fs::write(&path, again).unwrap();
        tokens.load(&mut None).unwrap();
        assert_eq!(
            before.map(|grant| grant.is_over()),
            [None, Some(Revocation::Changed), Some(Revocation::Removed)]
        );
        assert!(admit(&same).unwrap().may_read(b"b/c"));
        assert!(!admit(&changed).unwrap().may_read(b"b/c"));
        assert!(admit(&removed).is_none());

        // What makes no sense changes nothing.
        std::fs::write(&path, "nonsense").unwrap();
        assert!(tokens.load(&mut None).is_err());
        assert!(admit(&same).is_some_and(|grant| grant.is_over().is_none()));
    }

    #[test]
    fn a_fault_names_its_line() {
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
