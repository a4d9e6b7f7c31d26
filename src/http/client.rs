//! Clients: whose requests share a part of the budgets. A client is a token, or an address where there are no tokens.
//!
//! Connections are counted by address, because a connection has no token. An IPv6 address counts as its network of 64
//! bits: whoever has one address of it usually has all 2^64.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::ops::Deref;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::http::app::App;
use crate::http::rate::{Bucket, BucketSize};
use crate::view::{Account, ByteBudget};

/// Addresses that are not needed are removed when there are twice as many addresses as after the last time, and at
/// least this many.
const MIN_SWEEP: usize = 1024;

/// Addresses without a connection whose rate is remembered. That of more is forgotten: so many addresses are limited
/// by nothing that counts each on its own.
const MAX_RESTING: usize = 16_384;

/// The bits of an IPv6 address that say whose it is.
const NETWORK: u128 = !0 << 64;

/// A client and its use of the budgets.
pub(in crate::http) struct Client {
    /// The name in a refusal: "this address" or "this token".
    name: &'static str,
    /// Where it is known by its address.
    home: Option<Home>,
    /// Its open connections, if it is an address, and those that are being refused.
    connections: AtomicUsize,
    refusing: AtomicUsize,
    /// The places of its waiters, and of all waiters.
    waiters: AtomicUsize,
    all_waiters: Arc<AtomicUsize>,
    /// Those of its waiters that are streams.
    streams: AtomicUsize,
    account: Account,
    /// The budget of its request bodies; `None` if only that of all clients limits it.
    uploads: Option<ByteBudget>,
    /// The bucket of its requests; `None` if there is no limit.
    requests: Option<Requests>,
}

struct Home {
    addresses: Arc<Addresses>,
    network: IpAddr,
}

/// A client's bucket, which may outlive the client.
#[derive(Clone)]
struct Requests {
    size: Arc<BucketSize>,
    bucket: Arc<Bucket>,
}

impl Requests {
    fn is_full(&self) -> bool {
        self.bucket.is_full(&self.size, Instant::now())
    }
}

/// The other end of a connection. Every request has it among its extensions.
#[derive(Clone)]
pub(in crate::http) struct Peer {
    client: Arc<Client>,
    ip: Option<IpAddr>,
    port: u16,
}

/// The clients by address, while they have connections or a bucket that is not full.
pub(in crate::http) struct Addresses(Mutex<ByAddress>);

struct ByAddress {
    clients: HashMap<IpAddr, Known>,
    sweep_at: usize,
}

/// A client of an address.
struct Known {
    client: Weak<Client>,
    requests: Option<Requests>,
}

/// A connection of a peer, until it is dropped.
pub(in crate::http) struct Connected(Peer);

/// A connection that is being refused, until the guard is dropped.
pub(in crate::http) struct Refusing(Arc<Client>);

/// The places of a waiter, until the guard is dropped.
pub(in crate::http) struct WaiterGuard<C: Deref<Target = Client>> {
    client: C,
    places: u32,
    is_stream: bool,
}

impl Client {
    /// A client without an address, which is a token.
    pub(in crate::http) fn new(
        name: &'static str,
        all_waiters: &Arc<AtomicUsize>,
        account: Account,
        uploads: Option<ByteBudget>,
        bucket: Option<Arc<BucketSize>>,
    ) -> Self {
        Self {
            name,
            home: None,
            connections: AtomicUsize::new(0),
            refusing: AtomicUsize::new(0),
            waiters: AtomicUsize::new(0),
            all_waiters: Arc::clone(all_waiters),
            streams: AtomicUsize::new(0),
            account,
            uploads,
            requests: bucket.map(|size| Requests { size, bucket: Arc::default() }),
        }
    }

    /// The name in a refusal.
    pub(in crate::http) fn name(&self) -> &'static str {
        self.name
    }

    /// The budget of its request bodies, if it has its own.
    pub(in crate::http) fn uploads(&self) -> Option<&ByteBudget> {
        self.uploads.as_ref()
    }

    /// The account of the large bodies that it holds.
    pub(in crate::http) fn account(&self) -> &Account {
        &self.account
    }

    /// Counts a request.
    ///
    /// # Errors
    /// Over its rate: the time after which there is room for the request.
    #[inline]
    pub(in crate::http) fn count_request(&self) -> Result<(), Duration> {
        let Some(Requests { size, bucket }) = &self.requests else { return Ok(()) };
        bucket.take(size, Instant::now())
    }

    /// A connection to be refused, unless that is being done to as many.
    pub(in crate::http) fn refusing(self: &Arc<Self>, most: usize) -> Option<Refusing> {
        let before = self.refusing.fetch_add(1, Ordering::Relaxed);
        let refusing = Refusing(Arc::clone(self));
        (before < most).then_some(refusing)
    }
}

