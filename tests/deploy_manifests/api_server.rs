//! A real API server takes every object. It is Kubernetes 1.20, so that what is newer there is left out or has its older name: the
//! published schemas are what looks at the rest.

use serde_json::{Value, json};

use crate::MADE;
use crate::faults::set;
use crate::objects::{NAMESPACE, items, name_of};
use crate::support::kubernetes::{Api, Cluster};

#[tokio::test(flavor = "multi_thread")]
async fn an_api_server_takes_every_object() {
    let cluster = Cluster::start().await;
    let api = cluster.api();
    api.create_namespace(NAMESPACE).await;
    for (name, objects) in &*MADE {
        for object in &objects.0 {
            if let Err(refusal) = dry_run(&api, object).await {
                panic!("{} of {name}: {refusal}", name_of(object));
            }
        }
    }
    // It sees what schemas do not.
    let faults = [
        ("/metadata/labels", json!({"app": "other"}), "`selector` does not match template `labels`"),
        ("/spec/containers/0/volumeMounts/0/name", json!("other"), "volumeMounts[0].name: Not found"),
        ("/spec/containers/0/readinessProbe/httpGet/port", json!("a_b"), "readinessProbe.httpGet.port"),
    ];
    for (path, value, problem) in faults {
        let mut pods = MADE["chart with kubernetes"].one("Deployment").clone();
        set(&mut pods, &format!("/spec/template{path}"), value);
        let refusal = dry_run(&api, &pods).await.unwrap_err();
        assert!(refusal.contains(problem), "{path}: {refusal}");
    }
}

/// Lets the server check and default an object as if it were created.
async fn dry_run(api: &Api, object: &Value) -> Result<(), String> {
    let mut object = object.clone();
    let containers = object.pointer_mut("/spec/template/spec/containers").and_then(Value::as_array_mut);
    for container in containers.into_iter().flatten() {
        let pause = container.as_object_mut().unwrap().remove("lifecycle").unwrap();
        assert!(pause["preStop"]["sleep"]["seconds"].is_u64(), "{pause}");
    }
    if object["apiVersion"] == "policy/v1" {
        object["apiVersion"] = json!("policy/v1beta1");
    }
    let version = object["apiVersion"].as_str().unwrap();
    if version.starts_with("monitoring.coreos.com/") {
        return Ok(()); // the server does not know the operator's types
    }
    let group = if version == "v1" { "/api/v1".to_owned() } else { format!("/apis/{version}") };
    let plural = match object["kind"].as_str().unwrap() {
        "NetworkPolicy" => "networkpolicies".to_owned(),
        kind => kind.to_lowercase() + "s",
    };
    let scope = match plural.starts_with("cluster") {
        true => String::new(),
        false => format!("/namespaces/{NAMESPACE}"),
    };
    let path = format!("{group}{scope}/{plural}?dryRun=All");
    let (status, answer) = api.try_call("POST", &path, Some(&object)).await?;
    // A member that the server does not know is dropped silently.
    let kept = items(&object["spec"]["ports"]).len() == items(&answer["spec"]["ports"]).len();
    if status == 201 && kept { Ok(()) } else { Err(format!("POST {path}: {status} {answer}")) }
}
