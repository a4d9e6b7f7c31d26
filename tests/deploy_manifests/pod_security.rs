//! The Pod Security Standard "restricted", control by control as it is published (it contains "baseline"), and what we promise
//! beyond it.

use serde_json::Value;

use crate::objects::{Objects, items};

/// The types of volumes that the standard allows.
const VOLUMES: [&str; 8] = [
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "persistentVolumeClaim",
    "projected",
    "secret",
];

/// What the standard forbids in these pods.
pub fn problems(objects: &Objects) -> Vec<String> {
    let pod = objects.pod_spec();
    let mut problems = Vec::new();
    for name in ["hostNetwork", "hostPID", "hostIPC"] {
        if pod[name] == true {
            problems.push(format!("{name} is true"));
        }
    }
    for volume in items(&pod["volumes"]) {
        let kinds = volume.as_object().unwrap().keys().filter(|key| *key != "name");
        let forbidden = kinds.filter(|kind| !VOLUMES.contains(&kind.as_str()));
        problems.extend(forbidden.map(|kind| format!("the volume {} is a {kind}", volume["name"])));
    }
    if !items(&pod["securityContext"]["sysctls"]).is_empty() {
        problems.push("sysctls are set".to_owned());
    }
    for containers in ["containers", "initContainers", "ephemeralContainers"] {
        for container in items(&pod[containers]) {
            of_container(pod, container, &mut problems);
        }
    }
    problems
}

fn of_container(pod: &Value, container: &Value, problems: &mut Vec<String>) {
    let own = &container["securityContext"];
    // What a container does not say is what its pod says.
    let effective = |name: &str| match &own[name] {
        Value::Null => &pod["securityContext"][name],
        value => value,
    };
    let mut must = |holds: bool, what: &str| {
        if !holds {
            problems.push(format!("{}: {what}", container["name"]));
        }
    };
    must(own["privileged"] != true, "it is privileged");
    must(own["allowPrivilegeEscalation"] == false, "allowPrivilegeEscalation is not false");
    must(effective("runAsNonRoot") == true, "runAsNonRoot is not true");
    must(effective("runAsUser") != 0, "runAsUser is 0");
    let seccomp = &effective("seccompProfile")["type"];
    must(
        seccomp == "RuntimeDefault" || seccomp == "Localhost",
        "seccompProfile is not RuntimeDefault or Localhost",
    );
    must(
        items(&own["capabilities"]["drop"]).iter().any(|name| name == "ALL"),
        "capabilities are not dropped",
    );
    let added = items(&own["capabilities"]["add"]);
    must(added.iter().all(|name| name == "NET_BIND_SERVICE"), "capabilities are added");
    must(effective("seLinuxOptions").is_null(), "seLinuxOptions are set");
    must(effective("appArmorProfile")["type"] != "Unconfined", "appArmorProfile is Unconfined");
    must(effective("windowsOptions").is_null(), "windowsOptions are set");
    must(own["procMount"].is_null() || own["procMount"] == "Default", "procMount is not Default");
    must(items(&container["ports"]).iter().all(|port| port["hostPort"].is_null()), "it has a hostPort");
    for probe in ["startupProbe", "livenessProbe", "readinessProbe"] {
        must(container[probe]["httpGet"]["host"].is_null(), "a probe names a host");
    }
    // Beyond the standard.
    must(own["readOnlyRootFilesystem"] == true, "readOnlyRootFilesystem is not true");
}
