//! What no schema can say: names and numbers of one object that must be those of another.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::objects::{Objects, items, labels, name_of};

/// The port that `--listen` names.
fn port_of(address: &str) -> u64 {
    address.rsplit(':').next().unwrap().parse().unwrap()
}

/// Where a program may write, and what it may read.
fn mounts(objects: &Objects) -> Vec<(&str, bool)> {
    let mounts = items(&objects.container()["volumeMounts"]);
    mounts.iter().map(|mount| (mount["mountPath"].as_str().unwrap(), mount["readOnly"] == true)).collect()
}

/// Selectors that select something else than the pods or the Service that they are for.
pub fn selectors(objects: &Objects) -> Vec<String> {
    let pod = objects.pod_labels();
    let mut problems = Vec::new();
    let mut must_match = |object: &Value, selector: &Value| {
        let selector = labels(selector);
        if selector.is_empty() || selector.iter().any(|(name, value)| pod.get(name) != Some(value)) {
            problems.push(format!("{} selects {selector:?}; the pods have {pod:?}", name_of(object)));
        }
    };
    let workload = objects.workload();
    must_match(workload, &workload["spec"]["selector"]["matchLabels"]);
    objects.all("Service").for_each(|service| must_match(service, &service["spec"]["selector"]));
    for policy in objects.all("NetworkPolicy") {
        must_match(policy, &policy["spec"]["podSelector"]["matchLabels"]);
    }
    for budget in objects.all("PodDisruptionBudget") {
        must_match(budget, &budget["spec"]["selector"]["matchLabels"]);
    }
    for monitor in objects.all("ServiceMonitor") {
        let selected: Vec<&Value> =
            objects.all("Service").filter(|service| monitors(monitor, service)).collect();
        if selected.len() != 1 {
            problems.push(format!("the ServiceMonitor selects {} Services, not 1", selected.len()));
        }
        // The alert CrumbdDown looks for such a job.
        let label = monitor["spec"]["jobLabel"].as_str().unwrap_or_default();
        if !selected.iter().all(|service| labels(&service["metadata"]["labels"])[label].contains("crumbd")) {
            problems.push("the job of the ServiceMonitor has no \"crumbd\" in its name".to_owned());
        }
    }
    if objects.workload_kind() == "StatefulSet" {
        let name = &workload["spec"]["serviceName"];
        let of_set = objects.all("Service").find(|service| &service["metadata"]["name"] == name);
        if !of_set.is_some_and(|service| service["spec"]["clusterIP"] == "None") {
            problems.push(format!("the StatefulSet's serviceName {name} is no headless Service"));
        }
    }
    problems
}

fn monitors(monitor: &Value, service: &Value) -> bool {
    let selector = &monitor["spec"]["selector"];
    let has = labels(&service["metadata"]["labels"]);
    let matches = labels(&selector["matchLabels"]).iter().all(|(name, value)| has.get(name) == Some(value));
    matches
        && items(&selector["matchExpressions"]).iter().all(|expression| {
            assert_eq!(expression["operator"], "NotIn");
            let value = has.get(expression["key"].as_str().unwrap());
            !items(&expression["values"]).iter().any(|other| value.is_some_and(|value| other == value))
        })
}

