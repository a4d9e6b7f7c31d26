//! Clients: whose requests share a part of the budgets. A client is a token, or an address where there are no tokens.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::ops::Deref;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use parking_lot::Mutex;

use crate::http::app::App;
use crate::view::{Account, ByteBudget};

/// Addresses without a connection are removed when there are twice as many addresses as after the last time, and at
/// least this many.
const MIN_SWEEP: usize = 1024;

/// A client and its use of the budgets.
pub(in crate::http) struct Client {
    /// The name in a refusal: "this address" or "this token".
    name: &'static str,
    address: Option<IpAddr>,
    /// The places of its waiters, and of all waiters.
    waiters: AtomicUsize,
    all_waiters: Arc<AtomicUsize>,
    account: Account,
    /// The budget of its request bodies; `None` if only that of all clients limits it.
    uploads: Option<ByteBudget>,
}

/// The other end of a connection. Every request has it among its extensions.
#[derive(Clone)]
pub(in crate::http) struct Peer {
    client: Arc<Client>,
    port: u16,
}

/// The clients by address, while they have connections.
pub(in crate::http) struct Addresses(Mutex<ByAddress>);

struct ByAddress {
    clients: HashMap<IpAddr, Weak<Client>>,
    sweep_at: usize,
}

/// The places of a waiter, until the guard is dropped.
pub(in crate::http) struct WaiterGuard<C: Deref<Target = Client>> {
    client: C,
    places: u32,
}

impl Client {
    /// A client without an address, which is a token.
    pub(in crate::http) fn new(
        name: &'static str,
        all_waiters: &Arc<AtomicUsize>,
        account: Account,
        uploads: Option<ByteBudget>,
    ) -> Self {
        let all_waiters = Arc::clone(all_waiters);
        Self { name, address: None, waiters: AtomicUsize::new(0), all_waiters, account, uploads }
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
}

impl<C: Deref<Target = Client>> WaiterGuard<C> {
    /// Takes places. Returns how many were taken before, by this client and by all.
    pub(in crate::http) fn take(client: C, places: u32) -> (Self, [usize; 2]) {
        let counters = [&client.waiters, &*client.all_waiters];
        let before = counters.map(|taken| taken.fetch_add(places as usize, Ordering::Relaxed));
        (Self { client, places }, before)
    }
}

impl<C: Deref<Target = Client>> Drop for WaiterGuard<C> {
    fn drop(&mut self) {
        for taken in [&self.client.waiters, &*self.client.all_waiters] {
            taken.fetch_sub(self.places as usize, Ordering::Relaxed);
        }
    }
}

impl Peer {
    /// A peer without an address of its own.
    pub(in crate::http) fn without_address(client: &Arc<Client>) -> Self {
        Self { client: Arc::clone(client), port: 0 }
    }

    /// The client as which the address is counted.
    pub(in crate::http) fn client(&self) -> &Arc<Client> {
        &self.client
    }

    /// The address and port.
    pub(in crate::http) fn address(&self) -> Option<SocketAddr> {
        self.client.address.map(|address| SocketAddr::new(address, self.port))
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
    /// The peer at this address. Connections of one IP address are one client.
    pub(in crate::http) fn peer(&self, address: SocketAddr, new: impl FnOnce() -> Client) -> Peer {
        let (ip, port) = (address.ip().to_canonical(), address.port());
        let ByAddress { clients, sweep_at } = &mut *self.0.lock();
        if let Some(client) = clients.get(&ip).and_then(Weak::upgrade) {
            return Peer { client, port };
        }
        if clients.len() >= *sweep_at {
            clients.retain(|_, client| client.strong_count() > 0);
            *sweep_at = MIN_SWEEP.max(2 * clients.len());
        }
        let client = Arc::new(Client { address: Some(ip), ..new() });
        clients.insert(ip, Arc::downgrade(&client));
        Peer { client, port }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_of_one_address_are_one_client_until_the_last_has_ended() {
        let addresses = Addresses::default();
        let new = || Client::new("this address", &Arc::default(), Account::unlimited(), None);
        let peer = |ip: [u8; 4], port| addresses.peer((ip, port).into(), new);
        let (one, two, other) = (peer([127, 0, 0, 1], 1), peer([127, 0, 0, 1], 2), peer([127, 0, 0, 2], 1));
        assert!(Arc::ptr_eq(one.client(), two.client()) && !Arc::ptr_eq(one.client(), other.client()));
        assert_eq!(two.address(), Some(([127, 0, 0, 1], 2).into()));
        for n in 0..10_000_u16 {
            let [a, b] = n.to_be_bytes();
            peer([10, 0, a, b], 1);
        }
        assert!(addresses.0.lock().clients.len() <= MIN_SWEEP);
        assert!(Arc::ptr_eq(one.client(), peer([127, 0, 0, 1], 3).client()));
    }
}
