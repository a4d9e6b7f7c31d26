//! Records to bytes and back: JSON, NDJSON, bincode, and their compression.
//!
//! The contract is `PROTOCOL.md` beside this file. Promise: lossless for every byte string, both
//! ways, and what comes out can go in. This room knows no HTTP and no cache; it never guesses:
//! what it cannot read is an error that says what was expected.

mod bincode;
mod body;
mod coding;
mod json;
mod pem;
mod record;

pub(crate) use bincode::{decode_row, encode_row};
pub use body::{BodyWriter, MediaType, RecordReader};
pub use coding::{Checksum, Coding, PieceCoder};
pub use json::{Parsed, parse_record, parse_records, write_record};
pub use pem::{PemError, certificates, private_key};
use record::MAX_RECORD_BYTES;
pub use record::{End, Header, Mode, PutKind, Record, WireError, compact_json};

/// The wire contract, version 1.
#[doc = include_str!("PROTOCOL.md")]
pub mod protocol {}
