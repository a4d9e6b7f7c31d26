//! Budgets of connections, waiters and bytes in flight, and each client's share. A request over a budget gets a 503 with
//! a random `Retry-After`, and one over its client's rate a 429.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::http::app::App;
use crate::http::client::{Addresses, Client, Connected, Peer, Refusing, WaiterGuard};
use crate::http::rate::{BucketSize, Rate};
use crate::http::rep::problem::Problem;
use crate::view::{Account, ByteBudget, KeySelector, Refusals, Reserved, ViewError, queue_deadline};

/// The memory of a usual waiter, in bytes. One whose keys or head take more counts as several.
const PLACE_BYTES: usize = 2048;

/// About how many bytes a prefix of a waiter takes beside its own.
const PREFIX_BYTES: usize = 128;

/// The longest head that a usual waiter may have. The framework keeps a longer one, in buffers of about twice its size.
const USUAL_HEAD_BYTES: usize = 4096;

/// How long a limit counts as one that refuses requests.
const LATELY: Duration = Duration::from_secs(60);

/// The connections of operators that have a place beside the limit: a few monitoring systems and people.
const RESERVED_CONNECTIONS: usize = 32;

/// What a refusal says of a kind of clients.
struct Kind {
    name: &'static str,
    snapshots: &'static str,
    uploads: &'static str,
}

const ADDRESS: Kind = Kind {
    name: "this address",
    snapshots: "snapshots are being sent to this address (--max-client-snapshot-bytes)",
    uploads: "request bodies are being received from this address (--max-client-upload-bytes)",
};
const NO_ADDRESS: Kind = Kind {
    name: "clients without an address (unix sockets)",
    snapshots: "snapshots are being sent to clients without an address (--max-client-snapshot-bytes)",
    uploads: "request bodies are being received from clients without an address (--max-client-upload-bytes)",
};
const OPERATORS: Kind = Kind {
    name: "operators",
    snapshots: "snapshots are being sent to operators (--max-client-snapshot-bytes)",
    uploads: "request bodies are being received from operators (--max-client-upload-bytes)",
};
const TOKEN: Kind = Kind {
    name: "this token",
    snapshots: "snapshots are being sent to this token (--max-client-snapshot-bytes)",
    uploads: "request bodies are being received from this token (--max-client-upload-bytes)",
};

/// The sizes of the budgets.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Open connections.
    pub max_connections: usize,
    /// Open connections of one address.
    pub max_client_connections: usize,
    /// Requests that wait for a breadcrumb.
    pub max_waiters: usize,
    /// Requests of one client that wait for a breadcrumb.
    pub max_client_waiters: usize,
    /// Those of them that are streams or wait for one key.
    pub max_client_streams: usize,
    /// Requests of one client, if they are limited.
    pub max_client_rate: Option<Rate>,
    /// Bytes of large bodies that are being sent. What they share counts once. A larger body is sent alone.
    pub max_snapshot_bytes: u64,
    /// The part of them that one client may hold.
    pub max_client_snapshot_bytes: u64,
    /// Bytes of request bodies that are being received or applied. A larger body is received alone.
    pub max_upload_bytes: u64,
    /// The part of them that one client may hold.
    pub max_client_upload_bytes: u64,
}

impl Default for Limits {
    /// The limits of `crumbd serve` without flags. A client's share is nine tenths of the connections and the waiters, half of
    /// the snapshot bytes, and nine tenths of the upload bytes.
    fn default() -> Self {
        Self {
            max_connections: 100_000,
            max_client_connections: 90_000,
            max_waiters: 100_000,
            max_client_waiters: 90_000,
            max_client_streams: 90_000,
            max_client_rate: None,
            max_snapshot_bytes: 1 << 30,
            max_client_snapshot_bytes: 1 << 29,
            max_upload_bytes: 256 << 20,
            max_client_upload_bytes: 231 << 20,
        }
    }
}

/// A limit over which requests are refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Limit {
    Connections,
    ClientConnections,
    Waiters,
    ClientWaiters,
    ClientStreams,
    ClientRate,
    SnapshotBytes,
    ClientSnapshotBytes,
    UploadBytes,
    ClientUploadBytes,
}

