//! Records to bytes and back: JSON, NDJSON, bincode, and their compression.
//!
//! The contract is `PROTOCOL.md` beside this file. Every byte string survives the way to bytes and back, and every
//! record that is written can be read. This module knows no HTTP and no cache. It never guesses: input that it cannot
//! read is an error that names what was expected.
//!
//! The messages of etcd's API are here too (`etcd`): the feed of a cluster sends them.

mod bincode;
mod body;
mod coding;
#[cfg(feature = "etcd")]
pub(crate) mod etcd;
mod json;
mod pem;
mod record;

pub(crate) use bincode::{decode_row, decode_row_prefix, encode_row};
pub use body::{BodyWriter, MediaType, RecordReader, Values};
pub use coding::Coding;
pub(crate) use coding::{Checksum, FrameCoder, PieceCoder};
pub use json::Parsed;
pub(crate) use json::changed_key;
pub use json::{parse_record, parse_records, write_record};
pub use pem::PemError;
pub(crate) use pem::{certificates, private_key};
use record::MAX_RECORD_BYTES;
pub use record::{End, Header, Mode, PutKind, Record, WireError, compact_json};

/// The wire contract, version 1.
#[doc = include_str!("PROTOCOL.md")]
pub mod protocol {}
