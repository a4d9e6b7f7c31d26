//! What is logged. A filter that would show nothing, or all, because of a slip of the finger is refused: to the library
//! that applies it, `inof` is the name of a module.

use std::str::FromStr;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::EnvFilter;

use crate::cli::config::nearest;

const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// The modules below `crumbd::`.
const ROOMS: [&str; 12] =
    ["cache", "cli", "client", "feed", "http", "ingest", "model", "state", "trail", "value", "view", "wire"];

/// Every crate that is, or may be, a part of this program.
const LOCK: &str = include_str!("../../../Cargo.lock");

/// A filter of log lines, such as `info,crumbd::feed=debug`.
#[derive(Debug)]
pub(in crate::cli) struct Filter(EnvFilter);

/// Why something is no such filter.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(in crate::cli) enum FilterError {
    #[error("there is nothing between two commas, or at an end")]
    EmptyPart,
    #[error("{level:?} is no level{}; levels are error, warn, info, debug, trace and off", meant(.nearest))]
    Level { level: String, nearest: Option<&'static str> },
    #[error("{target:?} is nothing that logs{}; a filter looks like info,crumbd::feed=debug", meant(.nearest))]
    Target { target: String, nearest: Option<&'static str> },
    #[error("{0}; a filter looks like info,crumbd::feed=debug")]
    Other(String),
}

fn meant(nearest: &Option<&'static str>) -> String {
    nearest.map_or_else(String::new, |name| format!(" (is {name} meant?)"))
}

impl Filter {
    pub(super) fn into_env_filter(self) -> EnvFilter {
        self.0
    }

    /// Only what somebody should know.
    pub(in crate::cli) fn warnings() -> Self {
        Self(EnvFilter::default().add_directive(LevelFilter::WARN.into()))
    }
}

impl Default for Filter {
    fn default() -> Self {
        Self(EnvFilter::default().add_directive(LevelFilter::INFO.into()))
    }
}

impl FromStr for Filter {
    type Err = FilterError;

    fn from_str(text: &str) -> Result<Self, FilterError> {
        let parts: Vec<&str> = text.split(',').map(str::trim).collect();
        parts.iter().try_for_each(|part| check(part))?;
        EnvFilter::try_new(parts.join(",")).map(Self).map_err(|error| FilterError::Other(error.to_string()))
    }
}

/// One part: `level`, `target` or `target=level`. A target may end with a span in brackets, which may hold anything.
fn check(part: &str) -> Result<(), FilterError> {
    if part.is_empty() {
        return Err(FilterError::EmptyPart);
    }
    let (target, level) = match part.rsplit_once('=') {
        Some((target, level)) if !level.contains(']') => (target, Some(level)),
        _ => (part, None),
    };
    if let Some(level) = level.filter(|level| !is_level(level)) {
        return Err(FilterError::Level { level: level.to_owned(), nearest: nearest(level, LEVELS) });
    }
    let target = target.split('[').next().unwrap_or_default();
    match level {
        // Alone it is a level in the first place.
        None if is_level(target) => Ok(()),
        None if !target.contains("::") && nearest(target, LEVELS).is_some() => {
            Err(FilterError::Level { level: target.to_owned(), nearest: nearest(target, LEVELS) })
        }
        _ => known(target),
    }
}

fn is_level(text: &str) -> bool {
    !text.is_empty() && text.parse::<LevelFilter>().is_ok()
}

/// Whether there is such a crate and, of ours, such a room.
fn known(target: &str) -> Result<(), FilterError> {
    let mut parts = target.split("::");
    let (first, room) = (parts.next().unwrap_or_default(), parts.next());
    let unknown = |nearest| Err(FilterError::Target { target: target.to_owned(), nearest });
    match (first, room) {
        // Only a span: of whatever target.
        ("", None) => Ok(()),
        ("crumbd", Some(room)) if !ROOMS.contains(&room) => unknown(nearest(room, ROOMS)),
        ("crumbd", _) => Ok(()),
        (other, _) if crates().any(|name| name.replace('-', "_") == other) => Ok(()),
        (other, _) => unknown(nearest(other, ["crumbd"].into_iter().chain(ROOMS))),
    }
}

fn crates() -> impl Iterator<Item = &'static str> {
    LOCK.lines().filter_map(|line| line.strip_prefix("name = \"")?.strip_suffix('"'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> Option<FilterError> {
        text.parse::<Filter>().err()
    }

    #[test]
    fn what_can_be_meant_is_taken() {
        for good in [
            "info",
            "WARN",
            "off",
            "3",
            "crumbd",
            "crumbd=trace",
            "info,crumbd::feed=debug",
            "warn, crumbd::http::lean=off",
            "hyper=debug,h2=info,hyper_util=warn",
            "crumbd[request{status=500}]=trace",
            "[request]=debug",
        ] {
            assert_eq!(refused(good), None, "{good:?}");
        }
    }

    #[test]
    fn a_slip_of_the_finger_is_refused_and_named() {
        for (bad, meant) in [
            ("inof", "is info meant?"),
            ("info,debgu", "is debug meant?"),
            ("crumbd=wran", "is warn meant?"),
            ("crumbd::fed=debug", "is feed meant?"),
            ("crumdb=debug", "is crumbd meant?"),
            ("verbose", "\"verbose\" is nothing that logs"),
            ("hypr=debug", "\"hypr\" is nothing that logs"),
            ("crumbd=", "\"\" is no level"),
            ("info,", "nothing between two commas"),
            ("info,,warn", "nothing between two commas"),
            ("", "nothing between two commas"),
            ("crumbd[=debug", ""),
        ] {
            let said = refused(bad).map(|error| error.to_string());
            assert!(said.as_ref().is_some_and(|said| said.contains(meant)), "{bad:?}: {said:?}");
        }
    }

    #[test]
    fn every_room_of_the_house_can_be_named() {
        let rooms = include_str!("../../lib.rs").lines().filter_map(|line| line.strip_prefix("pub mod "));
        let rooms: Vec<&str> = rooms.filter_map(|rest| rest.strip_suffix(';')).collect();
        assert_eq!(rooms, ROOMS);
    }
}
