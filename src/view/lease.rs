//! Leases: the bytes of bodies that requests under way hold, counted once however many requests share them.
//!
//! ```text
//! request ── Held ──┐
//! request ── Held ──┴─ Lease ── the body's own bytes
//!                         └──── runs of pages ── pages, each shared with the bodies of other states
//! ```
//!
//! A body has one lease while any request holds it. A page is counted while any lease contains it, so a body of a newer
//! state costs what it does not share with the bodies in flight, and a page of an old state is counted as long as a
//! slow reader needs it. A client ([`Account`]) is charged once for each body that it holds, with the bytes that the
//! body added when its lease was made.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use tokio::time::{Instant, timeout_at};

use super::budget::{ByteBudget, OverBudget, Reserved, queue_deadline};

/// Encoded bytes that several bodies share.
pub(super) trait SharedBytes: Send + Sync {
    /// Another lease contains them. Returns how many of them no other lease contained.
    fn hold(&self) -> u64;

    /// A lease that contained them is gone. Returns how many of them no lease contains any more.
    fn release(&self) -> u64;

    /// How many of them no lease contains now.
    fn unheld(&self) -> u64;
}

/// The bytes of a body, and its lease.
pub(super) struct BodyBytes {
    /// The bytes that only this body contains.
    alone: u64,
    shared: Box<[Arc<dyn SharedBytes>]>,
    /// Locked by the request that makes the lease.
    lease: tokio::sync::Mutex<Weak<Lease>>,
}

/// The counted bytes of a body, returned on drop.
struct Lease {
    budget: ByteBudget,
    bytes: Arc<BodyBytes>,
    /// How many bytes no other lease contained when this one was made.
    added: u64,
}

/// A request's part in a lease, until it is dropped.
pub struct Held {
    lease: Arc<Lease>,
    account: Arc<Shares>,
}

/// A client's share of the budget. Clones are the same account.
#[derive(Clone)]
pub struct Account(Option<Arc<Shares>>);

struct Shares {
    /// The budget of all clients.
    all: ByteBudget,
    /// The client's own.
    own: ByteBudget,
    /// The bodies that the client holds, by the addresses of their leases.
    bodies: Mutex<HashMap<usize, Charge>>,
}

/// A body that a client holds.
struct Charge {
    /// Its requests that hold the body.
    requests: usize,
    _reserved: Reserved,
}

/// A request's claim to room for a body that is not made yet, or that no request holds.
pub(super) struct Claim {
    /// `None` if nothing is counted.
    shares: Option<Arc<Shares>>,
    /// The time until which it waits.
    deadline: Instant,
    /// The room that it has so far: first of the client's own, then of all.
    own: Option<Reserved>,
    all: Option<Reserved>,
}

/// A budget without room for some bytes.
pub(super) enum Lack {
    /// The client's own. Other clients must not have to wait meanwhile.
    Own(u64),
    /// That of all clients.
    All(u64),
}

impl Account {
    /// An account that is charged to `own` and to the budget of all clients.
    pub(crate) fn new(all: ByteBudget, own: ByteBudget) -> Self {
        Self(Some(Arc::new(Shares { all, own, bodies: Mutex::default() })))
    }

    /// An account for which nothing is counted.
    pub fn unlimited() -> Self {
        Self(None)
    }

    /// The bytes that the client holds.
    pub fn held(&self) -> u64 {
        self.0.as_ref().map_or(0, |shares| shares.own.held())
    }

    /// The claim of a request that begins now.
    pub(super) fn claim(&self) -> Claim {
        Claim { shares: self.0.clone(), deadline: queue_deadline(), own: None, all: None }
    }
}

impl Claim {
    /// Takes room for a body if there is some now.
    pub(super) fn try_take(&mut self, bytes: u64) -> Result<(), Lack> {
        let Some(shares) = &self.shares else { return Ok(()) };
        self.own = self.own.take().or_else(|| shares.own.try_reserve(bytes));
        if self.own.is_none() {
            return Err(Lack::Own(bytes));
        }
        self.all = self.all.take().or_else(|| shares.all.try_reserve(bytes));
        if self.all.is_some() { Ok(()) } else { Err(Lack::All(bytes)) }
    }

    /// Takes room for a body that does not wait for it.
    #[cfg(feature = "etcd")]
    pub(super) fn take_now(&mut self, bytes: u64) -> Result<(), OverBudget> {
        match (self.try_take(bytes), &self.shares) {
            (Err(Lack::Own(_)), Some(shares)) => Err(shares.own.refusal()),
            (Err(Lack::All(_)), Some(shares)) => Err(shares.all.refusal()),
            _ => Ok(()),
        }
    }

    /// Moves the claim to another thread. What is left has no room yet.
    pub(super) fn take(&mut self) -> Self {
        let rest = Self { shares: self.shares.clone(), deadline: self.deadline, own: None, all: None };
        std::mem::replace(self, rest)
    }

