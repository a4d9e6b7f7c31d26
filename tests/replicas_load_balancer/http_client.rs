//! A client of crumbd's own interface, through nginx.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use fastrand::Rng;

use crate::deployment::Deployment;
use crate::support::etcd::{Keys, Op};
use crate::support::http::Http;
use crate::support::roamer::Roamer;
use crate::support::state::assert_same;
use crate::support::{eventually, in_time};

const PREFIX: &[u8] = b"app/";

/// How often a replica is ended, each time another one.
const RESTARTS: usize = 8;

/// How many answers with changes the client gets between two restarts, at least.
const STEPS: u64 = 10;

/// How far the writer runs ahead of the client at most, in revisions.
const AHEAD: i64 = 20;

/// What the whole test may take.
const BOUND: Duration = Duration::from_secs(28);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_does_not_notice_that_the_replicas_behind_a_load_balancer_restart() {
    let deployment = Deployment::start();
    if tokio::time::timeout(BOUND, follow_through_restarts(&deployment)).await.is_err() {
        panic!("not within {BOUND:?}");
    }
}

/// What writer, client and the one who restarts replicas know of each other.
#[derive(Default)]
struct Shared {
    /// The client's revision.
    revision: AtomicU64,
    /// How many answers with changes it got.
    steps: AtomicU64,
    no_more_restarts: AtomicBool,
    /// The revision of the last write, once there will be no other.
    last: AtomicU64,
}

async fn follow_through_restarts(deployment: &Deployment) {
    let keys = deployment.keys();
    for number in 0..20 {
        keys.put(format!("app/{number:02}").as_bytes(), b"from the beginning").await;
    }
    let shared = Arc::new(Shared::default());
    let balancer = deployment.balancer();
    // A write at whichever replica, and at its cursor a read at both.
    let written = balancer.put(b"app/written", "text/plain", b"through nginx").await;
    for one in [1, 2] {
        let replica = Http::new(&format!("http://{}", deployment.replica_address(one)));
        let read = replica.get(&format!("/v1/kv?key=app%2Fwritten&at={written}")).await.ok(200);
        assert_eq!(read.body, b"through nginx");
    }
    let mut client = Roamer::start(&balancer, 9).await;
    let writer = tokio::spawn(write(keys.clone(), shared.clone()));
    let follower = {
        let shared = shared.clone();
        tokio::spawn(async move {
            follow(&mut client, &balancer, &shared).await;
            client
        })
    };

    for restart in 0..RESTARTS {
        let steps = shared.steps.load(Ordering::SeqCst);
        eventually("the client to go on", || async {
            let on = shared.steps.load(Ordering::SeqCst) >= steps + STEPS;
            (on || writer.is_finished() || follower.is_finished()).then_some(())
        })
        .await;
        if writer.is_finished() || follower.is_finished() {
            break;
        }
        deployment.restart(1 + restart % 2, ["TERM", "TERM", "KILL", "KILL"][restart % 4]).await;
    }
    shared.no_more_restarts.store(true, Ordering::SeqCst);

    let client = in_time("the client to see everything", follower).await.unwrap();
    writer.await.unwrap();
    let stored = keys.range(PREFIX).await;
    assert_same("at the end", &client.state, &stored.state);
    assert_eq!(client.revision, stored.revision as u64);
    for one in [1, 2] {
        let address = deployment.replica_address(one);
        let answers = client.answered.iter().filter(|&by| by.ends_with(&address)).count();
        assert!(answers > 10, "replica {one} gave {answers} of {} answers", client.answered.len());
    }
    assert!(
        client.retries.len() <= RESTARTS,
        "a client notices a restart at most once: {:?}",
        client.retries
    );
    let hidden = client.answered.iter().filter(|by| by.contains(',')).count();
    eprintln!(
        "{} answers, {hidden} of them after nginx asked a second replica; {} retries by the client: {:?}",
        client.answered.len(),
        client.retries.len(),
        client.retries
    );
}

/// Puts and deletes, each at a revision of its own, for as long as replicas are restarted.
async fn write(keys: Keys, shared: Arc<Shared>) {
    let mut rng = Rng::with_seed(5);
    let mut last = keys.revision().await;
    for number in 0.. {
        // The client goes along, so that restarts hit it at work.
        eventually("the client to come further", || async {
            (last - (shared.revision.load(Ordering::SeqCst) as i64) < AHEAD).then_some(())
        })
        .await;
        // The last write is one that the client must hear of.
        let end = shared.no_more_restarts.load(Ordering::SeqCst);
        let key = format!("app/{:02}", rng.u32(..40)).into_bytes();
        last = match rng.u32(..4) {
            0 if !end => keys.delete(&key).await,
            1 => {
                let value = format!("{{\"n\":{number}}}").into_bytes();
                keys.txn(&[Op::Put(key, value), Op::Put(b"app/last".to_vec(), number.to_string().into())])
                    .await
            }
            _ => keys.put(&key, format!("value {number}").as_bytes()).await,
        };
        if end {
            shared.last.store(last as u64, Ordering::SeqCst);
            return;
        }
    }
}

/// Follows until the writer has ended and everything was seen.
async fn follow(client: &mut Roamer, balancer: &Http, shared: &Shared) {
    loop {
        let last = shared.last.load(Ordering::SeqCst);
        if last > 0 && client.revision >= last {
            return;
        }
        let got = client.step("1s", |_| Some(("nginx".to_owned(), balancer.clone()))).await;
        shared.revision.store(client.revision, Ordering::SeqCst);
        shared.steps.fetch_add(u64::from(got.status == 200), Ordering::SeqCst);
    }
}
