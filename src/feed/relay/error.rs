//! Why a relay does not follow an upstream, in a sentence that says what would be right.

use super::config::{RelayConfig, TokenFileError};
use crate::client::ClientError;
use crate::feed::FeedError;
use crate::model::SyncStatus;

/// Why a relay stops following an upstream, at least for a moment.
#[derive(Debug, thiserror::Error)]
pub(super) enum RelayError {
    #[error(transparent)]
    Feed(#[from] FeedError),
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error(transparent)]
    Token(#[from] TokenFileError),
    #[error(
        "it is no crumbd that a relay can follow: its answer does not say where it comes from; give the address \
         of a crumbd, not older than this one, and let no proxy drop Crumbd-Path"
    )]
    NoRelays,
    #[error("its data come from this daemon: a circle of {0} has no source; let one of them follow the root")]
    Loop(usize),
    #[error("its data come through {0} daemons, and {max} is the most; let the relay follow one nearer to the root", max = super::MAX_PATH)]
    TooFar(usize),
    #[error("it has no state yet: its own feed has not reached its upstream")]
    Starting,
    #[error("a body was cut off; it is asked for again")]
    CutOff,
    #[error("what it sent does not lead to the state that it names; everything is read again")]
    Wrong,
    #[error("it is {status}, and its data are {age} s old; {other} is fresher")]
    Fresher { status: SyncStatus, age: u64, other: String },
}

impl RelayError {
    /// Whether the upstream has answered, but its data must not be taken.
    pub(super) fn is_refusal_of_data(&self) -> bool {
        matches!(self, Self::NoRelays | Self::Loop(_) | Self::TooFar(_) | Self::Wrong)
    }

    /// The error of this upstream, for people.
    pub(super) fn sentence(&self, host: &str, config: &RelayConfig) -> String {
        let token = config.token_file.as_ref().map(|path| path.display());
        match self {
            Self::Client(ClientError::Refused { status, kind, detail, .. }) => match (*status, token) {
                (400, _) if kind == "tls-wanted" => {
                    format!("{host}: it speaks TLS, and then its address begins with crumbds://")
                }
                (401, None) => format!("{host}: it wants a token; name a file with one: token_file="),
                (401, Some(path)) => {
                    format!(
                        "{host}: it does not know the token in {path}; token_file= names one that it knows"
                    )
                }
                (403, Some(path)) if kind != "unknown-client" => {
                    let keys =
                        config.prefix.as_ref().map_or("keys".to_owned(), |at| format!("keys under \"{at}\""));
                    format!(
                        "{host}: the token in {path} may read no {keys} there; give it the right, or another prefix="
                    )
                }
                (404, _) if !kind.is_empty() => {
                    format!("{host}: {detail}; collection= names the one to follow")
                }
                (404, _) => format!("{host}: {}", Self::NoRelays),
                _ => format!("{host}: {self}"),
            },
            Self::Client(ClientError::Unreachable { reason, .. }) => {
                format!("{host}: no answer: {reason}; a crumbd must listen there")
            }
            Self::Client(ClientError::Tls { reason, .. }) => format!("{host}: no TLS: {reason}"),
            Self::Feed(_) | Self::Token(_) => self.to_string(),
            _ => format!("{host}: {self}"),
        }
    }
}
