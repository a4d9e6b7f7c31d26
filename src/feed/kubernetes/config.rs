//! `kubernetes:?resource=GROUP/VERSION/PLURAL` as a setting.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::KubeFeed;
use super::client::Client;
use super::object::Keep;
use crate::feed::registry::{Kind, Storage};
use crate::feed::spec::ParsedFeed;
use crate::feed::url::FeedUrl;
use crate::feed::{Feed, FeedConfig, FeedError, FeedSettings};

pub(in crate::feed) const KIND: Kind = Kind {
    schemes: &["kubernetes"],
    form: "kubernetes:?resource=GROUP/VERSION/PLURAL",
    example: "kubernetes:?resource=v1/pods",
    summary: "the objects of a type of a Kubernetes cluster; several resource= are that many collections",
    options: &[
        (
            "resource",
            "type of the objects: v1/pods, apps/v1/deployments, GROUP/VERSION/PLURAL of a custom resource",
        ),
        ("namespace", "the only namespace; all of them when left out"),
        ("label", "label selector"),
        ("field", "field selector"),
        ("keep", "what is left out by default: managed-fields, last-applied, or both with a comma"),
        ("cluster", "name of the cluster, where the UID of the namespace kube-system may not be read"),
        ("kubeconfig", "kubeconfig file, instead of KUBECONFIG, ~/.kube/config or a pod's service account"),
        ("context", "context of the kubeconfig, instead of the current one"),
    ],
    storage: Storage::Copy,
    strict_has_no_effect: Some("every object of Kubernetes can be read"),
    parse,
};

/// How a resource is named, for errors.
const RESOURCE_FORM: &str =
    "it is GROUP/VERSION/PLURAL, v1/PLURAL for the core group, as in apps/v1/deployments or v1/pods";

/// The objects to follow, and where they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KubeTarget {
    /// Their type.
    pub resource: ResourceName,
    /// Their namespace; `None`: all.
    pub namespace: Option<String>,
    /// A label selector, as the server takes it.
    pub label: Option<String>,
    /// A field selector.
    pub field: Option<String>,
    /// What of them is kept that is left out by default.
    pub keep: Keep,
    /// A name for the cluster, for users who may not read the UID of its namespace `kube-system`.
    pub cluster: Option<String>,
    /// The kubeconfig to use instead of the environment's.
    pub kubeconfig: Option<PathBuf>,
    /// The kubeconfig's context, if it is not the current one.
    pub context: Option<String>,
}

/// The name of a resource: group, version and plural.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ResourceName {
    /// Empty for the core group.
    pub group: String,
    /// `v1`, `v1beta1`, …
    pub version: String,
    /// `pods`, `deployments`, …
    pub plural: String,
}

/// Parses a URL; each resource in it is a feed.
fn parse(url: &mut FeedUrl<'_>) -> Result<Vec<ParsedFeed>, String> {
    let targets = targets(url)?;
    let is_only = targets.len() == 1;
    let same_plural =
        |one: &ResourceName| targets.iter().filter(|other| other.resource.plural == one.plural).count();
    let name = |resource: &ResourceName| match same_plural(resource) {
        1 => resource.plural.clone(),
        _ => resource.to_string().replace('/', "."),
    };
    let names: Vec<_> = targets.iter().map(|target| (!is_only).then(|| name(&target.resource))).collect();
    let feeds = targets.into_iter().zip(names);
    Ok(feeds.map(|(target, name)| ParsedFeed { name, config: Arc::new(target) }).collect())
}

fn targets(url: &mut FeedUrl<'_>) -> Result<Vec<KubeTarget>, String> {
    if !matches!(url.rest, "" | "//" | "///") {
        return Err(format!(
            "the server is that of the kubeconfig or of the pod and no part of the URL, which looks like {}",
            KIND.example
        ));
    }
    let mut resources: Vec<ResourceName> = Vec::new();
    for text in url.take_all("resource") {
        let resource = text.parse()?;
        if resources.contains(&resource) {
            return Err(format!("resource={text} is given twice"));
        }
        resources.push(resource);
    }
    if resources.is_empty() {
        return Err(format!("the option resource is missing: {RESOURCE_FORM}"));
    }
    let namespace = url.take("namespace")?;
    if let Some(namespace) = namespace.as_deref().filter(|namespace| !is_name(namespace)) {
        return Err(format!("namespace={namespace:?} is no name: one namespace, or none for all of them"));
    }
    let (label, field, cluster) = (url.take("label")?, url.take("field")?, url.take("cluster")?);
    let keep = url.take("keep")?.map_or(Ok(Keep::default()), |text| text.parse())?;
    let (kubeconfig, context) = (url.take("kubeconfig")?.map(PathBuf::from), url.take("context")?);
    let target = |resource| KubeTarget {
        resource,
        namespace: namespace.clone(),
        label: label.clone(),
        field: field.clone(),
        keep,
        cluster: cluster.clone(),
        kubeconfig: kubeconfig.clone(),
        context: context.clone(),
    };
    Ok(resources.into_iter().map(target).collect())
}

impl FeedConfig for KubeTarget {
    /// What is followed, however the server is reached.
    fn identity(&self) -> String {
        let cluster = self.cluster.iter().map(|cluster| format!("&cluster={cluster}"));
        format!("kubernetes:{}{}", self.followed(), cluster.collect::<String>())
    }

