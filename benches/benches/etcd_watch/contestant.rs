//! The servers, all in front of one etcd.

use bytes::Bytes;
use crumbd_bench::load::Process;

use crate::messages::watch::WatchCreateRequest;
use crate::support::daemon::Daemon;
use crate::support::etcd::{Etcd, GrpcProxy};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Contestant {
    Etcd,
    GrpcProxy,
    Crumbd,
}

pub const ALL: [Contestant; 3] = [Contestant::Etcd, Contestant::GrpcProxy, Contestant::Crumbd];

/// A contestant that runs.
pub struct Server {
    pub address: String,
    /// Its process, beside etcd's.
    pub process: Option<Process>,
    _kept: Kept,
}

/// What ends with the server.
enum Kept {
    Nothing,
    Proxy(#[allow(dead_code)] GrpcProxy),
    Daemon(#[allow(dead_code)] Daemon),
}

impl Contestant {
    pub fn name(self) -> &'static str {
        match self {
            Contestant::Etcd => "etcd",
            Contestant::GrpcProxy => "etcd grpc-proxy",
            Contestant::Crumbd => "crumbd",
        }
    }

    /// Its keys in the etcd that all share.
    pub fn prefix(self) -> &'static str {
        match self {
            Contestant::Etcd => "direct/",
            Contestant::GrpcProxy => "proxy/",
            Contestant::Crumbd => "crumbd/",
        }
    }

    pub async fn start(self, etcd: &Etcd) -> Server {
        match self {
            Contestant::Etcd => Server { address: etcd.endpoint(), process: None, _kept: Kept::Nothing },
            Contestant::GrpcProxy => {
                let proxy = GrpcProxy::before(etcd).await;
                let address = proxy.endpoint();
                let process = Process::listening_on(address.parse().unwrap());
                Server { address, process, _kept: Kept::Proxy(proxy) }
            }
            Contestant::Crumbd => {
                let (daemon, address) = daemon(etcd, self.prefix()).await;
                let process = Process::with_pid(daemon.pid());
                Server { address, process, _kept: Kept::Daemon(daemon) }
            }
        }
    }
}

/// A daemon that follows this prefix, in-sync, and the address on which it serves etcd's clients.
pub async fn daemon(etcd: &Etcd, prefix: &str) -> (Daemon, String) {
    let feed = etcd.feed(prefix);
    let args = ["--feed", &feed, "--etcd-listen", "127.0.0.1:0", "--max-client-waiters", "20000"];
    let daemon = Daemon::serve(&[&args[..], &["--max-waiters", "20000"]].concat());
    let address = daemon.logged("the address for etcd's clients", |line| {
        let line: serde_json::Value = serde_json::from_str(line).ok()?;
        let is_it = line["message"].as_str()? == "listening for etcd's clients";
        is_it.then(|| line["url"].as_str())?.map(|url| url.trim_start_matches("http://").to_owned())
    });
    assert_eq!(daemon.http().get("/readyz?wait=30s").await.status, 200);
    (daemon, address)
}

/// A watch of every key with this prefix, from now on.
pub fn watch_prefix(prefix: &str) -> WatchCreateRequest {
    let mut end = prefix.as_bytes().to_vec();
    *end.last_mut().unwrap() += 1;
    WatchCreateRequest { range_end: end.into(), ..watch_key(prefix) }
}

pub fn watch_key(key: &str) -> WatchCreateRequest {
    WatchCreateRequest { key: Bytes::copy_from_slice(key.as_bytes()), ..WatchCreateRequest::default() }
}