/// Ports of one object that another does not have.
pub fn ports(objects: &Objects) -> Vec<String> {
    let mut problems = Vec::new();
    let settings = objects.settings();
    let ports = items(&objects.container()["ports"]);
    let number = |name: &Value| ports.iter().find(|port| &port["name"] == name)?["containerPort"].as_u64();
    let mut listened = vec![port_of(settings["listen"].as_str().unwrap())];
    listened.extend(settings.get("etcd-listen").map(|address| port_of(address.as_str().unwrap())));
    let open: Vec<u64> = ports.iter().map(|port| port["containerPort"].as_u64().unwrap()).collect();
    if open != listened {
        problems.push(format!("the container has the ports {open:?}, the daemon listens on {listened:?}"));
    }
    for service in objects.all("Service") {
        for port in items(&service["spec"]["ports"]) {
            if number(&port["targetPort"]).is_none() {
                problems.push(format!(
                    "{}: no port {} of the container",
                    name_of(service),
                    port["targetPort"]
                ));
            }
        }
    }
    let scheme = if settings.contains_key("tls-cert") { "HTTPS" } else { "HTTP" };
    for (probe, path) in
        [("startupProbe", "/livez"), ("livenessProbe", "/livez"), ("readinessProbe", "/readyz")]
    {
        let probe_of = &objects.container()[probe];
        if settings.contains_key("tls-client-ca") {
            // The kubelet has no certificate.
            let command = items(&probe_of["exec"]["command"]);
            let is_live = command.iter().any(|argument| argument == "--live");
            if command.get(1).is_none_or(|command| command != "health") || is_live != (path == "/livez") {
                problems.push(format!("{probe} is {command:?}, though clients need a certificate"));
            }
            continue;
        }
        let get = &probe_of["httpGet"];
        if get["path"] != path || number(&get["port"]) != Some(listened[0]) {
            problems.push(format!("{probe} asks {} on port {}", get["path"], get["port"]));
        }
        if get["scheme"].as_str().unwrap_or("HTTP") != scheme {
            problems.push(format!("{probe} does not speak {scheme}"));
        }
    }
    for monitor in objects.all("ServiceMonitor") {
        let endpoint = &monitor["spec"]["endpoints"][0];
        let services: Vec<&Value> =
            objects.all("Service").filter(|service| monitors(monitor, service)).collect();
        let mut of_services = services.iter().flat_map(|service| items(&service["spec"]["ports"]));
        if !of_services
            .any(|port| port["name"] == endpoint["port"] && number(&port["targetPort"]) == Some(listened[0]))
        {
            problems.push(format!("the ServiceMonitor asks a port {}", endpoint["port"]));
        }
        if endpoint["path"] != "/metrics" || endpoint["scheme"] != scheme.to_lowercase() {
            problems.push(format!("the ServiceMonitor asks {} {}", endpoint["scheme"], endpoint["path"]));
        }
        if settings.contains_key("tokens") && endpoint["authorization"].is_null() {
            problems.push("the ServiceMonitor has no token".to_owned());
        }
    }
    for policy in objects.all("NetworkPolicy") {
        let rules = items(&policy["spec"]["ingress"]);
        let admitted: BTreeSet<u64> = rules
            .iter()
            .flat_map(|rule| items(&rule["ports"]))
            .filter_map(|port| port["port"].as_u64())
            .collect();
        if admitted != listened.iter().copied().collect() {
            problems.push(format!(
                "the NetworkPolicy admits {admitted:?}; probes, metrics and clients need {listened:?}"
            ));
        }
    }
    problems
}

