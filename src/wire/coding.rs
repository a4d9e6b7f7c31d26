//! Content codings of a body, and of its pieces.
//!
//! A body is coded whole, or in *pieces*. Each piece is coded once and may then be part of any number of bodies. A body
//! in pieces looks so:
//!
//! ```text
//! identity   opening ‖ inner ‖ … ‖ closing
//! zstd       one frame a piece, only for clients that read frames one after the other (bincode)
//! gzip       header ‖ deflate blocks ‖ … ‖ deflate blocks, the last one final ‖ CRC-32 ‖ length
//! ```
//!
//! Many decoders read the first gzip member or the first zstd frame, and drop everything after it without an error:
//! curl and reqwest for gzip, aiohttp and urllib3 for zstd. So a gzip body is one member. Each piece is raw deflate that
//! ends with a full flush: a byte boundary, over which nothing refers back. Only the closing piece belongs to one body,
//! because it holds the checksum of all pieces before it.
//!
//! A zstd frame cannot be made of pieces, because a block may refer to the offsets of the block before it. So a zstd
//! body for other clients is coded whole ([`FrameCoder`]).

use std::io::Write;

use bytes::Bytes;
use flate2::write::GzEncoder;
use flate2::{Compress, Compression, Crc, FlushCompress};
use zstd::bulk::Compressor;

use super::WireError;

/// Level 1 for gzip and zstd. On records it is several times faster than better levels, and within a few per cent of
/// their size.
const LEVEL: u8 = 1;

/// RFC 1952: deflate, no flags, no time, "fastest", unknown system.
const GZIP_HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 4, 255];

/// Room for an empty block, a flush and the end of a stream.
const DEFLATE_ROOM: usize = 64;

/// A content coding (RFC 9110).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Coding {
    /// No coding.
    Identity,
    /// One gzip member.
    Gzip,
    /// zstd: one frame, and for bincode also several.
    Zstd,
}

impl Coding {
    /// All codings.
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
    /// [`WireError::Coding`] when the compressor fails. From memory to memory this means: out of memory.
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
        coded.map_err(|error| self.error(error))
    }

    fn error(self, error: impl ToString) -> WireError {
        WireError::Coding { coding: self.as_str(), detail: error.to_string() }
    }
}

/// The checksum and length of plain bytes, for gzip's closing piece. Empty for the other codings.
#[derive(Debug, Default)]
pub(crate) struct Checksum(Crc);

impl Checksum {
    /// Adds the checksum of the bytes that follow.
    pub(crate) fn append(&mut self, next: &Self) {
        self.0.combine(&next.0);
    }
}

