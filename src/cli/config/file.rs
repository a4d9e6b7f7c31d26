//! The configuration file: TOML with the settings' names as keys.

use std::ffi::OsString;
use std::path::Path;
use std::sync::Arc;

use super::error::SettingError;
use super::nearest::nearest;
use super::raw::{REPEATABLE, RawSettings, Source, Value, names};

/// Reads the file. Returns its settings and its errors.
pub(super) fn read(path: &Path) -> (RawSettings, Vec<SettingError>) {
    let fault = |line, reason| SettingError::File { path: path.to_owned(), line, reason };
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) => return (RawSettings::default(), vec![fault(None, error.to_string())]),
    };
    match text.parse::<toml::Table>() {
        Ok(table) => settings(path, table),
        Err(error) => {
            let line = error.span().and_then(|span| text.get(..span.start)).map(line_after);
            (RawSettings::default(), vec![fault(line, error.message().trim_end().replace('\n', ", "))])
        }
    }
}

/// The number of the line at the end of this text, from 1.
fn line_after(text: &str) -> usize {
    text.matches('\n').count() + 1
}

fn settings(path: &Path, table: toml::Table) -> (RawSettings, Vec<SettingError>) {
    let (names, source) = (names(), Source::File(Arc::from(path)));
    let (mut given, mut errors) = (RawSettings::default(), Vec::new());
    for (key, value) in table {
        if !names.contains(&key) {
            errors.push(unknown(path, key, &names));
            continue;
        }
        match texts_of(&key, value) {
            Some(texts) => given.set(&key, Value { texts, source: source.clone() }),
            None => {
                let or_list = if REPEATABLE.contains(&&*key) { ", or a list of texts" } else { "" };
                let reason =
                    format!("{key} must be a text in quotes, a whole number, true or false{or_list}");
                errors.push(SettingError::File { path: path.to_owned(), line: None, reason });
            }
        }
    }
    (given, errors)
}

fn unknown(path: &Path, key: String, names: &[String]) -> SettingError {
    let nearest = nearest(&key.replace('_', "-"), names.iter().map(String::as_str)).map(str::to_owned);
    SettingError::UnknownKey { path: path.to_owned(), key, nearest }
}

/// The texts of a value: several in the list of a setting that may be repeated.
fn texts_of(key: &str, value: toml::Value) -> Option<Vec<OsString>> {
    let texts = match value {
        toml::Value::Array(values) if REPEATABLE.contains(&key) && !values.is_empty() => {
            values.into_iter().map(text_of).collect::<Option<Vec<_>>>()?
        }
        value => vec![text_of(value)?],
    };
    Some(texts.into_iter().map(OsString::from).collect())
}

/// The value's text, as it would follow the flag.
fn text_of(value: toml::Value) -> Option<String> {
    match value {
        toml::Value::String(text) => Some(text),
        toml::Value::Integer(number) => Some(number.to_string()),
        toml::Value::Boolean(yes) => Some(yes.to_string()),
        _ => None,
    }
}
