//! A server that speaks as a kube-apiserver does, at the moments that a test chooses. It has one type, config maps.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

use super::daemon::Daemon;
use super::eventually;
use super::kubernetes::{feed, kubeconfig};

/// The head of an answer in chunks.
const CHUNKED: &[u8] =
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n";

/// The server; it ends with the test.
pub struct Double {
    port: u16,
    dir: TempDir,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Notify,
    cut: Notify,
}

#[derive(Default)]
struct State {
    revision: u64,
    /// By name.
    objects: BTreeMap<String, Value>,
    /// The objects as they were from each revision on.
    past: BTreeMap<u64, BTreeMap<String, Value>>,
    /// The answers to the next lists of more than one object, instead of the objects.
    lists: VecDeque<Answer>,
    /// What the next watches do. Without any, a watch delivers what is to come.
    watches: VecDeque<Vec<Step>>,
    /// The events so far, by their revisions.
    events: Vec<(u64, String)>,
    /// The paths and queries that were asked for.
    asked: Vec<String>,
    /// The headers `authorization` that came with them.
    authorizations: BTreeSet<String>,
    /// Whether a list of one object is never answered.
    hangs: bool,
    /// Whether there is a streaming list, and whether it ends.
    streams: bool,
    streams_without_end: bool,
    /// The oldest revision from which a short watch has the past; `None`: it has none.
    oldest: Option<Oldest>,
}

/// How far back a server has the past.
#[derive(Clone, Copy)]
struct Oldest {
    revision: u64,
    is_named: bool,
}

/// An answer that is no list.
#[derive(Clone)]
pub struct Answer {
    pub status: u16,
    pub headers: &'static str,
    pub body: Value,
}

/// What a watch does.
#[derive(Clone)]
pub enum Step {
    /// Sends this text.
    Send(String),
    /// Refuses the watch. Only at its beginning.
    Refuse(Answer),
    /// Ends the answer as it should end.
    End,
    /// Closes the connection within the answer.
    Break,
    /// Delivers the events after this revision, and those to come.
    Deliver(u64),
}

impl Double {
    pub async fn start() -> Double {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared::default());
        shared.state.lock().unwrap().revision = 100;
        let serving = shared.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, serving.clone()));
            }
        });
        Double { port, dir: tempfile::tempdir().unwrap(), shared }
    }

    /// It has streaming lists from now on.
    pub fn streams(&self) {
        self.shared.state.lock().unwrap().streams = true;
    }

    /// It takes a streaming list for an ordinary watch from now on.
    pub fn streams_without_end(&self) {
        let mut state = self.shared.state.lock().unwrap();
        (state.streams, state.streams_without_end) = (true, true);
    }

    /// It has the changes after this revision, and names it to who asks for older ones if `is_named`.
    pub fn has_the_past_after(&self, revision: u64, is_named: bool) {
        self.shared.state.lock().unwrap().oldest = Some(Oldest { revision, is_named });
    }

    /// A daemon that follows it.
    pub fn follow(&self) -> Daemon {
        self.follow_as("resource=v1/configmaps", "token: x")
    }

    /// A daemon that follows it with these options of the feed, as this user in YAML.
    pub fn follow_as(&self, options: &str, user: &str) -> Daemon {
        Daemon::serve(&["--feed", &self.feed(options, user)])
    }

    /// The feed of it with these options, as this user in YAML.
    pub fn feed(&self, options: &str, user: &str) -> String {
        let server = format!("server: 'http://127.0.0.1:{}'", self.port);
        feed(options, &kubeconfig(self.dir.path(), &server, user))
    }

    /// Sets an object. Gives its revision and the event of it, which watches deliver if `deliver`.
    pub fn put(&self, name: &str, value: &str, deliver: bool) -> (u64, String) {
        let put = self.put_for_the_next_watch(name, value, deliver);
        self.shared.changed.notify_waiters();
        put
    }

    /// The same, but a watch that is open does not deliver it yet.
    pub fn put_for_the_next_watch(&self, name: &str, value: &str, deliver: bool) -> (u64, String) {
        let mut state = self.shared.state.lock().unwrap();
        state.revision += 1;
        let revision = state.revision;
        let object = json!({
            "kind": "ConfigMap",
            "apiVersion": "v1",
            "metadata": {"name": name, "namespace": "n", "resourceVersion": revision.to_string()},
            "data": {"value": value},
        });
        let known = state.objects.insert(name.to_owned(), object.clone()).is_some();
        let event = event(if known { "MODIFIED" } else { "ADDED" }, &object);
        if deliver {
            state.events.push((revision, event.clone()));
        }
        state.remember();
        (revision, event)
    }

    /// Deletes an object that no event tells of.
    pub fn lose(&self, name: &str) {
        let mut state = self.shared.state.lock().unwrap();
        state.revision += 1;
        state.objects.remove(name).unwrap();
        state.remember();
    }

    /// The next list is answered with this.
    pub fn next_list(&self, answer: Answer) {
        self.shared.state.lock().unwrap().lists.push_back(answer);
    }

    /// The next watch does this.
    pub fn next_watch(&self, steps: Vec<Step>) {
        self.shared.state.lock().unwrap().watches.push_back(steps);
    }

    /// It does not say how far it is, or does again.
    pub fn hangs(&self, hangs: bool) {
        self.shared.state.lock().unwrap().hangs = hangs;
    }

    /// Watches deliver what is to come from now on.
    pub fn watches_work_again(&self) {
        self.shared.state.lock().unwrap().watches.clear();
    }

    /// Closes the connections of all watches.
    pub fn cut(&self) {
        self.shared.cut.notify_waiters();
    }

    /// Closes the connections of all watches; the next one does this.
    pub fn cut_with(&self, steps: Vec<Step>) {
        self.next_watch(steps);
        self.cut();
    }

    /// What was asked for so far, with this in it.
    pub fn asked(&self, part: &str) -> Vec<String> {
        let state = self.shared.state.lock().unwrap();
        state.asked.iter().filter(|asked| asked.contains(part)).cloned().collect()
    }

    /// Whether somebody has asked with this header `authorization`.
    pub fn knows(&self, authorization: &str) -> bool {
        self.shared.state.lock().unwrap().authorizations.contains(authorization)
    }

    /// Waits until so many watches were asked for.
    pub async fn watches(&self, count: usize) -> Vec<String> {
        eventually(&format!("{count} watches"), || async {
            let watches = self.asked("Bookmarks=true&resourceVersion=");
            let watches: Vec<_> = watches.into_iter().filter(|path| !is_backfill(path)).collect();
            (watches.len() >= count).then_some(watches)
        })
        .await
    }

    /// The names and values of the objects.
    pub fn values(&self) -> BTreeMap<String, Value> {
        let state = self.shared.state.lock().unwrap();
        state.objects.iter().map(|(name, object)| (format!("n/{name}"), object.clone())).collect()
    }
}

