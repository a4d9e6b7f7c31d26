//! The chart itself: what it refuses, what it says, and what it carries.

use serde_json::Value;

use crate::objects::{Objects, helm, yaml};
use crate::{CHART, MADE, VALUES, values_file};

#[test]
fn bad_values_are_refused_with_what_would_be_right() {
    let cases: [(&[&str], &str); 22] = [
        (&["--set-json", "feeds=[]"], "Name at least one"),
        (&["--set-json", r#"feeds=["http://x"]"#], "begins with push:"),
        (&["--set-json", r#"feeds=["stdin:"]"#], "a pod has no standard input"),
        (&["--set-json", r#"feeds=["a=kubernetes:"]"#], "kubernetes:?resource=v1/pods"),
        (&["--set-json", r#"feeds=["push:"]"#], "Set replicas: 1"),
        (&["--set-json", r#"feeds=["push:"]"#, "--set=replicas=1,state.type=none"], "Set state.type: pvc"),
        (&["--set=config.listen=1.2.3.4:1"], "config.listen is set by the chart itself"),
        (&["--set=config.state-interval=1s,state.type=none"], "has no effect with state.type: none"),
        (&["--set=tls.clientCa=true"], "set tls.secret"),
        (&["--set=tls.clientCa=true,tls.secret=a"], "set tls.probeSecret"),
        (&["--set=serviceMonitor.enabled=true,tokens.secret=a"], "set serviceMonitor.tokenSecret"),
        (&["--set=serviceMonitor.enabled=true,tls.secret=a"], "set serviceMonitor.tlsConfig"),
        (&["--set=etcd.user=a"], "set etcd.passwordSecret"),
        (&["--set=etcd.passwordSecret=a"], "needs etcd.user"),
        (&["--kube-version=1.29"], "incompatible with Kubernetes v1.29"),
        // What the schema of the values says.
        (&["--set=replica=3"], "'replica' not allowed"),
        (&["--set=replicas=many"], "got string, want integer"),
        (&["--set=state.type=disk"], "must be one of 'none', 'emptyDir', 'pvc'"),
        (&["--set=image.digest=abc"], "does not match pattern"),
        (&["--set=config.keep_count=5"], "keep_count"),
        (&["--set=preStopSeconds=0"], "minimum: got 0, want 1"),
        (&["--set=service.port=70000"], "maximum: got 70,000, want 65,535"),
    ];
    for (arguments, message) in cases {
        let said = Objects::of_chart(arguments).map(|_| "objects").unwrap_err();
        assert!(said.contains(message), "{arguments:?}: {said}");
    }
}

#[test]
fn the_chart_is_whole() {
    for values in VALUES.map(Some).into_iter().chain([None]) {
        let file = values.map(values_file);
        let more: Vec<&str> = file.iter().flat_map(|file| ["--values", file]).collect();
        let output = helm(&[&["lint", "--strict", CHART], &more[..]].concat());
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&[output.stdout, output.stderr].concat())
        );
    }
    let chart = yaml(&format!("{CHART}/Chart.yaml"));
    assert_eq!(chart["appVersion"], env!("CARGO_PKG_VERSION"));
    assert_eq!(MADE["replicas []"].container()["image"], format!("crumbd:{}", env!("CARGO_PKG_VERSION")));
    let rules = |path: &str| std::fs::read_to_string(path).unwrap();
    let (kept, original) = ("files/crumbd-alerts.yaml", "deploy/prometheus/crumbd-alerts.yaml");
    assert!(rules(&format!("{CHART}/{kept}")) == rules(original), "cp {original} {CHART}/{kept}");
    let of_chart = MADE["chart with kubernetes"].one("PrometheusRule");
    assert_eq!(of_chart["spec"], yaml(original));
}

#[test]
fn each_value_has_a_row_in_the_readme() {
    let text = std::fs::read_to_string(format!("{CHART}/README.md")).unwrap();
    let rows = text.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    let mut rows: Vec<&str> = rows.collect();
    let mut values = Vec::new();
    leaves(&yaml(&format!("{CHART}/values.yaml")), "", &mut values);
    rows.sort_unstable();
    values.sort_unstable();
    assert_eq!(rows, values);
}

/// The paths of all values. The settings of the daemon are one of them.
fn leaves(value: &Value, path: &str, into: &mut Vec<String>) {
    match value.as_object() {
        Some(members) if !members.is_empty() && path != "config" && path != "resources" => {
            for (name, value) in members {
                leaves(value, format!("{path}.{name}").trim_start_matches('.'), into);
            }
        }
        _ => into.push(path.to_owned()),
    }
}

#[test]
fn the_notes_name_the_next_two_commands() {
    let args = ["install", "edge", CHART, "--namespace=prod", "--dry-run=client", "--hide-notes=false"];
    for (values, kind) in [("kubernetes", "deployment"), ("push", "statefulset")] {
        let output = helm(&[&args[..], &["--values", &values_file(values)]].concat());
        let said = String::from_utf8(output.stdout).unwrap();
        let (_, notes) = said
            .split_once("NOTES:")
            .unwrap_or_else(|| panic!("{}", String::from_utf8_lossy(&output.stderr)));
        let commands: Vec<&str> =
            notes.lines().map(str::trim).filter(|line| line.starts_with("kubectl ")).collect();
        let wanted = [
            format!("kubectl --namespace prod rollout status {kind}/edge-crumbd"),
            format!("kubectl --namespace prod exec {kind}/edge-crumbd -- crumbd status"),
        ];
        assert_eq!(commands, wanted);
    }
}
