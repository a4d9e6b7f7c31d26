//! Thousands of random changes through compactions and restarts, seen by several daemons.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use fastrand::Rng;
use serde_json::json;

use crate::faults::add_widgets;
use crate::support::http::Http;
use crate::support::kubernetes::{Api, Cluster, decoded};
use crate::support::mirror::{Coding, Media, Mirror, Step};
use crate::support::state::{State, assert_same};
use crate::{CONFIG_MAPS, agrees_with};

const NAMESPACES: [&str; 3] = ["one", "two", "three"];
const CHANGES: usize = 5000;
const WRITERS: usize = 8;

/// Creates, changes and deletes objects of two types at random; each writer has names of its own.
async fn write(api: Api, writer: usize, changes: usize) {
    let mut rng = Rng::with_seed(writer as u64);
    for n in 0..changes {
        let namespace = NAMESPACES[rng.usize(..NAMESPACES.len())];
        let name = format!("w{writer}-{}", rng.usize(..40));
        let widget = rng.usize(..4) == 0;
        let (path, kind, version) = match widget {
            true => {
                (format!("/apis/example.com/v1/namespaces/{namespace}/widgets"), "Widget", "example.com/v1")
            }
            false => (format!("/api/v1/namespaces/{namespace}/configmaps"), "ConfigMap", "v1"),
        };
        let label = if rng.bool() { "yes" } else { "no" };
        let metadata = json!({"name": name, "labels": {"wanted": label}, "annotations": {
            "kubectl.kubernetes.io/last-applied-configuration": format!("{{\"n\":{n}}}"), "n": n.to_string(),
        }});
        let mut object =
            json!({"kind": kind, "apiVersion": version, "metadata": metadata, "data": {"n": n.to_string()}});
        let one = format!("{path}/{name}");
        // A server that restarts answers nobody: try again what may have happened or not.
        loop {
            let done = if rng.usize(..4) == 0 {
                api.try_call("DELETE", &one, None).await
            } else {
                match api.try_call("GET", &one, None).await {
                    Ok((200, there)) => {
                        object["metadata"]["resourceVersion"] = there["metadata"]["resourceVersion"].clone();
                        api.try_call("PUT", &one, Some(&object)).await
                    }
                    Ok(_) => api.try_call("POST", &path, Some(&object)).await,
                    Err(error) => Err(error),
                }
            };
            match done {
                Ok((200..300 | 404 | 409, _)) => break,
                _ => tokio::time::sleep(std::time::Duration::from_millis(50)).await,
            }
        }
    }
}

/// Follows a daemon until `done`, and gives the states that it saw, by their revisions. A cursor that is lost (the server
/// could no longer tell the changes) is followed by a snapshot.
async fn watch_states(http: Http, done: Arc<AtomicBool>) -> BTreeMap<u64, State> {
    let mut mirror = Mirror::of(http, Media::Ndjson, Coding::Identity).await;
    let mut seen = BTreeMap::from([(mirror.revision, mirror.state.clone())]);
    while !done.load(Ordering::Acquire) {
        if mirror.next("500ms").await == Step::Gone {
            mirror.take_current().await;
        }
        seen.insert(mirror.revision, mirror.state.clone());
    }
    seen
}

/// Holds the states that a daemon showed to the server's own at the same revisions, as far as it still has them. Gives how
/// many it had.
async fn held_to_the_server(
    what: &str,
    api: &Api,
    path: &str,
    more: &str,
    seen: &BTreeMap<u64, State>,
) -> usize {
    let mut held = 0;
    // Every tenth: a list of each would take minutes.
    for (revision, state) in seen.iter().rev().step_by(10).take(60) {
        let at = format!("{more}&resourceVersion={revision}&resourceVersionMatch=Exact");
        if let Some((_, listed)) = api.list(path, &at).await {
            assert_same(&format!("{what} at {revision}"), &decoded(state), &listed);
            held += 1;
        }
    }
    held
}

#[tokio::test(flavor = "multi_thread")]
async fn daemons_agree_with_the_server_through_thousands_of_changes_compactions_and_restarts() {
    let mut cluster = Cluster::start().await;
    let api = cluster.api();
    for namespace in NAMESPACES {
        api.create_namespace(namespace).await;
    }
    add_widgets(&api).await;
    let widgets = "/apis/example.com/v1/widgets";
    let two = "/api/v1/namespaces/two/configmaps";
    let label = "&labelSelector=wanted%3Dyes";
    let followed = [
        ("resource=v1/configmaps", CONFIG_MAPS, ""),
        ("resource=v1/configmaps", CONFIG_MAPS, ""),
        ("resource=example.com/v1/widgets", widgets, ""),
        ("resource=v1/configmaps&namespace=two&label=wanted%3Dyes", two, label),
    ];
    let daemons: Vec<_> = followed.iter().map(|(options, ..)| cluster.follow(options)).collect();
    for (daemon, (_, path, more)) in daemons.iter().zip(&followed) {
        agrees_with(&daemon.http(), &api, path, more).await;
    }
    let done = Arc::new(AtomicBool::new(false));
    let watching: Vec<_> =
        daemons.iter().map(|daemon| tokio::spawn(watch_states(daemon.http(), done.clone()))).collect();
    for round in 0..3 {
        let writing: Vec<_> = (0..WRITERS)
            .map(|writer| tokio::spawn(write(api.clone(), round * WRITERS + writer, CHANGES / WRITERS / 3)))
            .collect();
        if round > 0 {
            cluster.kill();
            cluster.restart().await;
        }
        for writer in writing {
            writer.await.unwrap();
        }
        if round < 2 {
            let (revision, _) = api.list(two, "").await.unwrap();
            cluster.etcd.ctl(&["compact", &revision.to_string()]);
        }
    }
    let mut last = Vec::new();
    for (daemon, (_, path, more)) in daemons.iter().zip(&followed) {
        last.push(agrees_with(&daemon.http(), &api, path, more).await);
    }
    assert_eq!(last[0].state, last[1].state, "two replicas have the same bytes");
    assert_eq!(last[0].history, last[1].history);
    done.store(true, Ordering::Release);
    let mut all_held = 0;
    for (watcher, (options, path, more)) in watching.into_iter().zip(&followed) {
        let seen = watcher.await.unwrap();
        let held = held_to_the_server(options, &api, path, more, &seen).await;
        // A daemon that was refused for long (429) has seen few states since the last compaction.
        assert!(held > 0, "{options}: none of {} states was held to the server's", seen.len());
        all_held += held;
    }
    assert!(all_held > 20, "{all_held} states were held to the server's");
    // Each replica continues the other's cursor.
    for (from, to) in [(0, 1), (1, 0)] {
        let mut mirror = Mirror::of(daemons[from].http(), Media::Json, Coding::Identity).await;
        mirror.move_to(daemons[to].http());
        api.put_config_map("one", "last", &format!("{from}")).await;
        let (_, listed) = api.list(CONFIG_MAPS, "").await.unwrap();
        mirror.follow_until("the other replica's changes", |mirror| decoded(&mirror.state) == listed).await;
    }
}