impl State {
    fn remember(&mut self) {
        self.past.insert(self.revision, self.objects.clone());
    }

    /// The objects at a revision.
    fn at(&self, revision: u64) -> Vec<Value> {
        let last = self.past.range(..=revision).next_back();
        last.map(|(_, objects)| objects.values().cloned().collect()).unwrap_or_default()
    }
}

/// A line of a watch.
pub fn event(kind: &str, object: &Value) -> String {
    format!("{}\n", json!({"type": kind, "object": object}))
}

/// A bookmark.
pub fn bookmark(revision: u64) -> String {
    let metadata = json!({"resourceVersion": revision.to_string()});
    event("BOOKMARK", &json!({"kind": "ConfigMap", "apiVersion": "v1", "metadata": metadata}))
}

/// A refusal.
pub fn refusal(status: u16, reason: &str, headers: &'static str) -> Answer {
    let body = json!({"kind": "Status", "code": status, "reason": reason, "message": format!("a {reason}")});
    Answer { status, headers, body }
}

async fn serve(mut stream: TcpStream, shared: Arc<Shared>) {
    let mut head = Vec::new();
    let mut byte = [0; 1024];
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        match stream.read(&mut byte).await {
            Ok(read) if read > 0 => head.extend_from_slice(&byte[..read]),
            _ => return,
        }
    }
    let head = String::from_utf8(head).unwrap();
    let path = head.split(' ').nth(1).unwrap().to_owned();
    let authorization = head.lines().find_map(|line| line.strip_prefix("authorization: "));
    {
        let mut state = shared.state.lock().unwrap();
        let of = if head.contains("PartialObjectMetadata") { " (metadata)" } else { "" };
        state.asked.push(format!("{path}{of}"));
        state.authorizations.extend(authorization.map(ToOwned::to_owned));
    }
    if shared.state.lock().unwrap().hangs && is_probe(&path) {
        return std::future::pending().await;
    }
    let ok = |body| Answer { status: 200, headers: "", body };
    let answer = match path.split('?').next().unwrap() {
        "/api/v1" => ok(json!({"resources": [{
            "name": "configmaps", "namespaced": true, "kind": "ConfigMap", "verbs": ["list", "watch"],
        }]})),
        "/api/v1/namespaces/kube-system" => ok(json!({"metadata": {"uid": "u"}})),
        "/api/v1/configmaps" if path.contains("watch=true") => return watch(stream, &path, &shared).await,
        "/api/v1/configmaps" => list(&path, &shared),
        _ => refusal(404, "NotFound", ""),
    };
    whole(&mut stream, &answer).await;
}

fn list(path: &str, shared: &Shared) -> Answer {
    let mut state = shared.state.lock().unwrap();
    if !is_probe(path)
        && let Some(answer) = state.lists.pop_front()
    {
        return answer;
    }
    let revision = parameter(path, "resourceVersion").unwrap_or(state.revision);
    let items = state.at(revision);
    let metadata = json!({"resourceVersion": revision.to_string()});
    Answer {
        status: 200,
        headers: "",
        body: json!({"kind": "ConfigMapList", "metadata": metadata, "items": items}),
    }
}