/// Codes a body whose plain bytes come in parts, as one zstd frame.
pub(crate) struct FrameCoder(zstd::stream::write::Encoder<'static, Parts>);

/// Coded bytes, in parts of at most 128 KiB.
#[derive(Default)]
struct Parts(Vec<Bytes>);

impl Write for Parts {
    fn write(&mut self, coded: &[u8]) -> std::io::Result<usize> {
        self.0.push(Bytes::copy_from_slice(coded));
        Ok(coded.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl FrameCoder {
    /// Begins a frame of this many plain bytes. The frame names the number, without which some decoders refuse it.
    ///
    /// # Errors
    /// As [`Coding::encode`].
    pub(crate) fn new(plain_bytes: u64) -> Result<Self, WireError> {
        let encoder = zstd::stream::write::Encoder::new(Parts::default(), LEVEL.into());
        let encoder = encoder.and_then(|mut encoder| {
            encoder.set_pledged_src_size(Some(plain_bytes))?;
            Ok(encoder)
        });
        encoder.map(Self).map_err(|error| Coding::Zstd.error(error))
    }

    /// Adds plain bytes.
    ///
    /// # Errors
    /// As [`Coding::encode`].
    pub(crate) fn write(&mut self, plain: &[u8]) -> Result<(), WireError> {
        self.0.write_all(plain).map_err(|error| Coding::Zstd.error(error))
    }

    /// Ends the frame.
    ///
    /// # Errors
    /// As [`Coding::encode`], and when there were more or fewer bytes than announced.
    pub(crate) fn finish(self) -> Result<Vec<Bytes>, WireError> {
        Ok(self.0.finish().map_err(|error| Coding::Zstd.error(error))?.0)
    }
}

/// Codes the pieces of bodies. Keeps the compressor's memory between them.
pub(crate) struct PieceCoder {
    coding: Coding,
    compressor: Option<Box<dyn Compressing>>,
}

/// A compressor that appends one coded piece to `out`.
trait Compressing: Send {
    fn piece(&mut self, plain: &[u8], last: bool, out: &mut Vec<u8>) -> Result<(), String>;
}

impl PieceCoder {
    /// Makes a coder of this coding.
    ///
    /// # Errors
    /// As [`Coding::encode`].
    pub(crate) fn new(coding: Coding) -> Result<Self, WireError> {
        let compressor: Option<Box<dyn Compressing>> = match coding {
            Coding::Identity => None,
            Coding::Gzip => Some(Box::new(Compress::new(Compression::new(LEVEL.into()), false))),
            Coding::Zstd => Some(Box::new(Compressor::new(LEVEL.into()).map_err(|e| coding.error(e))?)),
        };
        Ok(Self { coding, compressor })
    }

    /// Codes the first piece of a body.
    ///
    /// # Errors
    /// As [`Coding::encode`].
    pub(crate) fn opening(&mut self, plain: &[u8]) -> Result<(Vec<u8>, Checksum), WireError> {
        let head: &[u8] = if self.coding == Coding::Gzip { &GZIP_HEADER } else { &[] };
        self.piece(head, plain, false)
    }

    /// Codes a piece that may be anywhere between the first and the last piece of any body.
    ///
    /// # Errors
    /// As [`Coding::encode`].
    pub(crate) fn inner(&mut self, plain: &[u8]) -> Result<(Vec<u8>, Checksum), WireError> {
        self.piece(&[], plain, false)
    }

    /// Codes the last piece of a body. `before` is the checksum of all pieces before it.
    ///
    /// # Errors
    /// As [`Coding::encode`].
    pub(crate) fn closing(&mut self, plain: &[u8], mut before: Checksum) -> Result<Vec<u8>, WireError> {
        let (mut coded, checksum) = self.piece(&[], plain, true)?;
        if self.coding == Coding::Gzip {
            before.append(&checksum);
            coded.extend_from_slice(&before.0.sum().to_le_bytes());
            coded.extend_from_slice(&before.0.amount().to_le_bytes());
        }
        Ok(coded)
    }

    fn piece(&mut self, head: &[u8], plain: &[u8], last: bool) -> Result<(Vec<u8>, Checksum), WireError> {
        let mut out = head.to_vec();
        let mut checksum = Checksum::default();
        if self.coding == Coding::Gzip {
            checksum.0.update(plain);
        }
        match &mut self.compressor {
            Some(compressor) => {
                compressor.piece(plain, last, &mut out).map_err(|error| self.coding.error(error))?;
            }
            None => out.extend_from_slice(plain),
        }
        Ok((out, checksum))
    }
}

impl Compressing for Compressor<'_> {
    fn piece(&mut self, plain: &[u8], _: bool, out: &mut Vec<u8>) -> Result<(), String> {
        let frame = self.compress(plain).map_err(|error| error.to_string())?;
        out.extend_from_slice(&frame);
        Ok(())
    }
}

impl Compressing for Compress {
    fn piece(&mut self, plain: &[u8], last: bool, out: &mut Vec<u8>) -> Result<(), String> {
        let flush = if last { FlushCompress::Finish } else { FlushCompress::Full };
        let before = self.total_in();
        loop {
            let done = usize::try_from(self.total_in() - before).unwrap_or(usize::MAX);
            let rest = plain.get(done..).unwrap_or_default();
            out.reserve(rest.len() / 2 + DEFLATE_ROOM);
            self.compress_vec(rest, out, flush).map_err(|error| error.to_string())?;
            // If there is room left, the compressor holds back no output.
            if out.len() < out.capacity() {
                break;
            }
        }
        if last {
            self.reset();
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // a test may unwrap
mod tests {
    use std::io::Read;

    use super::*;

    fn texts() -> [Vec<u8>; 5] {
        let mut rng = fastrand::Rng::with_seed(1);
        let noise = (0..70_000).map(|_| rng.u8(..)).collect();
        [b"head".to_vec(), b"the same again ".repeat(3000), noise, Vec::new(), b"x".to_vec()]
    }

    fn join(coding: Coding) -> Vec<u8> {
        let texts = texts();
        let mut coder = PieceCoder::new(coding).unwrap();
        let (mut body, mut sum) = coder.opening(&texts[0]).unwrap();
        // Coded in another order than they stand in, and by a coder that was used before.
        let mut inner: Vec<_> = texts[1..4].iter().rev().map(|text| coder.inner(text).unwrap()).collect();
        inner.reverse();
        for (bytes, next) in &inner {
            body.extend_from_slice(bytes);
            sum.append(next);
        }
        body.extend(coder.closing(&texts[4], sum).unwrap());
        body
    }

    #[test]
    fn pieces_make_one_gzip_member_with_a_true_checksum() {
        let body = join(Coding::Gzip);
        let mut decoder = flate2::bufread::GzDecoder::new(&body[..]);
        let mut plain = Vec::new();
        decoder.read_to_end(&mut plain).unwrap();
        assert!(plain == texts().concat(), "the pieces in order");
        assert!(decoder.into_inner().is_empty(), "nothing behind the one member");
    }

    #[test]
    fn pieces_make_a_zstd_body_and_a_plain_one() {
        assert!(zstd::decode_all(&join(Coding::Zstd)[..]).unwrap() == texts().concat());
        assert!(join(Coding::Identity) == texts().concat());
    }

    /// What follows the first frame is lost on many decoders.
    fn first_frame(body: &[u8]) -> (Vec<u8>, usize) {
        let mut rest = body;
        let mut plain = Vec::new();
        zstd::stream::read::Decoder::with_buffer(&mut rest)
            .unwrap()
            .single_frame()
            .read_to_end(&mut plain)
            .unwrap();
        (plain, rest.len())
    }

    #[test]
    fn plain_parts_make_one_zstd_frame_that_names_its_length() {
        let whole = texts().concat();
        let mut coder = FrameCoder::new(whole.len() as u64).unwrap();
        texts().iter().for_each(|text| coder.write(text).unwrap());
        let parts = coder.finish().unwrap();
        assert!(parts.iter().all(|part| !part.is_empty() && part.len() <= 128 << 10));
        let body = parts.concat();
        assert!(first_frame(&body) == (whole.clone(), 0), "one frame and nothing behind it");
        assert!(
            zstd::bulk::decompress(&body, whole.len()).unwrap() == whole,
            "as a decoder of one frame reads it"
        );
        let named = zstd::zstd_safe::get_frame_content_size(&body).unwrap();
        assert_eq!(named, Some(whole.len() as u64));

        for wrong in [whole.len() as u64 - 1, whole.len() as u64 + 1] {
            let mut coder = FrameCoder::new(wrong).unwrap();
            let written = coder.write(&whole);
            assert!(written.is_err() || coder.finish().is_err(), "{wrong} bytes were announced");
        }
    }

    #[test]
    fn a_deflate_piece_needs_nothing_that_came_before() {
        let mut coder = PieceCoder::new(Coding::Gzip).unwrap();
        let text = b"what was said before ".repeat(100);
        let (first, _) = coder.inner(&text).unwrap();
        let (again, _) = coder.inner(&text).unwrap();
        assert_eq!(first, again, "no reference to the first");
        let mut plain = Vec::with_capacity(text.len() + 1);
        flate2::Decompress::new(false)
            .decompress_vec(&again, &mut plain, flate2::FlushDecompress::Sync)
            .unwrap();
        assert_eq!(plain, text);
    }
}