impl Limit {
    const ALL: [Self; 10] = [
        Self::Connections,
        Self::ClientConnections,
        Self::Waiters,
        Self::ClientWaiters,
        Self::ClientStreams,
        Self::ClientRate,
        Self::SnapshotBytes,
        Self::ClientSnapshotBytes,
        Self::UploadBytes,
        Self::ClientUploadBytes,
    ];

    /// The name of the flag that sets it.
    fn as_str(self) -> &'static str {
        match self {
            Self::Connections => "max-connections",
            Self::ClientConnections => "max-client-connections",
            Self::Waiters => "max-waiters",
            Self::ClientWaiters => "max-client-waiters",
            Self::ClientStreams => "max-client-streams",
            Self::ClientRate => "max-client-rate",
            Self::SnapshotBytes => "max-snapshot-bytes",
            Self::ClientSnapshotBytes => "max-client-snapshot-bytes",
            Self::UploadBytes => "max-upload-bytes",
            Self::ClientUploadBytes => "max-client-upload-bytes",
        }
    }
}

/// The length of the head that is kept while its request waits: the target and the headers.
#[derive(Clone, Copy, Default)]
pub(super) struct HeadBytes(usize);

impl HeadBytes {
    /// The length of the head of this request.
    pub(super) fn of(parts: &Parts) -> Self {
        let target = parts.uri.path_and_query().map_or(0, |target| target.as_str().len());
        let headers = parts.headers.iter().map(|(name, value)| name.as_str().len() + value.len());
        Self(target + headers.sum::<usize>())
    }
}

impl FromRequestParts<App> for HeadBytes {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self, Infallible> {
        Ok(Self::of(parts))
    }
}

/// The use of a limit.
pub(super) struct LimitUse {
    /// The name of the flag that sets it.
    pub(super) flag: &'static str,
    /// What is used of it now; `None` for the share of one client.
    pub(super) used: Option<u64>,
    pub(super) max: u64,
    /// How many requests found it reached since the start.
    pub(super) refused: u64,
    /// Whether one did within the last minute.
    pub(super) is_refusing: bool,
    /// Whether `used` says something of every key.
    pub(super) depends_on_keys: bool,
}

/// The bytes of a request body, returned to the budgets on drop.
#[derive(Debug)]
pub(super) struct UploadBytes {
    /// The client's own; `None` if its share is the whole budget.
    own: Option<Reserved>,
    all: Reserved,
}

/// The budgets and what is left of them. Clones share them.
#[derive(Clone)]
pub(super) struct Budgets {
    limits: Arc<Limits>,
    refusals: Arc<[Arc<Refusals>; Limit::ALL.len()]>,
    /// The places of all waiters.
    waiters: Arc<AtomicUsize>,
    connections: Arc<Semaphore>,
    /// For connections of operators.
    reserve: Arc<Semaphore>,
    snapshots: ByteBudget,
    uploads: ByteBudget,
    large_writes: Arc<Semaphore>,
    addresses: Arc<Addresses>,
    /// The size of the buckets of requests, if they are limited.
    buckets: Option<Arc<BucketSize>>,
    /// The client of unix sockets, and of requests without a [`Peer`]: a program that embeds the crate may have a server of
    /// its own.
    unknown: Arc<Client>,
    /// The client of the addresses for operators. Its rate is not limited, so that nobody else can use it up.
    operators: Arc<Client>,
}

/// There is no place for a waiter. It is no refusal yet: the request may not have to wait.
pub(super) struct NoPlace(Limit);

/// There is no room for a connection: in the budget of all, or in the share of its address.
pub(super) enum NoRoom {
    ForAll,
    ForClient(Arc<Client>),
}

