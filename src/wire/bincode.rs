//! Records as bincode 2 (standard configuration): raw bytes for keys and values.
//!
//! The only file that knows the bincode crate. The crate is finished and unmaintained
//! (RUSTSEC-2025-0141) but its format is small and stable; wincode's varint mode writes the same
//! bytes, so that crate is the way out should this one ever need replacing.
//!
//! A record is an enum value: its variant as a varint (in the order of [`Stored`]), then its fields in order.

use std::borrow::Cow;

use ::bincode::config::{Configuration, Limit, LittleEndian, Varint};
use ::bincode::error::DecodeError;
use ::bincode::{BorrowDecode, Encode};

use super::json::{parse_optional, parse_ttl};
use super::{End, Header, MAX_RECORD_BYTES, PutKind, Record, WireError};
use crate::model::{Check, Entry, Key, KeyStep, MAX_KEY_BYTES, Revision, Sequence};

/// The limit bounds the memory that a claimed length can allocate.
const CONFIG: Configuration<LittleEndian, Varint, Limit<MAX_RECORD_BYTES>> =
    ::bincode::config::standard().with_limit::<MAX_RECORD_BYTES>();

/// Rows were written by this machine, and their checksum is checked before they are decoded.
const ROW_CONFIG: Configuration<LittleEndian, Varint, Limit<{ u32::MAX as usize }>> =
    ::bincode::config::standard().with_limit::<{ u32::MAX as usize }>();

/// Encodes a row of a database. The row's type defines the layout.
pub(crate) fn encode_row(row: &impl Encode) -> Vec<u8> {
    let mut out = Vec::new();
    // Encoding into a Vec fails only for types that no row has: locks, paths, times before 1970.
    ::bincode::encode_into_std_write(row, &mut out, ROW_CONFIG).unwrap_or_default();
    out
}

/// Decodes a row of [`encode_row`]. Bytes after it are an error.
pub(crate) fn decode_row<'b, T: BorrowDecode<'b, ()>>(bytes: &'b [u8]) -> Result<T, WireError> {
    match decode_row_prefix(bytes)? {
        (row, []) => Ok(row),
        (_, rest) => Err(WireError::LeftOver(rest.len())),
    }
}

/// Decodes a row of [`encode_row`], and returns the bytes after it.
pub(crate) fn decode_row_prefix<'b, T: BorrowDecode<'b, ()>>(
    bytes: &'b [u8],
) -> Result<(T, &'b [u8]), WireError> {
    let decoded = ::bincode::borrow_decode_from_slice::<T, _>(bytes, ROW_CONFIG);
    let (row, used) = decoded.map_err(|error| WireError::Bincode(error.to_string()))?;
    Ok((row, bytes.get(used..).unwrap_or_default()))
}

