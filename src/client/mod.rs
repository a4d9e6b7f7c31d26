//! The other side of the network: a client that holds a mirror of the state and keeps it so.
//!
//! Written from the wire contract alone ([`crate::wire::protocol`]); it shares no code with the
//! daemon beyond [`crate::model`] and [`crate::wire`]. Promises: a [`Mirror`] checks every count and
//! digest that it is given, so it is right or it says so; a [`Follower`] goes on from its cursor
//! after any failure, and only a real gap (410) costs another snapshot, of which its user sees
//! the difference only.

mod api;
mod follower;
mod mirror;
mod tls;

pub use api::{Client, ClientError, Progress, Records};
pub use follower::{Follower, Step};
pub use mirror::{Mirror, MirrorError};
pub use tls::ClientTls;
