//! What the user may do, and what of the feed's text is wrong: one sentence, nothing lost, nothing in-sync.

use serde_json::{Value, json};

use crate::support::daemon::Daemon;
use crate::support::followed::{is, status};
use crate::support::kubernetes::{Api, Cluster, feed, kubeconfig};
use crate::support::tls::Authority;
use crate::{CONFIG_MAPS, agrees_with, has_problem};

const ROLES: &str = "/apis/rbac.authorization.k8s.io/v1/clusterroles";
const BINDINGS: &str = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings";

/// Gives the user rights on config maps, and on the namespace kube-system if `identity`.
async fn grant(api: &Api, user: &str, verbs: &[&str], identity: bool) {
    let mut rules = vec![json!({"apiGroups": [""], "resources": ["configmaps"], "verbs": verbs})];
    if identity {
        let names = ["kube-system"];
        rules.push(
            json!({"apiGroups": [""], "resources": ["namespaces"], "verbs": ["get"], "resourceNames": names}),
        );
    }
    let role = json!({"metadata": {"name": user}, "rules": rules});
    let (status, _) = api.try_call("PUT", &format!("{ROLES}/{user}"), Some(&role)).await.unwrap();
    assert!(status == 200 || status == 201);
    if status == 201 {
        let group = "rbac.authorization.k8s.io";
        let binding = json!({
            "metadata": {"name": user},
            "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": user},
            "subjects": [{"apiGroup": group, "kind": "User", "name": user}],
        });
        api.must("POST", BINDINGS, &binding).await;
    }
}

fn follow(options: &str, kubeconfig: &str) -> Daemon {
    Daemon::serve(&["--feed", &feed(options, kubeconfig)])
}

/// Nothing was ever served.
async fn is_empty(http: &crate::support::http::Http) {
    let said: Value = status(http).await;
    assert_eq!(said["count"].as_u64(), Some(0), "{said}");
    assert_ne!(said["status"], "in-sync", "{said}");
}

#[tokio::test]
async fn rights_and_credentials_that_come_and_go() {
    let mut cluster = Cluster::start_with(&[("one", "reader"), ("other", "poor")]).await;
    let api = cluster.api();
    api.put_config_map("default", "a", "before").await;
    let token_file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(token_file.path(), "one").unwrap();
    let config = cluster.kubeconfig_with(&format!("tokenFile: {}", token_file.path().display()));

    // No rights at all, then the right to list only, then all of them.
    let daemon = follow("resource=v1/configmaps", &config);
    let http = daemon.http();
    has_problem(&http, "`get` on the namespace kube-system").await;
    grant(&api, "reader", &["list"], true).await;
    has_problem(&http, "`list` and `watch` on configmaps of the core group in all namespaces").await;
    grant(&api, "reader", &["list", "watch"], true).await;
    let before = agrees_with(&http, &api, CONFIG_MAPS, "").await;
    assert_eq!(status(&http).await["feed_problem"], Value::Null);

    // Revoked during the watch: the state is served on, and not as in-sync.
    grant(&api, "reader", &["get"], true).await;
    has_problem(&http, "cannot list resource").await;
    let said = status(&http).await;
    assert_eq!(said["count"].as_u64(), Some(before.state.len() as u64));
    api.put_config_map("default", "b", "meanwhile").await;
    grant(&api, "reader", &["list", "watch"], true).await;
    let after = agrees_with(&http, &api, CONFIG_MAPS, "").await;
    assert_eq!(after.history, before.history);

    // The token is replaced.
    cluster.restart_with(&[("two", "reader"), ("other", "poor")]).await;
    has_problem(&http, "does not accept the credentials (401)").await;
    std::fs::write(token_file.path(), "two").unwrap();
    api.put_config_map("default", "c", "later").await;
    let later = agrees_with(&http, &api, CONFIG_MAPS, "").await;
    assert_eq!(later.history, before.history);

    // A user who may not read the cluster's identity names it.
    grant(&api, "poor", &["list", "watch"], false).await;
    let named = follow("resource=v1/configmaps&cluster=test", &cluster.kubeconfig_with("token: other"));
    let named = agrees_with(&named.http(), &api, CONFIG_MAPS, "").await;
    assert_ne!(named.history, before.history);
}

#[tokio::test]
async fn a_text_or_a_server_that_is_wrong_is_named_in_one_sentence() {
    let cluster = Cluster::start_with(&[("one", "nobody")]).await;
    let dir = tempfile::tempdir().unwrap();
    let stranger = Authority::new("a stranger");
    let cases = [
        (cluster.feed("resource=v1/podz"), "the server has no resource v1/podz"),
        (
            cluster.feed("resource=example.com/v1/widgets"),
            "the server has no resource example.com/v1/widgets",
        ),
        (cluster.feed("resource=v1/nodes&namespace=default"), "has no namespaces: leave namespace= out"),
        (cluster.feed("resource=v1/bindings"), "the server offers only create"),
        (cluster.feed("resource=v1/pods&label=%3D%3D"), "does not understand label= or field="),
        (
            feed("resource=v1/pods", &cluster.kubeconfig_with("token: unknown")),
            "does not accept the credentials (401)",
        ),
        (feed("resource=v1/pods", &cluster.kubeconfig_of_a_stranger(&stranger)), "is not trusted"),
        (
            feed("resource=v1/pods", &kubeconfig(dir.path(), "server: 'http://127.0.0.1:1'", "token: x")),
            "is not reached",
        ),
        (feed("resource=v1/pods", "/no/such/file"), "/no/such/file"),
    ];
    for (feed, words) in cases {
        let daemon = Daemon::serve(&["--feed", &feed]);
        let http = daemon.http();
        let problem = has_problem(&http, words).await;
        assert!(!problem.contains('\n'), "{problem}");
        is_empty(&http).await;
    }
    for wrong in ["kubernetes:", "kubernetes:?resource=pods", "kubernetes://server/?resource=v1/pods"] {
        let ended = Daemon::serve_and_end(&["--feed", wrong]);
        assert!(!ended.status.success() && ended.stderr.contains("v1/pods"), "{}", ended.stderr);
    }
    // And one that is right.
    let daemon = cluster.follow("resource=v1/namespaces");
    is(&daemon.http(), "in-sync").await;
    agrees_with(&daemon.http(), &cluster.api(), "/api/v1/namespaces", "").await;
}
