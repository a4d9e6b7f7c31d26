//! A daemon that does what a scene wants: written from the contract alone, with faults on demand.
//!
//! It serves one [`World`] over HTTP/1.1, records every request, and knows every link that it gave. Each replica of a scene
//! is one of these.

mod answer;
mod body;
mod connection;
mod fault;
mod negotiation;
mod request;
mod shape;
mod stream;
mod tls;
mod world;

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use self::body::Scope;
use self::request::Link;
use super::rule::Rule;
use super::stage::Broken;
use crate::model::History;
use crate::wire::Coding;

pub(super) use self::answer::ELSEWHERE;
pub(super) use self::body::Lie;
pub(super) use self::fault::{AtOnce, Cut, Ending, Fault};
pub(super) use self::request::{Kind, Request};
pub(super) use self::shape::plain;
pub(super) use self::tls::{AUTHORITY, acceptor};
pub(super) use self::world::{Crumb, State, World, state_of};

/// How long the port of a replica that has gone is tried.
const TIME_TO_BIND: Duration = Duration::from_secs(2);

/// The shortest wait that a long poll may ask for, where the client's own limit is not shorter.
pub(crate) const SHORTEST_WAIT: Duration = Duration::from_secs(5);

/// What all replicas of a scene share.
#[derive(Default)]
pub(super) struct Shared {
    /// Counts everything that happens, so that others can wait for it.
    pub(super) news: watch::Sender<u64>,
    /// The links that were given to the client.
    issued: Mutex<HashSet<Link>>,
    /// Every cursor that there was, and its breadcrumb.
    crumbs: Mutex<HashMap<String, Crumb>>,
    /// What the client did that it must not do.
    violations: Mutex<Vec<Broken>>,
    requests: Mutex<Vec<Request>>,
}

impl Shared {
    fn happened(&self) {
        self.news.send_modify(|count| *count += 1);
    }

    /// Adds something that the client must not do.
    fn violation(&self, rule: Rule, expected: impl Into<String>, came: impl Into<String>) {
        self.violations.lock().push(Broken::new(expected, came).of(rule));
    }

    /// The first thing that the client must not do.
    pub(super) fn take_violation(&self) -> Option<Broken> {
        self.violations.lock().pop()
    }

    /// All requests to all replicas, the oldest first.
    pub(super) fn requests(&self) -> Vec<Request> {
        self.requests.lock().clone()
    }

    /// The breadcrumb with this cursor.
    pub(super) fn crumb(&self, cursor: &str) -> Option<Crumb> {
        self.crumbs.lock().get(cursor).cloned()
    }
}

/// What a scene sets.
pub(super) struct Settings {
    /// The path before `/v1`.
    pub(super) base: String,
    /// The token that each request needs.
    pub(super) token: Option<String>,
    /// The prefix that each request must name.
    pub(super) prefix: Option<Vec<u8>>,
    /// The rights that links name, and the prefix of the keys that may be read under them.
    pub(super) rights: Option<(String, Vec<u8>)>,
    /// The longest wait before a 204.
    pub(super) longest_wait: Duration,
    /// The time between two heartbeats of a stream; `None` for none.
    pub(super) heartbeat: Option<Duration>,
    /// Whether each answer is the last one of its connection.
    pub(super) close: bool,
    /// Whether each connection ends after an answer that does not say so.
    pub(super) drop: bool,
    /// Whether bodies come in chunks.
    pub(super) chunked: bool,
    /// Whether there are headers, fields and records that no client knows.
    pub(super) unknown: bool,
    /// Whether 103 comes before each answer.
    pub(super) hints: bool,
    /// Whether cursors have another shape.
    pub(super) shaped: bool,
    /// What is answered to each long poll at once.
    pub(super) at_once: Option<AtOnce>,
    /// The shortest wait that a long poll may ask for.
    pub(super) shortest_wait: Duration,
    /// The coding where the client accepts it.
    pub(super) prefer: Coding,
    /// A fault at every request, as long as it is there.
    pub(super) down: Option<Fault>,
}

