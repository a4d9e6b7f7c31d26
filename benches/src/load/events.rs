//! The events of a stream: one answer in chunks that never ends.

use memchr::memmem;

use super::LoadError;

/// A chunk that is longer has no end that is worth waiting for.
const MAX_CHUNK_BYTES: usize = 16 * 1024 * 1024;

/// Takes the events out of the chunks. Holds nothing while a reader has all that was sent.
#[derive(Debug, Default)]
pub(super) struct Events {
    /// The beginning of a chunk.
    chunk: Vec<u8>,
    /// The beginning of an event, from chunks before.
    event: Vec<u8>,
}

impl Events {
    /// Takes the bytes of one read. `each` gets whole events, one or several at once.
    ///
    /// # Errors
    /// [`LoadError::Closed`] at the last chunk, [`LoadError::Answer`].
    pub(super) fn take(&mut self, bytes: &[u8], mut each: impl FnMut(&[u8])) -> Result<(), LoadError> {
        let joined;
        let mut rest = bytes;
        if !self.chunk.is_empty() {
            self.chunk.extend_from_slice(bytes);
            joined = std::mem::take(&mut self.chunk);
            rest = &joined;
        }
        while let Some(line) = memmem::find(rest, b"\r\n") {
            let begin = line + 2;
            let end = begin + length(&rest[..line])?;
            if rest.len() < end + 2 {
                break;
            }
            if begin == end {
                return Err(LoadError::Closed);
            }
            self.data(&rest[begin..end], &mut each);
            rest = &rest[end + 2..];
        }
        self.chunk = rest.to_vec();
        Ok(())
    }

    fn data(&mut self, data: &[u8], each: &mut impl FnMut(&[u8])) {
        let joined;
        let mut rest = data;
        if !self.event.is_empty() {
            self.event.extend_from_slice(data);
            joined = std::mem::take(&mut self.event);
            rest = &joined;
        }
        // An empty line ends an event.
        if let Some(last) = memmem::rfind(rest, b"\n\n") {
            let (whole, begun) = rest.split_at(last + 2);
            each(whole);
            rest = begun;
        }
        self.event = rest.to_vec();
    }
}

/// The length of a chunk, from its first line.
fn length(line: &[u8]) -> Result<usize, LoadError> {
    let digits = line.split(|byte| *byte == b';').next().unwrap_or_default();
    let length = std::str::from_utf8(digits).ok().and_then(|digits| usize::from_str_radix(digits, 16).ok());
    match length {
        Some(length) if length <= MAX_CHUNK_BYTES => Ok(length),
        Some(length) => {
            Err(LoadError::Answer(format!("a chunk of {length} bytes; {MAX_CHUNK_BYTES} are the most")))
        }
        None => Err(LoadError::Answer("a chunk does not begin with its length".to_owned())),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const WIRE: &[u8] = b"7\r\nid: 1\n\n\r\n9\r\n:\ndata: a\r\na;x=1\r\n\n\ndata: b\n\r\n1\r\n\n\r\n";

    #[test]
    fn events_are_whole_however_they_are_cut() {
        for step in 1..=WIRE.len() {
            let (mut events, mut all, mut pieces) = (Events::default(), Vec::new(), Vec::new());
            for bytes in WIRE.chunks(step) {
                events.take(bytes, |piece| pieces.push(piece.to_vec())).unwrap();
            }
            assert!(pieces.iter().all(|piece| piece.ends_with(b"\n\n")), "{step}: {pieces:?}");
            pieces.iter().for_each(|piece| all.extend_from_slice(piece));
            assert_eq!(all, b"id: 1\n\n:\ndata: a\n\ndata: b\n\n", "{step}");
            assert!(events.chunk.is_empty() && events.event.is_empty(), "{step}");
        }
    }

    #[test]
    fn an_end_is_an_end_and_nonsense_is_an_error() {
        assert!(matches!(Events::default().take(b"0\r\n\r\n", |_| {}), Err(LoadError::Closed)));
        for bad in ["x\r\n", "fffffff\r\n", "-1\r\n", "\r\n"] {
            assert!(
                matches!(Events::default().take(bad.as_bytes(), |_| {}), Err(LoadError::Answer(_))),
                "{bad:?}"
            );
        }
    }
}
