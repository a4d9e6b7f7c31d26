//! Why a file is not taken for a whole state, and how that is said.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tracing::{info, warn};

use crate::feed::Sink;
use crate::feed::translate::Unended;

/// How long nothing more is said of what lasts.
const REMIND: Duration = Duration::from_secs(300);

/// What a file lacks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Lack {
    /// It ends in the middle of a line.
    RestOfLine { line: u64 },
    /// A snapshot or breadcrumb has no end.
    End(Unended),
    /// There is nothing in it, and there was before.
    Records,
}

impl fmt::Display for Lack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RestOfLine { line } => write!(
                f,
                "it ends in the middle of line {line}, so it is not whole: waiting for the rest, or for a line break \
                 where it is meant to end there"
            ),
            Self::End(Unended { what, line }) => write!(
                f,
                "the `{what}` that begins at line {line} has no `end` yet: what it says is held back until its \
                 `end` comes"
            ),
            Self::Records => f.write_str(
                "there is no record in it, and before there were: the old state is served until there is one \
                 (a `snapshot` with its `end` says that nothing is left)",
            ),
        }
    }
}

/// Something that is in the way for a while. It is said when it has lasted, and then seldom.
pub(super) struct Trouble {
    path: PathBuf,
    what: String,
    looks: u32,
    said: Option<Instant>,
    /// Whether the status still tells of this, or of what was in the way before it.
    told: bool,
}

impl Trouble {
    pub(super) fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), what: String::new(), looks: 0, said: None, told: false }
    }

    /// It is still there at one more look; says so when that is the case for so many.
    pub(super) fn lasts(&mut self, what: &impl fmt::Display, looks: u32, sink: &Sink) {
        let what = what.to_string();
        if what != self.what {
            (self.what, self.looks, self.said) = (what, 0, None);
        }
        self.looks += 1;
        if self.looks < looks || self.said.is_some_and(|at| at.elapsed() < REMIND) {
            return;
        }
        (self.said, self.told) = (Some(Instant::now()), true);
        let problem = format!("feed file {}: {}", self.path.display(), self.what);
        warn!("{problem}");
        sink.upstream().has_problem(Some(problem));
    }

    /// Whether it has been said.
    pub(super) fn is_said(&self) -> bool {
        self.told
    }

    /// How many looks it has lasted.
    pub(super) fn looks(&self) -> u32 {
        self.looks
    }

    /// It is over. Says whether it had been said.
    pub(super) fn is_over(&mut self, sink: &Sink) -> bool {
        self.said = None;
        let said = std::mem::take(&mut self.told);
        self.what.clear();
        self.looks = 0;
        if said {
            info!("feed file {}: that is over", self.path.display());
            sink.upstream().has_problem(None);
        }
        said
    }
}