/// The layout of a record. The order of variants and fields is the format.
#[derive(Encode, BorrowDecode)]
enum Stored<'a> {
    Put(StoredPut<'a>),
    New(StoredPut<'a>),
    Updated(StoredPut<'a>),
    Deleted { key: &'a [u8], revision: Option<u64> },
    Status { status: &'a str },
    Snapshot(StoredHeader<'a>),
    Breadcrumb(StoredHeader<'a>),
    End { cursor: Option<Text<'a>>, count: Option<u64>, digest: Option<Text<'a>> },
    Reset { reason: Option<Text<'a>> },
    Step { key: &'a [u8], revision: u64, existed: bool, check: Option<u32> },
}

#[derive(Encode, BorrowDecode)]
struct StoredPut<'a> {
    key: &'a [u8],
    value: &'a [u8],
    revision: Option<u64>,
    ttl: Option<u64>,
}

/// Texts are borrowed from the bytes, so that a false length allocates no memory.
#[derive(Encode, BorrowDecode)]
struct StoredHeader<'a> {
    mode: Option<Text<'a>>,
    reason: Option<Text<'a>>,
    cursor: Option<Text<'a>>,
    from: Option<Text<'a>>,
    history: Option<Text<'a>>,
    revision: Option<u64>,
    sequence: Option<u64>,
    timestamp: Option<Text<'a>>,
    status: Option<Text<'a>>,
    count: Option<u64>,
    digest: Option<Text<'a>>,
    more: Option<bool>,
}

type Text<'a> = Cow<'a, str>;

fn text<'a>(value: Option<impl ToString>) -> Option<Text<'a>> {
    value.map(|value| Cow::Owned(value.to_string()))
}

pub(super) fn write_record(out: &mut Vec<u8>, record: &Record) {
    match record {
        Record::Put { kind, entry } => write_put(out, *kind, entry),
        Record::Deleted { key, revision } => write_deleted(out, key.as_bytes(), *revision),
        Record::Step(step) => write_step(out, step),
        Record::Status(status) => write(out, &Stored::Status { status: status.as_str() }),
        Record::Snapshot(header) => write(out, &Stored::Snapshot(stored_header(header))),
        Record::Breadcrumb(header) => write(out, &Stored::Breadcrumb(stored_header(header))),
        Record::End(end) => {
            write(out, &Stored::End { cursor: text(end.cursor), count: end.count, digest: text(end.digest) })
        }
        Record::Reset { reason } => {
            write(out, &Stored::Reset { reason: reason.as_deref().map(Cow::Borrowed) });
        }
    }
}

pub(super) fn write_put(out: &mut Vec<u8>, kind: PutKind, entry: &Entry) {
    let put = StoredPut {
        key: entry.key(),
        value: entry.value(),
        revision: entry.revision().map(|r| r.0),
        ttl: entry.ttl().map(|ttl| ttl.0.into()),
    };
    let record = match kind {
        PutKind::Put => Stored::Put(put),
        PutKind::New => Stored::New(put),
        PutKind::Updated => Stored::Updated(put),
    };
    write(out, &record);
}

pub(super) fn write_deleted(out: &mut Vec<u8>, key: &[u8], revision: Option<Revision>) {
    write(out, &Stored::Deleted { key, revision: revision.map(|r| r.0) });
}

pub(super) fn write_step(out: &mut Vec<u8>, step: &KeyStep) {
    let check = step.check.map(Check::bits);
    let (key, revision) = (step.key.as_bytes(), step.revision.0);
    write(out, &Stored::Step { key, revision, existed: step.existed, check });
}

fn write(out: &mut Vec<u8>, record: &Stored<'_>) {
    // Encoding into a Vec fails only for types that no record has: locks, paths, times before 1970.
    ::bincode::encode_into_std_write(record, out, CONFIG).unwrap_or_default();
}

fn stored_header(header: &Header) -> StoredHeader<'_> {
    StoredHeader {
        mode: text(header.mode),
        reason: header.reason.as_deref().map(Cow::Borrowed),
        cursor: text(header.cursor),
        from: text(header.from),
        history: text(header.history),
        revision: header.revision.map(|r| r.0),
        sequence: header.sequence.map(|s| s.0),
        timestamp: header.timestamp.as_deref().map(Cow::Borrowed),
        status: text(header.status),
        count: header.count,
        digest: text(header.digest),
        more: header.more,
    }
}

/// Reads the first record. Returns it with its length in bytes, or `None` if more bytes are needed.
pub(super) fn read_record(bytes: &[u8]) -> Result<Option<(Record, usize)>, WireError> {
    match ::bincode::borrow_decode_from_slice::<Stored<'_>, _>(bytes, CONFIG) {
        Ok((stored, used)) => Ok(Some((record(stored)?, used))),
        Err(DecodeError::UnexpectedEnd { .. }) => Ok(None),
        Err(error) => Err(WireError::Bincode(error.to_string())),
    }
}

fn record(stored: Stored<'_>) -> Result<Record, WireError> {
    Ok(match stored {
        Stored::Put(put) => read_put(PutKind::Put, &put)?,
        Stored::New(put) => read_put(PutKind::New, &put)?,
        Stored::Updated(put) => read_put(PutKind::Updated, &put)?,
        Stored::Deleted { key, revision } => {
            check_key(key)?;
            Record::Deleted { key: Key::copy_from(key), revision: revision.map(Revision) }
        }
        Stored::Step { key, revision, existed, check } => {
            check_key(key)?;
            let (key, check) = (Key::copy_from(key), check.map(Check::from_bits));
            Record::Step(KeyStep { revision: Revision(revision), key, existed, check })
        }
        Stored::Status { status } => {
            Record::Status(status.parse().map_err(|error| WireError::invalid("status", status, error))?)
        }
        Stored::Snapshot(header) => Record::Snapshot(read_header(header)?),
        Stored::Breadcrumb(header) => Record::Breadcrumb(read_header(header)?),
        Stored::End { cursor, count, digest } => Record::End(End {
            cursor: parse_optional("cursor", cursor.as_deref())?,
            count,
            digest: parse_optional("digest", digest.as_deref())?,
        }),
        Stored::Reset { reason } => Record::Reset { reason: reason.map(Cow::into_owned) },
    })
}

fn read_put(kind: PutKind, put: &StoredPut<'_>) -> Result<Record, WireError> {
    check_key(put.key)?;
    let entry = Entry::new(put.key, put.value, put.ttl.map(parse_ttl).transpose()?);
    let entry = match put.revision {
        Some(revision) => entry.at(Revision(revision)),
        None => entry,
    };
    Ok(Record::Put { kind, entry })
}

fn check_key(key: &[u8]) -> Result<(), WireError> {
    if key.len() > MAX_KEY_BYTES {
        return Err(WireError::KeyTooLong(key.len()));
    }
    Ok(())
}

fn read_header(stored: StoredHeader<'_>) -> Result<Header, WireError> {
    Ok(Header {
        mode: parse_optional("mode", stored.mode.as_deref())?,
        reason: stored.reason.map(Cow::into_owned),
        cursor: parse_optional("cursor", stored.cursor.as_deref())?,
        from: parse_optional("from", stored.from.as_deref())?,
        history: parse_optional("history", stored.history.as_deref())?,
        revision: stored.revision.map(Revision),
        sequence: stored.sequence.map(Sequence),
        timestamp: stored.timestamp.map(Cow::into_owned),
        status: parse_optional("status", stored.status.as_deref())?,
        count: stored.count,
        digest: parse_optional("digest", stored.digest.as_deref())?,
        more: stored.more,
    })
}
