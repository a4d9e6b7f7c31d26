//! Real etcd processes, their keys over etcd's own JSON gateway, a model of the store, and a network that can be cut.
//!
//! The variable `CRUMBD_TEST_ETCD` names a directory with another etcd and etcdctl than those on the `PATH`.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::watch;

use super::eventually;
use super::state::State;
use super::tls::client_config;

/// An etcd process, or the place where one was and will be again. Dropping it kills the process, by its id.
pub struct Etcd {
    name: String,
    client: u16,
    peer: u16,
    /// `--initial-cluster`: every member with its peer address. The cluster's id is computed from it.
    cluster: String,
    more: Vec<String>,
    dir: TempDir,
    child: Option<Child>,
    said: Arc<Mutex<Vec<String>>>,
}

/// etcd's keys, by its JSON gateway.
#[derive(Clone)]
pub struct Keys {
    client: reqwest::Client,
    base: String,
}

/// One change in a transaction.
#[derive(Debug, Clone)]
pub enum Op {
    Put(Vec<u8>, Vec<u8>),
    Delete(Vec<u8>),
    /// Every key from the first to before the second.
    DeleteRange(Vec<u8>, Vec<u8>),
}

/// What a whole range holds.
#[derive(Debug, Clone)]
pub struct Stored {
    pub revision: i64,
    pub state: State,
}

/// A free port on loopback, outside of the range from which the system takes ports for outgoing connections: between
/// the death of a server and its restart nobody else gets its port.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = (std::process::id() % 211) as u16 * 53;
    for _ in 0..5000 {
        let port = 20_000 + (start + NEXT.fetch_add(1, Ordering::Relaxed)) % 12_000;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no free port between 20000 and 32000");
}

impl Etcd {
    /// A cluster of one.
    pub async fn start() -> Etcd {
        Etcd::start_with(&[]).await
    }

    /// A cluster of one with further arguments.
    pub async fn start_with(more: &[&str]) -> Etcd {
        let mut etcd = Etcd::members(1, more).remove(0);
        etcd.run();
        etcd.answers().await;
        etcd
    }

    /// A running cluster of this many.
    pub async fn cluster(members: usize) -> Vec<Etcd> {
        // A busy machine must not look like a lost leader.
        let mut all = Etcd::members(members, &["--heartbeat-interval", "50", "--election-timeout", "500"]);
        all.iter_mut().for_each(Etcd::run);
        for etcd in &all {
            etcd.answers().await;
        }
        all
    }

    fn members(count: usize, more: &[&str]) -> Vec<Etcd> {
        let names: Vec<(String, u16)> = (0..count).map(|n| (format!("m{n}"), free_port())).collect();
        let cluster: Vec<String> =
            names.iter().map(|(name, peer)| format!("{name}=http://127.0.0.1:{peer}")).collect();
        let of = |(name, peer): (String, u16)| Etcd {
            name,
            client: free_port(),
            peer,
            cluster: cluster.join(","),
            more: more.iter().map(|&one| one.to_owned()).collect(),
            dir: tempfile::tempdir().unwrap(),
            child: None,
            said: Arc::default(),
        };
        names.into_iter().map(of).collect()
    }

