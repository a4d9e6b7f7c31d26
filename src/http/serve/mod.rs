//! Connections: accept, choose the front, timeouts, drain; and the tasks beside them: liveness, reload.

pub(in crate::http) mod audience;
pub(in crate::http) mod connection;
pub(in crate::http) mod connection_age;
pub(in crate::http) mod drain;
pub(in crate::http) mod header_timeout;
pub(in crate::http) mod linger;
pub(in crate::http) mod listen;
pub(in crate::http) mod listener;
pub(in crate::http) mod liveness;
pub(in crate::http) mod protocol;
pub(in crate::http) mod proxy_protocol;
pub(in crate::http) mod read_ahead;
pub(in crate::http) mod reload;
pub(in crate::http) mod transport;
