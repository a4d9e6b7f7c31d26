//! Templates: what they may call, and errors that name file and line.

use std::collections::BTreeSet;
use std::error::Error as _;
use std::fmt::Display;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Serde, Value, ValueKind};
use minijinja::{AutoEscape, Environment, Error, ErrorKind, UndefinedBehavior, context};

use crate::client::MirrorSnapshot;
use crate::model::Entry;

/// The most steps that a template may take: many for each of a million keys, and seconds until one that does not end is
/// given up.
const MAX_STEPS: u64 = 100_000_000;

/// A template that cannot be rendered.
#[derive(Debug, thiserror::Error)]
#[error("{}:{line}: {reason}", path.display())]
pub(super) struct TemplateError {
    path: PathBuf,
    line: usize,
    reason: String,
}

/// Renders the template, with the keys of the state without their prefix.
pub(super) fn render(
    path: &Path,
    source: &str,
    state: &MirrorSnapshot,
    prefix: &str,
) -> Result<String, TemplateError> {
    let keys = Keys { state: state.clone(), prefix: prefix.to_owned() };
    let rendered = environment(&keys).and_then(|environment| {
        let template = environment.template_from_str(source)?;
        template.render(context! {})
    });
    rendered.map_err(|error| {
        let mut reason = error.detail().map_or_else(|| error.kind().to_string(), str::to_owned);
        if let Some(cause) = error.source() {
            reason = format!("{reason}: {cause}");
        }
        TemplateError { path: path.to_owned(), line: error.line().unwrap_or(1), reason }
    })
}

fn environment<'a>(keys: &Keys) -> Result<Environment<'a>, Error> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    // Files end as their templates end, and a line with nothing but a tag is no line of the file.
    let mut syntax = SyntaxConfig::builder();
    environment.set_syntax(syntax.keep_trailing_newline(true).trim_blocks(true).lstrip_blocks(true).build()?);
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment.set_debug(true);
    environment.set_fuel(Some(MAX_STEPS));
    environment.set_formatter(|out, state, value| {
        if value.kind() == ValueKind::Bytes {
            return Err(invalid("the value is not UTF-8: use `| base64`"));
        }
        minijinja::escape_formatter(out, state, value)
    });
    let (get, exists, ls, pairs, tree) =
        (keys.clone(), keys.clone(), keys.clone(), keys.clone(), keys.clone());
    environment.add_function("get", move |key: String, default: Option<Value>, named: Kwargs| {
        let default = default.map_or_else(|| named.get("default"), |default| Ok(Some(default)))?;
        named.assert_all_used()?;
        get.get(&key, default)
    });
    environment.add_function("exists", move |key: String| exists.entry(&key).is_some());
    environment.add_function("ls", move |directory: Option<String>| ls.names(&directory.unwrap_or_default()));
    environment.add_function("pairs", move |directory: Option<String>| {
        pairs.pairs(&directory.unwrap_or_default(), false)
    });
    environment.add_function("tree", move |directory: Option<String>| {
        tree.pairs(&directory.unwrap_or_default(), true)
    });
    environment.add_filter("json", |text: Value| -> Result<Value, Error> {
        let parsed: Result<serde_json::Value, _> = serde_json::from_slice(bytes_of(&text)?);
        parsed
            .map(|parsed| Value::from(Serde(parsed)))
            .map_err(|error| invalid(format!("the value is no JSON: {error}")))
    });
    environment.add_filter("base64", |value: Value| -> Result<String, Error> {
        Ok(BASE64.encode(bytes_of(&value)?))
    });
    environment.add_filter("base64_decode", |value: Value| -> Result<Value, Error> {
        let decoded = BASE64.decode(bytes_of(&value)?);
        decoded.map(value_of).map_err(|error| invalid(format!("the value is no base64: {error}")))
    });
    Ok(environment)
}

fn invalid(reason: impl Display) -> Error {
    Error::new(ErrorKind::InvalidOperation, reason.to_string())
}

/// Text, or bytes that are none.
fn value_of(bytes: Vec<u8>) -> Value {
    match String::from_utf8(bytes) {
        Ok(text) => text.into(),
        Err(error) => Value::from_bytes(error.into_bytes()),
    }
}

fn bytes_of(value: &Value) -> Result<&[u8], Error> {
    let bytes = value.as_bytes().or_else(|| value.as_str().map(str::as_bytes));
    bytes.ok_or_else(|| invalid(format!("this is for text, and not for a {}", value.kind())))
}

/// The keys that templates see.
#[derive(Clone)]
struct Keys {
    state: MirrorSnapshot,
    prefix: String,
}