struct Inner {
    world: World,
    settings: Settings,
    /// The rights were others before.
    rights_changed: bool,
    /// What is answered to the next long poll that has the rights of before.
    rights_fault: Option<Fault>,
    /// The long polls that were answered at once.
    at_once_count: u64,
    faults: [VecDeque<Fault>; 2],
    /// The clients that wait, and their cursors.
    waiting: BTreeMap<u64, String>,
    next_connection: u64,
    /// Streams that began before this count end; the reason is told before, if there is one.
    streams_end: (u64, Option<&'static str>),
}

/// A replica of a scene.
pub(super) struct Daemon {
    replica: usize,
    address: SocketAddr,
    acceptor: Option<tokio_rustls::TlsAcceptor>,
    shared: Arc<Shared>,
    inner: Mutex<Inner>,
    door: tokio::sync::Mutex<Door>,
}

/// The listener: open, or shut with its port kept.
enum Door {
    Open(JoinHandle<()>),
    Shut(TcpSocket),
    /// Between the two.
    None,
}

impl Daemon {
    /// Starts a replica with this world on a free port.
    pub(super) async fn start(
        replica: usize,
        world: World,
        acceptor: Option<tokio_rustls::TlsAcceptor>,
        shared: Arc<Shared>,
    ) -> io::Result<Arc<Self>> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let settings = Settings {
            base: String::new(),
            token: None,
            prefix: None,
            rights: None,
            longest_wait: Duration::from_secs(300),
            heartbeat: Some(Duration::from_secs(15)),
            close: false,
            drop: false,
            chunked: false,
            unknown: false,
            hints: false,
            shaped: false,
            at_once: None,
            shortest_wait: SHORTEST_WAIT,
            prefer: Coding::Gzip,
            down: None,
        };
        let inner = Inner {
            world,
            settings,
            rights_changed: false,
            rights_fault: None,
            at_once_count: 0,
            faults: Default::default(),
            waiting: BTreeMap::new(),
            next_connection: 0,
            streams_end: (0, None),
        };
        let daemon = Arc::new(Self {
            replica,
            address: listener.local_addr()?,
            acceptor,
            shared,
            inner: Mutex::new(inner),
            door: tokio::sync::Mutex::new(Door::None),
        });
        daemon.remember();
        *daemon.door.lock().await =
            Door::Open(tokio::spawn(connection::accept(Arc::clone(&daemon), listener)));
        Ok(daemon)
    }

    /// The address for the client.
    pub(super) fn url(&self) -> String {
        let base = self.inner.lock().settings.base.clone();
        match self.acceptor {
            Some(_) => format!("https://localhost:{}{base}", self.address.port()),
            None => format!("http://{}{base}", self.address),
        }
    }

    /// Closes the listener and every connection: nobody answers at the port.
    pub(super) async fn go(&self) -> io::Result<()> {
        let mut door = self.door.lock().await;
        if let Door::Open(task) = std::mem::replace(&mut *door, Door::None) {
            task.abort();
            // An aborted task ends with an error that says so.
            _ = task.await;
            // The port stays taken, so that nobody else gets it; without a listener it refuses connections.
            *door = Door::Shut(self.bind_without_listening().await?);
        }
        Ok(())
    }

