//! The sockets on which the daemon accepts connections: TCP, unix sockets, and sockets that systemd passes.

mod address;
mod passed;
mod socket;
mod unix;

pub use address::{ListenAddress, ListenAddressError};
pub use passed::PassedSocketError;
pub use socket::ServeError;
#[cfg(feature = "cli")]
pub(crate) use socket::check;
pub(in crate::http) use socket::{Accepted, Listener, bind, canonical};
pub use unix::SocketPathError;
