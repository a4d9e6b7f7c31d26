//! Warnings that recur.
//!
//! A failure that lasts is tried again and again, and each try fails. One line for each try hides everything else in the
//! log; one line for the first try only looks as if it were over. So a line is due at the first failure, then after 1, 10
//! and 60 s, and then once a minute, and it says how often it has failed since the line before. The end has a line of its
//! own. [`Recurring`] says when a line is due; who has failed logs it.
//!
//! What fails and works by turns gets no line for each turn: a failure within 10 s after the last line goes on with the
//! intervals where they were.

use std::fmt;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// The times of the first lines, after the first failure.
const FIRST_LINES: [Duration; 3] = [Duration::from_secs(1), Duration::from_secs(10), Duration::from_secs(60)];

/// The interval of all further lines.
const INTERVAL: Duration = Duration::from_secs(60);

/// A failure that comes back within this time after the last line is the same one.
const SAME_FAILURE: Duration = Duration::from_secs(10);

/// How many causes have intervals of their own. All further ones share those of the last.
const MAX_CAUSES: usize = 8;

/// Says when a warning that recurs is logged.
///
/// ```
/// use crumbd::value::Recurring;
///
/// let unreachable = Recurring::default();
/// assert_eq!(unreachable.failed("connection refused"), Some(1), "the first time");
/// assert_eq!(unreachable.failed("connection refused"), None, "within the first second");
/// assert_eq!(unreachable.failed("permission denied"), Some(1), "another cause");
/// assert_eq!(unreachable.ended().map(|end| end.times), Some(3));
/// assert!(unreachable.ended().is_none(), "it is over");
/// ```
#[derive(Debug, Default)]
pub struct Recurring(Mutex<Option<Failing>>);

/// A failure, and what was logged of it.
#[derive(Debug)]
struct Failing {
    since: Instant,
    last: Instant,
    times: u64,
    last_line: Instant,
    /// Whether a line was logged since the last one that said that it is over.
    is_logged: bool,
    is_over: bool,
    causes: Vec<Cause>,
}

/// A cause, with its intervals.
#[derive(Debug)]
struct Cause {
    /// The hash of its sentence, which may be long.
    hash: u64,
    since: Instant,
    /// How many of [`FIRST_LINES`] have passed.
    passed: usize,
    /// The last line; `None` before the first.
    line: Option<Instant>,
    /// How often it failed after that line.
    times: u64,
}

/// The end of a failure.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FailureEnd {
    /// The time from the first failure to the success; without one, to the last failure.
    pub lasted: Duration,
    /// The number of failures.
    pub times: u64,
}

impl Recurring {
    /// Notes a failure. If a line is due, returns how often it has failed for this cause since the line before.
    #[must_use]
    pub fn failed(&self, cause: &str) -> Option<u64> {
        self.failed_times(cause, 1)
    }

    /// The same for so many failures that were counted together.
    #[must_use]
    pub fn failed_times(&self, cause: &str, times: u64) -> Option<u64> {
        let now = Instant::now();
        let mut failing = self.0.lock();
        let is_old = |one: &Failing| one.is_over && now.duration_since(one.last_line) >= SAME_FAILURE;
        if failing.as_ref().is_some_and(is_old) {
            *failing = None;
        }
        let failing = failing.get_or_insert_with(|| Failing::new(now));
        if std::mem::take(&mut failing.is_over) && !failing.is_logged {
            (failing.since, failing.times) = (now, 0);
        }
        (failing.last, failing.times) = (now, failing.times + times);
        let due = failing.cause(cause, now).failed(now, times);
        if due.is_some() {
            (failing.is_logged, failing.last_line) = (true, now);
        }
        due
    }

    /// Notes a success. If a failure was logged, and is over now, returns what there is to log.
    #[must_use]
    pub fn ended(&self) -> Option<FailureEnd> {
        let mut failing = self.0.lock();
        let failing = failing.as_mut().filter(|one| !one.is_over)?;
        failing.ends(Instant::now())
    }

    /// The same for what has no success of its own: it is over when nothing has failed for this long.
    #[must_use]
    pub fn ended_after(&self, quiet: Duration) -> Option<FailureEnd> {
        let mut failing = self.0.lock();
        let failing = failing.as_mut().filter(|one| !one.is_over && one.last.elapsed() >= quiet)?;
        failing.ends(failing.last)
    }
}

impl Failing {
    fn new(now: Instant) -> Self {
        let (times, is_logged, is_over, causes) = Default::default();
        Self { since: now, last: now, times, last_line: now, is_logged, is_over, causes }
    }

    /// What failed without a line is over without one.
    fn ends(&mut self, at: Instant) -> Option<FailureEnd> {
        self.is_over = true;
        let end = FailureEnd { lasted: at.duration_since(self.since), times: self.times };
        let is_logged = std::mem::take(&mut self.is_logged);
        if is_logged {
            self.last_line = Instant::now();
        }
        is_logged.then_some(end)
    }

