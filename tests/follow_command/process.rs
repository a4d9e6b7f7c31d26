//! `crumbd follow` as a child process, and its output.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};

use crate::support::daemon::command;
use crate::support::mirror::apply;
use crate::support::record::{Record, kind_of};
use crate::support::state::{State, difference};
use crate::support::{DEADLINE, eventually};

/// A `crumbd follow`. Dropping it ends it.
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
    pub fn start(url: &str, args: &[&str], token: Option<&str>) -> Following {
        let mut command = command();
        command.args(["follow", "--url", url]).args(args).stdin(Stdio::null());
        if let Some(token) = token {
            command.env("CRUMBD_TOKEN", token);
        }
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
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