    /// Waits for the room that was lacking.
    pub(super) async fn wait(&mut self, lack: Lack) -> Result<(), OverBudget> {
        let Some(shares) = &self.shares else { return Ok(()) };
        match lack {
            Lack::Own(bytes) => self.own = Some(shares.own.reserve(bytes, self.deadline).await?),
            Lack::All(bytes) => self.all = Some(shares.all.reserve(bytes, self.deadline).await?),
        }
        Ok(())
    }

    /// The lease of a body that was made in the room of this claim. The body is not shared yet.
    pub(super) fn lease(&mut self, bytes: &Arc<BodyBytes>) -> Option<Arc<Held>> {
        match bytes.lease.try_lock() {
            Ok(mut slot) => self.lease_in(bytes, &mut slot),
            Err(_) => self.lease_in(bytes, &mut Weak::new()),
        }
    }

    /// A body that is larger than its room exists already: it is counted although there may be no room.
    fn lease_in(&mut self, bytes: &Arc<BodyBytes>, slot: &mut Weak<Lease>) -> Option<Arc<Held>> {
        let shares = self.shares.clone()?;
        let added = bytes.alone + bytes.shared.iter().map(|shared| shared.hold()).sum::<u64>();
        // The rest of the room is for the same body in a coding.
        let all = self.all.get_or_insert_with(|| shares.all.nothing()).split(added);
        let own = self.own.get_or_insert_with(|| shares.own.nothing()).split(added);
        let lease = Arc::new(Lease { budget: all.leave(added), bytes: Arc::clone(bytes), added });
        *slot = Arc::downgrade(&lease);
        Some(shares.charge(lease, own))
    }
}

impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Account").field("held", &self.held()).finish_non_exhaustive()
    }
}

impl BodyBytes {
    pub(super) fn new(alone: u64, shared: Vec<Arc<dyn SharedBytes>>) -> Arc<Self> {
        Arc::new(Self { alone, shared: shared.into(), lease: tokio::sync::Mutex::new(Weak::new()) })
    }

    /// A request's part in the lease, which is made if there is none.
    pub(super) async fn held_by(
        self: &Arc<Self>,
        claim: &mut Claim,
    ) -> Result<Option<Arc<Held>>, OverBudget> {
        let Some(shares) = claim.shares.clone() else { return Ok(None) };
        loop {
            // While another request waits for room for this body, this one waits for that lease.
            let mut slot = timeout_at(claim.deadline, self.lease.lock()).await.ok();
            if let Some(lease) = slot.as_ref().and_then(|slot| slot.upgrade()) {
                drop(slot);
                return shares.join(lease, claim).await.map(Some);
            }
            match claim.try_take(self.unheld()) {
                Ok(()) => {}
                Err(lack @ Lack::Own(_)) => {
                    drop(slot);
                    claim.wait(lack).await?;
                    continue;
                }
                Err(lack) => claim.wait(lack).await?,
            }
            return Ok(match &mut slot {
                Some(slot) => claim.lease_in(self, slot),
                None => claim.lease(self),
            });
        }
    }

    /// How many bytes a lease would add now.
    fn unheld(&self) -> u64 {
        self.alone + self.shared.iter().map(|shared| shared.unheld()).sum::<u64>()
    }
}

impl Shares {
    /// Joins a lease: the client is charged unless it holds the body already.
    async fn join(self: &Arc<Self>, lease: Arc<Lease>, claim: &mut Claim) -> Result<Arc<Held>, OverBudget> {
        if let Some(charge) = self.bodies.lock().get_mut(&lease.id()) {
            charge.requests += 1;
            return Ok(Arc::new(Held { lease, account: Arc::clone(self) }));
        }
        let own = match claim.own.take() {
            Some(mut own) => {
                own.settle(lease.added);
                own
            }
            None => self.own.reserve(lease.added, claim.deadline).await?,
        };
        Ok(self.charge(lease, own))
    }

    fn charge(self: &Arc<Self>, lease: Arc<Lease>, own: Reserved) -> Arc<Held> {
        let mut bodies = self.bodies.lock();
        // Another request of the client may have joined meanwhile: then `own` is returned.
        bodies.entry(lease.id()).or_insert(Charge { requests: 0, _reserved: own }).requests += 1;
        Arc::new(Held { lease, account: Arc::clone(self) })
    }
}

impl Lease {
    /// The identity of the lease while it exists.
    fn id(self: &Arc<Self>) -> usize {
        Arc::as_ptr(self).addr()
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let shared = self.bytes.shared.iter().map(|shared| shared.release()).sum::<u64>();
        self.budget.give_back(self.bytes.alone + shared);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut bodies = self.account.bodies.lock();
        if let Some(charge) = bodies.get_mut(&self.lease.id()) {
            charge.requests -= 1;
            if charge.requests == 0 {
                bodies.remove(&self.lease.id());
            }
        }
    }
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Held").field("added", &self.lease.added).finish_non_exhaustive()
    }
}
