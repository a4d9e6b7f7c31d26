//! Errors of the feed: one sentence that says what happened, and what would be right.

use std::error::Error;
use std::time::Duration;

use hyper::StatusCode;

use super::config::ResourceName;
use super::kubeconfig::{ConfigError, FileReason};
use super::plugin::PluginError;
use crate::feed::FeedError;
use crate::feed::error_chain::{causes, chain};
use crate::model::Revision;

/// The longest text of an error, in characters.
const LONGEST_TEXT: usize = 600;

/// An error of the feed. After each of them the feed connects again, except after [`KubeError::Feed`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(super) enum KubeError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("the configuration of the cluster cannot be used: {0}")]
    BadConfig(String),
    #[error("the token of the user: {0}")]
    Token(FileReason),
    #[error("{server} is not reached: {reason}")]
    Unreachable { server: String, reason: String },
    #[error(
        "the certificate of {server} is not trusted: {reason}; the kubeconfig's certificate-authority is to be the authority that signed it"
    )]
    Mistrusted { server: String, reason: String },
    #[error("{server} does not speak TLS: in the kubeconfig, its server may be http:// instead of https://")]
    NoTls { server: String },
    #[error(
        "the server does not accept the credentials (401): the user of the kubeconfig's context, or the token of the service account, has expired or is unknown to it"
    )]
    Unauthorized,
    #[error("the server refuses {what} (403: {message}): {advice}")]
    Forbidden { what: String, message: String, advice: String },
    #[error(
        "the server has no resource {0} (404): the name is GROUP/VERSION/PLURAL, v1/PLURAL for the core group, as in apps/v1/deployments or v1/pods; `kubectl api-resources` lists what there is"
    )]
    UnknownResource(ResourceName),
    #[error("the resource {0} can be listed or watched by nobody: the server offers only {1}")]
    NotWatchable(ResourceName, String),
    #[error("the resource {0} has no namespaces: leave namespace= out of the feed's URL")]
    NoNamespaces(ResourceName),
    #[error("the server does not understand label= or field= of the feed's URL: {0} (400)")]
    BadSelector(String),
    #[error("the namespace kube-system, whose UID names the cluster, does not exist yet")]
    NoIdentity,
    #[error(transparent)]
    Plugin(#[from] PluginError),
    #[error("the server asks for a pause of {} s ({code})", pause.as_secs())]
    Throttled { pause: Duration, code: u16 },
    #[error(
        "the server redirects {what} to {to} ({code}): the kubeconfig's server is to be the one that answers"
    )]
    Redirected { what: String, code: u16, to: String },
    #[error("the answer to {what} is larger than {} MiB", most >> 20)]
    TooLarge { what: String, most: usize },
    #[error("the answer to {what} is too slow: {bytes} bytes within {} s", within.as_secs())]
    TooSlow { what: String, bytes: usize, within: Duration },
    #[error("the server no longer has that revision (410)")]
    Expired {
        /// The oldest revision after which it still has every change, if it names one.
        oldest: Option<Revision>,
    },
    #[error("the server refused {what}: {message} ({code})")]
    Refused { what: String, code: u16, message: String },
    #[error("no answer within {} s to {what}", after.as_secs())]
    NoAnswer { what: String, after: Duration },
    #[error("the connection broke: {0}")]
    Broken(String),
    #[error("the answer is no JSON that Kubernetes sends: {0}")]
    Json(serde_json::Error),
    #[error("the answer makes no sense: {0}")]
    Nonsense(&'static str),
    #[error("the server's resourceVersion {0:?} is no number: revisions of this server cannot be ordered")]
    OpaqueRevision(String),
    #[error("the server closed the watch")]
    Closed,
    #[error("reading has crashed")]
    Crashed,
    #[error(transparent)]
    Feed(#[from] FeedError),
}

impl KubeError {
    /// The error of an answer that is no success.
    pub(super) fn of_answer(
        what: &str,
        status: StatusCode,
        retry_after: Option<Duration>,
        body: &[u8],
    ) -> Self {
        let message = Status::of(body).and_then(|status| status.message);
        let message = message.unwrap_or_else(|| {
            let text = String::from_utf8_lossy(body);
            text.trim().chars().take(200).collect()
        });
        match status {
            StatusCode::UNAUTHORIZED => Self::Unauthorized,
            StatusCode::FORBIDDEN => {
                Self::Forbidden { what: what.to_owned(), message, advice: String::new() }
            }
            StatusCode::GONE => Self::Expired { oldest: oldest(&message) },
            StatusCode::TOO_MANY_REQUESTS => {
                let pause = retry_after.unwrap_or(Duration::from_secs(1));
                Self::Throttled { pause, code: status.as_u16() }
            }
            status => match retry_after {
                Some(pause) if status.is_server_error() => Self::Throttled { pause, code: status.as_u16() },
                _ => Self::Refused { what: what.to_owned(), code: status.as_u16(), message },
            },
        }
    }

    /// The same refusal with the rights that are needed.
    pub(super) fn advise(self, rights: impl FnOnce() -> String) -> Self {
        match self {
            Self::Forbidden { what, message, .. } => Self::Forbidden { what, message, advice: rights() },
            other => other,
        }
    }

    /// A request that was not answered.
    pub(super) fn of_request(server: &str, error: &kube::Error) -> Self {
        let cause =
            error.source().filter(|_| matches!(error, kube::Error::HyperError(_) | kube::Error::Service(_)));
        let (server, reason) = (server.to_owned(), chain(cause.unwrap_or(error)));
        match error {
            kube::Error::Auth(_) => return Self::BadConfig(reason),
            kube::Error::HyperError(_) | kube::Error::Service(_) => {}
            _ => return Self::BadConfig(reason),
        }
        match tls_cause(error) {
            Some(rustls::Error::InvalidCertificate(_)) => Self::Mistrusted { server, reason },
            Some(rustls::Error::InvalidMessage(_)) => Self::NoTls { server },
            _ => Self::Unreachable { server, reason },
        }
    }

    /// An answer that broke off.
    pub(super) fn broken(error: &kube::Error) -> Self {
        Self::Broken(chain(error.source().unwrap_or(error)))
    }

    /// Whether the server has answered, and will answer the same until somebody changes something.
    pub(super) fn is_refusal(&self) -> bool {
        matches!(
            self,
            Self::Unauthorized
                | Self::Forbidden { .. }
                | Self::UnknownResource(_)
                | Self::NotWatchable(..)
                | Self::NoNamespaces(_)
                | Self::BadSelector(_)
                | Self::OpaqueRevision(_)
                | Self::Plugin(_)
                | Self::Redirected { .. }
                | Self::TooLarge { .. }
                | Self::TooSlow { .. }
        )
    }

    /// Whether it is an error of one connection, over which the cluster does not become another one: a server that is
    /// restored from a backup cannot be reached for a while.
    pub(super) fn leaves_the_cluster_as_it_was(&self) -> bool {
        matches!(self, Self::Closed | Self::Broken(_) | Self::Json(_) | Self::Nonsense(_))
    }

    /// The pause that the server has asked for.
    pub(super) fn pause(&self) -> Option<Duration> {
        match self {
            Self::Throttled { pause, .. } => Some(*pause),
            _ => None,
        }
    }
}

/// The part of a `Status` object that matters.
#[derive(Debug, serde::Deserialize)]
pub(super) struct Status {
    #[serde(default)]
    pub(super) code: u16,
    pub(super) message: Option<String>,
    #[serde(default)]
    pub(super) reason: Option<String>,
}

impl Status {
    pub(super) fn of(json: &[u8]) -> Option<Self> {
        serde_json::from_slice(json).ok()
    }

    /// The error of an `ERROR` event.
    pub(super) fn into_error(self) -> KubeError {
        let gone = matches!(self.reason.as_deref(), Some("Expired" | "Gone"));
        let code = if gone { StatusCode::GONE.as_u16() } else { self.code };
        let status = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = format!("{{\"message\":{}}}", serde_json::json!(self.message.unwrap_or_default()));
        KubeError::of_answer("the watch", status, None, body.as_bytes())
    }
}

/// The oldest revision after which the server has every change, from its text `too old resource version: 1 (1848)`.
fn oldest(message: &str) -> Option<Revision> {
    let (_, versions) = message.split_once("too old resource version: ")?;
    let (_, oldest) = versions.split_once('(')?;
    oldest.split_once(')')?.0.parse().ok().map(Revision)
}

/// The text in one line that is not too long.
pub(super) fn one_line(text: &str) -> String {
    let words: Vec<&str> = text.split(['\r', '\n']).map(str::trim).filter(|line| !line.is_empty()).collect();
    let line = words.join(" ");
    match line.char_indices().nth(LONGEST_TEXT) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

fn tls_cause<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    causes(error).find_map(|error| {
        // An io error does not name the one that it wraps as its source, and may wrap another one.
        let unwrap = |error: &&'a (dyn Error + 'static)| {
            let wrapped = error.downcast_ref::<std::io::Error>()?.get_ref()?;
            Some(wrapped as &(dyn Error + 'static))
        };
        std::iter::successors(Some(error), unwrap).find_map(|error| error.downcast_ref())
    })
}
