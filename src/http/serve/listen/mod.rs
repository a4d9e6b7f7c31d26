//! The sockets on which the daemon accepts connections.

mod address;
mod socket;

pub use address::{ListenAddress, ListenAddressError};
pub use socket::ServeError;
#[cfg(feature = "cli")]
pub(crate) use socket::check;
pub(in crate::http) use socket::{Accepted, Listener, bind};
