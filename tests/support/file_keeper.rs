//! `crumbd mirror` or `crumbd template` as a child process.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use super::daemon::command;
use super::{DEADLINE, eventually};

/// One of the commands that keep files. Dropping it kills it.
pub struct FileKeeper {
    child: Child,
    said: Arc<Mutex<Vec<String>>>,
}

impl FileKeeper {
    pub fn mirror(url: &str, directory: &Path, args: &[&str]) -> FileKeeper {
        let mut command = command();
        command.arg("mirror").arg(directory).args(["--url", url]).args(args);
        Self::start(command)
    }

    pub fn template(url: &str, pair: &str, args: &[&str]) -> FileKeeper {
        let mut command = command();
        command.args(["template", pair, "--url", url]).args(args);
        Self::start(command)
    }

    fn start(mut command: Command) -> FileKeeper {
        let mut child = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let said: Arc<Mutex<Vec<String>>> = Arc::default();
        let (into, stderr) = (said.clone(), child.stderr.take().unwrap());
        std::thread::spawn(move || {
            let lines = BufReader::new(stderr).lines().map_while(Result::ok);
            lines.for_each(|line| into.lock().unwrap().push(line));
        });
        FileKeeper { child, said }
    }

    /// By SIGKILL, and waits for its end.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Asks it to end, as a service manager does, and waits for it.
    pub fn terminate(mut self) -> ExitStatus {
        let kill = std::process::Command::new("kill").arg(self.child.id().to_string()).status().unwrap();
        assert!(kill.success());
        self.wait_exit()
    }

    pub fn wait_exit(&mut self) -> ExitStatus {
        let end = Instant::now() + DEADLINE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < end, "still running after {DEADLINE:?}\n{}", self.said());
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }

    /// Waits until it says this to people.
    pub async fn says(&self, what: &str) {
        eventually(what, || async { self.said().contains(what).then_some(()) }).await;
    }

    /// All that it has said to people.
    pub fn said(&self) -> String {
        self.said.lock().unwrap().join("\n")
    }
}

impl Drop for FileKeeper {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- the command said:\n{}", self.said());
        }
    }
}
