//! The client program of a scene: a child process in a process group of its own, and what it prints.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rustix::process::{Pid, Signal, kill_process_group};
use serde::Deserialize;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::task::JoinHandle;

/// How long a program may take to end after its standard input was closed.
const TIME_TO_END: Duration = Duration::from_secs(5);

/// The lines of standard error that are kept for the report.
const KEPT_LINES: usize = 30;

/// One line of the program's output.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct Line {
    pub(super) cursor: Option<String>,
    pub(super) status: Option<String>,
    pub(super) count: Option<u64>,
    pub(super) digest: Option<String>,
    pub(super) changes: Option<Vec<Change>>,
    pub(super) retry: Option<String>,
    pub(super) held: Option<u64>,
    pub(super) fatal: Option<String>,
}

/// One change that the application was told of.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Change {
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) key: String,
    pub(super) value: Option<String>,
}

/// A running program.
pub(super) struct Program {
    child: Child,
    /// The process group, until it has ended.
    group: Option<Pid>,
    input: Option<ChildStdin>,
    output: Lines<BufReader<ChildStdout>>,
    complaints: Arc<Mutex<VecDeque<String>>>,
    reader: Option<JoinHandle<()>>,
}

impl Program {
    /// Starts the program with these variables and none of the daemon's own.
    pub(super) fn start(command: &[OsString], variables: &[(&str, OsString)]) -> io::Result<Self> {
        let (name, arguments) = command.split_first().ok_or(io::ErrorKind::InvalidInput)?;
        let mut command = Command::new(name);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("CRUMBD_") {
                command.env_remove(name);
            }
        }
        command.args(arguments).envs(variables.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.process_group(0).kill_on_drop(true).spawn()?;
        let group = child.id().and_then(|id| Pid::from_raw(id.try_into().ok()?));
        let pipe = || io::Error::other("a pipe of the program is missing");
        let output = BufReader::new(child.stdout.take().ok_or_else(pipe)?).lines();
        let mut errors = BufReader::new(child.stderr.take().ok_or_else(pipe)?).split(b'\n');
        let complaints = Arc::new(Mutex::new(VecDeque::new()));
        let kept = Arc::clone(&complaints);
        let reader = tokio::spawn(async move {
            while let Ok(Some(line)) = errors.next_segment().await {
                let mut kept = kept.lock();
                if kept.len() == KEPT_LINES {
                    kept.pop_front();
                }
                kept.push_back(String::from_utf8_lossy(&line).into_owned());
            }
        });
        Ok(Self { input: child.stdin.take(), child, group, output, complaints, reader: Some(reader) })
    }

    /// The next line; `None` at the end of the output.
    pub(super) async fn next_line(&mut self) -> io::Result<Option<String>> {
        self.output.next_line().await
    }

    /// The last lines of standard error.
    pub(super) fn complaints(&self) -> Vec<String> {
        self.complaints.lock().iter().cloned().collect()
    }

    /// Waits for the end of the program.
    ///
    /// # Errors
    /// It does not end in time.
    pub(super) async fn exit(&mut self) -> io::Result<ExitStatus> {
        match tokio::time::timeout(TIME_TO_END, self.child.wait()).await {
            Ok(status) => {
                self.kill();
                self.read_complaints().await;
                status
            }
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        }
    }

    /// Closes standard input, waits, and reads the output to its end. A program that goes on is killed.
    ///
    /// # Errors
    /// It did not end in time.
    pub(super) async fn stop(&mut self) -> io::Result<ExitStatus> {
        self.input = None;
        let ended = async {
            while let Ok(Some(_)) = self.output.next_line().await {}
            self.child.wait().await
        };
        let ended = tokio::time::timeout(TIME_TO_END, ended).await;
        self.kill();
        match ended {
            Ok(status) => {
                self.read_complaints().await;
                status
            }
            Err(_) => {
                // Killed, so it ends.
                _ = self.child.wait().await;
                Err(io::ErrorKind::TimedOut.into())
            }
        }
    }

    /// Reads standard error to its end. What the program started may still hold it.
    async fn read_complaints(&mut self) {
        if let Some(mut reader) = self.reader.take()
            && tokio::time::timeout(TIME_TO_END, &mut reader).await.is_err()
        {
            reader.abort();
        }
    }

    /// Kills what is left of the process group.
    fn kill(&mut self) {
        if let Some(group) = self.group.take() {
            // Nothing is left, as a rule.
            _ = kill_process_group(group, Signal::KILL);
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.kill();
        if let Some(reader) = &self.reader {
            reader.abort();
        }
    }
}
