//! The real `crumbd` binary as a child process, on a port of its own choosing.

use std::io::{BufRead, BufReader, Write};
use std::os::fd::OwnedFd;
use std::process::{Child, ChildStdin, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Instant;

use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::DEADLINE;
use super::http::Http;
use super::tls::{self, Authority, client_config};

/// The daemon's binary. Cargo names only those of the package whose test this is, and the benches' package has the
/// daemon under a name of its own.
const BINARY: &str =
    match (option_env!("CARGO_BIN_EXE_crumbd"), option_env!("CARGO_BIN_EXE_crumbd-under-test")) {
        (Some(path), _) | (None, Some(path)) => path,
        (None, None) => panic!("cargo builds a binary of the daemon for every test and bench that uses this"),
    };

/// A running daemon. Dropping it kills the process, by its id.
pub struct Daemon {
    child: Child,
    stdin: Option<ChildStdin>,
    log: Arc<Log>,
    url: String,
    /// The authority of its certificate.
    authority: Option<String>,
}

/// A connection of whatever kind.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// What a process has written to stderr so far.
#[derive(Default)]
pub struct Log {
    written: Mutex<Written>,
    grown: Condvar,
}

#[derive(Default)]
struct Written {
    lines: Vec<String>,
    closed: bool,
}

/// A daemon that ended by itself.
#[derive(Debug)]
pub struct Ended {
    pub status: ExitStatus,
    pub stderr: String,
}

impl Daemon {
    /// A daemon with the `push:` feed and these further arguments.
    pub fn push(more: &[&str]) -> Daemon {
        Daemon::serve(&[&["--feed", "push:"], more].concat())
    }

    /// `crumbd serve` with these arguments, listening.
    pub fn serve(args: &[&str]) -> Daemon {
        match Daemon::spawn(args, Stdio::null()).listening() {
            Ok(daemon) => daemon,
            Err(ended) => panic!("serve {args:?} ended: {}\n{}", ended.status, ended.stderr),
        }
    }

    /// The same, with these variables.
    pub fn serve_with(variables: &[(&str, &str)], args: &[&str]) -> Daemon {
        let mut command = command();
        command.envs(variables.iter().copied());
        match Daemon::spawn_as(command, args, Stdio::null()).listening() {
            Ok(daemon) => daemon,
            Err(ended) => panic!("serve {args:?} ended: {}\n{}", ended.status, ended.stderr),
        }
    }

    /// `crumbd serve`, which may refuse to start.
    pub fn try_serve(args: &[&str]) -> Result<Daemon, Ended> {
        Daemon::spawn(args, Stdio::null()).listening()
    }

    /// `crumbd serve` whose stdin is a pipe that the test writes to.
    pub fn serve_stdin(args: &[&str]) -> Daemon {
        match Daemon::spawn(args, Stdio::piped()).listening() {
            Ok(daemon) => daemon,
            Err(ended) => panic!("serve {args:?} ended: {}\n{}", ended.status, ended.stderr),
        }
    }

    /// `crumbd serve` that is expected to end by itself, whether it listens before that or not.
    pub fn serve_and_end(args: &[&str]) -> Ended {
        let mut daemon = Daemon::spawn(args, Stdio::null());
        let status = daemon.wait_exit();
        Ended { status, stderr: daemon.log.whole() }
    }

    fn spawn(args: &[&str], stdin: Stdio) -> Daemon {
        Daemon::spawn_as(command(), args, stdin)
    }

    fn spawn_as(mut command: Command, args: &[&str], stdin: Stdio) -> Daemon {
        // Where it listens is any free port, unless the test says.
        let listen = if args.contains(&"--listen") { &[][..] } else { &["--listen", "127.0.0.1:0"] };
        let mut child = command
            .args(["serve", "--log-format", "json"])
            .args(listen)
            .args(args)
            .stdin(stdin)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = Arc::new(Log::default());
        let stderr = child.stderr.take().unwrap();
        let writer = log.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines() {
                let Ok(line) = line else { break };
                writer.written.lock().unwrap().lines.push(line);
                writer.grown.notify_all();
            }
            writer.written.lock().unwrap().closed = true;
            writer.grown.notify_all();
        });
        let stdin = child.stdin.take();
        Daemon { child, stdin, log, url: String::new(), authority: None }
    }

    /// Waits for the log line with the address.
    fn listening(mut self) -> Result<Daemon, Ended> {
        match self.log.first(|line| serde_json::from_str(line).ok().and_then(|line| find_url(&line))) {
            Some(url) => {
                self.url = url;
                Ok(self)
            }
            None => Err(Ended { status: self.wait_exit(), stderr: self.log.whole() }),
        }
    }

    /// The address, without a slash at its end.
    pub fn url(&self) -> &str {
        self.url.trim_end_matches('/')
    }

    /// The same daemon, to clients that trust this authority.
    pub fn vouched_for_by(mut self, authority: &Authority) -> Daemon {
        self.authority = Some(authority.ca.clone());
        self
    }

    /// Host and port.
    pub fn address(&self) -> &str {
        self.url().split_once("://").unwrap().1
    }

    /// A fresh client for this daemon.
    pub fn http(&self) -> Http {
        Http::over_tls(self.url(), self.trust())
    }

    /// How its clients speak TLS, if it does.
    pub fn trust(&self) -> rustls::ClientConfig {
        client_config(&self.authority.iter().map(String::as_str).collect::<Vec<_>>(), None)
    }

    /// A connection of a client, over TLS where the daemon speaks it.
    pub async fn connect(&self) -> Box<dyn Stream> {
        if self.url.starts_with("https:") {
            return Box::new(tls::connect(self, self.trust()).await.unwrap());
        }
        let stream = TcpStream::connect(self.address()).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Box::new(stream)
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until a log line has what `wanted` looks for, now or later.
    pub fn logged<T>(&self, what: &str, wanted: impl FnMut(&str) -> Option<T>) -> T {
        self.log.first(wanted).unwrap_or_else(|| panic!("not in the log: {what}\n{}", self.log.whole()))
    }

    /// Everything logged so far.
    pub fn log(&self) -> String {
        self.log.whole()
    }

    /// Writes to the daemon's stdin.
    pub fn feed(&mut self, text: &[u8]) {
        let stdin = self.stdin.as_mut().expect("a daemon with a pipe for stdin");
        stdin.write_all(text).unwrap();
        stdin.flush().unwrap();
    }

    /// Closes the daemon's stdin.
    pub fn end_of_feed(&mut self) {
        self.stdin = None;
    }

    /// Asks the daemon to end, as a service manager does.
    pub fn terminate(&self) {
        self.signal("TERM");
    }

    /// Lets the process run no further, until [`Daemon::go_on`].
    pub fn pause(&self) {
        self.signal("STOP");
    }

    pub fn go_on(&self) {
        self.signal("CONT");
    }

    /// Sends the process a signal.
    pub fn signal(&self, name: &str) {
        let done = Command::new("sh").arg("-c").arg(format!("kill -{name} {}", self.pid())).status().unwrap();
        assert!(done.success());
    }

    /// `crumbd serve` that can write no file beyond this size: what a full disk is to a process, without needing one.
    pub fn serve_on_a_full_disk(kibibytes: usize, args: &[&str]) -> Daemon {
        let mut limited = Command::new("bash");
        // Ignored, the signal becomes an error of the write, as on a full disk.
        let script = format!("trap '' XFSZ; ulimit -S -f {kibibytes}; exec \"$0\" \"$@\"");
        limited.arg("-c").arg(script).arg(BINARY);
        match Daemon::spawn_as(without_own_settings(limited), args, Stdio::null()).listening() {
            Ok(daemon) => daemon,
            Err(ended) => panic!("serve {args:?} ended: {}\n{}", ended.status, ended.stderr),
        }
    }

    /// `crumbd serve` to which a socket of the test's own is passed as systemd does, once under each of these names.
    pub fn activated(socket: impl Into<OwnedFd>, names: &[&str], args: &[&str]) -> Result<Daemon, Ended> {
        let mut shell = Command::new("sh");
        let copies: String = (3..).zip(names).map(|(at, _)| format!("{at}<&0 ")).collect();
        let script = format!("exec {copies}</dev/null; LISTEN_PID=$$ exec \"$0\" \"$@\"");
        shell.arg("-c").arg(script).arg(BINARY);
        shell.env("LISTEN_FDS", names.len().to_string()).env("LISTEN_FDNAMES", names.join(":"));
        Daemon::spawn_as(without_own_settings(shell), args, Stdio::from(socket.into())).listening()
    }

    /// There is room on the disk again.
    pub fn make_room(&self) {
        let pid = self.pid().to_string();
        let done = Command::new("prlimit").args(["--pid", &pid, "--fsize=unlimited:"]).status();
        assert!(done.expect("prlimit is part of util-linux").success());
    }

    /// Waits for the process to end.
    pub fn wait_exit(&mut self) -> ExitStatus {
        let end = Instant::now() + DEADLINE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                self.log.closed();
                return status;
            }
            assert!(Instant::now() < end, "still running after {DEADLINE:?}\n{}", self.log.whole());
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let log = self.log.whole();
            let tail: Vec<&str> = log.lines().rev().take(20).collect();
            eprintln!("--- the last log lines of {}:", self.url);
            tail.iter().rev().for_each(|line| eprintln!("{line}"));
        }
    }
}

