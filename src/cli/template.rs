//! `crumbd template`.

mod destination;
mod render;

use std::collections::{HashMap, HashSet};
use std::fmt::Write;
use std::io;
use std::path::{self, Path, PathBuf};
use std::str::FromStr;

use clap::Args;

use self::destination::{Check, Destination, locate};
use self::render::render;
use super::Failure;
use super::after_change::AfterChangeFlags;
use super::file_attributes::Mode;
use super::file_error::FileError;
use super::keep_files::{Files, KeepFlags, Reaction, Written};
use super::signals::Stop;
use crate::client::MirrorSnapshot;
use crate::http::read_regular;

/// The largest template.
const MAX_TEMPLATE_BYTES: u64 = 64 << 20;

/// The last part of `crumbd template --help`.
const EXAMPLES: &str = "\
A template (Jinja syntax; keys without the prefix):
  {% for backend in pairs(\"backends\") %}
  server {{ (backend.value | json).address }};  # {{ backend.key }}
  {% endfor %}
  timeout {{ get(\"timeout\", \"30s\") }};
  {% if exists(\"banner\") %}banner {{ get(\"banner\") }};{% endif %}

Functions: get(key), get(key, default), exists(key), ls(directory): names, pairs(directory): keys and values directly in
  it, tree(directory): all below it. Filters: json (reads JSON), tojson, base64, base64_decode, and those of Jinja.

Examples:
  crumbd template proxy.conf.j2:/etc/proxy/proxy.conf --prefix proxy/ \\
      --check 'proxy --test \"$1\"' --exec 'systemctl reload proxy'";

/// Keep files that are rendered from templates
///
/// Each SRC is a template, and DEST the file that it is rendered to when keys change. DEST is replaced at once, and only if
/// its content differs; mode and owner stay. If DEST is a symbolic link, it stays, and the file that it leads to is
/// replaced. When a template has an error, or names a key that is not there, the file stays
/// as it is, and the error is told with file and line. The template is read anew each time.
///
/// Files are written only when the daemon is in-sync. When it cannot be reached, they stay as they are.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Template {
    /// A template and its file, with a colon between.
    #[arg(value_name = "SRC:DEST", required = true)]
    files: Vec<Pair>,
    #[command(flatten)]
    keep: KeepFlags,
    /// Run this command with `sh -c` before a file is replaced. It is given the path of the new file as `$1`. When it
    /// fails, the old file stays, and the check is tried again, with pauses of 1 s, 2 s, 4 s, … up to a minute.
    #[arg(long, value_name = "COMMAND")]
    check: Option<String>,
    /// Mode of a file that is not there yet, in octal.
    #[arg(long, value_name = "MODE", default_value = "0644")]
    file_mode: Mode,
    #[command(flatten)]
    after_change: AfterChangeFlags,
}

/// A template and its file.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Pair {
    source: PathBuf,
    destination: PathBuf,
}

/// A text that is not two paths.
#[derive(Debug, thiserror::Error)]
#[error("it is the paths of two files with one colon between, such as proxy.conf.j2:/etc/proxy.conf")]
struct PairError;

impl FromStr for Pair {
    type Err = PairError;

    fn from_str(text: &str) -> Result<Self, PairError> {
        let (source, destination) = text.split_once(':').ok_or(PairError)?;
        let is_directory = destination.ends_with('/');
        if source.is_empty() || destination.is_empty() || destination.contains(':') || is_directory {
            return Err(PairError);
        }
        Ok(Self { source: source.into(), destination: destination.into() })
    }
}

/// A file that two pairs name.
#[derive(Debug, thiserror::Error)]
enum PairsError {
    #[error("{} and {} are the same file, and each template needs one of its own", .0.display(), .1.display())]
    OneFile(PathBuf, PathBuf),
    #[error("{} is a template, and would be replaced by what is rendered: name another file", .0.display())]
    OverTemplate(PathBuf),
}

/// Finds pairs that are in each other's way, however their paths are spelled.
fn find_conflict(pairs: &[Pair]) -> Result<(), PairsError> {
    // What cannot be found is told when it is written.
    let place =
        |path: &Path| locate(path).or_else(|_| path::absolute(path)).unwrap_or_else(|_| path.to_owned());
    let templates: HashSet<PathBuf> = pairs.iter().map(|pair| place(&pair.source)).collect();
    let mut files = HashMap::new();
    for Pair { destination, .. } in pairs {
        let place = place(destination);
        if templates.contains(&place) {
            return Err(PairsError::OverTemplate(destination.clone()));
        }
        if let Some(other) = files.insert(place, destination) {
            return Err(PairsError::OneFile(other.clone(), destination.clone()));
        }
    }
    Ok(())
}

/// Not all files could be rendered or replaced: one sentence for each.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct NotAllRendered(String);

impl Template {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let reaction = self.after_change.chosen()?.map(|after| {
            let done = Box::new(|_| ());
            Reaction { after, is_due: false, done }
        });
        find_conflict(&self.files)?;
        for pair in &self.files {
            // What cannot be found is told when it is written.
            _ = Destination::new(&pair.destination, self.file_mode).map(|file| file.remove_left_over());
        }
        let check = self.check.map(|command| Check { command, time_limit: self.after_change.time_limit() });
        let files = Rendered {
            pairs: self.files,
            prefix: self.keep.prefix.clone(),
            new_mode: self.file_mode,
            check,
            writes: 0,
        };
        self.keep.keep(files, None, reaction, Stop::listen()).await
    }
}

/// Files that are rendered from templates.
struct Rendered {
    pairs: Vec<Pair>,
    prefix: String,
    new_mode: Mode,
    check: Option<Check>,
    writes: u64,
}

impl Files for Rendered {
    const MENDED_BY_CHANGES: bool = true;

    fn are_there(&self) -> bool {
        self.pairs.iter().any(|pair| pair.destination.exists())
    }

    fn write(&mut self, state: &MirrorSnapshot) -> Written {
        let (mut changed, mut failures) = (0, String::new());
        for pair in &self.pairs {
            match self.write_one(pair, state) {
                Ok(is_new) => changed += usize::from(is_new),
                Err(failure) => {
                    let line_break = if failures.is_empty() { "" } else { "\n" };
                    // Nothing fails that writes into a string.
                    _ = write!(failures, "{line_break}{failure}");
                }
            }
        }
        self.writes += u64::from(changed > 0);
        let failure = (!failures.is_empty()).then(|| NotAllRendered(failures).into());
        Written { changed, failure }
    }

    fn place(&self) -> (Option<PathBuf>, u64) {
        (None, self.writes)
    }
}

impl Rendered {
    /// Renders one file; returns whether it is another one now.
    fn write_one(&self, pair: &Pair, state: &MirrorSnapshot) -> Result<bool, Failure> {
        let source = read_regular(&pair.source, MAX_TEMPLATE_BYTES)
            .and_then(|bytes| String::from_utf8(bytes).map_err(io::Error::other))
            .map_err(FileError::at("read", &pair.source))?;
        let text = render(&pair.source, &source, state, &self.prefix)?;
        Destination::new(&pair.destination, self.new_mode)?.replace(text.as_bytes(), self.check.as_ref())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // a test may unwrap

    use super::*;

    #[test]
    fn a_pair_is_two_paths() {
        let pair = "a/b.j2:/etc/b".parse::<Pair>().unwrap();
        assert_eq!(pair, Pair { source: "a/b.j2".into(), destination: "/etc/b".into() });
        for bad in ["", "a", ":b", "a:", "a:b:c", "a:b/"] {
            assert!(bad.parse::<Pair>().is_err(), "{bad:?}");
        }
    }
}
