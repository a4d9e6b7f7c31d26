//! A replica: a daemon that follows the etcd, and the gate before it.

use std::sync::Arc;

use tempfile::TempDir;
use tokio::sync::watch;
use tokio::task::block_in_place;

use super::network::Gate;
use super::support::daemon::Daemon;
use super::support::etcd::{Etcd, Net, Proxy};
use super::{PATIENCE, PREFIX, within};

pub struct Replica {
    /// None only between its end and its start.
    daemon: Option<Daemon>,
    /// Between the daemon and the etcd.
    upstream: Proxy,
    state: TempDir,
    gate: Arc<watch::Sender<Gate>>,
}

impl Replica {
    pub async fn start(etcd: &Etcd, gate: Arc<watch::Sender<Gate>>) -> Replica {
        let upstream = Proxy::before(etcd.endpoint()).await;
        let mut replica = Replica { daemon: None, upstream, state: tempfile::tempdir().unwrap(), gate };
        replica.run();
        replica
    }

    fn run(&mut self) {
        let directory = self.state.path().to_str().unwrap();
        let arguments =
            ["--feed", &self.upstream.feed(PREFIX), "--state-dir", directory, "--state-interval", "1s"];
        let daemon = block_in_place(|| Daemon::serve(&arguments));
        self.gate.send_modify(|gate| {
            gate.address = daemon.address().to_owned();
            gate.closed = false;
        });
        self.daemon = Some(daemon);
    }

    /// Ends all connections.
    pub fn cut(&self, hard: bool) {
        self.gate.send_modify(|gate| gate.hard = hard);
    }

    /// Ends all connections, and makes new ones end within an answer, or not.
    pub fn tear(&self, torn: bool) {
        self.gate.send_modify(|gate| gate.torn = torn);
    }

    /// Ends all connections, and refuses new ones until [`Replica::take`].
    pub fn refuse(&self) {
        self.gate.send_modify(|gate| gate.closed = true);
    }

    pub fn take(&self) {
        self.gate.send_modify(|gate| gate.closed = false);
    }

    /// Cuts the daemon off from the etcd, until [`Replica::find_etcd`].
    pub fn lose_etcd(&self) {
        self.upstream.set(Net::Cut);
    }

    pub async fn find_etcd(&self) {
        self.upstream.set(Net::Open);
        self.is_ready().await;
    }

    /// Ends the daemon by SIGTERM, and waits for it, or by SIGKILL. Nobody listens then.
    pub fn end(&mut self, kill: bool) {
        let mut daemon = self.daemon.take().expect("it runs");
        if !kill {
            daemon.terminate();
            let status = block_in_place(|| daemon.wait_exit());
            assert!(status.success(), "a replica ended with {status} after a SIGTERM:\n{}", daemon.log());
        }
        drop(daemon);
        self.refuse();
    }

    /// Starts it again, with the state that it kept or without, and waits until it is in-sync.
    pub async fn start_again(&mut self, with_state: bool) {
        if !with_state {
            self.state = tempfile::tempdir().unwrap();
        }
        self.run();
        self.is_ready().await;
    }

    async fn is_ready(&self) {
        let daemon = self.daemon.as_ref().expect("it runs");
        let http = daemon.http();
        let ready = within(PATIENCE, async || {
            let answer = http.try_send("GET", "/readyz", &[], None).await.ok()?;
            // A daemon that was in-sync, or has a state of before its start, is ready before it is in-sync, and says so.
            (answer.status == 200 && answer.body == b"ready\n").then_some(())
        });
        assert!(ready.await.is_some(), "a replica is not in-sync again:\n{}", daemon.log());
    }
}
