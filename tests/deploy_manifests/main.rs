//! What deploy/ has for containers and for Kubernetes. The chart and the plain manifests make objects that the published schemas and
//! a real API server take, that fit together, and whose settings the daemon takes.
#![allow(clippy::unwrap_used)] // a test may unwrap

#[path = "../support/mod.rs"]
mod support;

mod api_server;
mod chart;
mod daemon_settings;
mod faults;
mod image;
mod objects;
mod pod_security;
mod rules;

use std::collections::BTreeMap;
use std::sync::LazyLock;

use objects::{Objects, items, schema_problems};
use serde_json::{Value, json};
use support::daemon::Daemon;
use support::tls::Authority;

/// A rule gives a line for each thing that is wrong.
type Rule = fn(&Objects) -> Vec<String>;

const RULES: [Rule; 7] = [
    pod_security::problems,
    rules::selectors,
    rules::ports,
    rules::volumes,
    rules::budgets,
    rules::rights,
    rules::common_labels,
];

/// From the oldest version that the chart allows to the newest with a published schema.
const KUBERNETES: [&str; 8] = ["1.30", "1.31", "1.32", "1.33", "1.34", "1.35", "1.36", "1.37"];

const CHART: &str = "deploy/helm/crumbd";

/// The files in the chart's directory ci/.
const VALUES: [&str; 4] = ["kubernetes", "push", "relay", "secured"];

/// Everything that is made in one way or another, each with its name.
static MADE: LazyLock<BTreeMap<String, Objects>> = LazyLock::new(|| {
    let mut made = BTreeMap::from([("chart".to_owned(), Objects::of_chart(&[]).unwrap())]);
    for name in VALUES {
        let file = values_file(name);
        made.insert(format!("chart with {name}"), Objects::of_chart(&["--values", &file]).unwrap());
    }
    let manifests: [(&str, &[&str]); 5] = [
        ("replicas", &[]),
        ("replicas", &["kubernetes-feed", "monitoring"]),
        ("replicas", &["tokens", "tls"]),
        ("push", &["monitoring"]),
        ("push", &["tokens", "tls"]),
    ];
    for (directory, components) in manifests {
        made.insert(format!("{directory} {components:?}"), Objects::of_manifests(directory, components));
    }
    made
});

fn values_file(name: &str) -> String {
    format!("{CHART}/ci/{name}-values.yaml")
}

fn broken_rules(objects: &Objects) -> Vec<String> {
    RULES.iter().flat_map(|rule| rule(objects)).collect()
}

#[test]
fn every_object_matches_the_published_schemas() {
    for (name, objects) in &*MADE {
        assert_eq!(schema_problems(objects, &KUBERNETES), [""; 0], "{name}");
    }
}

#[test]
fn the_objects_fit_together_and_the_pods_are_restricted() {
    for (name, objects) in &*MADE {
        assert_eq!(broken_rules(objects), [""; 0], "{name}");
    }
}

#[test]
fn the_daemon_takes_the_settings() {
    for (name, objects) in &*MADE {
        assert_eq!(daemon_settings::problems(objects), [""; 0], "{name}");
    }
}

#[test]
fn the_probes_of_a_daemon_whose_clients_need_certificates_succeed() {
    let authority = Authority::new("the authority");
    let (server, client) = (authority.server(), authority.client(Some("probe"), None));
    let daemon = Daemon::push(&[
        "--tls-cert",
        &server.cert,
        "--tls-key",
        &server.key,
        "--tls-client-ca",
        &authority.ca,
    ]);
    let container = MADE["chart with secured"].container();
    // What is mounted, and the port.
    let real = |text: &str| {
        let text = text.replace("/etc/crumbd/probe/ca.crt", &authority.ca);
        let text = text
            .replace("/etc/crumbd/probe/tls.crt", &client.cert)
            .replace("/etc/crumbd/probe/tls.key", &client.key);
        text.replace(":7811", daemon.address().trim_start_matches(|c| c != ':'))
    };
    for (probe, said) in
        [("startupProbe", "alive\n"), ("livenessProbe", "alive\n"), ("readinessProbe", "ready\n")]
    {
        for with_certificate in [true, false] {
            let mut command = support::daemon::command();
            for variable in items(&container["env"]) {
                let name = variable["name"].as_str().unwrap();
                if with_certificate || !name.contains("CLIENT") {
                    command.env(name, real(variable["value"].as_str().unwrap()));
                }
            }
            let arguments = items(&container[probe]["exec"]["command"]).iter().skip(1);
            let output = command.args(arguments.map(|argument| argument.as_str().unwrap())).output().unwrap();
            assert_eq!(output.status.success(), with_certificate, "{probe}: {output:?}");
            assert!(!with_certificate || output.stdout == said.as_bytes(), "{probe}: {output:?}");
        }
    }
}

#[test]
fn the_rights_are_those_of_the_operations_page() {
    let page = include_str!("../../src/docs/operations.md");
    let (_, after) = page.split_once("```yaml\napiVersion: rbac").expect("the ClusterRole of the page");
    let text = format!("apiVersion: rbac{}", after.split_once("```").unwrap().0);
    let role = &objects::parsed(text.as_bytes())[0];
    let one_feed = ["--set-json", r#"feeds=["kubernetes:?resource=v1/pods"]"#];
    let of_chart = Objects::of_chart(&one_feed).unwrap();
    let of_manifests = &MADE[r#"replicas ["kubernetes-feed", "monitoring"]"#];
    for objects in [&of_chart, of_manifests] {
        assert_eq!(objects.one("ClusterRole")["rules"], role["rules"]);
    }
    // A custom resource, a cluster with a name, and a kubeconfig of another cluster.
    let feeds = r#"feeds=["a=kubernetes:?resource=example.com/v1/widgets&cluster=east","b=kubernetes:?resource=v1/nodes&kubeconfig=/k"]"#;
    let rules = &Objects::of_chart(&["--set-json", feeds]).unwrap().one("ClusterRole")["rules"].clone();
    assert_eq!(
        rules,
        &json!([{"apiGroups": ["example.com"], "resources": ["widgets"], "verbs": ["list", "watch"]}])
    );
}

#[test]
fn the_chart_and_the_manifests_make_the_same_pods() {
    // What has another name in each.
    let names = |mut pod: Value| {
        pod["volumes"][0]["configMap"]["name"] = Value::Null;
        for constraint in pod["topologySpreadConstraints"].as_array_mut().into_iter().flatten() {
            constraint["labelSelector"] = Value::Null;
        }
        pod
    };
    let push = ["--set=replicas=1,state.type=pvc", "--set-json", r#"feeds=["push:"]"#];
    for (manifests, values) in [("replicas []", &[][..]), (r#"push ["monitoring"]"#, &push)] {
        let of_chart = Objects::of_chart(&[values, &["--set=fullnameOverride=crumbd"]].concat()).unwrap();
        let of_manifests = &MADE[manifests];
        assert_eq!(names(of_chart.pod_spec().clone()), names(of_manifests.pod_spec().clone()), "{manifests}");
        assert_eq!(of_chart.settings(), of_manifests.settings(), "{manifests}");
        for field in ["replicas", "strategy", "serviceName"] {
            assert_eq!(
                of_chart.workload()["spec"][field],
                of_manifests.workload()["spec"][field],
                "{manifests}"
            );
        }
    }
}
