//! Daemons in front of one etcd, each of which is ended and started again at the same address.

use tempfile::TempDir;

use crate::support::daemon::Daemon;
use crate::support::etcd::{Etcd, Keys, free_port};
use crate::support::eventually;

/// A daemon with `--etcd-listen`, and the place of it while it is ended.
pub struct Replica {
    args: Vec<String>,
    /// Host and port for etcd's clients.
    pub address: String,
    daemon: Option<Daemon>,
    _state: Option<TempDir>,
}

/// Two of them.
pub struct Replicas([Replica; 2]);

impl Replica {
    /// One that passes writes on.
    pub async fn start(etcd: &Etcd, more: &[&str]) -> Replica {
        let mut replica = Replica::at_rest(&etcd.feed("?write=true"), more);
        replica.start_again().await;
        replica
    }

    /// One that is started, and is asked by nobody yet.
    pub fn unasked(feed: &str, more: &[&str]) -> Replica {
        let mut replica = Replica::at_rest(feed, more);
        replica.run();
        replica
    }

    fn at_rest(feed: &str, more: &[&str]) -> Replica {
        let address = format!("127.0.0.1:{}", free_port());
        let args = [&["--feed", feed, "--etcd-listen", &address], more].concat();
        let args = args.into_iter().map(str::to_owned).collect();
        Replica { args, address, daemon: None, _state: None }
    }

    fn run(&mut self) {
        let args: Vec<&str> = self.args.iter().map(String::as_str).collect();
        self.daemon = Some(Daemon::serve(&args));
    }

    /// Waits until reads are answered.
    pub async fn start_again(&mut self) {
        self.run();
        let keys = Keys::at(&format!("http://{}", self.address));
        eventually("a first answer", || async { keys.try_revision().await.ok() }).await;
    }

    /// Ends it by this signal.
    pub fn end(&mut self, signal: &str) {
        let mut daemon = self.daemon.take().expect("it runs");
        daemon.signal(signal);
        let status = daemon.wait_exit();
        assert_eq!(status.success(), signal == "TERM", "{status}");
    }

    /// Whether a client watches here.
    async fn is_watched(&self) -> bool {
        let http = self.daemon.as_ref().expect("it runs").http();
        let text = String::from_utf8(http.get("/metrics").await.ok(200).body).unwrap();
        let watches = text.lines().find_map(|line| line.strip_prefix("crumbd_etcd_watches "));
        let watches: f64 =
            watches.unwrap_or_else(|| panic!("no crumbd_etcd_watches: {text}")).parse().unwrap();
        watches > 0.0
    }
}

impl Replicas {
    /// One of them stores its state.
    pub async fn start(etcd: &Etcd) -> Replicas {
        let state = TempDir::new().unwrap();
        let with_state = ["--state-dir", state.path().to_str().unwrap(), "--state-interval", "10ms"];
        let mut replicas = [Replica::start(etcd, &with_state).await, Replica::start(etcd, &[]).await];
        replicas[0]._state = Some(state);
        Replicas(replicas)
    }

    /// Their addresses, as etcd's clients take them.
    pub fn endpoints(&self) -> String {
        self.0.each_ref().map(|replica| replica.address.as_str()).join(",")
    }

    /// The only one that a client watches.
    pub async fn watched(&mut self) -> &mut Replica {
        let [first, second] = &self.0;
        let place = eventually("a watch at one replica", || async {
            match (first.is_watched().await, second.is_watched().await) {
                (true, false) => Some(0),
                (false, true) => Some(1),
                _ => None,
            }
        });
        let place = place.await;
        &mut self.0[place]
    }
}