impl Drop for Refusing {
    fn drop(&mut self) {
        self.0.refusing.fetch_sub(1, Ordering::Relaxed);
    }
}

impl<C: Deref<Target = Client>> WaiterGuard<C> {
    /// Takes places, and one of a stream if it is one. Returns how many of each were taken before.
    pub(in crate::http) fn take(client: C, places: u32, is_stream: bool) -> (Self, TakenBefore) {
        let take = |taken: &AtomicUsize, places| taken.fetch_add(places, Ordering::Relaxed);
        let before = TakenBefore {
            all: take(&client.all_waiters, places as usize),
            client: take(&client.waiters, places as usize),
            streams: if is_stream { take(&client.streams, 1) } else { 0 },
        };
        (Self { client, places, is_stream }, before)
    }
}

/// The places that were taken before.
pub(in crate::http) struct TakenBefore {
    pub(in crate::http) all: usize,
    pub(in crate::http) client: usize,
    /// By streams of the client, one each.
    pub(in crate::http) streams: usize,
}

impl<C: Deref<Target = Client>> Drop for WaiterGuard<C> {
    fn drop(&mut self) {
        for taken in [&self.client.waiters, &*self.client.all_waiters] {
            taken.fetch_sub(self.places as usize, Ordering::Relaxed);
        }
        if self.is_stream {
            self.client.streams.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Peer {
    /// A peer that is counted as this client, whatever its address is.
    pub(in crate::http) fn of(client: &Arc<Client>, address: Option<SocketAddr>) -> Self {
        let ip = address.map(|address| address.ip().to_canonical());
        Self { client: Arc::clone(client), ip, port: address.map_or(0, |address| address.port()) }
    }

    /// The client as which the address is counted.
    pub(in crate::http) fn client(&self) -> &Arc<Client> {
        &self.client
    }

    /// The address and port.
    pub(in crate::http) fn address(&self) -> Option<SocketAddr> {
        self.ip.map(|ip| SocketAddr::new(ip, self.port))
    }

    /// A connection of it, and how many it had before.
    pub(in crate::http) fn connects(self) -> (Connected, usize) {
        let before = self.client.connections.fetch_add(1, Ordering::Relaxed);
        (Connected(self), before)
    }
}

impl Deref for Connected {
    type Target = Peer;

    fn deref(&self) -> &Peer {
        &self.0
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        let client = &self.0.client;
        client.connections.fetch_sub(1, Ordering::Relaxed);
        if let Some(Home { addresses, network }) = &client.home {
            addresses.forget_unused(*network, client);
        }
    }
}

impl FromRequestParts<App> for Peer {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Infallible> {
        let unknown = || app.budgets.peer_without_address();
        Ok(parts.extensions.get().cloned().unwrap_or_else(unknown))
    }
}

impl Default for Addresses {
    fn default() -> Self {
        Self(Mutex::new(ByAddress { clients: HashMap::new(), sweep_at: MIN_SWEEP }))
    }
}

impl Addresses {
    /// The peer at this address. Connections of one IPv4 address or one IPv6 network are one client.
    pub(in crate::http) fn peer(self: &Arc<Self>, address: SocketAddr, new: impl FnOnce() -> Client) -> Peer {
        let (ip, port) = (address.ip().to_canonical(), address.port());
        let network = network(ip);
        let mut by_address = self.0.lock();
        let known = by_address.clients.get(&network);
        if let Some(client) = known.and_then(|known| known.client.upgrade()) {
            return Peer { client, ip: Some(ip), port };
        }
        let remembered = known.and_then(|known| known.requests.clone());
        if by_address.clients.len() >= by_address.sweep_at {
            by_address.sweep();
        }
        let new = new();
        let home = Some(Home { addresses: Arc::clone(self), network });
        let requests = remembered.or_else(|| new.requests.clone());
        let client = Arc::new(Client { home, requests: requests.clone(), ..new });
        by_address.clients.insert(network, Known { client: Arc::downgrade(&client), requests });
        Peer { client, ip: Some(ip), port }
    }

    /// How many addresses are known.
    pub(in crate::http) fn len(&self) -> usize {
        self.0.lock().clients.len()
    }

    /// Forgets a client that only the caller uses. Its bucket is remembered while it is not full.
    fn forget_unused(&self, network: IpAddr, client: &Arc<Client>) {
        let clients = &mut self.0.lock().clients;
        // Nobody gets it meanwhile, because that needs the lock.
        if Arc::strong_count(client) == 1 && client.requests.as_ref().is_none_or(Requests::is_full) {
            clients.remove(&network);
        }
    }
}

impl ByAddress {
    /// Removes the addresses that are not needed.
    fn sweep(&mut self) {
        let is_used = |known: &Known| known.client.strong_count() > 0;
        let is_resting = |known: &Known| known.requests.as_ref().is_some_and(|requests| !requests.is_full());
        let mut resting = 0;
        self.clients.retain(|_, known| {
            if is_used(known) {
                return true;
            }
            resting += 1;
            resting <= MAX_RESTING && is_resting(known)
        });
        self.clients.shrink_to(2 * self.clients.len());
        self.sweep_at = MIN_SWEEP.max(2 * self.clients.len());
    }
}

/// The addresses that are one client with this one.
fn network(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(_) => ip,
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & NETWORK).into(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // a test may unwrap

    use super::*;

    fn client(rate: Option<&str>) -> Client {
        let size = rate.map(|rate| Arc::new(BucketSize::new(rate.parse().unwrap())));
        Client::new("this address", &Arc::default(), Account::unlimited(), None, size)
    }

    fn peer(addresses: &Arc<Addresses>, ip: impl Into<IpAddr>, rate: Option<&str>) -> Peer {
        addresses.peer((ip.into(), 1).into(), || client(rate))
    }

    #[test]
    fn connections_of_one_address_are_one_client_until_the_last_has_ended() {
        let addresses = Arc::default();
        let peer = |ip: [u8; 4]| peer(&addresses, ip, None).connects().0;
        let (one, two, other) = (peer([127, 0, 0, 1]), peer([127, 0, 0, 1]), peer([127, 0, 0, 2]));
        assert!(Arc::ptr_eq(one.client(), two.client()) && !Arc::ptr_eq(one.client(), other.client()));
        assert_eq!(two.address(), Some(([127, 0, 0, 1], 1).into()));
        for n in 0..10_000_u16 {
            let [a, b] = n.to_be_bytes();
            peer([10, 0, a, b]);
        }
        assert_eq!(addresses.len(), 2);
        assert!(Arc::ptr_eq(one.client(), peer([127, 0, 0, 1]).client()));
        drop((one, two, other));
        assert_eq!(addresses.len(), 0);
    }

    #[test]
    fn an_ipv6_network_is_one_client_and_its_addresses_are_told_apart() {
        let addresses = Arc::default();
        let peer = |text: &str| peer(&addresses, text.parse::<IpAddr>().unwrap(), None);
        let (one, two, other) = (peer("2001:db8::1"), peer("2001:db8::ffff:2"), peer("2001:db8:0:1::1"));
        assert!(Arc::ptr_eq(one.client(), two.client()) && !Arc::ptr_eq(one.client(), other.client()));
        assert_eq!(two.address().unwrap().to_string(), "[2001:db8::ffff:2]:1");
        assert_eq!(peer("::ffff:127.0.0.1").address().unwrap().to_string(), "127.0.0.1:1");
    }

    #[test]
    fn a_rate_is_remembered_without_a_connection_and_the_memory_for_that_is_bounded() {
        let addresses = Arc::default();
        let connect = |ip: [u8; 4]| peer(&addresses, ip, Some("1/h")).connects().0;
        let spend = |peer: &Connected| while peer.client().count_request().is_ok() {};
        let stays = connect([127, 0, 0, 1]);
        spend(&stays);
        spend(&connect([127, 0, 0, 2]));
        assert!(connect([127, 0, 0, 2]).client().count_request().is_err(), "over another connection");
        // Who has sent nothing is not remembered.
        for n in 0..=u8::MAX {
            connect([10, 0, 0, n]);
        }
        assert_eq!(addresses.len(), 2);
        for n in 0..100_000_u32 {
            let [_, a, b, c] = n.to_be_bytes();
            connect([11, a, b, c]).client().count_request().unwrap();
        }
        assert!(addresses.len() <= 2 * (MAX_RESTING + 1), "{}", addresses.len());
        assert!(connect([127, 0, 0, 1]).client().count_request().is_err());
    }
}
