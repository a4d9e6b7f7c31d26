//! A client: one process, which prints what it is told, and the journal of what it asks.

use std::collections::{BTreeMap, VecDeque};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, BufReader};
use tokio::process::{Child, ChildStdin};
use tokio::sync::watch;

use super::PATIENCE;
use super::journal::Journal;
use super::network::Network;
use super::support::etcd::b64;

/// A running client. Dropping it kills the process, by its id.
pub struct Client {
    pub language: &'static str,
    /// The language, a number, the transport and the replica that it begins with.
    pub name: String,
    child: Child,
    stdin: ChildStdin,
    said: Arc<Mutex<Said>>,
    journal: Journal,
    connected: watch::Sender<bool>,
}

/// A line with a state.
#[derive(Debug, Clone, PartialEq, Deserialize)]
struct State {
    cursor: String,
    status: String,
    count: usize,
    digest: String,
}

/// The beginning of a value that marks a revision: twelve bytes, which are sixteen digits of base64.
const MARK: &[u8] = b"a fleet mark";

/// A value that marks a revision.
pub fn mark(number: u32) -> Vec<u8> {
    [MARK, format!("{number:06}").as_bytes()].concat()
}

/// The number of the mark that a line tells of.
fn mark_in(line: &str) -> Option<u32> {
    let (_, rest) = line.split_once(&b64(MARK))?;
    String::from_utf8(STANDARD.decode(rest.get(..8)?).ok()?).ok()?.parse().ok()
}

#[derive(Default)]
struct Said {
    mark: u32,
    state: Option<(Instant, State)>,
    last: VecDeque<(Instant, String)>,
}

#[derive(Default)]
struct Compared {
    /// By cursor, with the client that was there first.
    states: BTreeMap<String, (State, String)>,
    disagreements: Vec<String>,
}

/// What the clients that are in-sync have at each cursor: all the same.
#[derive(Clone, Default)]
pub struct States(Arc<Mutex<Compared>>);

impl Client {
    pub fn start(
        language: &'static str,
        number: usize,
        transport: &str,
        first: usize,
        program: Command,
        network: &Network,
        states: &States,
    ) -> Client {
        let journal = Journal::default();
        let (mut urls, connected) = network.client(&journal);
        urls.rotate_left(first);
        let mut command = tokio::process::Command::from(program);
        command.env("CRUMBD_URL", urls.join(",")).env("CRUMBD_TRANSPORT", transport).kill_on_drop(true);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let name = format!("{language} {number} ({transport}, replica {first} first)");
        let said = Arc::new(Mutex::new(Said::default()));
        let stdin = child.stdin.take().unwrap();
        let output = Output {
            name: name.clone(),
            said: said.clone(),
            journal: journal.clone(),
            states: states.clone(),
        };
        tokio::spawn(output.clone().read(child.stdout.take().unwrap()));
        tokio::spawn(output.read(child.stderr.take().unwrap()));
        Client { language, name, child, stdin, said, journal, connected }
    }

    pub fn journal(&self) -> &Journal {
        &self.journal
    }

    pub fn has_a_state(&self) -> bool {
        self.said.lock().unwrap().state.is_some()
    }

    pub fn is_in_sync_with(&self, digest: &str, count: usize) -> bool {
        let said = self.said.lock().unwrap();
        let is_same =
            |state: &State| (&*state.digest, state.count, &*state.status) == (digest, count, "in-sync");
        said.state.as_ref().is_some_and(|(_, state)| is_same(state))
    }

    /// The last mark that it was told of.
    pub fn last_mark(&self) -> u32 {
        self.said.lock().unwrap().mark
    }

    /// Takes the client off the network, or back.
    pub fn set_connected(&self, connected: bool) {
        self.connected.send_replace(connected);
    }

    pub fn resident_kib(&self) -> u64 {
        let Some(process) = self.child.id() else { return 0 };
        let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
    }

    /// Closes its input: it must end well.
    pub async fn end(mut self) {
        drop(self.stdin);
        let ended = tokio::time::timeout(PATIENCE, self.child.wait()).await;
        let status =
            ended.unwrap_or_else(|_| panic!("{} does not end when its input is closed", self.name)).unwrap();
        assert!(status.success(), "{} ended with {status}", self.name);
    }

    /// What it said and asked last, and the fault before its last state.
    pub fn report(&self, happened: &[(Instant, String)]) -> String {
        let said = self.said.lock().unwrap();
        let ago = |at: &Instant| format!("{:.1} s ago", at.elapsed().as_secs_f64());
        let fault_before = |at: &Instant| {
            let fault = happened.iter().rev().find(|(fault, _)| fault <= at);
            fault.map_or("no fault".to_owned(), |(fault, what)| format!("{what}, {}", ago(fault)))
        };
        let mut text = self.name.clone();
        if let Some((at, state)) = &said.state {
            text += &format!("\n  last state {}, after {}: {state:?}", ago(at), fault_before(at));
        }
        for (at, line) in &said.last {
            text += &format!("\n  said {}: {}", ago(at), line.chars().take(300).collect::<String>());
        }
        for (at, step) in self.journal.needless() {
            text += &format!("\n  asked in vain {}, after {}: {step}", ago(&at), fault_before(&at));
        }
        self.journal.last().iter().for_each(|step| text += &format!("\n  asked {step}"));
        text
    }
}

/// Reads what a client prints.
#[derive(Clone)]
struct Output {
    name: String,
    said: Arc<Mutex<Said>>,
    journal: Journal,
    states: States,
}

impl Output {
    async fn read(self, from: impl AsyncRead + Unpin) {
        let mut lines = BufReader::new(from).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            let state = serde_json::from_str::<State>(&line).ok();
            if let Some(state) = &state {
                self.journal.is_at(&state.cursor);
                self.states.add(&self.name, state);
            }
            let mut said = self.said.lock().unwrap();
            let now = Instant::now();
            said.mark = mark_in(&line).unwrap_or(said.mark);
            if let Some(state) = state {
                said.state = Some((now, state));
            }
            said.last.push_back((now, line));
            if said.last.len() > 8 {
                said.last.pop_front();
            }
        }
    }
}

impl States {
    fn add(&self, name: &str, state: &State) {
        if state.status != "in-sync" {
            return;
        }
        let mut compared = self.0.lock().unwrap();
        let first = || (state.clone(), name.to_owned());
        let (known, by) = compared.states.entry(state.cursor.clone()).or_insert_with(first).clone();
        if known != *state {
            compared.disagreements.push(format!("{name}: {state:?}; {by}: {known:?}"));
        }
    }

    pub fn disagreements(&self) -> Vec<String> {
        self.0.lock().unwrap().disagreements.clone()
    }
}
