//! The load: clients of this crate, by both transports, and a writer to etcd.

use std::time::Duration;

use crumbd::client::{Client, ClientTls, DEFAULT_SILENCE, Follower, Mirror};
use crumbd::model::SyncStatus;
use fastrand::Rng;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::support::daemon::Daemon;
use crate::support::etcd::{Keys, Op};
use crate::support::tls::Authority;

/// Clients at a time.
const CLIENTS: usize = 100;

/// How long all clients may take to have what was written last.
const PATIENCE: Duration = Duration::from_secs(60);

/// The clients of a daemon.
pub struct Fleet {
    url: String,
    ca: std::path::PathBuf,
    tokens: [String; 2],
    rng: Rng,
    clients: Vec<Mirror>,
    started: usize,
}

impl Fleet {
    /// Half of the clients have each token, and half use each transport.
    pub fn start(daemon: &Daemon, authority: &Authority, tokens: [&String; 2], rng: Rng) -> Fleet {
        let (url, ca) = (daemon.url().to_owned(), (&authority.ca).into());
        let tokens = tokens.map(String::clone);
        let mut fleet = Fleet { url, ca, tokens, rng, clients: Vec::new(), started: 0 };
        for _ in 0..CLIENTS {
            let client = fleet.client();
            fleet.clients.push(client);
        }
        fleet
    }

    fn client(&mut self) -> Mirror {
        let number = self.started;
        self.started += 1;
        let tls = ClientTls { ca: Some(self.ca.clone()), ..ClientTls::default() };
        let client = Client::over_tls(&self.url, tls).unwrap().with_token(&self.tokens[number % 2]).unwrap();
        let builder = Follower::of(client);
        // Rights that are narrowed to nothing are no fault of the daemon.
        let builder = builder.allow_empty(true);
        Mirror::start(match number / 2 % 2 {
            0 => builder.start(),
            _ => builder.stream(DEFAULT_SILENCE).start(),
        })
    }

    /// Some clients die in the middle of what they do, and others come.
    pub fn replace_some(&mut self) {
        for _ in 0..self.rng.usize(1..CLIENTS / 4) {
            let client = self.client();
            let place = self.rng.usize(..CLIENTS);
            self.clients[place] = client;
        }
    }

    /// How many clients there have been.
    pub fn started(&self) -> usize {
        self.started
    }

    /// Waits until every client is in-sync with this state.
    pub async fn agrees_with(&self, digest: &str, keys: usize) {
        let wrong = || {
            let is_right = |client: &&Mirror| {
                let snapshot = client.snapshot();
                client.status() == Some(SyncStatus::InSync)
                    && snapshot.len() == keys
                    && snapshot.digest().to_string() == digest
            };
            self.clients.iter().filter(|client| !is_right(client)).count()
        };
        let end = tokio::time::Instant::now() + PATIENCE;
        while wrong() > 0 {
            let failures = || -> Vec<_> { self.clients.iter().filter_map(Mirror::failure).collect() };
            assert!(
                tokio::time::Instant::now() < end,
                "{} of {CLIENTS} clients do not have the {keys} keys: {:?}",
                wrong(),
                failures()
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// Random writes to etcd, some dozens a second.
pub struct Writer {
    stop: watch::Sender<bool>,
    task: JoinHandle<u64>,
}

impl Writer {
    pub fn start(keys: Keys, rng: Rng) -> Writer {
        let (stop, stopped) = watch::channel(false);
        Writer { stop, task: tokio::spawn(write(keys, rng, stopped)) }
    }

    /// Ends the writing. Returns how many writes etcd has confirmed.
    pub async fn stop(self) -> u64 {
        self.stop.send_replace(true);
        self.task.await.unwrap()
    }
}

async fn write(keys: Keys, mut rng: Rng, mut stopped: watch::Receiver<bool>) -> u64 {
    let mut written = 0;
    loop {
        let group = ["app/a/", "app/db/", "app/zone/"][rng.usize(..3)];
        let key = format!("{group}{:04}", rng.u32(..1_000)).into_bytes();
        let value = vec![b'a' + rng.u8(..26); rng.usize(10..2_000)];
        let op = if rng.u8(..5) == 0 { Op::Delete(key) } else { Op::Put(key, value) };
        // While etcd is down, writes fail.
        written += u64::from(keys.try_txn(&[op]).await.is_ok());
        let pause = Duration::from_millis(rng.u64(5..40));
        if tokio::time::timeout(pause, stopped.wait_for(|stopped| *stopped)).await.is_ok() {
            return written;
        }
    }
}
