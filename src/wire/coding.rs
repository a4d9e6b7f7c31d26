//! Content codings of a body.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::WireError;

/// Level 1 of both: on records they are within a few per cent of the better levels and several times faster.
const LEVEL: u8 = 1;

/// A content coding (RFC 9110).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Coding {
    /// None.
    Identity,
    /// One gzip member.
    Gzip,
    /// zstd.
    Zstd,
}

impl Coding {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Identity, Self::Gzip, Self::Zstd];

    /// The name in `Accept-Encoding` and `Content-Encoding`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        }
    }

    /// Encodes a whole body.
    ///
    /// # Errors
    /// [`WireError::Coding`] when the compressor fails, which for memory to memory means: out of memory.
    pub fn encode(self, body: &[u8]) -> Result<Vec<u8>, WireError> {
        let coded = match self {
            Self::Identity => Ok(body.to_vec()),
            Self::Gzip => {
                let mut encoder =
                    GzEncoder::new(Vec::with_capacity(body.len() / 4), Compression::new(LEVEL.into()));
                encoder.write_all(body).and_then(|()| encoder.finish())
            }
            Self::Zstd => zstd::bulk::compress(body, LEVEL.into()),
        };
        coded.map_err(|error| WireError::Coding { coding: self.as_str(), detail: error.to_string() })
    }
}
