//! What is wrong with settings, and what is only strange, as one sentence each.

use std::fmt;
use std::path::PathBuf;

use super::super::log::FilterError;
use super::given::Place;
use crate::cli::units::{OutOfBounds, UnitError};
use crate::feed::SpecError;

/// What is wrong with a setting.
#[derive(Debug, thiserror::Error)]
pub(in crate::cli) enum Fault {
    /// The value makes no sense.
    #[error("{place} {text:?} is {why}")]
    Value { place: Place, text: String, why: Why },
    #[error("{0} is empty: give it a value, or leave it out")]
    Empty(Place),
    #[error("{place}: {why}")]
    Feed { place: Place, why: SpecError },
    #[error("{place}: {why}")]
    Log { place: Place, why: FilterError },
    /// The file's text is not what it should be.
    #[error("config file {}{}: {reason}", path.display(), Line(*line))]
    File { path: PathBuf, line: Option<usize>, reason: String },
    /// The file has a key that is no setting.
    #[error("config file {}: {key} is no setting{}", path.display(), Meant(nearest.as_deref()))]
    UnknownKey { path: PathBuf, key: String, nearest: Option<String> },
    /// It needs another one.
    #[error("{place} needs --{needs}: {why}")]
    Needs { place: Place, needs: &'static str, why: &'static str },
    /// It cannot be what was meant.
    #[error("{place} {why}")]
    Senseless { place: Place, why: &'static str },
}

/// Why a value makes no sense.
#[derive(Debug, thiserror::Error)]
pub(in crate::cli) enum Why {
    #[error("not UTF-8")]
    NotText,
    #[error(transparent)]
    Bounds(#[from] OutOfBounds),
    #[error(transparent)]
    Unit(#[from] UnitError),
    #[error("no whole number")]
    NoNumber,
    #[error("none of its values, which are {0}")]
    NoChoice(String),
    #[error("no address and port, such as 127.0.0.1:7811 or [::]:7811; a name is not looked up")]
    NoAddress,
}

struct Line(Option<usize>);

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |line| write!(f, " line {line}"))
    }
}

struct Meant<'a>(Option<&'a str>);

impl fmt::Display for Meant<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(name) => write!(f, "; is {name} meant?"),
            None => f.write_str("; `crumbd serve --help` lists them"),
        }
    }
}

/// Something that works, and that nobody may have meant.
#[derive(Debug, thiserror::Error)]
pub(in crate::cli) enum Remark {
    #[error("{place} has no effect: {why}")]
    NoEffect { place: Place, why: &'static str },
    #[error("the variable {name} is not known: is {nearest} meant?")]
    Variable { name: String, nearest: String },
    #[error("{place} is more than a request may carry: a value over --max-body-bytes cannot be written")]
    ValueOverBody { place: Place },
}

/// All that is wrong.
#[derive(Debug)]
pub(in crate::cli) struct Faults(pub(in crate::cli) Vec<Fault>);

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all: Vec<String> = self.0.iter().map(Fault::to_string).collect();
        f.write_str(&all.join("\n"))
    }
}

impl std::error::Error for Faults {}
