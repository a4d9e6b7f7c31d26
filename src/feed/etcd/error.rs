//! Errors of the feed, as sentences that say what happened and what may help.

use std::error::Error;
use std::io::{self, ErrorKind};
use std::path::PathBuf;

use tonic::{Code, Status};

use super::EtcdAccess;
use super::watch_end::WatchEnd;
use crate::feed::FeedError;
use crate::feed::error_chain::{causes, chain};

/// An error of the feed. After each of them the feed connects again, except after [`EtcdError::Feed`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(super) enum EtcdError {
    #[error("{endpoint} is not reached: {reason}")]
    Unreachable { endpoint: String, reason: String, cause: Cause },
    #[error("{}", answer(.0))]
    Refused(#[from] Status),
    #[error("the revision was compacted away meanwhile")]
    Compacted,
    #[error("a page is too large for one message: {0}")]
    TooLarge(String),
    #[error(transparent)]
    Watch(#[from] WatchEnd),
    #[error("one watch after the other asks for what is compacted away: reading everything again")]
    WatchesFail,
    #[error("no answer to a read in time")]
    NoAnswer,
    #[error("reading a page has crashed")]
    Crashed,
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
        Self::Unreachable { endpoint: endpoint.to_owned(), reason, cause: Cause::of(error) }
    }

    /// The error of a range request, by what etcd says.
    pub(super) fn of_range(self) -> Self {
        let Self::Refused(status) = self else { return self };
        // A proxy passes on etcd's message, and not its code.
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

    /// Whether the connection failed, and not the request.
    pub(super) fn is_broken_connection(&self) -> bool {
        matches!(self, Self::Refused(status) if status.source().is_some())
    }

    /// Whether the request was not sent, because there was no connection.
    pub(super) fn was_not_sent(&self) -> bool {
        let Self::Refused(status) = self else { return false };
        let is_unsent = |error: &(dyn Error + 'static)| {
            let canceled = error.downcast_ref().is_some_and(hyper::Error::is_canceled);
            canceled || error.is::<tonic::ConnectError>()
        };
        status.source().is_some_and(|source| causes(source).any(is_unsent))
    }

    /// Whether the member has refused the request unread, because it has no leader.
    pub(super) fn has_no_leader(&self) -> bool {
        matches!(self, Self::Refused(status) if status.message() == "etcdserver: no leader")
    }

    /// Whether a new login may help: etcd knows the token no more, or it is older than a change of the rights.
    pub(super) fn wants_login(&self) -> bool {
        let says = |text: &str| matches!(self, Self::Refused(status) if status.message().contains(text));
        says("invalid auth token") || says("revision of auth store is old")
    }

    /// Whether no answer came in time.
    pub(super) fn is_late(&self) -> bool {
        matches!(self, Self::Refused(status) if status.code() == Code::DeadlineExceeded)
    }

    /// The setting that may be wrong, if an etcd that has never answered suggests one.
    pub(super) fn advice(&self, access: &EtcdAccess) -> Option<&'static str> {
        match self {
            Self::Unreachable { cause, .. } => cause.advice(access),
            Self::Refused(status) => match status.source() {
                Some(source) => Cause::of(source).advice(access),
                // etcd's refusals differ only in their text.
                None if status.message().contains("user name is empty") => {
                    Some("it wants a user: --etcd-user and --etcd-password-file")
                }
                None => None,
            },
            _ => None,
        }
    }
}

/// The root cause of a failed connection, as far as it suggests another setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// The server's certificate is signed by an unknown authority.
    UnknownIssuer,
    /// The server's certificate is invalid.
    BadServer,
    /// The server does not speak TLS.
    NoTls,
    /// The server wants a client certificate.
    NoCertificate,
    /// The server was reached, and then it hung up, or answered something unintelligible.
    HungUp,
    /// The server was not reached: its name, its address, the network, or the time.
    NotReached,
}