    /// Starts the process on its data directory and does not wait for it.
    pub fn run(&mut self) {
        assert!(self.child.is_none(), "it runs already");
        let scheme = if self.speaks_tls() { "https" } else { "http" };
        let client = format!("{scheme}://127.0.0.1:{}", self.client);
        let peer = format!("http://127.0.0.1:{}", self.peer);
        let data = self.dir.path().join("data");
        let spawned = Command::new(program("etcd"))
            .args(["--name", &self.name, "--data-dir"])
            .arg(data)
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &self.cluster, "--initial-cluster-state", "new"])
            // Its own settings only: it reads every variable that begins so.
            .env_remove("ETCD_TRUTH_ROUNDS")
            .env_remove("ETCD_TRUTH_SEED")
            // A killed process loses nothing that it has written; only a machine does.
            .args(["--unsafe-no-fsync", "--logger", "zap", "--log-level", "warn"])
            .args(&self.more)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn();
        let mut child = match spawned {
            Ok(child) => child,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                panic!("etcd is not installed: apt-get install etcd-server etcd-client")
            }
            Err(error) => panic!("etcd can not be started: {error}"),
        };
        let stderr = child.stderr.take().unwrap();
        let said = self.said.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                said.lock().unwrap().push(line);
            }
        });
        self.child = Some(child);
    }

    fn speaks_tls(&self) -> bool {
        self.more.iter().any(|argument| argument == "--cert-file")
    }

    /// Waits until it answers a linearizable read: it has a leader and everything that was acknowledged before. Who
    /// speaks TLS or wants a password is for the test to wait for.
    pub async fn answers(&self) {
        if self.speaks_tls() {
            return;
        }
        let keys = self.keys();
        let answered = |answer: &Result<i64, String>| match answer {
            Ok(_) => true,
            Err(error) => error.contains("user name is empty"),
        };
        eventually("etcd to answer", || async { answered(&keys.try_revision().await).then_some(()) }).await;
    }

    /// Runs `etcdctl` with these arguments, and gives what it printed, or what it complained of.
    pub fn try_ctl(&self, arguments: &[&str]) -> Result<String, String> {
        let scheme = if self.speaks_tls() { "https" } else { "http" };
        let mut ctl = etcdctl(&format!("{scheme}://{}", self.endpoint()));
        let done = ctl.args(arguments).stdin(Stdio::null()).output();
        let done = done.unwrap_or_else(|error| {
            panic!("etcdctl ({error}) is not installed: apt-get install etcd-server etcd-client")
        });
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if done.status.success() { Ok(text(&done.stdout)) } else { Err(text(&done.stderr)) }
    }

    pub fn ctl(&self, arguments: &[&str]) -> String {
        self.try_ctl(arguments).unwrap_or_else(|error| panic!("etcdctl {arguments:?}: {error}"))
    }

    /// Ends the process at once, as the kernel does when memory is short.
    pub fn kill(&mut self) {
        let mut child = self.child.take().expect("it runs");
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Starts it again on the same data, after a [`Etcd::kill`].
    pub async fn restart(&mut self) {
        self.run();
        self.answers().await;
    }

    /// Another store under the same names and ports, and so with the same cluster id: kills it, throws its data
    /// away, and starts it again.
    pub async fn recreate(&mut self) {
        self.wipe();
        self.restart().await;
    }

    /// Kills it and throws its data away.
    pub fn wipe(&mut self) {
        self.kill();
        std::fs::remove_dir_all(self.dir.path().join("data")).unwrap();
    }

    /// A backup, as an operator makes one.
    pub fn save(&self, file: &Path) {
        self.ctl(&["snapshot", "save", file.to_str().unwrap()]);
    }

    /// Kills it and starts it on a backup instead: under the same name and ports, and so with the same cluster id, at
    /// the revision of the backup.
    pub async fn restore(&mut self, file: &Path) {
        self.wipe();
        let peer = format!("http://127.0.0.1:{}", self.peer);
        let data = self.dir.path().join("data");
        self.ctl(&[
            "snapshot",
            "restore",
            file.to_str().unwrap(),
            "--data-dir",
            data.to_str().unwrap(),
            "--name",
            &self.name,
            "--initial-cluster",
            &self.cluster,
            "--initial-advertise-peer-urls",
            &peer,
        ]);
        self.restart().await;
    }

    /// A copy of the data directory of the process as it is, killed for the moment.
    pub async fn copy_to(&mut self, copy: &Path) {
        self.kill();
        copy_directory(&self.dir.path().join("data"), copy);
        self.restart().await;
    }

    /// Kills it and starts it on such a copy instead.
    pub async fn go_back_to(&mut self, copy: &Path) {
        self.wipe();
        copy_directory(copy, &self.dir.path().join("data"));
        self.restart().await;
    }

    /// Lets the process run no further, until [`Etcd::go_on`].
    pub fn pause(&self) {
        signal("STOP", self.child.as_ref().expect("it runs").id());
    }

    pub fn go_on(&self) {
        signal("CONT", self.child.as_ref().expect("it runs").id());
    }

    /// `host:port` for clients.
    pub fn endpoint(&self) -> String {
        format!("127.0.0.1:{}", self.client)
    }

    /// A feed's text for one prefix of this etcd alone.
    pub fn feed(&self, prefix: &str) -> String {
        format!("etcd://{}/{prefix}", self.endpoint())
    }

    pub fn keys(&self) -> Keys {
        Keys::at(&format!("http://{}", self.endpoint()))
    }
}

/// etcd or etcdctl, of the version that is tested.
fn program(name: &str) -> PathBuf {
    std::env::var_os("CRUMBD_TEST_ETCD").map_or_else(PathBuf::new, PathBuf::from).join(name)
}

/// `etcdctl` with these endpoints.
pub fn etcdctl(endpoints: &str) -> Command {
    let mut command = Command::new(program("etcdctl"));
    command.args(["--endpoints", endpoints]).env("ETCDCTL_API", "3");
    command
}

fn copy_directory(from: &Path, to: &Path) {
    let done = Command::new("cp").arg("-r").args([from, to]).status().unwrap();
    assert!(done.success(), "cp -r {from:?} {to:?}");
}

