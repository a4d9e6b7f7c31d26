//! A file of tokens, written with the tool that users have.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::daemon::{self, Daemon};
use super::http::Http;

/// A file of tokens for one daemon.
pub struct TokenFile {
    _dir: tempfile::TempDir,
    path: PathBuf,
    lines: Vec<Value>,
}

/// A token of the file.
#[derive(Debug, Clone)]
pub struct Token {
    pub text: String,
    place: usize,
}

impl TokenFile {
    pub fn new() -> TokenFile {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tokens.jsonl");
        std::fs::write(&path, "# nobody yet\n").unwrap();
        TokenFile { _dir: dir, path, lines: Vec::new() }
    }

    pub fn path(&self) -> &str {
        self.path.to_str().unwrap()
    }

    /// Makes a token with `crumbd token`; it counts once the file is saved.
    pub fn add(&mut self, read: &[&str], write: &[&str]) -> Token {
        let flags = |flag: &'static str, all: &[&str]| -> Vec<String> {
            all.iter().map(|prefix| format!("--{flag}={prefix}")).collect()
        };
        let args = [vec!["token".to_owned()], flags("read", read), flags("write", write)].concat();
        let made = daemon::run(&args.iter().map(String::as_str).collect::<Vec<_>>());
        assert!(made.status.success(), "{made:?}");
        let line: Value = serde_json::from_slice(&made.stdout).unwrap();
        assert_eq!((&line["read"], &line["write"]), (&json!(read), &json!(write)));
        self.lines.push(line);
        let text = String::from_utf8(made.stderr).unwrap().trim().to_owned();
        Token { text, place: self.lines.len() - 1 }
    }

    /// Makes a token for administration, which may read and write nothing.
    pub fn add_admin(&mut self) -> Token {
        self.add_with(&["--admin"])
    }

    /// Makes a token with these flags of `crumbd token`.
    pub fn add_with(&mut self, flags: &[&str]) -> Token {
        let made = daemon::run(&[&["token"], flags].concat());
        assert!(made.status.success(), "{made:?}");
        self.lines.push(serde_json::from_slice(&made.stdout).unwrap());
        let text = String::from_utf8(made.stderr).unwrap().trim().to_owned();
        Token { text, place: self.lines.len() - 1 }
    }

    /// Makes a token one for administration too.
    pub fn make_admin(&mut self, token: &Token) {
        self.lines[token.place]["admin"] = json!(true);
    }

    /// Gives a token other rights, or none at all by taking it away; counts once the file is saved.
    pub fn change(&mut self, token: &Token, read: Option<&[&str]>) {
        match read {
            Some(read) => self.lines[token.place]["read"] = json!(read),
            None => self.lines[token.place] = Value::Null,
        }
    }

    /// Gives a token other rights to read in a named collection, and none to write there; counts once the file is saved.
    pub fn change_in(&mut self, token: &Token, collection: &str, read: &[&str]) {
        self.lines[token.place]["collections"][collection] = json!({ "read": read });
    }

    /// Writes the file anew, all at once.
    pub fn save(&self) {
        let lines = self.lines.iter().filter(|line| !line.is_null());
        self.save_as(&lines.map(|line| format!("{line}\n")).collect::<String>());
    }

    pub fn save_as(&self, text: &str) {
        let aside = self.path.with_extension("new");
        std::fs::write(&aside, text).unwrap();
        std::fs::rename(aside, &self.path).unwrap();
    }

    /// A daemon with a `push:` feed that wants the tokens of this file.
    pub fn daemon(&self, more: &[&str]) -> Daemon {
        self.save();
        Daemon::push(&[&["--tokens", self.path()], more].concat())
    }
}

impl Token {
    /// A client with this token.
    pub fn http(&self, daemon: &Daemon) -> Http {
        daemon.http().with_token(&self.text)
    }
}