impl Cause {
    fn of(error: &(dyn Error + 'static)) -> Self {
        let found = causes(error).filter_map(Self::of_one).last();
        found.unwrap_or(Self::NotReached)
    }

    /// Of one error, without its causes.
    fn of_one(error: &(dyn Error + 'static)) -> Option<Self> {
        if let Some(tls) = error.downcast_ref() {
            return Some(Self::of_tls(tls));
        }
        if error.is::<hyper::Error>() {
            return Some(Self::HungUp);
        }
        let error = error.downcast_ref::<io::Error>()?;
        if let Some(tls) = error.get_ref().and_then(|inner| inner.downcast_ref()) {
            return Some(Self::of_tls(tls));
        }
        let hung_up = matches!(
            error.kind(),
            ErrorKind::BrokenPipe
                | ErrorKind::ConnectionAborted
                | ErrorKind::ConnectionReset
                | ErrorKind::InvalidData
                | ErrorKind::UnexpectedEof
        );
        // An error of the operating system says nothing about settings: the server may just have been stopped.
        Some(if hung_up && error.raw_os_error().is_none() { Self::HungUp } else { Self::NotReached })
    }

    fn of_tls(error: &rustls::Error) -> Self {
        use rustls::{AlertDescription as Alert, CertificateError, Error, InvalidMessage};
        match error {
            Error::InvalidCertificate(CertificateError::UnknownIssuer) => Self::UnknownIssuer,
            Error::InvalidCertificate(_) => Self::BadServer,
            Error::InvalidMessage(InvalidMessage::InvalidContentType) => Self::NoTls,
            Error::AlertReceived(Alert::CertificateRequired | Alert::BadCertificate) => Self::NoCertificate,
            _ => Self::HungUp,
        }
    }

    fn advice(self, access: &EtcdAccess) -> Option<&'static str> {
        let advice = match (self, access.tls, &access.identity) {
            (Self::NotReached | Self::BadServer, ..) => return None,
            (Self::UnknownIssuer, ..) if access.ca.is_some() => return None,
            (Self::UnknownIssuer, ..) => {
                "no authority of the system signed the server's certificate: name its authority with --etcd-ca"
            }
            (_, false, _) => "does it want TLS? Then the feed is etcds:// instead of etcd://",
            (Self::NoTls, ..) => "does it speak TLS at all? If not, the feed is etcd:// instead of etcds://",
            (Self::NoCertificate, _, None) => {
                "the server wants a client certificate: --etcd-cert and --etcd-key"
            }
            // With TLS 1.3 it refuses after the handshake, and may hang up before its reason is read.
            (_, _, None) => "does the server want a client certificate? Then give --etcd-cert and --etcd-key",
            (_, _, Some(_)) => {
                "does the server know the authority that signed the certificate of --etcd-cert?"
            }
        };
        Some(advice)
    }
}

/// etcd's refusal, or how the connection failed.
fn answer(status: &Status) -> String {
    match status.source() {
        Some(source) => format!("the connection failed: {}", chain(source)),
        None => format!("etcd refused: {} ({:?})", status.message(), status.code()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{0}")]
    struct Outer(&'static str, #[source] io::Error);

    #[test]
    fn advice_is_given_only_where_a_setting_may_be_wrong() {
        let plain = EtcdAccess::default();
        let tls = EtcdAccess { tls: true, ..EtcdAccess::default() };
        let of = |error: io::Error| Cause::of(&Outer("transport error", error));
        let refused = of(io::Error::from_raw_os_error(111));
        assert_eq!((refused.advice(&plain), refused.advice(&tls)), (None, None), "nobody listens");
        let no_name = of(io::Error::other("failed to lookup address information"));
        assert_eq!(no_name.advice(&plain), None, "a name that is not known");
        let hung_up = of(ErrorKind::BrokenPipe.into());
        assert!(hung_up.advice(&plain).unwrap_or_default().contains("etcds://"));
        assert!(hung_up.advice(&tls).unwrap_or_default().contains("--etcd-cert"));
        let wants = rustls::Error::AlertReceived(rustls::AlertDescription::CertificateRequired);
        let wants = of(io::Error::new(ErrorKind::InvalidData, wants));
        assert!(wants.advice(&tls).unwrap_or_default().contains("wants a client certificate"));
    }
}
