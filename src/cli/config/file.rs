//! The configuration file: the settings under their names, in TOML.

use std::path::Path;
use std::sync::Arc;

use super::fault::Fault;
use super::given::{Given, Source, Value, names};
use super::nearest::nearest;

/// What the file says, and what is wrong with it.
pub(super) fn read(path: &Path) -> (Given, Vec<Fault>) {
    let fault = |line, reason| Fault::File { path: path.to_owned(), line, reason };
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) => return (Given::default(), vec![fault(None, error.to_string())]),
    };
    match text.parse::<toml::Table>() {
        Ok(table) => settings(path, table),
        Err(error) => {
            let line = error.span().and_then(|span| text.get(..span.start)).map(line_after);
            (Given::default(), vec![fault(line, error.message().trim_end().replace('\n', ", "))])
        }
    }
}

/// The line that begins or goes on after this text, from 1.
fn line_after(text: &str) -> usize {
    text.matches('\n').count() + 1
}

fn settings(path: &Path, table: toml::Table) -> (Given, Vec<Fault>) {
    let (names, source) = (names(), Source::File(Arc::from(path)));
    let (mut given, mut faults) = (Given::default(), Vec::new());
    for (key, value) in table {
        if !names.contains(&key) {
            faults.push(unknown(path, key, &names));
            continue;
        }
        match text_of(value) {
            Some(text) => given.set(&key, Value { text: text.into(), source: source.clone() }),
            None => {
                let reason = format!("{key} is neither a text in quotes nor a whole number, true or false");
                faults.push(Fault::File { path: path.to_owned(), line: None, reason });
            }
        }
    }
    (given, faults)
}

fn unknown(path: &Path, key: String, names: &[String]) -> Fault {
    let nearest = nearest(&key.replace('_', "-"), names.iter().map(String::as_str)).map(str::to_owned);
    Fault::UnknownKey { path: path.to_owned(), key, nearest }
}

/// As it would stand behind the flag.
fn text_of(value: toml::Value) -> Option<String> {
    match value {
        toml::Value::String(text) => Some(text),
        toml::Value::Integer(number) => Some(number.to_string()),
        toml::Value::Boolean(yes) => Some(yes.to_string()),
        _ => None,
    }
}
