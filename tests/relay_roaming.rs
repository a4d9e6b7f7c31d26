//! A tree of daemons: a root, two relays and leaves that follow both relays. Clients move at random between all of them,
//! while relays and leaves are killed, cut off, frozen and started again, and the root is written to.
#![allow(clippy::unwrap_used)]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use fastrand::Rng;
use support::daemon::Daemon;
use support::etcd::{Net, Proxy};
use support::followed::{is, status};
use support::http::Http;
use support::mirror::{Coding, Media, Mirror};
use support::roamer::Roamer;
use support::state::{assert_same, digest, hex};
use support::{eventually, in_time};

/// A place in the tree: always the same address, whoever serves there.
struct Place {
    proxy: Proxy,
    daemon: Option<Daemon>,
    feed: String,
    /// The state directory, if it has one.
    state: Option<tempfile::TempDir>,
}

impl Place {
    async fn start(feed: String, has_state: bool) -> Place {
        let state = has_state.then(|| tempfile::tempdir().unwrap());
        let proxy = Proxy::before(String::new()).await;
        let mut place = Place { proxy, daemon: None, feed, state };
        place.restart();
        place
    }

    fn http(&self) -> Http {
        Http::new(&format!("http://{}", self.proxy.endpoint()))
    }

    fn kill(&mut self) {
        self.daemon = None;
    }

    fn stop(&mut self) {
        let mut daemon = self.daemon.take().unwrap();
        daemon.terminate();
        daemon.wait_exit();
    }

    fn restart(&mut self) {
        let mut args = vec!["--feed", &self.feed];
        if let Some(state) = &self.state {
            args.extend(["--state-interval", "1s", "--state-dir", state.path().to_str().unwrap()]);
        }
        let daemon = Daemon::serve(&args);
        self.proxy.lead_to(daemon.address().to_owned());
        self.daemon = Some(daemon);
    }
}

/// How many clients, leaves and faults. By hand: `CRUMBD_ROAMERS=200 CRUMBD_LEAVES=4 CRUMBD_FAULTS=60`.
fn size(name: &str, usual: usize) -> usize {
    std::env::var(name).map_or(usual, |text| text.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_move_through_a_tree_whose_daemons_fail_and_never_take_a_second_snapshot() {
    let (roamers, leaves, faults) =
        (size("CRUMBD_ROAMERS", 12), size("CRUMBD_LEAVES", 2), size("CRUMBD_FAULTS", 8));
    let seed = size("CRUMBD_SEED", 11) as u64;
    eprintln!("seed {seed}");
    let root = Daemon::push(&[]);
    let relay = |has_state| Place::start(format!("crumbd://{}/", root.address()), has_state);
    let mut places = vec![relay(false).await, relay(true).await];
    let relays = format!("crumbd://{},{}/", places[0].proxy.endpoint(), places[1].proxy.endpoint());
    for leaf in 0..leaves {
        places.push(Place::start(relays.clone(), leaf % 2 == 1).await);
    }
    let everywhere: Vec<Http> = [root.http()].into_iter().chain(places.iter().map(Place::http)).collect();
    for http in &everywhere {
        is(http, "in-sync").await;
    }

    let (over, last) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(u64::MAX)));
    let clients: Vec<_> = (0..roamers)
        .map(|number| {
            let (everywhere, last) = (everywhere.clone(), last.clone());
            tokio::spawn(async move {
                Roamer::roam(&everywhere[0], &everywhere, seed + number as u64, &last).await
            })
        })
        .collect();
    let writer = {
        let (http, over) = (root.http(), over.clone());
        tokio::spawn(async move {
            let mut rng = Rng::with_seed(seed + 1000);
            let mut written = 0;
            while !over.load(Ordering::SeqCst) {
                // Few keys, so that a squash would forget what was between.
                let key = format!("key {}", rng.u32(..20));
                match rng.u32(..5) {
                    0 => _ = http.delete(key.as_bytes()).await,
                    _ => _ = http.put(key.as_bytes(), "text/plain", &vec![b'x'; rng.usize(..60)]).await,
                }
                written += 1;
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            written
        })
    };

    let mut rng = Rng::with_seed(seed + 2000);
    for fault in 0..faults {
        let which = if fault % 2 == 0 { rng.usize(..2) } else { rng.usize(..places.len()) };
        let place = &mut places[which];
        let moved = revision(&everywhere[0]).await;
        match fault % 4 {
            0 => place.kill(),
            3 => place.stop(),
            1 => place.proxy.set(Net::Cut),
            _ => place.daemon.as_ref().unwrap().pause(),
        }
        // It lasts for a while of the writer.
        eventually("the writer to go on", || async {
            (writer.is_finished() || revision(&everywhere[0]).await > moved + 40).then_some(())
        })
        .await;
        match fault % 4 {
            0 | 3 => place.restart(),
            1 => place.proxy.set(Net::Open),
            _ => place.daemon.as_ref().unwrap().go_on(),
        }
        is(&everywhere[1 + which], "in-sync").await;
    }
    over.store(true, Ordering::SeqCst);
    let written = in_time("the writer to end", writer).await.unwrap();
    let at_root = status(&everywhere[0]).await;
    // The last change is one that moves everybody.
    root.http().put(b"last", "text/plain", b"1").await;
    last.store(revision(&everywhere[0]).await, Ordering::SeqCst);
    let truth = Mirror::of(everywhere[0].clone(), Media::Ndjson, Coding::Identity).await.state;
    let (mut moved, mut retries) = (0, 0);
    for client in clients {
        let roamer = match tokio::time::timeout(Duration::from_secs(60), client).await {
            Ok(Ok(roamer)) => roamer,
            Ok(Err(failed)) => std::panic::resume_unwind(failed.into_panic()),
            Err(_) => panic!("a client did not get to the end"),
        };
        assert_same("a client at the end", &roamer.state, &truth);
        moved += roamer.moved;
        retries += roamer.retries.len();
    }
    for http in &everywhere {
        let status = eventually("everybody to have the last change", || async {
            let status = status(http).await;
            (status["digest"] == hex(digest(&truth))).then_some(status)
        })
        .await;
        assert_eq!(status["history"], at_root["history"]);
    }
    assert!(moved > roamers, "{moved} moves");
    eprintln!("{written} writes, {moved} moves, {retries} retries");
}

async fn revision(http: &Http) -> u64 {
    status(http).await["revision"].as_u64().unwrap()
}
