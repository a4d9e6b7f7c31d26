//! The follower: asks for what comes next, for ever.
//!
//! [`Follower`] is what applications hold. `engine` asks, checks and tells; `session` speaks one of the two transports;
//! `application` decides what the application sees after a gap; `pace` and `endpoints` decide when and whom to ask again.

mod application;
mod body_decoder;
mod endpoints;
mod engine;
mod event;
mod follower;
mod pace;
mod session;

pub use event::{Changed, Event, Retry};
pub use follower::{DEFAULT_SILENCE, Follower, FollowerBuilder};
