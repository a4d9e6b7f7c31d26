//! The objects that the chart and the plain manifests make, with the tools that people use: helm, and kustomize in kubectl.

use std::collections::BTreeMap;
use std::io::Write;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use crate::support::tools;

const CHART: &str = "deploy/helm/crumbd";
const HERE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/deploy_manifests");

/// The namespace that everything is made for.
pub const NAMESPACE: &str = "prod";

/// All objects of one release or one directory of manifests.
#[derive(Clone)]
pub struct Objects(pub Vec<Value>);

/// Labels, as a selector names them.
type Labels = BTreeMap<String, String>;

impl Objects {
    /// What `helm template` makes with these arguments, or what it says.
    pub fn of_chart(arguments: &[&str]) -> Result<Objects, String> {
        let output = helm(&[&["template", "test", CHART, "--namespace", NAMESPACE], arguments].concat());
        match output.status.success() {
            true => Ok(Objects(parsed(&output.stdout))),
            false => Err(String::from_utf8(output.stderr).unwrap()),
        }
    }

    /// What `kubectl kustomize` makes of one directory with these components, in an overlay as a user would write it.
    pub fn of_manifests(directory: &str, components: &[&str]) -> Objects {
        let overlay = tempfile::tempdir().unwrap();
        let depth = overlay.path().canonicalize().unwrap().components().count() - 1;
        let root = format!("{}{}/deploy/kubernetes", "../".repeat(depth), &env!("CARGO_MANIFEST_DIR")[1..]);
        let components: String =
            components.iter().map(|name| format!("  - {root}/components/{name}\n")).collect();
        let text = format!(
            "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nnamespace: {NAMESPACE}\n\
             resources:\n  - {root}/{directory}\ncomponents:\n{components}"
        );
        std::fs::write(overlay.path().join("kustomization.yaml"), text).unwrap();
        let output = tools::kubectl().arg("kustomize").arg(overlay.path()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Objects(parsed(&output.stdout))
    }

    pub fn all(&self, kind: &'static str) -> impl Iterator<Item = &Value> {
        self.0.iter().filter(move |object| object["kind"] == kind)
    }

    pub fn one(&self, kind: &'static str) -> &Value {
        let mut found = self.all(kind);
        let one = found.next().unwrap_or_else(|| panic!("no {kind}"));
        assert!(found.next().is_none(), "more than one {kind}");
        one
    }

    pub fn one_mut(&mut self, kind: &str) -> &mut Value {
        self.0.iter_mut().find(|object| object["kind"] == kind).unwrap_or_else(|| panic!("no {kind}"))
    }

    /// The Deployment or StatefulSet.
    pub fn workload(&self) -> &Value {
        self.one(self.workload_kind())
    }

    pub fn workload_kind(&self) -> &'static str {
        if self.all("StatefulSet").next().is_some() { "StatefulSet" } else { "Deployment" }
    }

    pub fn pod_spec(&self) -> &Value {
        &self.workload()["spec"]["template"]["spec"]
    }

    pub fn pod_labels(&self) -> Labels {
        labels(&self.workload()["spec"]["template"]["metadata"]["labels"])
    }

    pub fn container(&self) -> &Value {
        &self.pod_spec()["containers"][0]
    }

    pub fn arguments(&self) -> Vec<&str> {
        items(&self.container()["args"]).iter().map(|argument| argument.as_str().unwrap()).collect()
    }

    /// The text of the ConfigMap that the pods mount.
    pub fn config_file(&self) -> &str {
        let map = self.one("ConfigMap");
        map["data"]["crumbd.toml"].as_str().expect("crumbd.toml in the ConfigMap")
    }

    /// The settings of the daemon: those of the file, then the flags, which win.
    pub fn settings(&self) -> BTreeMap<String, Value> {
        let mut settings: BTreeMap<String, Value> = toml::from_str(self.config_file()).unwrap();
        for argument in self.arguments() {
            if let Some((name, value)) =
                argument.strip_prefix("--").and_then(|argument| argument.split_once('='))
            {
                settings.insert(name.to_owned(), value.into());
            }
        }
        settings
    }

    /// The feeds, less their collections' names.
    pub fn feeds(&self) -> Vec<String> {
        let settings = self.settings();
        let feeds = match &settings["feed"] {
            Value::Array(feeds) => feeds.clone(),
            feed => vec![feed.clone()],
        };
        let is_name = |text: &str| !text.contains([':', '/']);
        let of = |feed: &str| match feed.split_once('=') {
            Some((name, feed)) if is_name(name) => feed.to_owned(),
            _ => feed.to_owned(),
        };
        feeds.iter().map(|feed| of(feed.as_str().unwrap())).collect()
    }
}

/// Runs helm to its end.
pub fn helm(arguments: &[&str]) -> Output {
    tools::helm().args(arguments).stdin(Stdio::null()).output().unwrap()
}

/// The values of the chart, or another file in YAML.
pub fn yaml(file: &str) -> Value {
    parsed(&std::fs::read(file).unwrap()).remove(0)
}

/// The documents of a text in YAML.
pub fn parsed(yaml: &[u8]) -> Vec<Value> {
    let mut python = tools::manifest_python();
    serde_json::from_str(&piped(python.arg(format!("{HERE}/objects.py")), yaml)).unwrap()
}

/// What the published schemas say of the objects.
pub fn schema_problems(objects: &Objects, versions: &[&str]) -> Vec<String> {
    let (monitoring, kubernetes): (Vec<&Value>, Vec<&Value>) =
        objects.0.iter().partition(|object| object["apiVersion"] == "monitoring.coreos.com/v1");
    let mut python = tools::manifest_python();
    let python = python.arg(format!("{HERE}/schemas.py")).args(versions);
    let said = piped(python, &serde_json::to_vec(&kubernetes).unwrap())
        + &piped(
            tools::node().arg(format!("{HERE}/monitoring.mjs")),
            &serde_json::to_vec(&monitoring).unwrap(),
        );
    said.lines().map(str::to_owned).collect()
}

/// What a command writes that must succeed.
fn piped(command: &mut Command, input: &[u8]) -> String {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{command:?}");
    String::from_utf8(output.stdout).unwrap()
}

pub fn labels(value: &Value) -> Labels {
    let members = value.as_object().into_iter().flatten();
    members.map(|(name, value)| (name.clone(), value.as_str().unwrap().to_owned())).collect()
}

/// The items of a list, or none where there is no list.
pub fn items(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// Kind and name, for messages.
pub fn name_of(object: &Value) -> String {
    format!("{} {}", object["kind"].as_str().unwrap(), object["metadata"]["name"].as_str().unwrap())
}
