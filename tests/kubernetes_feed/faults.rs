//! Restarts, compactions, backups, and types that come and go.

use serde_json::json;

use crate::support::daemon::Daemon;
use crate::support::followed::{becomes_gone, is, status};
use crate::support::kubernetes::{Api, Cluster};
use crate::support::mirror::{Coding, Media, Mirror};
use crate::{CONFIG_MAPS, agrees_with, has_problem};

const CRDS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const WIDGETS: &str = "/apis/example.com/v1/widgets";

/// Adds the type `widgets.example.com`, and waits until the server serves it.
pub async fn add_widgets(api: &Api) {
    let schema = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    let crd = json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "widgets.example.com"},
        "spec": {
            "group": "example.com",
            "scope": "Namespaced",
            "names": {"plural": "widgets", "singular": "widget", "kind": "Widget", "listKind": "WidgetList"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}}],
        },
    });
    api.must("POST", CRDS, &crd).await;
    crate::eventually("the new type to be served", || async {
        (api.get(WIDGETS).await.0 == 200).then_some(())
    })
    .await;
}

async fn add_widget(api: &Api, name: &str) {
    let kind = json!({
        "apiVersion": "example.com/v1",
        "kind": "Widget",
        "metadata": {"name": name},
        "spec": {"sizes": [1.5, 2e3], "z": "<&>", "a": null},
    });
    api.must("POST", "/apis/example.com/v1/namespaces/default/widgets", &kind).await;
}

#[tokio::test]
async fn a_type_that_is_added_and_removed() {
    let cluster = Cluster::start().await;
    let api = cluster.api();
    let daemon = cluster.follow("resource=example.com/v1/widgets");
    let http = daemon.http();
    has_problem(&http, "the server has no resource example.com/v1/widgets").await;
    add_widgets(&api).await;
    add_widget(&api, "listed").await;
    agrees_with(&http, &api, WIDGETS, "").await;
    add_widget(&api, "watched").await;
    let both = agrees_with(&http, &api, WIDGETS, "").await;
    assert_eq!(both.state.len(), 2);
    // A daemon that lists both has the same bytes.
    let other = cluster.follow("resource=example.com/v1/widgets");
    assert_eq!(agrees_with(&other.http(), &api, WIDGETS, "").await.state, both.state);
    // The server deletes the objects before their type.
    api.delete(&format!("{CRDS}/widgets.example.com")).await;
    has_problem(&http, "the server has no resource example.com/v1/widgets").await;
    let said = status(&http).await;
    assert!(said["status"] != "in-sync" && said["count"] == 0, "{said}");
    add_widgets(&api).await;
    add_widget(&api, "again").await;
    let again = agrees_with(&http, &api, WIDGETS, "").await;
    assert_eq!(again.history, both.history);
}

#[tokio::test]
async fn restarts_and_compactions_are_one_history_and_a_backup_is_another() {
    let mut cluster = Cluster::start().await;
    let api = cluster.api();
    for n in 0..20 {
        api.put_config_map("default", &format!("m{n}"), "before").await;
    }
    let dir = tempfile::tempdir().unwrap();
    let feed = cluster.feed("resource=v1/configmaps&namespace=default");
    let path = "/api/v1/namespaces/default/configmaps";
    let state_dir = dir.path().join("state");
    let arguments = ["--feed", &feed, "--state-dir", state_dir.to_str().unwrap(), "--state-interval", "50ms"];
    let mut daemon = Daemon::serve(&arguments);
    let first = agrees_with(&daemon.http(), &api, path, "").await;

    // The server restarts, and has lost what it could tell of the changes before. A cursor lasts.
    api.put_config_map("default", "m1", "changed").await;
    let mut follower = Mirror::of(daemon.http(), Media::Ndjson, Coding::Identity).await;
    cluster.kill();
    cluster.restart().await;
    api.put_config_map("default", "m2", "changed").await;
    api.delete(&format!("{path}/m3")).await;
    let http = daemon.http();
    let second = agrees_with(&http, &api, path, "").await;
    assert_eq!(second.history, first.history);
    follower.follow_to(&second.cursor).await;
    assert_eq!(follower.state, second.state);

    // The daemon restarts, and etcd has compacted what it knows.
    daemon.terminate();
    assert!(daemon.wait_exit().success());
    let backup = dir.path().join("backup");
    cluster.etcd.save(&backup);
    for n in 0..5 {
        api.put_config_map("default", "m4", &format!("{n}")).await;
    }
    api.delete(&format!("{path}/m5")).await;
    let (revision, _) = api.list(path, "").await.unwrap();
    cluster.etcd.ctl(&["compact", &revision.to_string()]);
    let mut daemon = Daemon::serve(&arguments);
    let http = daemon.http();
    let third = agrees_with(&http, &api, path, "").await;
    assert_eq!(third.history, first.history);

    // A backup takes the cluster back, and it goes on from there further than it was.
    cluster.kill();
    cluster.etcd.restore(&backup).await;
    cluster.restart().await;
    for n in 0..40 {
        api.put_config_map("default", "m6", &format!("other {n}")).await;
    }
    becomes_gone("a cursor of the lost state to be refused", &http, &third.cursor).await;
    let fourth = agrees_with(&http, &api, path, "").await;
    assert_ne!(fourth.history, first.history, "the same UID, but not the same state");
    daemon.terminate();
    assert!(daemon.wait_exit().success());
    // A warm start on the same state goes on in it.
    let daemon = Daemon::serve(&arguments);
    is(&daemon.http(), "in-sync").await;
    api.put_config_map("default", "m7", "last").await;
    assert_eq!(agrees_with(&daemon.http(), &api, path, "").await.history, fourth.history);
    agrees_with(&cluster.follow("resource=v1/configmaps").http(), &api, CONFIG_MAPS, "").await;
}

#[tokio::test]
async fn a_replica_that_starts_continues_the_cursors_of_another() {
    let cluster = Cluster::start().await;
    let api = cluster.api();
    let running = cluster.follow("resource=v1/configmaps");
    api.put_config_map("default", "first", "before").await;
    agrees_with(&running.http(), &api, CONFIG_MAPS, "").await;
    let mut follower = Mirror::of(running.http(), Media::Ndjson, Coding::Identity).await;
    for n in 0..10 {
        api.put_config_map("default", &format!("m{}", n % 4), &format!("{n}")).await;
    }
    api.delete("/api/v1/namespaces/default/configmaps/first").await;
    let started = cluster.follow("resource=v1/configmaps");
    let newest = agrees_with(&started.http(), &api, CONFIG_MAPS, "").await;
    assert_ne!(follower.revision, newest.revision);
    follower.move_to(started.http());
    follower.follow_until("the changes from before the start", |mirror| mirror.state == newest.state).await;
    assert_eq!(follower.seen.snapshots, 1);
}
