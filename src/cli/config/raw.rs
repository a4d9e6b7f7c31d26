//! The settings as text, each with its origin.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use clap::parser::ValueSource;
use clap::{ArgMatches, Args, Command, FromArgMatches};

use super::error::SettingError;
use super::flags::Flags;
use super::{ConfigFile, file};

/// The kind of place where a value was set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Source {
    Flag,
    Variable,
    File(Arc<Path>),
}

/// The name of a setting and the place where it was set. Errors name it, so that users know what to change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::cli) struct Origin {
    pub(super) name: String,
    pub(super) source: Source,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.source {
            Source::Flag => write!(f, "--{}", self.name),
            Source::Variable => f.write_str(&variable(&self.name)),
            Source::File(path) => write!(f, "config file {}: {}", path.display(), self.name),
        }
    }
}

/// The environment variable of a setting.
pub(super) fn variable(name: &str) -> String {
    format!("CRUMBD_{}", name.replace('-', "_").to_ascii_uppercase())
}

/// The text of a value; several where the setting may be repeated.
#[derive(Clone, Debug)]
pub(super) struct Value {
    pub(super) texts: Vec<OsString>,
    pub(super) source: Source,
}

/// The settings that may be repeated. In a variable each line is a value, in the file they are a list.
pub(super) const REPEATABLE: [&str; 4] = ["feed", "listen", "etcd-listen", "admin-listen"];

/// The text of all settings that were set, by name.
#[derive(Clone, Debug, Default)]
pub(in crate::cli) struct RawSettings(BTreeMap<String, Value>);

impl RawSettings {
    /// The only text of a setting that is not repeated.
    pub(super) fn get(&self, name: &str) -> Option<(Origin, &OsStr)> {
        let (origin, texts) = self.get_all(name)?;
        Some((origin, texts.last()?))
    }

    /// All texts of a setting, at least one.
    pub(super) fn get_all(&self, name: &str) -> Option<(Origin, &[OsString])> {
        let Value { texts, source } = self.0.get(name)?;
        Some((Origin { name: name.to_owned(), source: source.clone() }, texts))
    }

    pub(super) fn origin(&self, name: &str) -> Option<Origin> {
        self.get(name).map(|(origin, _)| origin)
    }

    pub(super) fn set(&mut self, name: &str, value: Value) {
        self.0.insert(name.to_owned(), value);
    }

    /// Adds the settings of the file that are not set here. Returns the errors of the file too.
    pub(super) fn over_file(self, file: &ConfigFile) -> (Self, Vec<SettingError>) {
        let (from_file, errors) = match &file.config {
            Some(path) => file::read(path),
            None => (Self::default(), Vec::new()),
        };
        (self.over(from_file), errors)
    }

    /// Adds the settings of `others` that are not set here.
    fn over(mut self, others: Self) -> Self {
        for (name, value) in others.0 {
            self.0.entry(name).or_insert(value);
        }
        self
    }
}

/// The names of all settings, in the order of the help.
pub(super) fn names() -> Vec<String> {
    let command = Flags::augment_args(Command::new("serve"));
    command.get_arguments().filter_map(|flag| flag.get_long()).map(str::to_owned).collect()
}

impl FromArgMatches for RawSettings {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut given = Self::default();
        given.update_from_arg_matches(matches)?;
        Ok(given)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        for name in names() {
            let id = name.replace('-', "_");
            let source = match matches.value_source(&id) {
                Some(ValueSource::CommandLine) => Source::Flag,
                Some(ValueSource::EnvVariable) => Source::Variable,
                _ => continue,
            };
            let Some(texts) = matches.get_many::<OsString>(&id) else { continue };
            let texts = match source {
                Source::Variable if REPEATABLE.contains(&&*name) => {
                    texts.flat_map(|text| lines(text)).collect()
                }
                _ => texts.cloned().collect(),
            };
            self.set(&name, Value { texts, source });
        }
        Ok(())
    }
}

/// The lines of a variable that are not empty; an empty variable is one empty value.
fn lines(text: &OsStr) -> Vec<OsString> {
    let lines = text.as_bytes().split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    let lines: Vec<OsString> =
        lines.filter(|line| !line.is_empty()).map(|line| OsStr::from_bytes(line).to_owned()).collect();
    if lines.is_empty() { vec![text.to_owned()] } else { lines }
}

impl Args for RawSettings {
    fn augment_args(command: Command) -> Command {
        Flags::augment_args(command)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Flags::augment_args_for_update(command)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flag_and_its_variable_have_one_name() {
        for flag in Flags::augment_args(Command::new("serve")).get_arguments() {
            let name = flag.get_long().unwrap_or_default();
            assert_eq!(flag.get_id().as_str(), name.replace('-', "_"));
            assert_eq!(flag.get_env(), Some(OsStr::new(&variable(name))), "{name}");
        }
    }
}
