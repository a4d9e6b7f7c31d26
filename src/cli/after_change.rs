//! What runs after a change of files: a command, or a signal to a process.
//!
//! One at a time. A change while it runs leads to one more run, however many there were. What fails is tried again, with
//! pauses that double from a second to a minute, and is then told of the newest change.

use std::fmt;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use parking_lot::Mutex;
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tokio::process::{Child, Command};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::output::say;
use super::units::{Span, parse_wait};
use crate::http::read_regular;

/// The pauses after a failure.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// How long a command that was asked to end may take.
const TERM_TO_KILL: Duration = Duration::from_secs(5);

/// How long a command may still run when this process ends.
const STOP_GRACE: Duration = Duration::from_secs(10);

/// The flags for what runs after a change.
#[derive(Args)]
pub(super) struct AfterChangeFlags {
    /// Run this command with `sh -c` after a change. It never runs twice at once; a change while it runs leads to one
    /// more run. When it fails, it is run again after 1 s, 2 s, 4 s, … up to a minute. In its environment: CRUMBD_CURSOR,
    /// CRUMBD_STATUS, CRUMBD_CHANGED_COUNT, CRUMBD_DIR (of `mirror`).
    #[arg(long, value_name = "COMMAND", conflicts_with = "signal")]
    exec: Option<String>,
    /// Send a signal (HUP, USR1, …) to the process whose id is in the file after a change. It is sent again as a command
    /// is run again when the file or the process is not there.
    #[arg(long, num_args = 2, value_names = ["PID-FILE", "SIGNAL"])]
    signal: Option<Vec<String>>,
    /// How long the command may run. After that its processes are ended, and it counts as failed.
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = parse_wait, allow_hyphen_values = true)]
    exec_timeout: Span,
}

/// What runs.
#[derive(Clone, Debug)]
pub(super) enum AfterChange {
    Command { command: String, time_limit: Duration },
    Signal { pid_file: PathBuf, signal: NamedSignal },
}

/// A signal that a process can be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NamedSignal(Signal, &'static str);

/// The signals that programs use, by their names.
const SIGNALS: [NamedSignal; 9] = [
    NamedSignal(Signal::HUP, "HUP"),
    NamedSignal(Signal::INT, "INT"),
    NamedSignal(Signal::QUIT, "QUIT"),
    NamedSignal(Signal::KILL, "KILL"),
    NamedSignal(Signal::USR1, "USR1"),
    NamedSignal(Signal::USR2, "USR2"),
    NamedSignal(Signal::TERM, "TERM"),
    NamedSignal(Signal::CONT, "CONT"),
    NamedSignal(Signal::WINCH, "WINCH"),
];

/// The change that something runs after.
#[derive(Clone, Debug)]
pub(super) struct Notice {
    pub(super) cursor: String,
    pub(super) status: String,
    /// Keys, or files of templates, that have changed since the last success.
    pub(super) changed: usize,
    /// The directory of the files, if they are in one.
    pub(super) directory: Option<PathBuf>,
    /// The number of the write.
    pub(super) generation: u64,
}

/// What ran has failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum RunError {
    #[error("{0:?} does not start: {1}")]
    NotStarted(String, std::io::Error),
    #[error("{0:?} failed: {1}")]
    Failed(String, Ended),
    #[error("{command:?} has not ended within {} and was ended", Span(*.limit))]
    TooSlow { command: String, limit: Duration },
    #[error("the process id cannot be read from {path}: {reason}", path = .0.display(), reason = .1)]
    NoPid(PathBuf, String),
    #[error("{signal} cannot be sent to process {pid}: {reason}")]
    NotSent { signal: &'static str, pid: i32, reason: rustix::io::Errno },
}

/// How a process has ended that failed.
#[derive(Debug)]
pub(super) struct Ended(ExitStatus);

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.code() {
            Some(code) => write!(f, "exit code {code}"),
            None => self.0.fmt(f),
        }
    }
}

/// A name that is no signal's.
#[derive(Debug, thiserror::Error)]
#[error("no signal {0:?}: it is HUP, INT, QUIT, KILL, USR1, USR2, TERM, CONT or WINCH")]
pub(super) struct SignalError(String);

impl FromStr for NamedSignal {
    type Err = SignalError;

    fn from_str(text: &str) -> Result<Self, SignalError> {
        let upper = text.to_ascii_uppercase();
        let name = upper.strip_prefix("SIG").unwrap_or(&upper);
        let found = SIGNALS.into_iter().find(|signal| signal.1 == name);
        found.ok_or_else(|| SignalError(text.to_owned()))
    }
}

impl AfterChangeFlags {
    /// What is to run, if anything.
    pub(super) fn chosen(&self) -> Result<Option<AfterChange>, SignalError> {
        if let Some(command) = &self.exec {
            let time_limit = self.exec_timeout.0;
            return Ok(Some(AfterChange::Command { command: command.clone(), time_limit }));
        }
        let Some([pid_file, signal]) = self.signal.as_deref() else { return Ok(None) };
        Ok(Some(AfterChange::Signal { pid_file: pid_file.into(), signal: signal.parse()? }))
    }

