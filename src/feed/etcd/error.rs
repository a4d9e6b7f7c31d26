//! What goes wrong between etcd and us, as a sentence that says what happened and what may mend it.

use std::error::Error;
use std::path::PathBuf;

use tonic::{Code, Status};

use super::EtcdAccess;
use crate::feed::FeedError;

/// What goes wrong between etcd and us. All of it is tried again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(super) enum EtcdError {
    #[error("{endpoint} is not reached: {reason}")]
    Unreachable { endpoint: String, reason: String },
    #[error("{}", answer(.0))]
    Refused(#[from] Status),
    #[error("the revision was compacted away meanwhile")]
    Compacted,
    #[error("a page is too large for one message: {0}")]
    TooLarge(String),
    #[error("the watch has brought nothing although the store has moved on: reading everything again")]
    Silent,
    #[error("one watch after the other asks for what is compacted away: reading everything again")]
    Fruitless,
    #[error("the watch was cancelled: {0}")]
    Cancelled(String),
    #[error("etcd's answer makes no sense: {0}")]
    Nonsense(&'static str),
    #[error("{}: {source}", path.display())]
    Credentials { path: PathBuf, source: std::io::Error },
    #[error(transparent)]
    Feed(#[from] FeedError),
}

impl EtcdError {
    pub(super) fn unreachable(endpoint: &str, error: &tonic::transport::Error) -> Self {
        let reason = error.source().map_or_else(|| error.to_string(), chain);
        Self::Unreachable { endpoint: endpoint.to_owned(), reason }
    }

    /// How a range was refused.
    pub(super) fn of_range(self) -> Self {
        let Self::Refused(status) = self else { return self };
        // A proxy passes on what etcd says, and not its code.
        let says = |text: &str| status.message().contains(text);
        let too_large = matches!(status.code(), Code::OutOfRange | Code::ResourceExhausted);
        if says("revision has been compacted") {
            Self::Compacted
        } else if too_large && (says("length too large") || says("larger than max")) {
            Self::TooLarge(status.message().to_owned())
        } else {
            Self::Refused(status)
        }
    }

    /// Whether the connection failed, and not what was asked over it.
    pub(super) fn is_broken_connection(&self) -> bool {
        matches!(self, Self::Refused(status) if status.source().is_some())
    }

    /// Whether no answer came in time.
    pub(super) fn is_late(&self) -> bool {
        matches!(self, Self::Refused(status) if status.code() == Code::DeadlineExceeded)
    }

    /// What the user may have to change, where that can be told, for an etcd that has never answered.
    pub(super) fn advice(&self, access: &EtcdAccess) -> Option<&'static str> {
        let said = self.to_string();
        let says = |texts: &[&str]| texts.iter().any(|text| said.contains(text));
        if says(&["user name is empty"]) {
            return Some("it wants a user: --etcd-user and --etcd-password-file");
        }
        let broken = match self {
            Self::Unreachable { .. } => true,
            Self::Refused(status) => status.source().is_some(),
            _ => false,
        };
        if !broken || says(&["(os error", "timed out", "deadline has elapsed"]) {
            return None;
        }
        if !access.tls {
            return Some("does it want TLS? Then the feed is etcds:// instead of etcd://");
        }
        if says(&["UnknownIssuer"]) && access.ca.is_none() {
            return Some(
                "no authority of the system signed the server's certificate: name its authority with --etcd-ca",
            );
        }
        if says(&["InvalidContentType"]) {
            return Some("does it speak TLS at all? If not, the feed is etcd:// instead of etcds://");
        }
        if says(&["invalid peer certificate"]) {
            return None;
        }
        // With TLS 1.3 it refuses after the handshake, and may hang up before its reason is read.
        match &access.identity {
            None if says(&["CertificateRequired", "BadCertificate"]) => {
                Some("the server wants a client certificate: --etcd-cert and --etcd-key")
            }
            None => Some("does the server want a client certificate? Then give --etcd-cert and --etcd-key"),
            Some(_) => Some("does the server know the authority that signed the certificate of --etcd-cert?"),
        }
    }
}

/// etcd's own refusal, or how the connection failed.
fn answer(status: &Status) -> String {
    match status.source() {
        Some(source) => format!("the connection failed: {}", chain(source)),
        None => format!("etcd refused: {} ({:?})", status.message(), status.code()),
    }
}

/// An error and its causes in one line. The outermost usually says least ("transport error"), the innermost what happened;
/// what only repeats its cause is left out.
fn chain(error: &(dyn Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |&error| error.source());
    let mut said: Vec<String> = Vec::new();
    for cause in causes.map(ToString::to_string) {
        said.retain(|before| !cause.contains(before.as_str()));
        if !said.iter().any(|before| before.contains(&cause)) {
            said.push(cause);
        }
    }
    said.join(": ")
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{0}")]
    struct Outer(&'static str, #[source] io::Error);

    #[test]
    fn an_error_is_told_with_its_causes_and_without_repetitions() {
        assert_eq!(
            chain(&Outer("transport error", io::Error::other("it hung up"))),
            "transport error: it hung up"
        );
        assert_eq!(chain(&Outer("tls: it hung up", io::Error::other("it hung up"))), "tls: it hung up");
        assert_eq!(chain(&Outer("hung", io::Error::other("it hung up"))), "it hung up");
    }
}