    fn check(&self, _settings: &FeedSettings) -> Vec<FeedError> {
        Client::check(self).err().map(FeedError::setting).into_iter().collect()
    }

    fn open<'a>(&'a self, _settings: &'a FeedSettings) -> BoxFuture<'a, Result<Box<dyn Feed>, FeedError>> {
        let feed: Box<dyn Feed> = Box::new(KubeFeed::new(self.clone()));
        Box::pin(std::future::ready(Ok(feed)))
    }
}

impl KubeTarget {
    /// The objects that are followed, as a text for the identity of a history.
    pub(super) fn followed(&self) -> String {
        let Keep { managed_fields, last_applied } = self.keep;
        let namespace = self.namespace.as_deref().unwrap_or_default();
        format!("{}\n{namespace}\n{}\n{managed_fields}\n{last_applied}", self.resource, self.selectors())
    }

    /// The selectors, as parameters of a request; each begins with `&`.
    pub(super) fn selectors(&self) -> String {
        let escape = |value: &str| utf8_percent_encode(value, NON_ALPHANUMERIC).to_string();
        let label = self.label.as_deref().map(|label| format!("&labelSelector={}", escape(label)));
        let field = self.field.as_deref().map(|field| format!("&fieldSelector={}", escape(field)));
        label.unwrap_or_default() + &field.unwrap_or_default()
    }
}

impl FromStr for ResourceName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts: Vec<&str> = text.split('/').collect();
        let (group, version, plural) = match parts[..] {
            [version, plural] => ("", version, plural),
            [group, version, plural] => (group, version, plural),
            _ => {
                return Err(format!("resource={text} has no version: {RESOURCE_FORM}"));
            }
        };
        let is_version = version.starts_with('v') && version[1..].starts_with(|c: char| c.is_ascii_digit());
        if !is_version || !is_name(plural) || !(group.is_empty() && parts.len() == 2 || is_name(group)) {
            return Err(format!("resource={text} is no name of a resource: {RESOURCE_FORM}"));
        }
        Ok(Self { group: group.to_owned(), version: version.to_owned(), plural: plural.to_owned() })
    }
}

/// Whether the text may be the name of a namespace, a group or a plural.
fn is_name(text: &str) -> bool {
    let is_of_a_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.');
    !text.is_empty() && text.chars().all(is_of_a_name)
}

impl fmt::Display for ResourceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.group.is_empty() {
            write!(f, "{}/", self.group)?;
        }
        write!(f, "{}/{}", self.version, self.plural)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // a test may unwrap

    use super::*;

    fn parsed(text: &str) -> Result<Vec<KubeTarget>, String> {
        targets(&mut FeedUrl::parse(text).unwrap()?)
    }

    #[test]
    fn each_resource_is_a_feed_that_is_named_after_it() {
        let names = |text: &str| -> Vec<Option<String>> {
            let mut url = FeedUrl::parse(text).unwrap().unwrap();
            parse(&mut url).unwrap().into_iter().map(|feed| feed.name).collect()
        };
        let some = |name: &str| Some(name.to_owned());
        assert_eq!(names("kubernetes:?resource=v1/pods"), [None]);
        let two = "kubernetes:?resource=v1/pods&resource=apps/v1/deployments&namespace=a";
        assert_eq!(names(two), [some("pods"), some("deployments")]);
        let both = "kubernetes:?resource=v1/events&resource=events.k8s.io/v1/events";
        assert_eq!(names(both), [some("v1.events"), some("events.k8s.io.v1.events")]);
        let target =
            parsed("kubernetes:?resource=v1/pods&label=x%3Dy,z&keep=managed-fields").unwrap().remove(0);
        assert_eq!(target.selectors(), "&labelSelector=x%3Dy%2Cz");
        assert_eq!(target.keep, Keep { managed_fields: true, last_applied: false });
    }

    #[test]
    fn how_the_server_is_reached_is_no_part_of_the_identity() {
        let of = |options: &str| {
            parsed(&format!("kubernetes:?resource=v1/pods{options}")).unwrap().remove(0).identity()
        };
        assert_eq!(of("&kubeconfig=/a&context=b"), of(""));
        for other in ["&namespace=a", "&label=a", "&field=a", "&keep=last-applied", "&cluster=a"] {
            assert_ne!(of(other), of(""));
        }
    }

    #[test]
    fn a_wrong_text_is_answered_with_a_sentence() {
        for bad in [
            "kubernetes:",
            "kubernetes://server:6443/?resource=v1/pods",
            "kubernetes:?",
            "kubernetes:?namespace=a",
            "kubernetes:?resource=pods",
            "kubernetes:?resource=/v1/pods",
            "kubernetes:?resource=v1/Pods",
            "kubernetes:?resource=apps/deployments",
            "kubernetes:?resource=a/v1/b/c",
            "kubernetes:?resource=v1/pods&resource=v1/pods",
            "kubernetes:?resource=v1/pods&namespace=",
            "kubernetes:?resource=v1/pods&namespace=a,b",
            "kubernetes:?resource=v1/pods&namespace=a&namespace=b",
            "kubernetes:?resource=v1/pods&keep=all",
            "kubernetes:?resource=v1/pods&label",
        ] {
            assert!(parsed(bad).is_err(), "{bad:?}");
        }
    }
}