    async fn bind_without_listening(&self) -> io::Result<TcpSocket> {
        let end = Instant::now() + TIME_TO_BIND;
        loop {
            let socket = TcpSocket::new_v4()?;
            socket.set_reuseaddr(true)?;
            match socket.bind(self.address) {
                // A program that is being started holds a copy of the listener for a moment.
                Err(error) if error.kind() == io::ErrorKind::AddrInUse && Instant::now() < end => {
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
                bound => return bound.map(|()| socket),
            }
        }
    }

    /// Listens again.
    pub(super) async fn come_back(self: &Arc<Self>) -> io::Result<()> {
        let mut door = self.door.lock().await;
        if let Door::Shut(socket) = std::mem::replace(&mut *door, Door::None) {
            let listener = socket.listen(128)?;
            *door = Door::Open(tokio::spawn(connection::accept(Arc::clone(self), listener)));
        }
        Ok(())
    }

    /// Changes the world. Clients that wait are answered.
    pub(super) fn world<T>(&self, change: impl FnOnce(&mut World) -> T) -> T {
        let out = change(&mut self.inner.lock().world);
        self.remember();
        self.shared.happened();
        out
    }

    /// Keeps the newest breadcrumb for the comparison with what the client says.
    fn remember(&self) {
        let newest = self.newest();
        self.shared.crumbs.lock().insert(newest.cursor.to_string(), newest);
    }

    /// The newest breadcrumb.
    pub(super) fn newest(&self) -> Crumb {
        self.inner.lock().world.newest().clone()
    }

    /// Replaces the history: what a new store has.
    pub(super) fn new_history(&self, revision: u64, state: State) {
        self.world(|world| *world = World::new(History::random(), revision, state));
    }

    /// Has this state at this revision of the same history: what a restored store has.
    pub(super) fn restore(&self, revision: u64, state: State) {
        self.world(|world| *world = world.restored(revision, state));
    }

    /// Changes the settings.
    pub(super) fn set(&self, change: impl FnOnce(&mut Settings)) {
        change(&mut self.inner.lock().settings);
        self.shared.happened();
    }

    /// Changes the rights of the client. Streams end with a `reset` that says so.
    pub(super) fn change_rights(&self, name: &str, readable: &[u8]) {
        {
            let mut inner = self.inner.lock();
            inner.rights_changed = inner.settings.rights.is_some();
            inner.settings.rights = Some((name.to_owned(), readable.to_vec()));
        }
        self.end_streams(Some("permission-changed"));
    }

    /// Changes the rights of the client. Waits are answered 403, and streams end with a `reset`; both say why.
    pub(super) fn change_rights_and_say_so(&self, name: &str, readable: &[u8]) {
        {
            let mut inner = self.inner.lock();
            inner.rights_changed = inner.settings.rights.is_some();
            inner.settings.rights = Some((name.to_owned(), readable.to_vec()));
            // A stream takes no fault of a long poll.
            let detail = "what this token may read has changed while the request waited";
            inner.rights_fault = Some(Fault::problem(403, "permission-changed", detail));
        }
        self.end_streams(Some("permission-changed"));
    }

    /// The cursor as an answer has it.
    fn written(&self, cursor: &str) -> String {
        match self.inner.lock().settings.shaped {
            true => shape::shaped(cursor),
            false => cursor.to_owned(),
        }
    }

    /// Has this fault at the next answer of this kind. A fault in the place of an answer comes at once to a client that
    /// waits, and ends its stream.
    pub(super) fn fail(&self, kind: Kind, fault: Fault) {
        let ends = kind == Kind::Follow && fault.is_of_the_head();
        self.inner.lock().faults[usize::from(kind == Kind::Follow)].push_back(fault);
        match ends {
            true => self.end_streams(None),
            false => self.shared.happened(),
        }
    }

    /// Has this fault at every request from now on. Clients that wait have it at once.
    pub(super) fn down(&self, fault: Fault) {
        self.inner.lock().settings.down = Some(fault);
        self.end_streams(None);
    }

    /// Ends every stream.
    pub(super) fn end_streams(&self, reason: Option<&'static str>) {
        {
            let mut inner = self.inner.lock();
            inner.streams_end = (inner.streams_end.0 + 1, reason);
        }
        self.shared.happened();
    }

    /// The number of faults that have not come yet.
    pub(super) fn pending_faults(&self) -> usize {
        self.inner.lock().faults.iter().map(VecDeque::len).sum()
    }

    /// Whether a client waits for what comes after this cursor.
    pub(super) fn is_waited_for(&self, cursor: &str) -> bool {
        self.inner.lock().waiting.values().any(|waiting| waiting == cursor)
    }

    fn record(&self, request: Request) -> usize {
        let mut requests = self.shared.requests.lock();
        requests.push(request);
        let number = requests.len() - 1;
        drop(requests);
        self.shared.happened();
        number
    }

    fn answered(&self, number: usize, what: String) {
        if let Some(request) = self.shared.requests.lock().get_mut(number) {
            request.answer = Some((Instant::now(), what));
        }
        self.shared.happened();
    }
}

impl Inner {
    fn queue(&mut self, kind: Kind) -> &mut VecDeque<Fault> {
        &mut self.faults[usize::from(kind == Kind::Follow)]
    }

    /// Takes the fault that is in the place of an answer.
    fn take_head_fault(&mut self, kind: Kind) -> Option<Fault> {
        if let Some(down) = &self.settings.down {
            return Some(down.clone());
        }
        match self.queue(kind).front()?.is_of_the_head() {
            true => self.queue(kind).pop_front(),
            false => None,
        }
    }

    /// Takes the fault of a body.
    fn take_body_fault(&mut self, kind: Kind) -> Option<Fault> {
        match self.queue(kind).front()?.is_of_the_head() {
            true => None,
            false => self.queue(kind).pop_front(),
        }
    }

    /// The keys that this request is about.
    fn scope(&self, request: &Request) -> Scope {
        let readable = self.settings.rights.as_ref().map(|(_, prefix)| prefix.clone());
        Scope {
            prefix: request.parameter("prefix").map(<[u8]>::to_vec).filter(|prefix| !prefix.is_empty()),
            readable: readable.filter(|prefix| !prefix.is_empty()),
        }
    }

    /// Whether the client comes with rights that are not those of today.
    fn has_other_rights(&self, request: &Request) -> bool {
        match (&self.settings.rights, &request.rights) {
            (Some((now, _)), Some(then)) => now != then,
            (Some(_), None) => self.rights_changed,
            (None, _) => false,
        }
    }
}
