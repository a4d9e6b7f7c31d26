//! The other side of the network: a client that holds a mirror of the state and keeps it so.
//!
//! Written from the wire contract alone ([`crate::wire::protocol`]); it shares no code with the
//! daemon beyond [`crate::model`] and [`crate::wire`]. Promises: a [`Mirror`] checks every count and
//! digest that it is given, so it is right or reports an error; a [`Follower`] continues from its cursor
//! after any failure, and only a real gap costs another snapshot, of which the application sees only
//! the difference. A [`StreamFollower`] does the same over one long answer. A [`MirrorSnapshot`]
//! is the mirror's state at one cursor, to be kept while the mirror moves on:
//!
//! ```no_run
//! # async fn routes() -> Result<(), crumbd::client::ClientError> {
//! use crumbd::client::{Client, Follower};
//!
//! let mut follower = Follower::new(Client::new("http://127.0.0.1:7811")?, None);
//! follower.step(|_| ()).await?;
//! let then = follower.mirror().snapshot();
//! follower.step(|_| ()).await?;
//! println!("{} keys before, {} now", then.len(), follower.mirror().len());
//! # Ok(())
//! # }
//! ```

mod api;
mod backoff;
mod body_decoder;
mod error;
mod follower;
mod follower_state;
mod key_write;
mod mirror;
mod records;
mod relay;
mod snapshot;
mod stream;
mod tls;

pub use api::{Client, Next, Posted};
pub use error::ClientError;
pub use follower::Follower;
pub use follower_state::{Gap, Step};
pub use key_write::{KeyWrite, KeyWritten};
pub use mirror::{Mirror, MirrorError};
pub use records::{Progress, Records};
pub use relay::{Origin, RelayAnswer, RelayClient};
pub use snapshot::MirrorSnapshot;
pub use stream::{DEFAULT_SILENCE, StreamFollower};
pub use tls::{ClientTls, TlsSettings};
