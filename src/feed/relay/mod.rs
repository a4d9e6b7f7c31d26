//! `crumbd://HOST:PORT[,HOST:PORT…]/`: a relay, which follows another crumbd by long polls.
//!
//! What the feed promises:
//!
//! - History, revisions, status and digest are the upstream's, so a client moves freely between them with its cursor.
//! - Each breadcrumb of the upstream is one here. The upstream does not squash what it tells a relay, and a relay without
//!   a state begins at an old breadcrumb. So a cursor that the upstream keeps is kept here too.
//! - The upstream tells a relay the steps inside its breadcrumbs, and those before them. So a cursor that another replica of
//!   the upstream has given is continued here where the upstream continues it.
//! - After each breadcrumb the digest of the state is the one that the upstream names. If not, the breadcrumb is not
//!   applied, and everything is read again.
//! - The age of the data is the upstream's plus the time since it answered. It answers at least once a second.
//! - A daemon whose data come from this one is not followed. Each answer says which daemons the data come through, so a
//!   circle is found whenever it appears, and nothing else is taken for one.
//! - Whatever happens to the upstream, the last state is served. It is in-sync only while an upstream that is in-sync
//!   confirms it.
//!
//! A [`Follower`] does all this. Writes go to the upstream that is followed ([`RelayWriter`]), and from there to the root.

mod config;
mod error;
mod follower;
mod load;
mod past;
mod writer;

pub(super) use config::KIND;

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::watch;

use super::{Feed, FeedConfig, FeedError, Sink, Upstream, Warm, Writer};
use crate::client::Client;
use crate::ingest::IngestBuffer;
use crate::model::{EntryLimits, FeedEvent, History, Key};
use config::RelayConfig;
use error::RelayError;
use follower::Follower;
use writer::{Followed, RelayWriter};

/// The most daemons that data may come through.
const MAX_PATH: usize = 16;

/// The longest time without a sign of life: the upstream answers every second, or the relay tries another.
const MAX_SILENCE: Duration = Duration::from_secs(120);

/// Another crumbd as a feed.
struct RelayFeed {
    config: RelayConfig,
    /// A client of each host, without a token.
    clients: Vec<Client>,
    /// What is followed now, for writes.
    followed: watch::Sender<Followed>,
}

impl RelayFeed {
    fn new(config: RelayConfig, clients: Vec<Client>) -> Self {
        Self { config, clients, followed: watch::Sender::default() }
    }
}

impl Feed for RelayFeed {
    fn upstream(&self) -> Upstream {
        Upstream::remote().of_prefix(self.config.prefix.as_ref().map_or(&b""[..], Key::as_bytes))
    }

    /// Known only once the upstream has answered.
    fn history(&self) -> Option<History> {
        None
    }

    fn max_silence(&self) -> Option<Duration> {
        Some(MAX_SILENCE)
    }

    fn can_read_history(&self) -> bool {
        true
    }

    fn writer(&self, buffer: &Arc<IngestBuffer<FeedEvent>>, _: EntryLimits) -> Option<Arc<dyn Writer>> {
        if !self.config.takes_writes() {
            return None;
        }
        let (config, clients, followed) =
            (self.config.clone(), self.clients.clone(), self.followed.subscribe());
        Some(Arc::new(RelayWriter::new(config, clients, followed, Arc::clone(buffer))))
    }

    fn run(self: Box<Self>, sink: Sink, warm: Option<Warm>) -> BoxFuture<'static, Result<(), FeedError>> {
        Box::pin(Follower::new(*self, sink, warm).run())
    }
}
