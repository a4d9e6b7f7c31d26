//! An upgrade at noon: another binary takes the place of the old one, and each replica is restarted, under load.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::deployment::Deployment;
use crate::support::eventually;
use crate::support::roamer::Roamer;
use crate::support::state::assert_same;

const CLIENTS: u64 = 20;

/// How often both replicas are restarted.
const UPGRADES: usize = 2;

/// The answers with changes that all clients together get before the next restart.
const STEPS: u64 = 5 * CLIENTS;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_client_notices_an_upgrade_of_both_replicas() {
    let deployment = Deployment::start();
    let (keys, balancer) = (deployment.keys(), deployment.balancer());
    keys.put(b"app/first", b"0").await;
    // A client gets one snapshot, at its start; a second one would end this test. See the roamer.
    let mut clients = Vec::new();
    for seed in 0..CLIENTS {
        clients.push(Roamer::start(&balancer, seed).await);
    }
    let (steps, last) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let is_over = Arc::new(AtomicBool::new(false));
    let clients = clients.into_iter().map(|mut client| {
        let (steps, last, balancer) = (steps.clone(), last.clone(), balancer.clone());
        tokio::spawn(async move {
            loop {
                let last = last.load(Ordering::SeqCst);
                if last > 0 && client.revision >= last {
                    return client;
                }
                let got = client.step("1s", |_| Some(("nginx".to_owned(), balancer.clone()))).await;
                steps.fetch_add(u64::from(got.status == 200), Ordering::SeqCst);
            }
        })
    });
    let clients: Vec<_> = clients.collect();
    let writer = tokio::spawn({
        let (keys, is_over, steps) = (keys.clone(), is_over.clone(), steps.clone());
        async move {
            for number in 0_u64.. {
                let revision =
                    keys.put(format!("app/{}", number % 50).as_bytes(), number.to_string().as_bytes()).await;
                if is_over.load(Ordering::SeqCst) {
                    return revision;
                }
                // The clients go along, so that each restart hits them at work.
                eventually("the clients to come further", || async {
                    (steps.load(Ordering::SeqCst) + 10 * CLIENTS > number * CLIENTS / 2).then_some(())
                })
                .await;
            }
            unreachable!("it ends with the upgrade")
        }
    });
    for _ in 0..UPGRADES {
        deployment.replace_binary();
        for replica in [1, 2] {
            let before = steps.load(Ordering::SeqCst);
            eventually("the clients to go on", || async {
                let on = steps.load(Ordering::SeqCst) >= before + STEPS;
                (on || clients.iter().any(|client| client.is_finished())).then_some(())
            })
            .await;
            deployment.restart(replica, "TERM").await;
        }
    }
    is_over.store(true, Ordering::SeqCst);
    last.store(writer.await.unwrap() as u64, Ordering::SeqCst);
    let stored = keys.range(b"app/").await;
    for client in clients {
        let client = client.await.unwrap();
        assert_same("at the end", &client.state, &stored.state);
        assert!(client.retries.is_empty(), "a client had to ask again: {:?}", client.retries);
    }
}
