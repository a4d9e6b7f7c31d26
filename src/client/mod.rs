//! The other side of the network: a client that holds a copy of the state and keeps it so.
//!
//! Written from the wire contract alone ([`crate::wire::protocol`]); it shares no code with the
//! daemon beyond [`crate::model`] and [`crate::wire`]. Promises: every count and digest is checked, so the state is
//! right or an error is reported; a [`Follower`] continues from its cursor after any failure, and only a real gap costs
//! another snapshot, of which the application is told only the difference. A [`Mirror`] follows in a task of its own,
//! so that any thread can read the state. A [`MirrorSnapshot`] is the state at one cursor, to be kept while the mirror
//! moves on.
//!
//! | room | what it is |
//! |---|---|
//! | `request` | [`Client`]: one request, and its answer; errors; TLS |
//! | `state` | [`CheckedState`], [`MirrorSnapshot`], [`EntryChange`] |
//! | `follow` | [`Follower`]: both transports, pauses, other endpoints, what is told after a gap |
//! | `mirror` | [`Mirror`], and [`Changes`] for slow applications |

mod follow;
mod mirror;
mod request;
mod state;

pub use follow::{Changed, DEFAULT_SILENCE, Event, Follower, FollowerBuilder, Retry};
pub use mirror::{ChangeSet, Changes, Mirror};
pub use request::Gap;
pub use request::{
    Client, ClientError, ClientTls, KeyWrite, KeyWritten, Next, Origin, Posted, Progress, Records,
    TlsSettings,
};
pub(crate) use request::{RelayAnswer, RelayClient};
pub use state::{CheckedState, EntryChange, MirrorSnapshot, MismatchError};
