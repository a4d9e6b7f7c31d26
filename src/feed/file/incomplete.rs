//! Why a file is not a whole state, and how that is reported.

use std::fmt;
use std::path::{Path, PathBuf};

use tracing::{info, warn};

use crate::feed::Sink;
use crate::feed::translate::Unclosed;
use crate::value::Recurring;

/// Why a file is incomplete.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Incomplete {
    /// It ends in the middle of a line.
    CutLine { line: u64 },
    /// A snapshot or breadcrumb has no end.
    NoEnd(Unclosed),
    /// It has no records, although there were some before.
    NoRecords,
}

impl fmt::Display for Incomplete {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CutLine { line } => write!(
                f,
                "it ends in the middle of line {line}, so it is not whole: waiting for the rest, or for a line break \
                 where it is meant to end there"
            ),
            Self::NoEnd(Unclosed { what, line }) => write!(
                f,
                "the `{what}` that begins at line {line} has no `end` yet: what it says is held back until its \
                 `end` comes"
            ),
            Self::NoRecords => f.write_str(
                "there is no record in it, and before there were: the old state is served until there is one \
                 (a `snapshot` with its `end` says that nothing is left)",
            ),
        }
    }
}

/// A problem that may pass. It is reported once it has lasted.
pub(super) struct LastingProblem {
    path: PathBuf,
    what: String,
    polls: u32,
    /// Whether the status still reports this problem, or the one before it.
    told: bool,
    log: Recurring,
}

impl LastingProblem {
    pub(super) fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), what: String::new(), polls: 0, told: false, log: Recurring::default() }
    }

    /// Notes the problem at one more check, and reports it once it has lasted for `polls` checks.
    pub(super) fn persists(&mut self, what: &impl fmt::Display, polls: u32, sink: &Sink) {
        let what = what.to_string();
        if what != self.what {
            (self.what, self.polls) = (what, 0);
        }
        self.polls = self.polls.saturating_add(1);
        if self.polls < polls {
            return;
        }
        self.told = true;
        let path = self.path.display();
        let problem = format!("feed file {path}: {}", self.what);
        if let Some(times) = self.log.failed(&self.what) {
            warn!(times, "feed file {path}: {}", self.what);
            sink.upstream().has_failed(&problem);
        }
        sink.upstream().has_problem(Some(problem));
    }

    /// Whether it was reported.
    pub(super) fn is_reported(&self) -> bool {
        self.told
    }

    /// For how many checks it has lasted.
    pub(super) fn polls(&self) -> u32 {
        self.polls
    }

    /// Notes that the problem is over. Returns whether it had been reported.
    pub(super) fn clear(&mut self, sink: &Sink) -> bool {
        let said = std::mem::take(&mut self.told);
        self.what.clear();
        self.polls = 0;
        if said {
            let path = self.path.display();
            if let Some(end) = self.log.ended() {
                info!(times = end.times, lasted = %end.lasted(), "feed file {path} can be read again, and is whole");
            }
            sink.upstream().has_problem(None);
        }
        said
    }
}
