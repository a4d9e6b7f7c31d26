//! The log filter. A filter with a typing mistake is refused. The library would accept it: it takes `inof` for the name
//! of a module, and shows nothing.

use std::str::FromStr;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;

use crate::cli::config::nearest;
use crate::http::ACCESS_LOG;

const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// The modules below `crumbd::`.
const MODULES: [&str; 14] = [
    "cache", "cli", "client", "conform", "daemon", "feed", "http", "ingest", "model", "state", "trail",
    "value", "view", "wire",
];

/// The lock file: it names every crate that may be a part of this program.
const LOCK: &str = include_str!("../../../Cargo.lock");

/// A filter of log lines, such as `info,crumbd::feed=debug`.
#[derive(Debug)]
pub(in crate::cli) struct Filter(EnvFilter);

/// A text that is not a log filter.
#[derive(Debug, thiserror::Error)]
pub(in crate::cli) enum FilterError {
    #[error("it has an empty part: nothing between two commas, or at an end")]
    EmptyPart,
    #[error("{level:?} is no level{}; levels are error, warn, info, debug, trace and off", suggestion(.nearest))]
    Level { level: String, nearest: Option<&'static str> },
    #[error("{target:?} is no module that logs{}; a filter looks like info,crumbd::feed=debug", suggestion(.nearest))]
    Target { target: String, nearest: Option<&'static str> },
    #[error("{0}; a filter looks like info,crumbd::feed=debug")]
    Other(ParseError),
}

fn suggestion(nearest: &Option<&'static str>) -> String {
    nearest.map_or_else(String::new, |name| format!(" (did you mean {name}?)"))
}

impl Filter {
    /// Without what the client of Kubernetes logs, unless it is asked for: the feed says the same in a sentence.
    pub(super) fn into_env_filter(self) -> EnvFilter {
        match "kube_client=off".parse() {
            Ok(quiet) if !self.0.to_string().contains("kube_client") => self.0.add_directive(quiet),
            _ => self.0,
        }
    }

    /// The same filter, which lets the access log pass, unless it says otherwise itself: who sets `--access-log` wants it at
    /// any level of the other lines.
    pub(in crate::cli) fn with_access_log(self) -> Self {
        match format!("{ACCESS_LOG}=info").parse() {
            Ok(shown) if !self.0.to_string().contains(ACCESS_LOG) => Self(self.0.add_directive(shown)),
            _ => self,
        }
    }

    /// Warnings and errors only.
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
        EnvFilter::try_new(parts.join(",")).map(Self).map_err(FilterError::Other)
    }
}

/// Checks one part: `level`, `target` or `target=level`. A target may end with a span in brackets, which may hold any text.
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
        // Without a level behind it, it may itself be a level.
        None if is_level(target) => Ok(()),
        None if !target.contains("::") && nearest(target, LEVELS).is_some() => {
            Err(FilterError::Level { level: target.to_owned(), nearest: nearest(target, LEVELS) })
        }
        _ => check_target(target),
    }
}

fn is_level(text: &str) -> bool {
    !text.is_empty() && text.parse::<LevelFilter>().is_ok()
}

/// Checks that the target names a crate, and of this crate a module.
fn check_target(target: &str) -> Result<(), FilterError> {
    let mut parts = target.split("::");
    let (first, module) = (parts.next().unwrap_or_default(), parts.next());
    let unknown = |nearest| Err(FilterError::Target { target: target.to_owned(), nearest });
    match (first, module) {
        // A span of any target.
        ("", None) => Ok(()),
        ("crumbd", Some(module)) if !MODULES.contains(&module) => unknown(nearest(module, MODULES)),
        ("crumbd", _) => Ok(()),
        (other, _) if crates().any(|name| name.replace('-', "_") == other) => Ok(()),
        (other, _) => unknown(nearest(other, ["crumbd"].into_iter().chain(MODULES))),
    }
}

fn crates() -> impl Iterator<Item = &'static str> {
    LOCK.lines().filter_map(|line| line.strip_prefix("name = \"")?.strip_suffix('"'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> Option<String> {
        text.parse::<Filter>().err().map(|error| error.to_string())
    }

    #[test]
    fn valid_filters_are_accepted() {
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
    fn a_typing_mistake_is_refused_with_a_suggestion() {
        for (bad, message) in [
            ("inof", "did you mean info?"),
            ("info,debgu", "did you mean debug?"),
            ("crumbd=wran", "did you mean warn?"),
            ("crumbd::fed=debug", "did you mean feed?"),
            ("crumdb=debug", "did you mean crumbd?"),
            ("verbose", "\"verbose\" is no module that logs"),
            ("hypr=debug", "\"hypr\" is no module that logs"),
            ("crumbd=", "\"\" is no level"),
            ("info,", "nothing between two commas"),
            ("info,,warn", "nothing between two commas"),
            ("", "nothing between two commas"),
            ("crumbd[=debug", ""),
        ] {
            let error = refused(bad);
            assert!(error.as_ref().is_some_and(|error| error.contains(message)), "{bad:?}: {error:?}");
        }
    }

    #[test]
    fn every_module_can_be_named() {
        // A private module logs too. One that is public only with a feature is declared twice.
        let declared =
            include_str!("../../lib.rs").lines().map(|line| line.strip_prefix("pub ").unwrap_or(line));
        let modules = declared.filter_map(|line| line.strip_prefix("mod ")?.strip_suffix(';'));
        let mut modules: Vec<&str> = modules.collect();
        modules.dedup();
        assert_eq!(modules, MODULES);
    }
}