    fn cause(&mut self, cause: &str, now: Instant) -> &mut Cause {
        let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one(cause);
        let known = self.causes.iter().position(|known| known.hash == hash);
        let index = known.unwrap_or_else(|| {
            if self.causes.len() < MAX_CAUSES {
                self.causes.push(Cause { hash, since: now, passed: 0, line: None, times: 0 });
            }
            self.causes.len() - 1
        });
        &mut self.causes[index]
    }
}

impl Cause {
    fn failed(&mut self, now: Instant, times: u64) -> Option<u64> {
        self.times += times;
        let lasted = now.duration_since(self.since);
        let passed = FIRST_LINES.iter().filter(|at| lasted >= **at).count();
        let is_due = self.line.is_none_or(|line| {
            passed > self.passed || (passed == FIRST_LINES.len() && now.duration_since(line) >= INTERVAL)
        });
        if !is_due {
            return None;
        }
        (self.passed, self.line) = (passed, Some(now));
        Some(std::mem::take(&mut self.times))
    }
}

impl FailureEnd {
    /// How long it lasted, for people: in milliseconds below a second, in seconds above.
    pub fn lasted(&self) -> impl fmt::Display + use<> {
        let lasted = self.lasted;
        fmt::from_fn(move |f| match lasted.as_secs() {
            0 => write!(f, "{} ms", lasted.as_millis()),
            seconds @ ..120 => write!(f, "{seconds} s"),
            seconds @ ..7200 => write!(f, "{} min {} s", seconds / 60, seconds % 60),
            seconds => write!(f, "{} h {} min", seconds / 3600, seconds / 60 % 60),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fails every 100 ms for so many seconds, and returns the lines: after how many tenths of a second, and the times.
    async fn lines(failure: &Recurring, cause: &str, seconds: u64) -> Vec<(u64, u64)> {
        let mut lines = Vec::new();
        for tenth in 0..seconds * 10 {
            lines.extend(failure.failed(cause).map(|times| (tenth, times)));
            tokio::time::advance(Duration::from_millis(100)).await;
        }
        lines
    }

    #[tokio::test(start_paused = true)]
    async fn a_line_comes_at_once_then_after_1_10_and_60_s_and_then_once_a_minute() {
        let failure = Recurring::default();
        let expected = [(0, 1), (10, 10), (100, 90), (600, 500), (1200, 600), (1800, 600)];
        assert_eq!(lines(&failure, "no answer", 200).await, expected);
        let end = failure.ended().map(|end| (end.times, end.lasted().to_string()));
        assert_eq!(end, Some((2000, "3 min 20 s".to_owned())));
        assert_eq!(failure.ended(), None);
        tokio::time::advance(SAME_FAILURE).await;
        assert_eq!(failure.failed("no answer"), Some(1), "a new failure");
        assert_eq!(failure.ended().map(|end| end.times), Some(1));
    }

    #[tokio::test(start_paused = true)]
    async fn another_cause_has_lines_of_its_own_and_too_many_causes_share_theirs() {
        let failure = Recurring::default();
        assert_eq!(failure.failed("one"), Some(1));
        assert_eq!(lines(&failure, "two", 20).await, [(0, 1), (10, 10), (100, 90)]);
        assert_eq!(failure.failed("one"), Some(1), "its 10 s have passed too");
        let logged = (0..1000).filter_map(|n| failure.failed(&format!("cause {n}"))).count();
        assert_eq!(logged, MAX_CAUSES - 2);
        assert_eq!(failure.ended().map(|end| end.times), Some(1 + 200 + 1 + 1000));
    }

    #[tokio::test(start_paused = true)]
    async fn what_fails_and_works_by_turns_has_few_lines() {
        let failure = Recurring::default();
        let (mut failures, mut ends) = (0, 0);
        for _ in 0..600 {
            failures += usize::from(failure.failed("now and then").is_some());
            ends += usize::from(failure.ended().is_some());
            tokio::time::advance(Duration::from_millis(100)).await;
        }
        assert!((6..=20).contains(&failures) && ends == failures, "{failures} and {ends} lines in a minute");
    }

    #[tokio::test(start_paused = true)]
    async fn what_has_no_success_is_over_when_it_has_been_quiet() {
        let failure = Recurring::default();
        let quiet = Duration::from_secs(60);
        assert_eq!(failure.ended_after(quiet), None, "nothing has failed");
        assert_eq!(lines(&failure, "too many", 2).await.len(), 2);
        tokio::time::advance(quiet / 2).await;
        assert_eq!(failure.ended_after(quiet), None);
        tokio::time::advance(quiet).await;
        let end = FailureEnd { lasted: Duration::from_millis(1900), times: 20 };
        assert_eq!(failure.ended_after(quiet), Some(end));
        assert_eq!(failure.ended_after(quiet), None);
    }
}