/// Paths in the settings that no volume is mounted for, and volumes that are not used.
pub fn volumes(objects: &Objects) -> Vec<String> {
    let mut problems = Vec::new();
    let names = |list: &Value| -> BTreeSet<String> {
        items(list).iter().map(|item| item["name"].as_str().unwrap().to_owned()).collect()
    };
    let claims: BTreeSet<String> = items(&objects.workload()["spec"]["volumeClaimTemplates"])
        .iter()
        .map(|claim| claim["metadata"]["name"].as_str().unwrap().to_owned())
        .collect();
    let volumes = &names(&objects.pod_spec()["volumes"]) | &claims;
    let mounted = names(&objects.container()["volumeMounts"]);
    if volumes != mounted {
        problems.push(format!("the volumes are {volumes:?}, mounted are {mounted:?}"));
    }
    let mounts = mounts(objects);
    let is_below = |path: &str, mount: &str| {
        path.strip_prefix(mount).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    let environment =
        items(&objects.container()["env"]).iter().filter_map(|variable| variable["value"].as_str());
    let environment: Vec<Value> = environment.map(Value::from).collect();
    for (name, value) in objects
        .settings()
        .iter()
        .map(|(name, value)| (name.as_str(), value))
        .chain(environment.iter().map(|value| ("env", value)))
    {
        for path in
            value.as_str().unwrap_or_default().split(['=', '&', '?']).filter(|text| text.starts_with('/'))
        {
            let mount = mounts.iter().find(|(mount, _)| is_below(path, mount));
            if mount.is_none_or(|(_, read_only)| name == "state-dir" && *read_only) {
                problems.push(format!("{name} is {path}, where no volume is mounted that it could use"));
            }
        }
    }
    let map = &objects.one("ConfigMap")["metadata"]["name"];
    let mut maps = items(&objects.pod_spec()["volumes"]).iter().map(|volume| &volume["configMap"]["name"]);
    if !maps.any(|name| name == map) {
        problems.push(format!("no volume has the ConfigMap {map}"));
    }
    problems
}

/// Times and sizes that do not fit together.
pub fn budgets(objects: &Objects) -> Vec<String> {
    let mut problems = Vec::new();
    let settings = objects.settings();
    let drain: u64 = settings["drain"].as_str().unwrap().trim_end_matches('s').parse().unwrap();
    let pause = objects.container()["lifecycle"]["preStop"]["sleep"]["seconds"].as_u64().unwrap_or_default();
    let grace = objects.pod_spec()["terminationGracePeriodSeconds"].as_u64().unwrap_or(30);
    // A few seconds are for writing the state.
    if pause == 0 || grace < pause + drain + 5 {
        problems.push(format!("the pod is killed after {grace} s; it pauses {pause} s and drains {drain} s"));
    }
    let memory = |name: &str| settings.get(name).map(|size| bytes(size.as_str().unwrap()));
    let is_written = |feed: &String| feed == "push:" || feed.contains("write=true");
    let mut caches = vec!["body-cache-bytes", "snapshot-cache-bytes", "max-snapshot-bytes"];
    if objects.feeds().iter().any(is_written) {
        caches.push("max-upload-bytes");
    }
    let used: u64 = caches.iter().map(|name| memory(name).unwrap_or(1 << 30)).sum();
    let used = used + memory("keep-bytes").unwrap_or(64 << 20);
    let limit = objects.container()["resources"]["limits"]["memory"].as_str().map(bytes);
    if limit.is_none_or(|limit| used * 3 / 2 > limit) {
        problems.push(format!("budgets of {used} bytes leave no room for a state in {limit:?} bytes"));
    }
    let replicas = objects.workload()["spec"]["replicas"].as_u64().unwrap();
    if objects.feeds().iter().any(|feed| feed == "push:")
        && (replicas > 1 || objects.workload_kind() != "StatefulSet")
    {
        problems.push("push: is one daemon with a volume".to_owned());
    }
    if (replicas > 1) != objects.all("PodDisruptionBudget").next().is_some() {
        problems.push(format!("{replicas} replicas, and the wrong number of PodDisruptionBudgets"));
    }
    problems
}

/// A size as Kubernetes and as the daemon spell it.
fn bytes(text: &str) -> u64 {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let shift = match unit.trim_end_matches('B') {
        "" => 0,
        "Ki" => 10,
        "Mi" => 20,
        "Gi" => 30,
        other => panic!("{other} of {text}"),
    };
    number.parse::<u64>().unwrap() << shift
}

/// Rights and tokens of the cluster where they are not needed, or not there where they are.
pub fn rights(objects: &Objects) -> Vec<String> {
    let mut problems = Vec::new();
    let follows_cluster = objects.feeds().iter().any(|feed| feed.starts_with("kubernetes:"));
    let pod = objects.pod_spec();
    if pod["automountServiceAccountToken"] != follows_cluster {
        problems.push("automountServiceAccountToken is not what the feed needs".to_owned());
    }
    // Otherwise variables of a Service called crumbd look like settings.
    if pod["enableServiceLinks"] != false {
        problems.push("enableServiceLinks is not false".to_owned());
    }
    if follows_cluster != objects.all("ClusterRole").next().is_some() {
        problems.push("the ClusterRole is not what the feed needs".to_owned());
    }
    for binding in objects.all("ClusterRoleBinding") {
        let subject = &binding["subjects"][0];
        let role = objects.all("ClusterRole").next().map(|role| &role["metadata"]["name"]);
        if Some(&binding["roleRef"]["name"]) != role
            || subject["name"] != pod["serviceAccountName"]
            || subject["namespace"] != crate::objects::NAMESPACE
        {
            problems.push("the ClusterRoleBinding does not bind the pods' account to the role".to_owned());
        }
    }
    problems
}

/// Labels that everything has, by convention.
pub fn common_labels(objects: &Objects) -> Vec<String> {
    let named =
        |object: &&Value| !labels(&object["metadata"]["labels"]).contains_key("app.kubernetes.io/name");
    // kustomize makes the ConfigMap.
    let named = objects.0.iter().filter(|object| object["kind"] != "ConfigMap").filter(named);
    named.map(|object| format!("{} has no app.kubernetes.io/name", name_of(object))).collect()
}