/// Whether it is a list of one object.
fn is_probe(path: &str) -> bool {
    parameter(path, "limit") == Some(1)
}

fn parameter(path: &str, name: &str) -> Option<u64> {
    let value = path.split(&format!("{name}=")).nth(1)?.split('&').next()?;
    value.parse().ok()
}

async fn whole(stream: &mut TcpStream, answer: &Answer) {
    let body = answer.body.to_string();
    let head = format!(
        "HTTP/1.1 {} X\r\ncontent-type: application/json\r\nconnection: close\r\n{}content-length: {}\r\n\r\n",
        answer.status,
        answer.headers,
        body.len()
    );
    let _ = stream.write_all((head + &body).as_bytes()).await;
}

async fn watch(stream: TcpStream, path: &str, shared: &Shared) {
    tokio::select! {
        () = do_watch(stream, path, shared) => {}
        () = shared.cut.notified() => {}
    }
}

async fn do_watch(mut stream: TcpStream, path: &str, shared: &Shared) {
    let (streams, oldest) = {
        let state = shared.state.lock().unwrap();
        (state.streams, state.oldest)
    };
    if path.contains("sendInitialEvents=true") {
        return match streams {
            true => stream_list(stream, shared).await,
            false => whole(&mut stream, &refusal(422, "Invalid", "")).await,
        };
    }
    let from = parameter(path, "resourceVersion").unwrap();
    if is_backfill(path) {
        let mut gone = refusal(410, "Expired", "");
        match oldest {
            Some(Oldest { revision, .. }) if from >= revision => {
                let _ = stream.write_all(CHUNKED).await;
                return deliver(&mut stream, shared, from).await;
            }
            Some(Oldest { revision, is_named: true }) => {
                gone.body["message"] = format!("too old resource version: {from} ({revision})").into();
            }
            _ => {}
        }
        return whole(&mut stream, &gone).await;
    }
    let steps = shared.state.lock().unwrap().watches.pop_front();
    let steps = steps.unwrap_or_else(|| vec![Step::Deliver(from)]);
    if let Some(Step::Refuse(answer)) = steps.first() {
        return whole(&mut stream, answer).await;
    }
    let _ = stream.write_all(CHUNKED).await;
    for step in steps {
        match step {
            Step::Send(text) => chunk(&mut stream, &text).await,
            Step::End => {
                let _ = stream.write_all(b"0\r\n\r\n").await;
                return;
            }
            Step::Break => return,
            Step::Refuse(_) => panic!("a watch that has begun is not refused"),
            Step::Deliver(after) => deliver(&mut stream, shared, after).await,
        }
    }
    // It stays open and says nothing.
    std::future::pending::<()>().await;
}

/// Delivers the events after this revision, and those to come.
async fn deliver(stream: &mut TcpStream, shared: &Shared, mut after: u64) {
    loop {
        let changed = shared.changed.notified();
        let due: Vec<(u64, String)> = {
            let state = shared.state.lock().unwrap();
            state.events.iter().filter(|(revision, _)| *revision > after).cloned().collect()
        };
        for (revision, event) in due {
            chunk(stream, &event).await;
            after = revision;
        }
        changed.await;
    }
}

/// The whole state as events, with one that changes while it is sent, and the bookmark at its end.
async fn stream_list(mut stream: TcpStream, shared: &Shared) {
    let (objects, revision, is_endless) = {
        let state = shared.state.lock().unwrap();
        (state.at(state.revision), state.revision, state.streams_without_end)
    };
    let _ = stream.write_all(CHUNKED).await;
    chunk(&mut stream, &bookmark(1)).await;
    for object in &objects {
        chunk(&mut stream, &event("ADDED", object)).await;
    }
    if is_endless {
        return deliver(&mut stream, shared, revision).await;
    }
    if let Some(object) = objects.first() {
        chunk(&mut stream, &event("DELETED", object)).await;
        chunk(&mut stream, &event("ADDED", object)).await;
        chunk(&mut stream, &event("MODIFIED", object)).await;
    }
    let annotations = json!({"k8s.io/initial-events-end": "true"});
    let metadata = json!({"resourceVersion": revision.to_string(), "annotations": annotations});
    let end = event("BOOKMARK", &json!({"kind": "ConfigMap", "apiVersion": "v1", "metadata": metadata}));
    chunk(&mut stream, &end).await;
    std::future::pending::<()>().await;
}

/// Whether a watch asks for the past: only that one is short.
fn is_backfill(path: &str) -> bool {
    parameter(path, "timeoutSeconds").is_some_and(|seconds| seconds < 60)
}

async fn chunk(stream: &mut TcpStream, text: &str) {
    let _ = stream.write_all(format!("{:x}\r\n{text}\r\n", text.len()).as_bytes()).await;
}
