//! Each check finds the fault that it is for.

use serde_json::{Value, json};

use crate::objects::schema_problems;
use crate::{MADE, broken_rules, daemon_settings};

/// Sets a member, which need not be there.
pub fn set(object: &mut Value, path: &str, value: Value) {
    let (parent, name) = path.rsplit_once('/').unwrap();
    let parent = object.pointer_mut(parent).unwrap_or_else(|| panic!("no {path}"));
    match parent {
        Value::Array(items) => items[name.parse::<usize>().unwrap()] = value,
        parent => parent[name] = value,
    }
}

#[test]
fn the_schemas_find_faults() {
    let faults: [(&str, &str, Value, &str); 6] = [
        ("Deployment", "/spec/template/spec/containers/0/imagePullPolic", json!("Always"), "imagePullPolic"),
        ("Deployment", "/spec/replicas", json!("two"), "'two' is not of type"),
        ("NetworkPolicy", "/spec/ingress/0/port", json!(1), "'port' was unexpected"),
        ("ClusterRole", "/rules/0/verbs", json!("get"), "is not of type 'array'"),
        ("ServiceMonitor", "/spec/endpoints/0/intervall", json!("5s"), "there is no such member"),
        ("PrometheusRule", "/spec/groups/0/rules/0/alert", json!(1), "must be string"),
    ];
    for (kind, path, value, problem) in faults {
        let mut objects = MADE["chart with kubernetes"].clone();
        set(objects.one_mut(kind), path, value);
        let found = schema_problems(&objects, &["1.37"]).join("\n");
        assert!(found.contains(problem), "{kind}{path}: {found}");
    }
}

