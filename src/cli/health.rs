//! `crumbd health`.

use std::time::Duration;

use clap::Args;

use super::units::{Span, parse_wait};
use super::{Daemon, Failure, output};
use crate::client::ClientError;

/// How long the daemon may take to answer.
pub(super) const TIMEOUT: Duration = Duration::from_secs(5);

/// Ask a daemon whether it is ready, for health checks
///
/// It prints one line. The exit code is 0 if the daemon is ready, 1 if it says that it is not, and 3 if it does not answer
/// within 5 s. Ready means that the feed of every collection has been in-sync, or that the state of the last run is served.
/// No token is needed. Any address of the daemon will do, one of --admin-listen too.
#[derive(Args)]
pub(super) struct Health {
    #[command(flatten)]
    daemon: Daemon,
    /// Ask only whether the daemon is alive. One that is not should be restarted; one that is not ready should not.
    #[arg(long, conflicts_with = "wait")]
    live: bool,
    /// Wait so long for the daemon to become ready, such as 30s.
    #[arg(long, value_name = "DURATION", value_parser = parse_wait)]
    wait: Option<Span>,
}

/// The daemon did not answer.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub(super) struct NoAnswer(pub(super) ClientError);

impl Health {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let wait = self.wait.map(|Span(wait)| wait);
        let client = self.daemon.client()?.with_timeout(TIMEOUT + wait.unwrap_or_default());
        let answer = if self.live { client.alive().await } else { client.ready(wait).await };
        match answer {
            Ok(word) => Ok(output::line(word.trim_end())?),
            Err(error @ ClientError::Refused { .. }) => Err(error.into()),
            Err(error) => Err(NoAnswer(error).into()),
        }
    }
}
