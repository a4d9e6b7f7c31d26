//! The kubernetes feed against a real kube-apiserver.
#![allow(clippy::unwrap_used)]

#[path = "../support/mod.rs"]
mod support;

mod access;
mod faults;
mod random;

use support::eventually;
use support::followed::{self, status};
use support::http::Http;
use support::kubernetes::{Api, decoded};
use support::mirror::Mirror;

const CONFIG_MAPS: &str = "/api/v1/configmaps";

/// Waits until the daemon is in-sync and has what the server lists.
async fn agrees_with(http: &Http, api: &Api, path: &str, more: &str) -> Mirror {
    let mut differs = String::new();
    let end = std::time::Instant::now() + 3 * support::DEADLINE;
    loop {
        let mirror = followed::mirror(http).await;
        let said = status(http).await;
        let (_, listed) = api.list(path, more).await.unwrap();
        let seen = decoded(&mirror.state);
        if said["status"] == "in-sync" && mirror.status == "in-sync" && seen == listed {
            return mirror;
        }
        if seen != listed {
            differs = support::state::difference(&seen, &listed);
        }
        assert!(std::time::Instant::now() < end, "{path}{more}: {said} {differs}");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

/// Waits until the daemon names a problem with these words, and gives it.
async fn has_problem(http: &Http, words: &str) -> String {
    eventually(&format!("a problem with {words:?}"), || async {
        let said = status(http).await;
        let problem = said["feed_problem"].as_str()?.to_owned();
        (said["status"] != "in-sync" && problem.contains(words)).then_some(problem)
    })
    .await
}