    /// How long a command may run.
    pub(super) fn time_limit(&self) -> Duration {
        self.exec_timeout.0
    }
}

impl AfterChange {
    /// Runs it once.
    pub(super) async fn run(&self, notice: &Notice) -> Result<(), RunError> {
        match self {
            Self::Command { command, time_limit } => {
                let mut shell = shell(command);
                shell.env("CRUMBD_CURSOR", &notice.cursor).env("CRUMBD_STATUS", &notice.status);
                shell.env("CRUMBD_CHANGED_COUNT", notice.changed.to_string());
                if let Some(directory) = &notice.directory {
                    shell.env("CRUMBD_DIR", directory);
                }
                run_to_end(shell, command, *time_limit).await
            }
            Self::Signal { pid_file, signal } => send(pid_file, *signal),
        }
    }
}

/// A shell with this command.
pub(super) fn shell(command: &str) -> Command {
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(command).arg("sh").stdin(Stdio::null());
    shell
}

/// The process of a command, and those of its group that it starts. Dropping it kills them.
struct Group {
    child: Child,
    group: Option<Pid>,
}

impl Group {
    fn signal(&self, signal: Signal) {
        // Once the command is waited for, the number may be another's.
        if let Some(group) = self.group.filter(|_| self.child.id().is_some()) {
            _ = kill_process_group(group, signal);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
    }
}

/// The largest PID file.
const MAX_PID_FILE_BYTES: u64 = 4096;

/// Runs a command, and ends it with the processes of its group when it takes too long.
pub(super) async fn run_to_end(mut command: Command, text: &str, limit: Duration) -> Result<(), RunError> {
    // A group of its own: what a terminal's Ctrl-C ends is this process, which then waits for the command.
    let child = command.process_group(0).kill_on_drop(true).spawn();
    let child = child.map_err(|error| RunError::NotStarted(text.to_owned(), error))?;
    let group = child.id().and_then(|id| Pid::from_raw(id.try_into().ok()?));
    let mut group = Group { child, group };
    match timeout(limit, group.child.wait()).await {
        Ok(Ok(status)) if status.success() => Ok(()),
        Ok(Ok(status)) => Err(RunError::Failed(text.to_owned(), Ended(status))),
        Ok(Err(error)) => Err(RunError::NotStarted(text.to_owned(), error)),
        Err(_) => {
            group.signal(Signal::TERM);
            if timeout(TERM_TO_KILL, group.child.wait()).await.is_err() {
                group.signal(Signal::KILL);
                _ = group.child.wait().await;
            }
            Err(RunError::TooSlow { command: text.to_owned(), limit })
        }
    }
}

fn send(pid_file: &std::path::Path, signal: NamedSignal) -> Result<(), RunError> {
    let no_pid = |reason: String| RunError::NoPid(pid_file.to_owned(), reason);
    let bytes = read_regular(pid_file, MAX_PID_FILE_BYTES).map_err(|error| no_pid(error.to_string()))?;
    let text = String::from_utf8_lossy(&bytes);
    let first = text.split_whitespace().next().unwrap_or_default();
    let number: i32 = first.parse().map_err(|_| no_pid("it holds no number".to_owned()))?;
    // 0 and negative numbers mean groups of processes.
    let pid = (number > 0)
        .then(|| Pid::from_raw(number))
        .flatten()
        .ok_or_else(|| no_pid(format!("{number} is no process")))?;
    kill_process(pid, signal.0).map_err(|reason| RunError::NotSent { signal: signal.1, pid: number, reason })
}

/// Runs something after changes, in a task of its own.
pub(super) struct Runner {
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct Shared {
    /// The newest change that nothing has run after.
    due: Mutex<Option<Notice>>,
    /// There is a change.
    changed: Notify,
    /// This process ends.
    stopping: Notify,
}

impl Runner {
    /// Starts the task. `done` is told the number of the write after which something has run with success.
    pub(super) fn start(after: AfterChange, done: impl Fn(u64) + Send + 'static) -> Self {
        let shared = Arc::new(Shared::default());
        let task = tokio::spawn(Arc::clone(&shared).run(after, done));
        Self { shared, task }
    }

    /// Something has changed.
    pub(super) fn notify(&self, notice: Notice) {
        let mut due = self.shared.due.lock();
        let before = due.take().map_or(0, |older| older.changed);
        *due = Some(Notice { changed: notice.changed + before, ..notice });
        self.shared.changed.notify_one();
    }

