//! One request, and its answer.

mod client;
mod error;
mod key_write;
mod records;
mod relay;
mod tls;

pub use client::{Client, Next, Posted};
pub use error::{ClientError, Gap};
pub use key_write::{KeyWrite, KeyWritten};
pub use records::{Progress, Records};
pub use relay::Origin;
pub(crate) use relay::{RelayAnswer, RelayClient};
pub use tls::{ClientTls, TlsSettings};
