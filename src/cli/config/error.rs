//! Errors in settings, and warnings: one sentence each.

use super::base_path::BasePathError;
use std::fmt;
use std::path::PathBuf;

use super::super::log::FilterError;
use super::collections::FeedSettingError;
use super::etcd_listen::EtcdListenError;
use super::raw::Origin;
use crate::cli::units::{OutOfBounds, UnitError};
use crate::http::RateError;
use crate::http::auth::OriginError;
use crate::http::{ListenAddress, ListenAddressError, ProxiesError};

/// An error in a setting.
#[derive(Debug, thiserror::Error)]
pub(in crate::cli) enum SettingError {
    /// The value is invalid.
    #[error("{origin} {text:?} is {why}")]
    Value { origin: Origin, text: String, why: InvalidValue },
    #[error("{0} is empty: give it a value, or leave it out")]
    Empty(Origin),
    #[error("{origin}: {why}")]
    Feed { origin: Origin, why: FeedSettingError },
    #[error("{origin}: {why}")]
    EtcdListen { origin: Origin, why: EtcdListenError },
    /// Two listeners cannot have one address.
    #[error("{origin}: {address} is the address of {other} already; each needs its own")]
    SameAddress { origin: Origin, address: ListenAddress, other: String },
    #[error("{origin}: {why}")]
    Log { origin: Origin, why: FilterError },
    /// The file is not valid TOML, or has a value of the wrong type.
    #[error("config file {}{}: {reason}", path.display(), Line(*line))]
    File { path: PathBuf, line: Option<usize>, reason: String },
    /// The file has a key that is no setting.
    #[error("config file {}: {key} is no setting{}", path.display(), Suggestion(nearest.as_deref()))]
    UnknownKey { path: PathBuf, key: String, nearest: Option<String> },
    /// Another setting is missing.
    #[error("{origin} needs --{needs}: {why}")]
    Needs { origin: Origin, needs: &'static str, why: &'static str },
    /// It contradicts another setting.
    #[error("{origin} {why}")]
    Conflict { origin: Origin, why: &'static str },
}

/// The reason why a value is invalid.
#[derive(Debug, thiserror::Error)]
pub(in crate::cli) enum InvalidValue {
    #[error("not UTF-8")]
    NotUtf8,
    #[error(transparent)]
    Bounds(#[from] OutOfBounds),
    #[error(transparent)]
    Unit(#[from] UnitError),
    #[error("no whole number")]
    NotANumber,
    #[error("none of the possible values: {0}")]
    NotAChoice(String),
    #[error("no address and port, such as 127.0.0.1:12379 or [::]:12379; a name is not looked up")]
    NotASocketAddress,
    #[error(transparent)]
    NotAnAddress(#[from] ListenAddressError),
    #[error(transparent)]
    NotProxies(#[from] ProxiesError),
    #[error("not a list of origins: {0}")]
    NotOrigins(#[from] OriginError),
    #[error(transparent)]
    NotABasePath(#[from] BasePathError),
    #[error(transparent)]
    NotARate(#[from] RateError),
}

struct Line(Option<usize>);

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |line| write!(f, " line {line}"))
    }
}

struct Suggestion<'a>(Option<&'a str>);

impl fmt::Display for Suggestion<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(name) => write!(f, "; did you mean {name}?"),
            None => f.write_str("; `crumbd serve --help` lists them"),
        }
    }
}

/// A setting that works, but may be a mistake.
#[derive(Debug, thiserror::Error)]
pub(in crate::cli) enum Warning {
    #[error("{origin} has no effect: {why}")]
    NoEffect { origin: Origin, why: &'static str },
    #[error("the variable {name} is not known; did you mean {nearest}?")]
    Variable { name: String, nearest: String },
    #[error("{origin} is more than a request may hold: a value over --max-body-bytes cannot be written")]
    ValueOverBody { origin: Origin },
}

/// All errors in the settings.
#[derive(Debug)]
pub(in crate::cli) struct SettingErrors(pub(in crate::cli) Vec<SettingError>);

impl fmt::Display for SettingErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all: Vec<String> = self.0.iter().map(SettingError::to_string).collect();
        f.write_str(&all.join("\n"))
    }
}

impl std::error::Error for SettingErrors {}