fn signal(name: &str, process: u32) {
    let done = Command::new("sh").arg("-c").arg(format!("kill -{name} {process}")).status().unwrap();
    assert!(done.success());
}

/// An `etcd grpc-proxy` before one etcd. Dropping it kills the process, by its id.
pub struct GrpcProxy {
    port: u16,
    child: Child,
}

impl GrpcProxy {
    pub async fn before(etcd: &Etcd) -> GrpcProxy {
        let port = free_port();
        let child = Command::new(program("etcd"))
            .args(["grpc-proxy", "start", "--endpoints", &etcd.endpoint()])
            .args(["--listen-addr", &format!("127.0.0.1:{port}")])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("etcd can be started");
        let proxy = GrpcProxy { port, child };
        eventually("the proxy to listen", || async {
            TcpStream::connect(proxy.endpoint()).await.ok().map(drop)
        })
        .await;
        proxy
    }

    /// `host:port` for clients.
    pub fn endpoint(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }
}

impl Drop for GrpcProxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            let said = self.said.lock().unwrap();
            eprintln!("--- the last words of etcd {}:", self.name);
            said.iter().skip(said.len().saturating_sub(8)).for_each(|line| eprintln!("{line}"));
        }
    }
}

impl Keys {
    pub fn at(base: &str) -> Keys {
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(client_config(&[], None))
            .no_proxy()
            .timeout(Duration::from_secs(10))
            .build()
            .unwrap();
        Keys { client, base: base.to_owned() }
    }

    /// Sends one call; etcd's own error, or the connection's, is text.
    pub async fn call(&self, path: &str, body: &Value) -> Result<Value, String> {
        let request = self.client.post(format!("{}/v3/{path}", self.base)).body(body.to_string());
        let answer = request.send().await.map_err(|e| format!("{e:?}"))?;
        let text = answer.text().await.map_err(|e| format!("{e:?}"))?;
        let value: Value = serde_json::from_str(&text).map_err(|e| format!("{e}: {text}"))?;
        // etcd 3.5 says `code` and `message` alone.
        match value.get("error").or_else(|| value.get("code").and_then(|_| value.get("message"))) {
            None => Ok(value),
            Some(error) => Err(format!("{path}: {error}")),
        }
    }

    async fn must(&self, path: &str, body: &Value) -> Value {
        match self.call(path, body).await {
            Ok(answer) => answer,
            Err(error) => panic!("etcd: {path}: {error}"),
        }
    }

    /// Applies these changes as one transaction; answers with the store's revision after it.
    pub async fn try_txn(&self, ops: &[Op]) -> Result<i64, String> {
        let requests: Vec<Value> = ops
            .iter()
            .map(|op| match op {
                Op::Put(key, value) => json!({"requestPut": {"key": b64(key), "value": b64(value)}}),
                Op::Delete(key) => json!({"requestDeleteRange": {"key": b64(key)}}),
                Op::DeleteRange(from, to) => {
                    json!({"requestDeleteRange": {"key": b64(from), "range_end": b64(to)}})
                }
            })
            .collect();
        self.call("kv/txn", &json!({"success": requests})).await.map(|answer| header_revision(&answer))
    }

    pub async fn txn(&self, ops: &[Op]) -> i64 {
        self.try_txn(ops).await.unwrap_or_else(|error| panic!("etcd: txn: {error}"))
    }

    pub async fn put(&self, key: &[u8], value: &[u8]) -> i64 {
        header_revision(&self.must("kv/put", &json!({"key": b64(key), "value": b64(value)})).await)
    }

    pub async fn put_with_lease(&self, key: &[u8], value: &[u8], lease: &str) -> i64 {
        let body = json!({"key": b64(key), "value": b64(value), "lease": lease});
        header_revision(&self.must("kv/put", &body).await)
    }

    pub async fn delete(&self, key: &[u8]) -> i64 {
        header_revision(&self.must("kv/deleterange", &json!({"key": b64(key)})).await)
    }

    /// Everything with this prefix, read by one request.
    pub async fn range(&self, prefix: &[u8]) -> Stored {
        let mut end = prefix.to_vec();
        *end.last_mut().unwrap() += 1;
        let answer = self.must("kv/range", &json!({"key": b64(prefix), "range_end": b64(&end)})).await;
        let entries = answer["kvs"].as_array().map(Vec::as_slice).unwrap_or_default();
        let state = entries.iter().map(|kv| (un64(&kv["key"]), un64(&kv["value"]).into())).collect();
        Stored { revision: header_revision(&answer), state }
    }

    /// The store's revision, by a linearizable read.
    pub async fn try_revision(&self) -> Result<i64, String> {
        let body = json!({"key": b64(b"\0"), "limit": "1", "keys_only": true});
        self.call("kv/range", &body).await.map(|answer| header_revision(&answer))
    }