impl Budgets {
    pub(super) fn new(limits: Limits) -> Self {
        let permits = |number: usize| Arc::new(Semaphore::new(number.min(Semaphore::MAX_PERMITS)));
        let refusals: [Arc<Refusals>; Limit::ALL.len()] = std::array::from_fn(|_| Arc::default());
        let bytes =
            |max, limit: Limit, what| ByteBudget::new(max, what, Arc::clone(&refusals[limit as usize]));
        let what = "snapshots are being sent (--max-snapshot-bytes)";
        let snapshots = bytes(limits.max_snapshot_bytes, Limit::SnapshotBytes, what);
        let what = "request bodies are being received (--max-upload-bytes)";
        let uploads = bytes(limits.max_upload_bytes, Limit::UploadBytes, what);
        let waiters = Arc::default();
        let buckets = limits.max_client_rate.map(|rate| Arc::new(BucketSize::new(rate)));
        let unknown = new_client(&NO_ADDRESS, &limits, &refusals, &waiters, &snapshots, buckets.clone());
        let operators = new_client(&OPERATORS, &limits, &refusals, &waiters, &snapshots, None);
        let (unknown, operators) = (Arc::new(unknown), Arc::new(operators));
        Self {
            connections: permits(limits.max_connections),
            reserve: permits(RESERVED_CONNECTIONS),
            large_writes: permits(1),
            addresses: Arc::default(),
            buckets,
            unknown,
            operators,
            waiters,
            snapshots,
            uploads,
            refusals: Arc::new(refusals),
            limits: Arc::new(limits),
        }
    }

    /// The peer of a connection from this address.
    pub(super) fn peer(&self, address: SocketAddr) -> Peer {
        self.addresses.peer(address, || self.client(&ADDRESS))
    }

    /// The peer of a connection without an address, which are all those of unix sockets, and of requests without a [`Peer`].
    /// Together they are one client.
    pub(super) fn peer_without_address(&self) -> Peer {
        Peer::of(&self.unknown, None)
    }

    /// A client that is a token.
    pub(super) fn token_client(&self) -> Arc<Client> {
        Arc::new(self.client(&TOKEN))
    }

    fn client(&self, kind: &Kind) -> Client {
        let (limits, refusals, buckets) = (&self.limits, &self.refusals, self.buckets.clone());
        new_client(kind, limits, refusals, &self.waiters, &self.snapshots, buckets)
    }

    fn refusals(&self, limit: Limit) -> &Arc<Refusals> {
        &self.refusals[limit as usize]
    }

    /// The refusals since the start, by the flag that sets the limit.
    pub(super) fn refused(&self) -> impl Iterator<Item = (&'static str, u64)> {
        Limit::ALL.into_iter().map(|limit| (limit.as_str(), self.refusals(limit).total()))
    }

    /// The use of each limit.
    pub(super) fn usage(&self) -> impl Iterator<Item = LimitUse> {
        let limits = &self.limits;
        let number = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        Limit::ALL.into_iter().filter_map(move |limit| {
            let (used, max) = match limit {
                Limit::Connections => (Some(number(self.connections())), number(limits.max_connections)),
                Limit::Waiters => (Some(number(self.waiters())), number(limits.max_waiters)),
                Limit::ClientConnections => (None, number(limits.max_client_connections)),
                Limit::ClientWaiters => (None, number(limits.max_client_waiters)),
                Limit::ClientStreams => (None, number(limits.max_client_streams)),
                // In the time of the flag.
                Limit::ClientRate => (None, u64::from(limits.max_client_rate?.requests())),
                Limit::SnapshotBytes => (Some(self.snapshot_bytes()), limits.max_snapshot_bytes),
                Limit::ClientSnapshotBytes => (None, limits.max_client_snapshot_bytes),
                Limit::UploadBytes => (Some(self.upload_bytes()), limits.max_upload_bytes),
                Limit::ClientUploadBytes => (None, limits.max_client_upload_bytes),
            };
            let refusals = self.refusals(limit);
            let depends_on_keys = matches!(limit, Limit::SnapshotBytes | Limit::UploadBytes);
            let (refused, is_refusing) = (refusals.total(), refusals.happened_within(LATELY));
            Some(LimitUse { flag: limit.as_str(), used, max, refused, is_refusing, depends_on_keys })
        })
    }

    /// The limits.
    pub(super) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Counts a request of this client.
    ///
    /// # Errors
    /// The refusal of a request over its client's rate.
    #[inline]
    pub(super) fn request(&self, client: &Client) -> Result<(), Problem> {
        client.count_request().map_err(|after| self.too_fast(client, after))
    }