impl Keys {
    fn full(&self, key: &str) -> String {
        format!("{}{key}", self.prefix)
    }

    fn entry(&self, key: &str) -> Option<&Entry> {
        self.state.get(self.full(key).as_bytes())
    }

    fn get(&self, key: &str, default: Option<Value>) -> Result<Value, Error> {
        if let Some(entry) = self.entry(key) {
            return Ok(value_of(entry.value().to_vec()));
        }
        let missing =
            || invalid(format!("there is no key {:?}; get(key, default) allows for that", self.full(key)));
        default.ok_or_else(missing)
    }

    /// The entries in a directory and below, with their names in it. A key that is not text has no name.
    fn below(&self, directory: &str) -> Vec<(&str, &Entry)> {
        let slash = if directory.is_empty() || directory.ends_with('/') { "" } else { "/" };
        let within = self.full(directory) + slash;
        let entries = self.state.iter_prefix(within.as_bytes());
        let named = entries
            .filter_map(|entry| Some((std::str::from_utf8(&entry.key()[within.len()..]).ok()?, entry)));
        named.filter(|(name, _)| !name.is_empty()).collect()
    }

    fn names(&self, directory: &str) -> Vec<String> {
        let names = self.below(directory).into_iter().filter_map(|(name, _)| name.split('/').next());
        let names: BTreeSet<&str> = names.filter(|name| !name.is_empty()).collect();
        names.into_iter().map(str::to_owned).collect()
    }

    fn pairs(&self, directory: &str, also_below: bool) -> Vec<Value> {
        let all = self.below(directory).into_iter();
        let chosen = all.filter(|(name, _)| also_below || !name.contains('/'));
        chosen
            .map(|(name, entry)| context! { key => name, value => value_of(entry.value().to_vec()) })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // a test may unwrap

    use super::*;

    fn rendered(source: &str) -> Result<String, String> {
        let entries = [
            ("app/db/host", &b"10.0.0.1"[..]),
            ("app/db/port", b"5432"),
            ("app/db/replica/a", b"r1"),
            ("app/list", b"{\"names\":[\"x\",\"y\"]}"),
            ("app/raw", b"\xff\x00"),
            ("app/text", b"<&>"),
            ("other/key", b"unseen"),
        ];
        let entries = entries.map(|(key, value)| Entry::new(key.as_bytes(), value, None));
        let cursor = Some("5f0c11d29a3b4e77.1842.s9d03c1f2".parse().unwrap());
        let state = MirrorSnapshot::of(entries, cursor, None);
        render(Path::new("t.j2"), source, &state, "app/").map_err(|error| error.to_string())
    }

    #[test]
    fn templates_see_keys_without_the_prefix() {
        for (source, text) in [
            ("{{ get('db/host') }}:{{ get('db/port') }}\n", "10.0.0.1:5432\n"),
            ("{{ get('none', 'x') }}{{ get('none', default='y') }}", "xy"),
            ("{{ get('text') }}", "<&>"),
            ("{{ exists('db/host') }} {{ exists('other/key') }} {{ true | tojson }}", "True False true"),
            ("{{ ls('db') | join(',') }}|{{ ls() | join(',') }}", "host,port,replica|db,list,raw,text"),
            (
                "{% for p in pairs('db') %}\n{{ p.key }}={{ p.value }}\n{% endfor %}\n",
                "host=10.0.0.1\nport=5432\n",
            ),
            ("{% for p in tree('db/') %}{{ p.key }} {% endfor %}", "host port replica/a "),
            ("{{ (get('list') | json).names | join('+') }}", "x+y"),
            ("{{ (get('list') | json).names | tojson }}", "[\"x\", \"y\"]"),
            ("{{ get('raw') | base64 }} {{ 'aGk=' | base64_decode }}", "/wA= hi"),
        ] {
            assert_eq!(rendered(source).as_deref(), Ok(text), "{source}");
        }
    }

    #[test]
    fn errors_name_file_and_line() {
        for (source, error) in [
            ("\n{{ get('none') }}", "t.j2:2: there is no key \"app/none\""),
            ("a\nb\n{{ nothing }}", "t.j2:3: "),
            ("{% for %}", "t.j2:1: "),
            ("\n\n\n{{ get('raw') }}", "t.j2:4: the value is not UTF-8"),
            ("{{ get('text') | json }}", "t.j2:1: the value is no JSON"),
            ("{{ (get('list') | json).none }}", "t.j2:1: "),
        ] {
            let found = rendered(source).unwrap_err();
            assert!(found.starts_with(error), "{source}: {found}");
        }
    }
}