    pub async fn revision(&self) -> i64 {
        self.try_revision().await.unwrap()
    }

    /// Forgets everything before a revision.
    pub async fn compact(&self, revision: i64) {
        self.must("kv/compaction", &json!({"revision": revision.to_string(), "physical": true})).await;
    }

    /// The same where that may be compacted already.
    pub async fn try_compact(&self, revision: i64) -> Result<(), String> {
        let body = json!({"revision": revision.to_string(), "physical": true});
        self.call("kv/compaction", &body).await.map(drop)
    }

    /// Grants a lease and gives its id.
    pub async fn lease(&self, seconds: u32) -> String {
        let answer = self.must("lease/grant", &json!({"TTL": seconds.to_string()})).await;
        answer["ID"].as_str().unwrap().to_owned()
    }

    pub async fn revoke(&self, lease: &str) {
        self.must("lease/revoke", &json!({"ID": lease})).await;
    }
}

pub fn b64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// A field that the gateway leaves out when it is empty.
fn un64(text: &Value) -> Vec<u8> {
    STANDARD.decode(text.as_str().unwrap_or_default()).unwrap()
}

fn header_revision(answer: &Value) -> i64 {
    answer["header"]["revision"].as_str().unwrap_or_else(|| panic!("{answer}")).parse().unwrap()
}

/// What the transaction makes of a state.
pub fn apply(state: &mut State, ops: &[Op]) {
    for op in ops {
        match op {
            Op::Put(key, value) => drop(state.insert(key.clone(), value.as_slice().into())),
            Op::Delete(key) => drop(state.remove(key)),
            Op::DeleteRange(from, to) => state.retain(|key, _| key < from || key >= to),
        }
    }
}

/// How a network is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Net {
    Open,
    /// Connections break, and new ones are closed at once.
    Cut,
    /// Nothing arrives any more and nobody says so, as when a cable is pulled.
    Silent,
}

/// A TCP proxy in front of one server.
pub struct Proxy {
    port: u16,
    net: watch::Sender<Net>,
    target: Arc<Mutex<String>>,
}

impl Proxy {
    /// A proxy, open, before `host:port`.
    pub async fn before(target: String) -> Proxy {
        let port = free_port();
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await.unwrap();
        let (net, seen) = watch::channel(Net::Open);
        let target = Arc::new(Mutex::new(target));
        let aim = target.clone();
        tokio::spawn(async move {
            let mut ended = seen.clone();
            loop {
                let accepted = tokio::select! {
                    accepted = listener.accept() => accepted,
                    _ = ended.wait_for(|_| false) => return,
                };
                let Ok((stream, _)) = accepted else { continue };
                if *seen.borrow() == Net::Cut {
                    continue;
                }
                let target = aim.lock().unwrap().clone();
                tokio::spawn(carry(stream, target, seen.clone()));
            }
        });
        Proxy { port, net, target }
    }

    /// Leads new connections to another server.
    pub fn lead_to(&self, target: String) {
        *self.target.lock().unwrap() = target;
    }

    pub fn set(&self, net: Net) {
        self.net.send_replace(net);
    }

    /// How it is now.
    pub fn state(&self) -> Net {
        *self.net.borrow()
    }

    pub fn endpoint(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub fn feed(&self, prefix: &str) -> String {
        format!("etcd://{}/{prefix}", self.endpoint())
    }
}

/// Carries one connection until it ends or is cut.
async fn carry(mut near: TcpStream, target: String, mut net: watch::Receiver<Net>) {
    let mut pumps = net.clone();
    let both = async {
        if pumps.wait_for(|net| *net == Net::Open).await.is_err() {
            return;
        }
        let Ok(mut far) = TcpStream::connect(target).await else { return };
        let (near_in, near_out) = near.split();
        let (far_in, far_out) = far.split();
        tokio::select! {
            () = pump(near_in, far_out, pumps.clone()) => {}
            () = pump(far_in, near_out, pumps.clone()) => {}
        }
    };
    tokio::select! {
        () = both => {}
        _ = net.wait_for(|net| *net == Net::Cut) => {}
    }
}

async fn pump(
    mut from: tokio::net::tcp::ReadHalf<'_>,
    mut to: tokio::net::tcp::WriteHalf<'_>,
    mut net: watch::Receiver<Net>,
) {
    let mut bytes = vec![0; 64 << 10];
    loop {
        let Ok(read @ 1..) = from.read(&mut bytes).await else { return };
        if net.wait_for(|net| *net == Net::Open).await.is_err() || to.write_all(&bytes[..read]).await.is_err()
        {
            return;
        }
    }
}
