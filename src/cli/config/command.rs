//! `crumbd config`: the settings that are in force, and a file with all of them.

use clap::{Arg, Args, Command, Subcommand};

use super::flags::Flags;
use super::raw::RawSettings;
use super::{ConfigFile, LoadedSettings, SettingErrors};
use crate::cli::{Failure, output};

/// The width of a comment in the example.
const WIDTH: usize = 110;

/// Show the settings of `crumbd serve`, or print a file to begin with
#[derive(Args)]
pub(in crate::cli) struct Config {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    Show(Box<Show>),
    Example(Example),
}

/// Print the settings in force, and where each comes from
///
/// Give it the flags, variables and file of your `crumbd serve`. It prints a file for --config. A line that begins with # is a
/// default. It reads no other file and connects to nothing; `crumbd serve --check` does more. Invalid settings are
/// reported as `crumbd serve` reports them, with exit code 2.
#[derive(Args)]
struct Show {
    #[command(flatten)]
    config: ConfigFile,
    #[command(flatten)]
    given: RawSettings,
}

/// Print a file for --config with every setting, explained and commented out
#[derive(Args)]
struct Example {}

impl Config {
    pub(in crate::cli) fn run(self) -> Result<(), Failure> {
        match self.what {
            What::Show(show) => show.run(),
            What::Example(_) => Ok(output::line(example())?),
        }
    }
}

impl Show {
    fn run(self) -> Result<(), Failure> {
        let given = self.given.clone().over_file(&self.config).0;
        let LoadedSettings { errors, warnings, .. } = LoadedSettings::load(&self.config, self.given);
        if !errors.is_empty() {
            return Err(SettingErrors(errors).into());
        }
        warnings.iter().for_each(|warning| output::say(format_args!("note: {warning}")));
        let lines: Vec<(String, String)> = flags().iter().map(|flag| in_force(flag, &given)).collect();
        // Long values do not push all origins to the right.
        let width =
            lines.iter().map(|(setting, _)| setting.chars().count()).filter(|width| *width <= 50).max();
        let width = width.unwrap_or(0);
        let lines: Vec<String> =
            lines.iter().map(|(setting, origin)| format!("{setting:<width$}  # {origin}")).collect();
        Ok(output::line(lines.join("\n"))?)
    }
}

/// A setting as a line of the file, and where its value comes from.
fn in_force(flag: &Arg, given: &RawSettings) -> (String, String) {
    let name = flag.get_long().unwrap_or_default();
    let Some((origin, texts)) = given.get_all(name) else {
        return match default_of(flag) {
            Some(DefaultValue::Text(text)) => (format!("# {name} = {}", quoted(&text)), "default".to_owned()),
            Some(DefaultValue::Words(words)) => (format!("# {name}"), format!("default: {words}")),
            None => (format!("# {name}"), "not set".to_owned()),
        };
    };
    let texts: Vec<String> = texts.iter().map(|text| quoted(&text.to_string_lossy())).collect();
    let value = match &*texts {
        [text] => text.clone(),
        several => format!("[{}]", several.join(", ")),
    };
    (format!("{name} = {value}"), origin.to_string())
}

fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

/// The default of a setting, as its help names it.
enum DefaultValue {
    /// The text of a value.
    Text(String),
    /// Words for a value that depends on others, or for none.
    Words(String),
}

fn default_of(flag: &Arg) -> Option<DefaultValue> {
    let help = help_of(flag);
    let (_, rest) = help.split_once("[default: ")?;
    let (text, _) = rest.split_once(']')?;
    let is_word = text.contains(' ') || text == "none" || text.starts_with("--");
    Some(if is_word { DefaultValue::Words(text.to_owned()) } else { DefaultValue::Text(text.to_owned()) })
}

/// All settings, in the order of the help.
fn flags() -> Vec<Arg> {
    Flags::augment_args(Command::new("serve")).get_arguments().cloned().collect()
}

/// The whole help of a setting, in one paragraph for each of its own.
fn help_of(flag: &Arg) -> String {
    flag.get_long_help().or(flag.get_help()).map(ToString::to_string).unwrap_or_default()
}

/// The example file.
fn example() -> String {
    let mut lines = vec![
        "# Settings of `crumbd serve`, for --config. Every setting is here, with its default. Take the # away to change one.".to_owned(),
        "# Flags and CRUMBD_… variables win over this file. `crumbd serve --check --config FILE` says what is wrong with it,".to_owned(),
        "# `crumbd config show --config FILE` what is in force.".to_owned(),
    ];
    let (flags, mut heading) = (flags(), None);
    for flag in &flags {
        if flag.get_help_heading() != heading {
            heading = flag.get_help_heading();
            lines.extend([String::new(), format!("## {}", heading.unwrap_or_default())]);
        }
        lines.push(String::new());
        for paragraph in help_of(flag).split("\n\n") {
            lines.extend(wrapped(&paragraph.replace('\n', " ")));
        }
        let name = flag.get_long().unwrap_or_default();
        lines.push(match default_of(flag) {
            Some(DefaultValue::Text(text)) => format!("#{name} = {}", quoted(&text)),
            _ => format!("#{name} = \"…\""),
        });
    }
    lines.join("\n")
}

/// The words of a paragraph as lines of comments.
fn wrapped(paragraph: &str) -> Vec<String> {
    let mut lines = vec!["#".to_owned()];
    for word in paragraph.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.len() == 1 || line.chars().count() + 1 + word.chars().count() <= WIDTH => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(format!("# {word}")),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // a test may unwrap

    use std::ffi::OsString;

    use super::super::raw::{Source, Value};
    use super::super::settings::Settings;
    use super::*;

    #[test]
    fn the_default_that_a_help_names_is_a_valid_value() {
        for flag in flags() {
            let Some(DefaultValue::Text(text)) = default_of(&flag) else { continue };
            let name = flag.get_long().unwrap();
            let mut given = RawSettings::default();
            given.set(name, Value { texts: vec![OsString::from(&text)], source: Source::Flag });
            let (_, errors) = Settings::read(&given);
            assert!(errors.is_empty(), "{name}: {errors:?}");
        }
    }

    #[test]
    fn the_example_is_a_file_of_comments_and_of_settings_once_they_are_not() {
        let example = example();
        assert!(example.lines().all(|line| line.is_empty() || line.starts_with('#')), "{example}");
        for name in super::super::raw::names() {
            assert_eq!(example.matches(&format!("\n#{name} = ")).count(), 1, "{name}");
        }
        let is_setting =
            |line: &&str| line.starts_with('#') && !line.starts_with("# ") && !line.starts_with("##");
        let settings: Vec<&str> = example.lines().filter(is_setting).map(|line| &line[1..]).collect();
        settings.join("\n").parse::<toml::Table>().unwrap();
    }
}
