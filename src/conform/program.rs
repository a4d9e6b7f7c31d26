//! The client program of a scene: a child process in a process group of its own, and what it prints. However much it
//! prints, a bounded part of it is kept.

use std::collections::{BTreeSet, VecDeque};
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rustix::fs::Access;
use rustix::process::{Pid, Signal, kill_process_group};
use serde::Deserialize;
use tokio::io::{AsyncBufRead, AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::task::JoinHandle;

/// How long a program may take to end after its standard input was closed.
const TIME_TO_END: Duration = Duration::from_secs(10);

/// How long output is read after the program has ended: what it started may hold the pipes open.
const TIME_TO_READ: Duration = Duration::from_secs(1);

/// The longest line of output.
const MAX_LINE_BYTES: usize = 64 << 20;

/// The bytes of a line of standard error that are kept.
const MAX_COMPLAINT_BYTES: usize = 4 << 10;

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

/// The process groups of all running programs.
static RUNNING: Mutex<Running> = Mutex::new(Running { is_over: false, groups: BTreeSet::new() });

struct Running {
    /// No further program is started.
    is_over: bool,
    groups: BTreeSet<i32>,
}

/// Kills every running program and what it started, and lets none start from now on.
pub(crate) fn kill_all() {
    let mut running = RUNNING.lock();
    running.is_over = true;
    for group in std::mem::take(&mut running.groups).into_iter().filter_map(Pid::from_raw) {
        // One that has ended in this moment is no error.
        _ = kill_process_group(group, Signal::KILL);
    }
}

/// Finds out whether the system can start this program.
///
/// # Errors
/// There is no such file, or it is not executable.
pub(super) fn find(name: &OsStr) -> io::Result<()> {
    let path = Path::new(name);
    let is_there = |path: &Path| -> io::Result<()> {
        if !std::fs::metadata(path)?.is_file() {
            return Err(io::Error::other("it is no file"));
        }
        Ok(rustix::fs::access(path, Access::EXEC_OK)?)
    };
    if path.components().count() > 1 || path.is_absolute() {
        return is_there(path);
    }
    let directories = std::env::var_os("PATH").unwrap_or_default();
    let all: Vec<PathBuf> =
        std::env::split_paths(&directories).map(|directory| directory.join(path)).collect();
    match all.iter().any(|path| is_there(path).is_ok()) {
        true => Ok(()),
        false => Err(io::Error::new(io::ErrorKind::NotFound, "no directory of PATH has such a program")),
    }
}

/// What comes next on standard output.
pub(super) enum Said {
    Line(String),
    /// A line that is not UTF-8, in escapes.
    NotText(String),
    /// The beginning of a line that is longer than any may be.
    Endless(String),
    End,
}

/// A running program.
pub(super) struct Program {
    child: Child,
    /// The process group, until it has ended.
    group: Option<Pid>,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    /// The line that has not come to its end.
    line: Vec<u8>,
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
        command.process_group(0).kill_on_drop(true);
        // The lock is held while it starts: it is in the list, or it does not start.
        let (mut child, group) = {
            let mut running = RUNNING.lock();
            if running.is_over {
                return Err(io::Error::other("the suite is over"));
            }
            let child = command.spawn()?;
            let group = child.id().and_then(|id| Pid::from_raw(id.try_into().ok()?));
            running.groups.extend(group.map(|group| group.as_raw_nonzero().get()));
            (child, group)
        };
        let pipe = || io::Error::other("a pipe of the program is missing");
        let output = BufReader::new(child.stdout.take().ok_or_else(pipe)?);
        let mut errors = BufReader::new(child.stderr.take().ok_or_else(pipe)?);
        let complaints = Arc::new(Mutex::new(VecDeque::new()));
        let kept = Arc::clone(&complaints);
        let reader = tokio::spawn(async move { keep_complaints(&mut errors, &kept).await });
        let input = child.stdin.take();
        Ok(Self { input, child, group, output, line: Vec::new(), complaints, reader: Some(reader) })
    }

    /// The next line. Cancel-safe.
    pub(super) async fn next_line(&mut self) -> io::Result<Said> {
        loop {
            let bytes = self.output.fill_buf().await?;
            let text = |line: Vec<u8>| match String::from_utf8(line) {
                Ok(line) => Said::Line(line),
                Err(error) => Said::NotText(error.as_bytes().escape_ascii().to_string()),
            };
            if bytes.is_empty() {
                return Ok(Said::End);
            }
            if let Some(at) = bytes.iter().position(|byte| *byte == b'\n') {
                self.line.extend_from_slice(&bytes[..at]);
                self.output.consume(at + 1);
                return Ok(text(std::mem::take(&mut self.line)));
            }
            let length = bytes.len();
            self.line.extend_from_slice(bytes);
            self.output.consume(length);
            if self.line.len() > MAX_LINE_BYTES {
                let begin = self.line[..MAX_COMPLAINT_BYTES].escape_ascii().to_string();
                self.line = Vec::new();
                return Ok(Said::Endless(begin));
            }
        }
    }

    /// The line that has begun and has no line break yet.
    pub(super) fn half_line(&self) -> Option<String> {
        let begin = &self.line[..self.line.len().min(MAX_COMPLAINT_BYTES)];
        (!begin.is_empty()).then(|| String::from_utf8_lossy(begin).into_owned())
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

    /// Closes standard input, waits, and reads the output meanwhile. A program that goes on is killed.
    ///
    /// # Errors
    /// It did not end in time.
    pub(super) async fn stop(&mut self) -> io::Result<ExitStatus> {
        self.input = None;
        let Self { child, output, .. } = self;
        let read = async {
            while let Ok(bytes) = output.fill_buf().await {
                let length = bytes.len();
                if length == 0 {
                    break;
                }
                output.consume(length);
                tokio::task::yield_now().await;
            }
            std::future::pending::<()>().await;
        };
        let ended = tokio::select! {
            ended = child.wait() => Some(ended),
            () = read => None,
            () = tokio::time::sleep(TIME_TO_END) => None,
        };
        self.kill();
        match ended {
            Some(status) => {
                self.read_complaints().await;
                status
            }
            None => {
                // Killed, so it ends.
                _ = self.child.wait().await;
                Err(io::ErrorKind::TimedOut.into())
            }
        }
    }

    /// Reads standard error to its end. What the program started may still hold it.
    async fn read_complaints(&mut self) {
        if let Some(mut reader) = self.reader.take()
            && tokio::time::timeout(TIME_TO_READ, &mut reader).await.is_err()
        {
            reader.abort();
        }
    }

    /// Kills what is left of the process group.
    fn kill(&mut self) {
        if let Some(group) = self.group.take() {
            RUNNING.lock().groups.remove(&group.as_raw_nonzero().get());
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

/// Keeps the last lines of standard error, and the beginning of each.
async fn keep_complaints(errors: &mut (impl AsyncBufRead + Unpin), kept: &Mutex<VecDeque<String>>) {
    let keep = |line: &[u8], note: &str| {
        let mut kept = kept.lock();
        if kept.len() == KEPT_LINES {
            kept.pop_front();
        }
        kept.push_back(String::from_utf8_lossy(line).into_owned() + note);
    };
    // The line so far; `None` after one that is too long, until its end.
    let mut line = Some(Vec::new());
    while let Ok(bytes) = errors.fill_buf().await {
        let length = bytes.len();
        if length == 0 {
            break;
        }
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            let (text, is_whole) = part.strip_suffix(b"\n").map_or((part, false), |text| (text, true));
            if let Some(begin) = &mut line {
                begin.extend_from_slice(&text[..text.len().min(MAX_COMPLAINT_BYTES)]);
                match begin.len() {
                    MAX_COMPLAINT_BYTES.. => {
                        keep(&begin[..MAX_COMPLAINT_BYTES], "… (a line of more than 4 KiB, or without end)");
                        line = None;
                    }
                    _ if is_whole => keep(begin, ""),
                    _ => {}
                }
            }
            if is_whole {
                line = Some(Vec::new());
            }
        }
        errors.consume(length);
        // One that never stops leaves room for the others.
        tokio::task::yield_now().await;
    }
    if let Some(line) = line.filter(|line| !line.is_empty()) {
        keep(&line, "");
    }
}
