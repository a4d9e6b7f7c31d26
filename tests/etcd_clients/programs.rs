//! The programs that use the clients.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, LazyLock, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, BufReader, Lines};
use tokio::process::{Child, ChildStdout};

use crate::history::{Event, PREFIX};
use crate::support::etcd::etcdctl;
use crate::support::{in_time, tools};

/// How long a program may run, in seconds. Reached only when it hangs.
const LIMIT_S: &str = "120";

/// Debian's golang-etcd-server-dev.
const GO_PATH: &str = "/usr/share/gocode";

#[derive(Clone, Copy, Debug)]
pub enum Program {
    Go,
    Node,
    PythonGateway,
    PythonGrpc,
    Rust,
    Etcdctl,
}

/// A program that prints the events of a watch. Dropping it kills the process.
pub struct Watching {
    program: Program,
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    complaints: Arc<Mutex<String>>,
    pub events: Vec<Event>,
}

impl Program {
    /// The program that makes every kind of call.
    pub fn calls(self, endpoints: &str, prefix: &str) -> Command {
        let mut timeout = Command::new("timeout");
        let program = self.command();
        timeout.arg(LIMIT_S).arg(program.get_program()).args(program.get_args());
        timeout.envs(program.get_envs().filter_map(|(name, value)| Some((name, value?))));
        timeout.args(["calls", endpoints, prefix]);
        timeout
    }

    /// The program that watches the writer's keys from this revision on.
    pub fn watch(self, endpoints: &str, from: i64) -> Watching {
        let from = from.to_string();
        let mut command = match self {
            Program::Etcdctl => {
                let mut ctl = etcdctl(endpoints);
                ctl.args(["watch", "--prefix", PREFIX, "--rev", &from, "--prev-kv", "-w", "json"]);
                ctl
            }
            _ => {
                let mut command = self.command();
                command.args(["watch", endpoints, PREFIX, &from]);
                command
            }
        };
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = tokio::process::Command::from(command).kill_on_drop(true).spawn().unwrap();
        let complaints = Arc::default();
        tokio::spawn(collect(child.stderr.take().unwrap(), Arc::clone(&complaints)));
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Watching { program: self, child, lines, complaints, events: Vec::new() }
    }

    fn command(self) -> Command {
        let python = |script: &str| {
            let mut command = Command::new(tool("venv/bin/python"));
            command.arg(sources().join("python").join(script));
            command
        };
        match self {
            Program::Go => Command::new(&*GO_PROGRAM),
            Program::Node => {
                let mut command = tools::node();
                command.env("NODE_PATH", tool("node_modules")).arg(sources().join("node/client.js"));
                command
            }
            Program::PythonGateway => python("gateway.py"),
            Program::PythonGrpc => python("grpc_client.py"),
            Program::Rust => Command::new(&*RUST_PROGRAM),
            Program::Etcdctl => panic!("etcdctl is its own program"),
        }
    }
}

/// The program in Go, built once, of what Debian has installed: without modules, and without a network.
static GO_PROGRAM: LazyLock<PathBuf> = LazyLock::new(|| {
    let client = Path::new(GO_PATH).join("src/go.etcd.io/etcd/clientv3");
    assert!(client.is_dir(), "{} is missing: apt-get install golang-etcd-server-dev", client.display());
    let made = Path::new(env!("CARGO_TARGET_TMPDIR")).join("etcd-clients-go");
    let program = made.join("client");
    let done = Command::new("go")
        .args(["build", "-o"])
        .args([&program, &sources().join("go/main.go")])
        .env("GO111MODULE", "off")
        .env("GOPATH", GO_PATH)
        .env("GOCACHE", made.join("cache"))
        .env("GOFLAGS", "")
        .output();
    let done = done.unwrap_or_else(|error| panic!("go ({error}) is missing: apt-get install golang-go"));
    assert!(done.status.success(), "go build: {}", String::from_utf8_lossy(&done.stderr));
    program
});

/// The program in Rust, built once. It is no part of the workspace, whose builds want no protoc.
static RUST_PROGRAM: LazyLock<PathBuf> = LazyLock::new(|| {
    let made = Path::new(env!("CARGO_TARGET_TMPDIR")).join("etcd-clients-rust");
    let done = Command::new(env!("CARGO"))
        .args(["build", "--locked", "--manifest-path"])
        .arg(sources().join("rust/Cargo.toml"))
        .arg("--target-dir")
        .arg(&made)
        .output()
        .unwrap();
    let complaints = String::from_utf8_lossy(&done.stderr);
    let missing = "protoc is missing: apt-get install protobuf-compiler";
    assert!(!complaints.contains("Could not find `protoc`"), "{missing}\n{complaints}");
    assert!(done.status.success(), "cargo build: {complaints}");
    made.join("debug/crumbd-etcd-clients")
});

fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/etcd_clients")
}

/// What `.ci/setup` has installed under this name, from npm and PyPI.
fn tool(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools/etcd-clients").join(name);
    assert!(path.exists(), "{} is missing; run .ci/setup, which installs it", path.display());
    path
}

async fn collect(stderr: impl AsyncRead + Unpin, complaints: Arc<Mutex<String>>) {
    let mut lines = BufReader::new(stderr).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let mut complaints = complaints.lock().unwrap();
        complaints.push_str(&line);
        complaints.push('\n');
    }
}

impl Watching {
    /// Reads events until one of this revision or a later one.
    pub async fn reaches(&mut self, revision: i64) {
        while self.events.last().is_none_or(|last| last.revision < revision) {
            let line = in_time("the next event", self.lines.next_line()).await.unwrap();
            let Some(line) = line else {
                let status = in_time("its end", self.child.wait()).await.unwrap();
                let complaints = self.complaints.lock().unwrap();
                panic!("{:?} ended: {status}, {:?}\n{complaints}", self.program, self.events.last());
            };
            match self.program {
                Program::Etcdctl => self.events.extend(events_of_json(&line)),
                _ => self.events.push(Event::of_line(&line)),
            }
        }
    }

    /// Reads the events up to the last one, after which the program ends.
    pub async fn ends(mut self, revision: i64) -> Vec<Event> {
        self.reaches(revision).await;
        if matches!(self.program, Program::Etcdctl) {
            // It would watch for ever.
            self.child.kill().await.unwrap();
            return self.events;
        }
        let status = in_time("the program to end", self.child.wait()).await.unwrap();
        assert!(status.success(), "{:?}: {status}\n{}", self.program, self.complaints.lock().unwrap());
        let more = in_time("the end of what it prints", self.lines.next_line()).await.unwrap();
        assert_eq!(more, None);
        self.events
    }
}

/// The events in a message of a watch as `etcdctl` prints it.
fn events_of_json(line: &str) -> Vec<Event> {
    let message: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    let text = |text: &Value| {
        String::from_utf8(STANDARD.decode(text.as_str().unwrap_or_default()).unwrap()).unwrap()
    };
    let event = |event: &Value| Event {
        revision: event["kv"]["mod_revision"].as_i64().unwrap(),
        kind: if event["type"] == 1 { "DELETE" } else { "PUT" }.to_owned(),
        key: text(&event["kv"]["key"]),
        value: text(&event["kv"]["value"]),
        previous: event.get("prev_kv").map(|kv| text(&kv["value"])),
    };
    message["Events"].as_array().into_iter().flatten().map(event).collect()
}