    /// Lets a command that runs come to its end, for a while. No other one is begun.
    pub(super) async fn stop(mut self) {
        self.shared.stopping.notify_one();
        if timeout(STOP_GRACE, &mut self.task).await.is_err() {
            self.task.abort();
            // Dropping the command kills its processes.
            _ = self.task.await;
        }
    }
}

impl Shared {
    async fn run(self: Arc<Self>, after: AfterChange, done: impl Fn(u64)) {
        let mut pause = Duration::ZERO;
        let mut failed: Option<Notice> = None;
        loop {
            let wait = async {
                match failed {
                    Some(_) => sleep(pause).await,
                    None => self.changed.notified().await,
                }
            };
            tokio::select! {
                biased;
                () = self.stopping.notified() => return,
                () = wait => {}
            }
            let newer = self.due.lock().take();
            let Some(notice) = joined(failed.take(), newer) else { continue };
            match after.run(&notice).await {
                Ok(()) => {
                    pause = Duration::ZERO;
                    done(notice.generation);
                }
                Err(error) => {
                    pause = (pause * 2).clamp(FIRST_PAUSE, LONGEST_PAUSE);
                    say(format_args!("{error}; trying again in {}", Span(pause)));
                    failed = Some(notice);
                }
            }
        }
    }
}

/// The newer of two changes, with what changed in both.
fn joined(older: Option<Notice>, newer: Option<Notice>) -> Option<Notice> {
    match (older, newer) {
        (Some(older), Some(newer)) => Some(Notice { changed: older.changed + newer.changed, ..newer }),
        (older, newer) => newer.or(older),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // a test may unwrap

    use std::path::Path;
    use std::time::Instant;

    use super::*;

    fn notice(changed: usize, generation: u64) -> Notice {
        let (cursor, status) = ("1.2.s3".to_owned(), "in-sync".to_owned());
        Notice { cursor, status, changed, directory: Some("/somewhere".into()), generation }
    }

    fn command(text: impl Into<String>, time_limit: Duration) -> AfterChange {
        AfterChange::Command { command: text.into(), time_limit }
    }

    const LONG: Duration = Duration::from_secs(20);

    async fn until(what: impl Fn() -> bool) {
        let end = Instant::now() + LONG;
        while !what() {
            assert!(Instant::now() < end, "it did not come to that within {LONG:?}");
            sleep(Duration::from_millis(5)).await;
        }
    }

    fn lines(path: &Path) -> Vec<String> {
        std::fs::read_to_string(path).unwrap_or_default().lines().map(str::to_owned).collect()
    }

    #[tokio::test]
    async fn a_command_knows_the_change() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("out");
        let text = format!(
            "echo $CRUMBD_CURSOR $CRUMBD_STATUS $CRUMBD_CHANGED_COUNT $CRUMBD_DIR > '{}'",
            out.display()
        );
        command(text, LONG).run(&notice(3, 1)).await.unwrap();
        assert_eq!(lines(&out), ["1.2.s3 in-sync 3 /somewhere"]);
    }

    #[tokio::test]
    async fn a_failure_names_the_exit_code_and_a_slow_command_is_ended() {
        let failed = command("exit 7", LONG).run(&notice(1, 1)).await.unwrap_err();
        assert_eq!(failed.to_string(), "\"exit 7\" failed: exit code 7");
        let slow =
            command("sleep 100 & sleep 100", Duration::from_millis(50)).run(&notice(1, 1)).await.unwrap_err();
        assert!(slow.to_string().contains("has not ended within 50ms"), "{slow}");
    }

    #[tokio::test]
    async fn changes_while_it_runs_lead_to_one_more_run() {
        let dir = tempfile::tempdir().unwrap();
        let (out, go) = (dir.path().join("out"), dir.path().join("go"));
        let text = format!(
            "echo begin $CRUMBD_CHANGED_COUNT >> '{out}'; while [ ! -e '{go}' ]; do sleep 0.01; done; echo end >> '{out}'",
            out = out.display(),
            go = go.display()
        );
        let done = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&done);
        let runner = Runner::start(command(text, LONG), move |generation| seen.lock().push(generation));
        runner.notify(notice(1, 1));
        until(|| lines(&out).len() == 1).await;
        (2..=9).for_each(|generation| runner.notify(notice(1, generation)));
        std::fs::write(&go, "").unwrap();
        until(|| done.lock().len() == 2).await;
        assert_eq!(lines(&out), ["begin 1", "end", "begin 8", "end"]);
        assert_eq!(*done.lock(), [1, 9]);
        runner.stop().await;
    }

    #[tokio::test]
    async fn a_command_that_fails_runs_again_with_the_newest_change() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("out");
        let text = format!(
            "echo $CRUMBD_CHANGED_COUNT >> '{out}'; [ $(wc -l < '{out}') -ge 2 ]",
            out = out.display()
        );
        let done = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&done);
        let runner = Runner::start(command(text, LONG), move |generation| seen.lock().push(generation));
        runner.notify(notice(2, 1));
        until(|| lines(&out).len() == 1).await;
        runner.notify(notice(3, 2));
        until(|| *done.lock() == [2]).await;
        assert_eq!(lines(&out), ["2", "5"]);
    }

    #[test]
    fn signals_have_names() {
        assert_eq!("HUP".parse::<NamedSignal>().unwrap().0, Signal::HUP);
        assert_eq!("sigusr1".parse::<NamedSignal>().unwrap().0, Signal::USR1);
        assert!("NONE".parse::<NamedSignal>().is_err());
    }
}
