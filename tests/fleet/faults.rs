//! What happens to the replicas and the network: one fault at a time, so that there is always a replica to go on at.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::{Duration, Instant};

use fastrand::Rng;

use super::client::{self, Client};
use super::replica::Replica;
use super::support::etcd::Keys;
use super::{PATIENCE, PREFIX, failure, within};

/// A kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fault {
    /// All connections of a replica are closed, or reset.
    Cut { hard: bool },
    /// Connections to a replica end after some bytes, for a while.
    Tear,
    /// A replica refuses connections for a while.
    Refuse,
    /// A replica is cut off from the etcd for a while.
    LoseEtcd,
    /// A replica ends, by SIGKILL or SIGTERM, and starts again, with the state that it kept or without.
    Restart { kill: bool, with_state: bool },
    /// A client of each language is away while etcd forgets the revisions of their cursors, and so do both replicas.
    LeaveBehind,
}

const KINDS: [Fault; 10] = [
    Fault::Cut { hard: false },
    Fault::Cut { hard: true },
    Fault::Tear,
    Fault::Refuse,
    Fault::LoseEtcd,
    Fault::Restart { kill: false, with_state: true },
    Fault::Restart { kill: true, with_state: true },
    Fault::Restart { kill: false, with_state: false },
    Fault::Restart { kill: true, with_state: false },
    Fault::LeaveBehind,
];

pub struct Faults {
    replicas: [Replica; 2],
    keys: Keys,
    rng: Rng,
    /// Kinds that are still to come before all come again.
    deck: Vec<Fault>,
    happened: Vec<(Instant, String)>,
    counts: BTreeMap<Fault, usize>,
    marks: u32,
    left_behind: BTreeSet<String>,
}

impl Faults {
    pub fn new(replicas: [Replica; 2], keys: Keys, rng: Rng) -> Faults {
        Faults {
            replicas,
            keys,
            rng,
            deck: Vec::new(),
            happened: Vec::new(),
            counts: BTreeMap::new(),
            marks: 0,
            left_behind: BTreeSet::new(),
        }
    }

    pub fn had_each_kind(&self) -> bool {
        self.counts.len() == KINDS.len()
    }

    /// When each fault began, and what it was.
    pub fn happened(&self) -> Vec<(Instant, String)> {
        self.happened.clone()
    }

    /// Whether the cursor of the client was made to go.
    pub fn has_left_behind(&self, client: &Client) -> bool {
        self.left_behind.contains(&client.name)
    }

    pub fn summary(&self) -> String {
        let text = |(fault, count): (&Fault, &usize)| format!("{count} × {fault}");
        format!("{}: {}", self.happened.len(), self.counts.iter().map(text).collect::<Vec<_>>().join(", "))
    }

    /// The next fault, from its beginning until everything is as it was, and some quiet after it.
    pub async fn next(&mut self, clients: &[Client]) {
        if self.deck.is_empty() {
            self.deck = KINDS.to_vec();
            self.rng.shuffle(&mut self.deck);
        }
        let fault = self.deck.pop().unwrap();
        let one = self.rng.usize(..2);
        self.happened.push((Instant::now(), format!("{fault}, replica {one}")));
        *self.counts.entry(fault).or_default() += 1;
        match fault {
            Fault::Cut { hard } => self.replicas[one].cut(hard),
            Fault::Tear => {
                self.replicas[one].tear(true);
                self.pause(500, 4000).await;
                self.replicas[one].tear(false);
            }
            Fault::Refuse => {
                self.replicas[one].refuse();
                self.pause(500, 4000).await;
                self.replicas[one].take();
            }
            Fault::LoseEtcd => {
                self.replicas[one].lose_etcd();
                self.pause(500, 4000).await;
                self.replicas[one].find_etcd().await;
            }
            Fault::Restart { kill, with_state } => {
                self.replicas[one].end(kill);
                self.pause(0, 1500).await;
                self.replicas[one].start_again(with_state).await;
            }
            Fault::LeaveBehind => self.leave_behind(clients).await,
        }
        self.pause(500, 3500).await;
    }

    async fn leave_behind(&mut self, clients: &[Client]) {
        let mut away: BTreeMap<&str, &Client> = BTreeMap::new();
        for _ in 0..clients.len() {
            let client = &clients[self.rng.usize(..clients.len())];
            away.entry(client.language).or_insert(client);
        }
        away.values().for_each(|client| client.set_connected(false));
        // Their cursors are older than this write, and those of all others are as new.
        self.marks += 1;
        let revision = self.keys.put(&[PREFIX.as_bytes(), b"mark"].concat(), &client::mark(self.marks)).await;
        let is_away = |client: &Client| away.values().any(|away| away.name == client.name);
        let is_behind = |client: &Client| !is_away(client) && client.last_mark() < self.marks;
        if within(PATIENCE, async || (!clients.iter().any(is_behind)).then_some(())).await.is_none() {
            panic!("{}", failure("do not get a write", clients, &self.happened, is_behind));
        }
        // The first one is without its history before the second one goes.
        for one in 0..2 {
            self.replicas[one].end(one == 0);
            if one == 0 {
                self.keys.compact(revision).await;
            }
            self.replicas[one].start_again(false).await;
        }
        for client in away.values() {
            client.set_connected(true);
            self.left_behind.insert(client.name.clone());
        }
    }

    async fn pause(&mut self, from_ms: u64, to_ms: u64) {
        tokio::time::sleep(Duration::from_millis(self.rng.u64(from_ms..to_ms))).await;
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Cut { hard: false } => f.write_str("connections closed"),
            Fault::Cut { hard: true } => f.write_str("connections reset"),
            Fault::Tear => f.write_str("connections torn within answers"),
            Fault::Refuse => f.write_str("connections refused"),
            Fault::LoseEtcd => f.write_str("etcd away"),
            Fault::Restart { kill, with_state } => {
                let signal = if *kill { "SIGKILL" } else { "SIGTERM" };
                write!(f, "{signal} and a start {} state", if *with_state { "with" } else { "without" })
            }
            Fault::LeaveBehind => f.write_str("clients away until their cursors are gone"),
        }
    }
}