    #[cold]
    fn too_fast(&self, client: &Client, after: Duration) -> Problem {
        self.refusals(Limit::ClientRate).note();
        let rate = self.limits.max_client_rate.map(|rate| rate.to_string()).unwrap_or_default();
        let flag = Limit::ClientRate.as_str();
        // Rounded up: it is let in then.
        let after_s = after.as_millis().div_ceil(1000).max(1);
        let detail = format!("{} sends more than {rate} requests (--{flag}); retry later", client.name());
        Problem::rate_limited(detail, u64::try_from(after_s).unwrap_or(u64::MAX))
    }

    /// Counts a waiter of this client for these keys, whose request has this head, until the guard is dropped.
    pub(super) fn waiter<C>(
        &self,
        client: C,
        keys: &KeySelector,
        head: HeadBytes,
    ) -> Result<WaiterGuard<C>, NoPlace>
    where
        C: Deref<Target = Client>,
    {
        self.place(client, keys, head, false)
    }

    /// The same for a waiter that is a stream, or waits for one key.
    pub(super) fn stream<C>(
        &self,
        client: C,
        keys: &KeySelector,
        head: HeadBytes,
    ) -> Result<WaiterGuard<C>, NoPlace>
    where
        C: Deref<Target = Client>,
    {
        self.place(client, keys, head, true)
    }

    fn place<C>(
        &self,
        client: C,
        keys: &KeySelector,
        head: HeadBytes,
        is_stream: bool,
    ) -> Result<WaiterGuard<C>, NoPlace>
    where
        C: Deref<Target = Client>,
    {
        // However long its keys and head are, a waiter fits into an empty budget.
        let (max, max_client) = (self.limits.max_waiters, self.limits.max_client_waiters);
        let places = places(keys, head).min(max).min(max_client);
        let (waiter, before) =
            WaiterGuard::take(client, u32::try_from(places).unwrap_or(u32::MAX), is_stream);
        match () {
            () if before.all + places > max => Err(NoPlace(Limit::Waiters)),
            () if before.client + places > max_client => Err(NoPlace(Limit::ClientWaiters)),
            () if before.streams >= self.limits.max_client_streams => Err(NoPlace(Limit::ClientStreams)),
            () => Ok(waiter),
        }
    }

    /// The refusal of a request of this client that would have to wait.
    pub(super) fn no_place(&self, NoPlace(limit): NoPlace, client: &Client) -> Problem {
        let (limits, name) = (&self.limits, client.name());
        let full = match limit {
            Limit::ClientWaiters => {
                format!("{} requests of {name} are waiting for a breadcrumb", limits.max_client_waiters)
            }
            Limit::ClientStreams => {
                format!("{} streams and waits for one key of {name} are open", limits.max_client_streams)
            }
            _ => format!("{} requests are waiting for a breadcrumb", limits.max_waiters),
        };
        self.refuse(limit, &format!("{full} (--{})", limit.as_str()))
    }

    /// How many places waiters take.
    pub(super) fn waiters(&self) -> usize {
        self.waiters.load(Ordering::Relaxed)
    }

    /// A permit for one more connection, if there is one; out of the reserve, if it may be.
    pub(super) fn connection(&self, has_reserve: bool) -> Option<OwnedSemaphorePermit> {
        let permit = |of: &Arc<Semaphore>| Arc::clone(of).try_acquire_owned().ok();
        let reserved = if has_reserve { permit(&self.reserve) } else { None };
        reserved.or_else(|| permit(&self.connections))
    }

    /// The peer of one more connection from this address, if there is room in the share of its client; without an address, on a
    /// unix socket. The connections of operators have no share.
    pub(super) fn connected(
        &self,
        address: Option<SocketAddr>,
        is_operator: bool,
    ) -> Result<Connected, NoRoom> {
        let peer = match address {
            _ if is_operator => Peer::of(&self.operators, address),
            Some(address) => self.peer(address),
            None => self.peer_without_address(),
        };
        let (peer, before) = peer.connects();
        let Limits { max_connections, max_client_connections: share, .. } = *self.limits;
        // A share of everything is none: then the limit of all is what is said.
        match is_operator || before < share || share >= max_connections {
            true => Ok(peer),
            false => Err(NoRoom::ForClient(Arc::clone(peer.client()))),
        }
    }

    /// How many connections are open, without those of the reserve.
    pub(super) fn connections(&self) -> usize {
        self.limits.max_connections.saturating_sub(self.connections.available_permits())
    }

    /// How many addresses are counted.
    pub(super) fn addresses(&self) -> usize {
        self.addresses.len()
    }

