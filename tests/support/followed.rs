//! A real etcd, the network before it and a daemon that follows `app/`; and what tests do with the three again and again.

use std::time::Instant;

use serde_json::Value;

use super::daemon::Daemon;
use super::etcd::{Etcd, Keys, Op, Proxy};
use super::http::Http;
use super::mirror::{Coding, Media, Mirror, Step};
use super::state::{State, digest, hex};
use super::{DEADLINE, eventually};

/// What the daemons follow.
pub const APP: &[u8] = b"app/";

/// A store of one member, and a daemon that is in-sync with it. Between the two is a network that can be cut; the test
/// itself speaks to etcd past it.
pub struct Followed {
    pub http: Http,
    pub daemon: Daemon,
    pub net: Proxy,
    pub keys: Keys,
    /// Dropped last, so that nobody complains that it is gone.
    pub etcd: Etcd,
}

impl Followed {
    /// With `app/00000` and so on, this many.
    pub async fn with(keys: usize) -> Followed {
        let etcd = Etcd::start().await;
        fill(&etcd.keys(), 0, keys, "before").await;
        Followed::of(etcd).await
    }

    /// Of a store that is there already.
    pub async fn of(etcd: Etcd) -> Followed {
        let net = Proxy::before(etcd.endpoint()).await;
        let daemon = follow(&net.feed("app/"));
        let http = daemon.http();
        is(&http, "in-sync").await;
        Followed { http, daemon, net, keys: etcd.keys(), etcd }
    }

    pub async fn mirror(&self) -> Mirror {
        mirror(&self.http).await
    }
}

/// A daemon with this feed.
pub fn follow(feed: &str) -> Daemon {
    Daemon::serve(&["--feed", feed])
}

pub async fn status(http: &Http) -> Value {
    http.get("/v1/status").await.ok(200).json()
}

/// Waits until the daemon says that this is its status, and gives everything that it says.
pub async fn is(http: &Http, wanted: &str) -> Value {
    eventually(wanted, || async {
        let status = status(http).await;
        (status["status"] == wanted).then_some(status)
    })
    .await
}

/// A mirror of a daemon, once that one is in-sync.
pub async fn mirror(http: &Http) -> Mirror {
    is(http, "in-sync").await;
    Mirror::of(http.clone(), Media::Ndjson, Coding::Identity).await
}

/// What `current` holds now.
pub async fn current(http: &Http) -> State {
    Mirror::of(http.clone(), Media::Json, Coding::Identity).await.state
}

/// Follows until the mirror has what etcd has, by ordinary updates only. Gives the statuses that it was told on the way.
pub async fn catch_up(mirror: &mut Mirror, keys: &Keys) -> Vec<String> {
    let stored = keys.range(APP).await.state;
    let mut told = vec![mirror.status.clone()];
    let end = Instant::now() + DEADLINE;
    while mirror.state != stored || mirror.status != "in-sync" {
        assert!(
            Instant::now() < end,
            "the mirror does not reach what etcd has: {} {} {}",
            mirror.cursor,
            mirror.status,
            super::state::difference(&mirror.state, &stored)
        );
        assert_ne!(mirror.next("1s").await, Step::Gone, "the cursor {} was lost", mirror.cursor);
        if told.last() != Some(&mirror.status) {
            told.push(mirror.status.clone());
        }
    }
    told
}

/// Follows until the mirror is told this status.
pub async fn told(mirror: &mut Mirror, status: &str) {
    mirror.follow_until(status, |mirror| mirror.status == status).await;
}

/// Puts `app/{from}` to before `app/{to}`, a hundred in a transaction.
pub async fn fill(keys: &Keys, from: usize, to: usize, value: &str) -> i64 {
    let mut at = 0;
    let all: Vec<usize> = (from..to).collect();
    for some in all.chunks(100) {
        let ops: Vec<Op> = some
            .iter()
            .map(|n| Op::Put(format!("app/{n:05}").into_bytes(), format!("{value} {n}").into_bytes()))
            .collect();
        at = keys.txn(&ops).await;
    }
    at
}

/// Puts `app/{n}` for each of these numbers in turn, each at a revision of its own.
pub async fn put_each(keys: &Keys, numbers: impl IntoIterator<Item = usize>, value: &str) {
    for n in numbers {
        keys.put(format!("app/{n}").as_bytes(), value.as_bytes()).await;
    }
}

/// Waits until a cursor is refused. Until the daemon knows, it may say that its status is another one, but no more.
pub async fn becomes_gone(what: &str, http: &Http, cursor: &str) -> Value {
    let path = format!("/v1/breadcrumbs/{cursor}/next?wait=1s");
    eventually(what, || async {
        let got = http.get(&path).await;
        match got.status {
            410 => Some(got.problem(410)),
            204 | 503 => None,
            200 if got.need("crumbd-reason") == "status" => {
                assert!(cursor.split('.').nth(1) == Some(got.need("crumbd-revision")), "{what}: {got:?}");
                None
            }
            other => panic!("{what}: {other} {}", String::from_utf8_lossy(&got.body)),
        }
    })
    .await
}

/// Holds a daemon's state to etcd's, by a fresh mirror.
pub async fn agrees_with(http: &Http, keys: &Keys) -> Mirror {
    let mut fresh = mirror(http).await;
    catch_up(&mut fresh, keys).await;
    let said = status(http).await;
    assert_eq!(said["digest"], hex(digest(&fresh.state)));
    fresh
}
