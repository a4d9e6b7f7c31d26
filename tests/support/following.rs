//! A program that prints each change as a record, such as `crumbd follow`, and what its lines add up to.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use super::daemon::command;
use super::mirror::apply;
use super::record::{Record, kind_of};
use super::state::{State, difference};
use super::{DEADLINE, eventually};

/// Such a program. Dropping it ends it.
pub struct Following {
    child: Child,
    printed: Arc<Mutex<Vec<String>>>,
    said: Arc<Mutex<Vec<String>>>,
}

/// Keeps a pipe's lines as they come.
fn gather(pipe: impl Read + Send + 'static) -> Arc<Mutex<Vec<String>>> {
    let lines: Arc<Mutex<Vec<String>>> = Arc::default();
    let into = lines.clone();
    std::thread::spawn(move || {
        BufReader::new(pipe).lines().map_while(Result::ok).for_each(|line| into.lock().unwrap().push(line));
    });
    lines
}

impl Following {
    /// `crumbd follow`.
    pub fn start(url: &str, args: &[&str], token: Option<&str>) -> Following {
        let mut command = command();
        command.args(["follow", "--url", url]).args(args);
        if let Some(token) = token {
            command.env("CRUMBD_TOKEN", token);
        }
        Self::run(command)
    }

    /// A program that needs nothing but its arguments.
    pub fn run(mut command: Command) -> Following {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| {
            panic!("{:?} is needed: .ci/setup installs it ({error})", command.get_program())
        });
        let printed = gather(child.stdout.take().unwrap());
        let said = gather(child.stderr.take().unwrap());
        Following { child, printed, said }
    }

    /// What its lines make of an empty map; each line must be true of what is there when it comes.
    fn replay(&self) -> State {
        let mut state = State::new();
        for line in self.printed.lock().unwrap().iter().filter(|line| kind_of(line) != "status") {
            apply(&mut state, 0, &[Record::read(line)]);
        }
        state
    }

    /// Waits until what it has printed leads to this state.
    pub async fn reaches(&self, state: &State) {
        let reached = async {
            while self.replay() != *state {
                pause().await
            }
        };
        if tokio::time::timeout(DEADLINE, reached).await.is_err() {
            panic!(
                "what follow prints is another state: {}\n{}",
                difference(&self.replay(), state),
                self.said()
            );
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

    /// How many lines that are so it has printed.
    pub fn printed(&self, wanted: impl Fn(&str) -> bool) -> usize {
        self.printed.lock().unwrap().iter().filter(|line| wanted(line)).count()
    }
}

async fn pause() {
    tokio::time::sleep(std::time::Duration::from_millis(5)).await;
}

impl Drop for Following {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