    /// The refusal of a connection over a budget.
    pub(super) fn too_many_connections(&self, full: &NoRoom) -> Problem {
        let (limit, open) = match full {
            NoRoom::ForAll => (Limit::Connections, format!("{} connections", self.limits.max_connections)),
            NoRoom::ForClient(client) => (
                Limit::ClientConnections,
                format!("{} connections of {}", self.limits.max_client_connections, client.name()),
            ),
        };
        self.refuse(limit, &format!("{open} are open (--{})", limit.as_str()))
    }

    fn refuse(&self, limit: Limit, detail: &str) -> Problem {
        Problem::over_budget(
            format!("{detail}; retry later or use another replica"),
            self.refusals(limit).count(),
        )
    }

    /// Reserves bytes for a request body of at least this length from a client.
    pub(super) async fn upload(&self, client: &Client, bytes: u64) -> Result<UploadBytes, Problem> {
        let mut reserved =
            UploadBytes { own: client.uploads().map(ByteBudget::nothing), all: self.uploads.nothing() };
        reserved.grow(bytes).await.map(|()| reserved)
    }

    /// Permits one large write at a time. Parsed records may take several times the size of the body, and all writes are
    /// applied one after the other anyway.
    pub(super) async fn large_write(&self) -> Option<OwnedSemaphorePermit> {
        // The semaphore is never closed.
        Arc::clone(&self.large_writes).acquire_owned().await.ok()
    }

    /// The bytes of large bodies that are being sent. Bytes that several of them share count once.
    pub(super) fn snapshot_bytes(&self) -> u64 {
        self.snapshots.held()
    }

    /// The bytes of request bodies that are being received or applied.
    pub(super) fn upload_bytes(&self) -> u64 {
        self.uploads.held()
    }
}

impl NoPlace {
    /// Whether the client has too many streams.
    #[cfg(feature = "etcd")]
    pub(super) fn is_of_streams(&self) -> bool {
        self.0 == Limit::ClientStreams
    }
}

impl NoRoom {
    /// A place among the refusals of the same address, of at most so many; `None` if there is none. Where all are full, the
    /// listener's own limit is enough.
    pub(super) fn refusing(&self, most: usize) -> Option<Option<Refusing>> {
        match self {
            Self::ForAll => Some(None),
            Self::ForClient(client) => client.refusing(most).map(Some),
        }
    }
}

fn new_client(
    kind: &Kind,
    limits: &Limits,
    refusals: &[Arc<Refusals>; Limit::ALL.len()],
    waiters: &Arc<AtomicUsize>,
    snapshots: &ByteBudget,
    buckets: Option<Arc<BucketSize>>,
) -> Client {
    let own = |max, limit: Limit, what| ByteBudget::new(max, what, Arc::clone(&refusals[limit as usize]));
    let to = own(limits.max_client_snapshot_bytes, Limit::ClientSnapshotBytes, kind.snapshots);
    let from = own(limits.max_client_upload_bytes, Limit::ClientUploadBytes, kind.uploads);
    let uploads = (limits.max_client_upload_bytes < limits.max_upload_bytes).then_some(from);
    Client::new(kind.name, waiters, Account::new(snapshots.clone(), to), uploads, buckets)
}

impl UploadBytes {
    /// Grows to this length; waits for others to be returned. The client's own bytes come first, so that a client over
    /// its share keeps nobody else waiting.
    pub(super) async fn grow(&mut self, bytes: u64) -> Result<(), Problem> {
        let deadline = queue_deadline();
        if let Some(own) = &mut self.own {
            own.grow(bytes, deadline).await.map_err(ViewError::from)?;
        }
        Ok(self.all.grow(bytes, deadline).await.map_err(ViewError::from)?)
    }
}

/// The places of a waiter: one, and one more for each [`PLACE_BYTES`] that its keys and an unusually long head take.
fn places(keys: &KeySelector, HeadBytes(head): HeadBytes) -> usize {
    let prefixes = keys.iter().len().saturating_sub(1);
    let buffers = if head > USUAL_HEAD_BYTES { 2 * head } else { 0 };
    1 + (keys.bytes() + PREFIX_BYTES * prefixes + buffers) / PLACE_BYTES
}
