//! The conformance suite for clients: scripted daemons, the scenes that they play, and the comparison of what a client
//! says with what it should say.
//!
//! A client program is started anew for each scene. It follows a scripted daemon (`daemon/`), which has faults where the
//! scene wants them, and prints a line for each answer that it has applied. The stage (`stage.rs`) compares each line with
//! the state at its cursor, and the scene (`scenes/`) compares the requests with what the rule allows. Nothing here knows
//! how the daemon or the client of this crate does it: it is written from the contract alone.

mod daemon;
mod program;
mod rule;
mod scene;
mod scenes;
mod stage;
mod suite;

pub(crate) use program::kill_all;
pub(crate) use scene::Transport;
pub(crate) use stage::Broken;
pub(crate) use suite::{Outcome, Suite, SuiteError, scenes};
