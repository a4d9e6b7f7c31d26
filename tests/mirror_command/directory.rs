//! A mirrored directory as the documentation tells to read it (`src/docs/files.md`), without any of the daemon's code.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::support::eventually;
use crate::support::state::{State, difference, digest, hex};

/// A directory.
pub struct Directory {
    pub root: tempfile::TempDir,
    pub in_place: bool,
}

/// The files of one moment.
pub struct Contents {
    pub state: State,
    pub manifest: Value,
}

impl Directory {
    pub fn new(in_place: bool) -> Directory {
        Directory { root: tempfile::tempdir().unwrap(), in_place }
    }

    /// The flags for it.
    pub fn flags(&self) -> &[&'static str] {
        if self.in_place { &["--in-place"] } else { &[] }
    }

    pub fn path(&self) -> &Path {
        self.root.path()
    }

    /// Where the files are now, past the link.
    pub fn files(&self) -> io::Result<PathBuf> {
        if self.in_place { Ok(self.path().to_owned()) } else { fs::canonicalize(self.path().join("current")) }
    }

    /// Everything that is there; none while it changes.
    pub fn try_read(&self) -> Option<Contents> {
        let files = self.files().ok()?;
        let manifest = fs::read(files.join("..manifest.json")).ok()?;
        let manifest: Value = serde_json::from_slice(&manifest).unwrap();
        let mut state = State::new();
        let prefix = manifest["prefix"].as_str().unwrap();
        walk(&files, "", &mut |path, content| {
            let name = match path.strip_prefix("%long/") {
                Some(hash) => {
                    STANDARD.decode(manifest["long_keys"][hash].as_str().unwrap_or_default()).unwrap()
                }
                None => [prefix.as_bytes(), &decode(path)].concat(),
            };
            let twice = state.insert(name, content.into());
            assert!(twice.is_none() || self.in_place, "two files of one key: {path:?}");
        })
        .ok()?;
        Some(Contents { state, manifest })
    }

    pub fn read(&self) -> Contents {
        self.try_read().expect("files that can be read")
    }

    /// Waits until the files are those of this state, and the manifest says so.
    pub async fn reaches(&self, state: &State) {
        let same = || async {
            let found = self.try_read()?;
            // In place the manifest is written after the files.
            let is_proved = found.manifest["digest"] == hex(digest(state)).as_str();
            (found.state == *state && found.manifest["count"] == state.len() && is_proved).then_some(())
        };
        let reached = std::panic::AssertUnwindSafe(eventually("the files of the state", same));
        if futures_util::FutureExt::catch_unwind(reached).await.is_err() {
            panic!("the files are of another state: {}", difference(&self.read().state, state));
        }
    }
}

fn walk(root: &Path, below: &str, found: &mut impl FnMut(&str, Vec<u8>)) -> io::Result<()> {
    for file in fs::read_dir(root.join(below))? {
        let file = file?;
        let name = file.file_name().into_string().unwrap();
        if name.starts_with("..") {
            continue;
        }
        let path = if below.is_empty() { name } else { format!("{below}/{name}") };
        if file.file_type()?.is_dir() {
            walk(root, &path, found)?;
        } else {
            found(&path, fs::read(file.path())?);
        }
    }
    Ok(())
}

/// The key of a path, without the prefix.
fn decode(path: &str) -> Vec<u8> {
    let path = path.strip_suffix("/%=").unwrap_or(path);
    let mut key = Vec::new();
    for (i, part) in path.replace("%+/", "%+").split('/').enumerate() {
        if i > 0 {
            key.push(b'/');
        }
        let mut rest = part.as_bytes();
        while let Some(byte) = rest.first() {
            let skipped = match (byte, rest.get(1)) {
                (b'%', Some(b'-' | b'+')) => 2,
                (b'%', _) => {
                    key.push(u8::from_str_radix(std::str::from_utf8(&rest[1..3]).unwrap(), 16).unwrap());
                    3
                }
                _ => {
                    key.push(*byte);
                    1
                }
            };
            rest = &rest[skipped..];
        }
    }
    key
}