impl Log {
    /// The first answer that `wanted` gives to a line, or nothing when stderr closed or the deadline passed.
    fn first<T>(&self, mut wanted: impl FnMut(&str) -> Option<T>) -> Option<T> {
        let end = Instant::now() + DEADLINE;
        let mut written = self.written.lock().unwrap();
        let mut read = 0;
        loop {
            while read < written.lines.len() {
                if let Some(found) = wanted(&written.lines[read]) {
                    return Some(found);
                }
                read += 1;
            }
            let left = end.saturating_duration_since(Instant::now());
            if written.closed || left.is_zero() {
                return None;
            }
            written = self.grown.wait_timeout(written, left).unwrap().0;
        }
    }

    /// Waits until the process has closed its stderr, so that the log is whole.
    fn closed(&self) {
        let written = self.written.lock().unwrap();
        drop(self.grown.wait_timeout_while(written, DEADLINE, |written| !written.closed).unwrap());
    }

    fn whole(&self) -> String {
        self.written.lock().unwrap().lines.join("\n")
    }
}

/// The binary under test, with nothing of the developer's own settings.
pub fn command() -> Command {
    without_own_settings(Command::new(BINARY))
}

/// The same for another binary that reads them.
pub fn without_own_settings(mut command: Command) -> Command {
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("CRUMBD_") || name == "RUST_LOG" {
            command.env_remove(name);
        }
    }
    command
}

/// Runs a short command of the binary to its end: `dump`, `get`, `put`, …
pub fn run(args: &[&str]) -> Output {
    command().args(args).stdin(Stdio::null()).output().unwrap()
}

/// The address anywhere in a log line.
fn find_url(line: &Value) -> Option<String> {
    match line {
        Value::Object(members) => members.iter().find_map(|(name, value)| match value {
            Value::String(url) if name == "url" && (url.starts_with("http") || url.starts_with("unix:")) => {
                Some(url.clone())
            }
            value => find_url(value),
        }),
        Value::Array(items) => items.iter().find_map(find_url),
        _ => None,
    }
}
