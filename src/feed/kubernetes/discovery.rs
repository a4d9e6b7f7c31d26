//! What the server knows of a resource, and which cluster it is.

use serde::Deserialize;

use super::client::Client;
use super::config::{KubeTarget, ResourceName};
use super::error::KubeError;
use super::object::TypeMeta;

/// A resource as the server serves it.
#[derive(Clone, Debug)]
pub(super) struct Resource {
    /// The path of its objects, as far as they are followed.
    pub(super) path: String,
    pub(super) type_meta: TypeMeta,
}

#[derive(Deserialize)]
struct ResourceList {
    #[serde(default)]
    resources: Vec<Listed>,
}

#[derive(Deserialize)]
struct Listed {
    name: String,
    #[serde(default)]
    namespaced: bool,
    #[serde(default)]
    kind: String,
    #[serde(default)]
    verbs: Vec<String>,
}

#[derive(Deserialize)]
struct Namespace {
    metadata: NamespaceMetadata,
}

#[derive(Deserialize)]
struct NamespaceMetadata {
    uid: String,
}

impl ResourceName {
    /// `v1`, `apps/v1`, …
    fn api_version(&self) -> String {
        match self.group.as_str() {
            "" => self.version.clone(),
            group => format!("{group}/{}", self.version),
        }
    }

    fn root(&self) -> String {
        let root = if self.group.is_empty() { "api" } else { "apis" };
        format!("/{root}/{}", self.api_version())
    }
}

/// Finds the target's resource.
pub(super) async fn discover(client: &Client, target: &KubeTarget) -> Result<Resource, KubeError> {
    let name = &target.resource;
    let root = name.root();
    let answer = client.get(&root, "the list of resources").await;
    let answer = answer.map_err(|error| match error {
        KubeError::Refused { code: 404, .. } => KubeError::UnknownResource(name.clone()),
        error => error.advise(|| {
            format!("the user needs `get` on the URL {root}, which the cluster role system:discovery gives")
        }),
    })?;
    let list: ResourceList = serde_json::from_slice(&answer).map_err(KubeError::Json)?;
    let found = list.resources.into_iter().find(|listed| listed.name == name.plural);
    let found = found.ok_or_else(|| KubeError::UnknownResource(name.clone()))?;
    let offers = |verb: &str| found.verbs.iter().any(|offered| offered == verb);
    if !offers("list") || !offers("watch") {
        return Err(KubeError::NotWatchable(name.clone(), found.verbs.join(", ")));
    }
    let path = match target.namespace.as_deref() {
        Some(namespace) if found.namespaced => format!("{root}/namespaces/{namespace}/{}", name.plural),
        Some(_) => return Err(KubeError::NoNamespaces(name.clone())),
        None => format!("{root}/{}", name.plural),
    };
    Ok(Resource { path, type_meta: TypeMeta { kind: found.kind, api_version: name.api_version() } })
}

/// The cluster's identity: the name that the user gives it, or else the UID of its namespace `kube-system`, which a backup
/// keeps and a new cluster does not have.
pub(super) async fn cluster_identity(client: &Client, target: &KubeTarget) -> Result<String, KubeError> {
    if let Some(name) = &target.cluster {
        return Ok(format!("name:{name}"));
    }
    let what = "the namespace kube-system, whose UID names the cluster";
    let answer = client.get("/api/v1/namespaces/kube-system", what).await;
    let answer = answer.map_err(|error| match error {
        // The server makes it soon after its own first start.
        KubeError::Refused { code: 404, .. } => KubeError::NoIdentity,
        error => error.advise(|| {
            "the user needs `get` on the namespace kube-system; without it, name the cluster yourself with cluster=NAME in the feed's URL, the same for every replica".to_owned()
        }),
    })?;
    let namespace: Namespace = serde_json::from_slice(&answer).map_err(KubeError::Json)?;
    if namespace.metadata.uid.is_empty() {
        return Err(KubeError::Nonsense("the namespace kube-system without a UID"));
    }
    Ok(format!("uid:{}", namespace.metadata.uid))
}

/// The rights that a feed needs, for an error.
pub(super) fn rights(target: &KubeTarget) -> String {
    let ResourceName { group, plural, .. } = &target.resource;
    let group = if group.is_empty() { "the core group".to_owned() } else { format!("the group {group}") };
    let place = match &target.namespace {
        Some(namespace) => format!("in the namespace {namespace} (a Role)"),
        None => "in all namespaces (a ClusterRole), or name one with namespace=".to_owned(),
    };
    format!("the user needs `list` and `watch` on {plural} of {group} {place}")
}
