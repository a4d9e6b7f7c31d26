//! A real etcd and a daemon in front of it.

use crate::client::Client;
use crate::etcd::kv::RangeRequest;
use crate::support::daemon::Daemon;
use crate::support::etcd::Etcd;
use crate::support::eventually;

/// A daemon and the address on which it serves etcd's clients.
pub struct Front {
    pub daemon: Daemon,
    pub address: String,
}

impl Front {
    /// A daemon with this feed.
    pub fn start(feed: &str, more: &[&str]) -> Front {
        let args = [&["--feed", feed, "--etcd-listen", "127.0.0.1:0"], more].concat();
        let daemon = Daemon::serve(&args);
        let address = daemon.logged("the address for etcd's clients", |line| {
            let line: serde_json::Value = serde_json::from_str(line).ok()?;
            let is_it = line["message"].as_str()? == "listening for etcd's clients";
            is_it.then(|| line["url"].as_str())?.map(|url| url.trim_start_matches("http://").to_owned())
        });
        Front { daemon, address }
    }

    pub fn client(&self) -> Client {
        Client::new(&self.address)
    }

    /// Ends the daemon as a service manager does, which saves its state.
    pub fn terminate(mut self) {
        self.daemon.terminate();
        assert!(self.daemon.wait_exit().success());
    }

    /// A client, once the daemon has something to serve.
    pub async fn ready(&self) -> Client {
        let client = self.client();
        let client = &client;
        eventually("a first answer", || async { client.range(all_keys()).await.ok() }).await;
        client.clone()
    }
}

/// A client of a real etcd.
pub fn client_of(etcd: &Etcd) -> Client {
    Client::new(&etcd.endpoint())
}

/// Every key, by a linearizable read.
pub fn all_keys() -> RangeRequest {
    let zero = bytes::Bytes::from_static(&[0]);
    RangeRequest { key: zero.clone(), range_end: zero, ..RangeRequest::default() }
}
