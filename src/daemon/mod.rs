//! A daemon: feeds, caches, views, state directories and the HTTP interface, wired together.
//!
//! `crumbd serve` is [`DaemonConfig`] filled from flags. A program of one's own uses [`Daemon::builder`], which has the
//! same defaults, and may serve a feed of its own ([`Feed`](crate::feed::Feed)) and routes of its own:
//!
//! ```no_run
//! use crumbd::daemon::Daemon;
//! use crumbd::feed::{BoxFuture, Feed, FeedError, Sink, Warm};
//! use crumbd::model::{History, SyncStatus, Update};
//!
//! /// Says the time, once a second.
//! struct Clock;
//!
//! impl Feed for Clock {
//!     fn history(&self) -> Option<History> {
//!         Some(History::random())
//!     }
//!
//!     fn run(self: Box<Self>, sink: Sink, _: Option<Warm>) -> BoxFuture<'static, Result<(), FeedError>> {
//!         Box::pin(async move {
//!             sink.status(SyncStatus::InSync).await?;
//!             for second in 0_u64.. {
//!                 sink.updates(vec![Update::put("second", second.to_string().into_bytes())]).await?;
//!                 tokio::time::sleep(std::time::Duration::from_secs(1)).await;
//!             }
//!             Ok(())
//!         })
//!     }
//! }
//!
//! #[tokio::main]
//! async fn main() -> Result<(), crumbd::daemon::DaemonError> {
//!     Daemon::builder().feed("clock:", Clock).listen(([127, 0, 0, 1], 7811).into()).run().await
//! }
//! ```

mod builder;
mod collection;
mod config;
mod error;
mod reread;
mod running;
mod stored_state;

// What the settings of a daemon, and its errors, are made of.
pub use crate::http::auth::{Hosts, LineError, OriginError, Origins, Tokens, TokensError};
pub use crate::http::tls::{Tls, TlsError, TlsFiles, UnusableError};
pub use crate::http::{
    AccessLog, AppConfig, Limits, ListenAddress, ListenAddressError, LogLines, PassedSocketError, Proxies,
    ProxiesError, Rate, RateError, RequestSpan, RequestSpans, ServeError, ServerConfig, SocketPathError,
    TraceParent,
};
pub use crate::state::{Damage, StateError};
pub use builder::DaemonBuilder;
pub(crate) use collection::{CollectionConfig, OpenCollection, OwnFeed};
pub use config::DaemonConfig;
#[cfg(feature = "etcd")]
pub use config::EtcdListener;
pub use error::DaemonError;
pub use running::Daemon;
pub(crate) use running::OpenDaemon;
