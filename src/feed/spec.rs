//! The text after `--feed`.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// Which feed, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FeedSpec {
    /// `file:PATH[?follow=true]`: NDJSON records from a file.
    File {
        /// The file.
        path: PathBuf,
        /// Whether to go on reading what is appended, and to notice truncation and replacement.
        follow: bool,
    },
    /// `stdin:`: NDJSON records from standard input.
    Stdin,
    /// `push:`: the writing half of the HTTP interface; this process is the datastore.
    Push,
}

/// What is wrong with a feed's text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("feed {text:?}: {reason}")]
pub struct SpecError {
    text: String,
    reason: String,
}

impl FromStr for FeedSpec {
    type Err = SpecError;

    fn from_str(text: &str) -> Result<Self, SpecError> {
        let error = |reason: String| SpecError { text: text.to_owned(), reason };
        match text.split_once(':') {
            Some(("push", "")) => Ok(Self::Push),
            Some(("stdin", "")) => Ok(Self::Stdin),
            Some(("push" | "stdin", rest)) => {
                Err(error(format!("nothing follows the colon, but there is {rest:?}")))
            }
            Some(("file", rest)) => parse_file(rest).map_err(error),
            _ => Err(error("it is push:, stdin: or file:PATH[?follow=true]".to_owned())),
        }
    }
}

fn parse_file(rest: &str) -> Result<FeedSpec, String> {
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    if path.is_empty() {
        return Err("a file feed needs a path, as in file:feed.ndjson".to_owned());
    }
    let follow = match query {
        "" | "follow=false" => false,
        "follow=true" => true,
        other => return Err(format!("{other:?} is no option of a file feed: it has follow=true")),
    };
    let path = path.strip_prefix("//").map_or(path, |absolute| absolute);
    Ok(FeedSpec::File { path: PathBuf::from(path), follow })
}

impl fmt::Display for FeedSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, follow: false } => write!(f, "file:{}", path.display()),
            Self::File { path, follow: true } => write!(f, "file:{}?follow=true", path.display()),
            Self::Stdin => f.write_str("stdin:"),
            Self::Push => f.write_str("push:"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_feed_is_one_of_those_there_are() {
        let file = |path: &str, follow| FeedSpec::File { path: path.into(), follow };
        assert_eq!("push:".parse(), Ok(FeedSpec::Push));
        assert_eq!("stdin:".parse(), Ok(FeedSpec::Stdin));
        assert_eq!("file:a/b.ndjson".parse(), Ok(file("a/b.ndjson", false)));
        assert_eq!("file:/a?follow=true".parse(), Ok(file("/a", true)));
        assert_eq!("file:///a".parse(), Ok(file("/a", false)));
        for bad in ["", "push", "push:x", "file:", "file:a?tail=1", "http://x", "a.ndjson"] {
            assert!(bad.parse::<FeedSpec>().is_err(), "{bad:?} was taken for a feed");
        }
    }
}