#[test]
fn each_rule_finds_its_fault() {
    const POD: &str = "/spec/template/spec";
    const CONTAINER: &str = "/spec/template/spec/containers/0";
    let in_pod = |path: &str| format!("{POD}{path}");
    let in_container = |path: &str| format!("{CONTAINER}{path}");
    let labels = json!({"app.kubernetes.io/name": "other"});
    let faults: Vec<(&str, &str, String, Value, &str)> = vec![
        // What runs restricted.
        ("secured", "Deployment", in_pod("/hostNetwork"), json!(true), "hostNetwork is true"),
        ("secured", "Deployment", in_pod("/hostPID"), json!(true), "hostPID is true"),
        (
            "secured",
            "Deployment",
            in_pod("/volumes/0"),
            json!({"name": "config", "hostPath": {"path": "/"}}),
            "is a hostPath",
        ),
        ("secured", "Deployment", in_pod("/securityContext/runAsNonRoot"), json!(false), "runAsNonRoot"),
        ("secured", "Deployment", in_pod("/securityContext/runAsUser"), json!(0), "runAsUser is 0"),
        (
            "secured",
            "Deployment",
            in_pod("/securityContext/seccompProfile/type"),
            json!("Unconfined"),
            "seccompProfile",
        ),
        (
            "secured",
            "Deployment",
            in_pod("/securityContext/sysctls"),
            json!([{"name": "a", "value": "b"}]),
            "sysctls",
        ),
        (
            "secured",
            "Deployment",
            in_pod("/initContainers"),
            json!([{"name": "init"}]),
            "\"init\": allowPrivilegeEscalation",
        ),
        (
            "secured",
            "Deployment",
            in_container("/securityContext/privileged"),
            json!(true),
            "it is privileged",
        ),
        (
            "secured",
            "Deployment",
            in_container("/securityContext/allowPrivilegeEscalation"),
            json!(true),
            "allowPrivilegeEscalation",
        ),
        (
            "secured",
            "Deployment",
            in_container("/securityContext/capabilities/drop"),
            json!(["CHOWN"]),
            "not dropped",
        ),
        (
            "secured",
            "Deployment",
            in_container("/securityContext/capabilities/add"),
            json!(["SYS_ADMIN"]),
            "are added",
        ),
        (
            "secured",
            "Deployment",
            in_container("/securityContext/readOnlyRootFilesystem"),
            json!(false),
            "readOnlyRootFilesystem",
        ),
        ("secured", "Deployment", in_container("/ports/0/hostPort"), json!(7811), "hostPort"),
        // Selectors.
        (
            "kubernetes",
            "Deployment",
            "/spec/selector/matchLabels".into(),
            labels.clone(),
            "Deployment test-crumbd selects",
        ),
        ("kubernetes", "Service", "/spec/selector".into(), labels.clone(), "selects"),
        (
            "kubernetes",
            "NetworkPolicy",
            "/spec/podSelector/matchLabels".into(),
            labels.clone(),
            "NetworkPolicy test-crumbd selects",
        ),
        (
            "kubernetes",
            "PodDisruptionBudget",
            "/spec/selector/matchLabels".into(),
            labels.clone(),
            "PodDisruptionBudget test-crumbd selects",
        ),
        (
            "kubernetes",
            "ServiceMonitor",
            "/spec/selector/matchLabels".into(),
            labels.clone(),
            "selects 0 Services",
        ),
        (
            "kubernetes",
            "ServiceMonitor",
            "/spec/selector/matchExpressions".into(),
            json!([]),
            "selects 2 Services",
        ),
        (
            "kubernetes",
            "ServiceMonitor",
            "/spec/jobLabel".into(),
            json!("app.kubernetes.io/managed-by"),
            "no \"crumbd\"",
        ),
        ("push", "StatefulSet", "/spec/serviceName".into(), json!("test-crumbd"), "no headless Service"),
        // Ports.
        ("push", "StatefulSet", in_container("/ports/0/containerPort"), json!(7812), "the daemon listens on"),
        ("push", "Service", "/spec/ports/1/targetPort".into(), json!("grpc"), "no port \"grpc\""),
        (
            "push",
            "StatefulSet",
            in_container("/livenessProbe/httpGet/path"),
            json!("/readyz"),
            "livenessProbe asks",
        ),
        (
            "push",
            "StatefulSet",
            in_container("/startupProbe/httpGet/port"),
            json!("etcd"),
            "startupProbe asks",
        ),
        (
            "relay",
            "Deployment",
            in_container("/readinessProbe/httpGet/scheme"),
            json!("HTTP"),
            "does not speak HTTPS",
        ),
        (
            "secured",
            "Deployment",
            in_container("/readinessProbe/exec"),
            Value::Null,
            "clients need a certificate",
        ),
        ("push", "NetworkPolicy", "/spec/ingress/0/ports/0/port".into(), json!(80), "admits"),
        ("secured", "ServiceMonitor", "/spec/endpoints/0/port".into(), json!("http"), "asks a port"),
        ("secured", "ServiceMonitor", "/spec/endpoints/0/path".into(), json!("/"), "asks \"https\" \"/\""),
        ("secured", "ServiceMonitor", "/spec/endpoints/0/authorization".into(), Value::Null, "has no token"),
        // Volumes.
        ("push", "StatefulSet", "/spec/volumeClaimTemplates".into(), json!([]), "the volumes are"),
        ("push", "StatefulSet", in_container("/volumeMounts/1/readOnly"), json!(true), "state-dir is"),
        (
            "push",
            "StatefulSet",
            in_container("/volumeMounts/1/mountPath"),
            json!("/var/lib/crum"),
            "state-dir is",
        ),
        (
            "secured",
            "Deployment",
            in_container("/volumeMounts/2/mountPath"),
            json!("/elsewhere"),
            "where no volume is mounted",
        ),
        (
            "secured",
            "Deployment",
            in_container("/env/1/value"),
            json!("/nowhere/ca.crt"),
            "env is /nowhere/ca.crt",
        ),
        ("secured", "ConfigMap", "/metadata/name".into(), json!("other"), "no volume has the ConfigMap"),
        // Budgets.
        ("secured", "Deployment", in_pod("/terminationGracePeriodSeconds"), json!(16), "killed after 16 s"),
        ("secured", "Deployment", in_container("/lifecycle"), Value::Null, "pauses 0 s"),
        ("secured", "Deployment", in_container("/resources/limits/memory"), json!("512Mi"), "leave no room"),
        (
            "secured",
            "PodDisruptionBudget",
            "/kind".into(),
            json!("Nothing"),
            "wrong number of PodDisruptionBudgets",
        ),
        ("push", "StatefulSet", "/spec/replicas".into(), json!(2), "push: is one daemon"),
        // Rights.
        (
            "kubernetes",
            "Deployment",
            in_pod("/automountServiceAccountToken"),
            json!(false),
            "not what the feed needs",
        ),
        (
            "secured",
            "Deployment",
            in_pod("/automountServiceAccountToken"),
            json!(true),
            "not what the feed needs",
        ),
        ("secured", "Deployment", in_pod("/enableServiceLinks"), json!(true), "enableServiceLinks"),
        ("kubernetes", "ClusterRole", "/kind".into(), json!("Role"), "the ClusterRole is not"),
        ("kubernetes", "ClusterRoleBinding", "/subjects/0/name".into(), json!("default"), "does not bind"),
        (
            "kubernetes",
            "ServiceAccount",
            "/metadata/labels".into(),
            json!({}),
            "has no app.kubernetes.io/name",
        ),
    ];
    for (made, kind, path, value, problem) in faults {
        let mut objects = MADE[&format!("chart with {made}")].clone();
        set(objects.one_mut(kind), &path, value);
        let found = broken_rules(&objects).join("\n");
        assert!(found.contains(problem), "{kind}{path} of {made}: {found:?}");
    }
}

#[test]
fn the_daemon_refuses_settings_that_it_does_not_know() {
    let made = &MADE["chart with secured"];
    let config = made.config_file().to_owned();
    let faults: [(&str, &str, Value, &str); 5] = [
        ("ConfigMap", "/data/crumbd.toml", json!(format!("{config}wake-rat = 1\n")), "wake-rat"),
        ("ConfigMap", "/data/crumbd.toml", json!(config.replace("\"10s\"", "10")), "drain"),
        ("Deployment", "/spec/template/spec/containers/0/args/1", json!("--confi=x"), "--confi"),
        ("Deployment", "/spec/template/spec/containers/0/env/0/name", json!("CRUMBD_LISTN"), "CRUMBD_LISTN"),
        ("Deployment", "/spec/template/spec/containers/0/volumeMounts/2/mountPath", json!("/no"), "cursor"),
    ];
    for (kind, path, value, problem) in faults {
        let mut objects = made.clone();
        set(objects.one_mut(kind), path, value);
        let found = daemon_settings::problems(&objects).join("\n");
        assert!(found.contains(problem), "{kind}{path}: {found:?}");
    }
}
