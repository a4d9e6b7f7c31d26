//! One keep-alive connection: a request goes out, an answer comes in.

use std::cell::RefCell;
use std::future::poll_fn;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use tokio::io::ReadBuf;
use tokio::time::{Instant, sleep_until};

use super::answer::{Head, stream_head};
use super::stream::{Bytes, Stream};
use super::{Answer, LoadError};

/// What one read can bring. Many times the answer of a wake, and large enough for a body not to cost a
/// system call per packet.
const SCRATCH_BYTES: usize = 256 * 1024;

/// An answer that is read whole is not longer than this.
const MAX_ANSWER_BYTES: u64 = 256 * 1024 * 1024;

/// How often a slow reader reads.
const SLOW_STEP: Duration = Duration::from_millis(100);

thread_local! {
    /// Every read of a thread goes here first, so that a parked connection owns no buffer at all.
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; SCRATCH_BYTES].into());
}

/// Runs `read` with this thread's memory for reads.
pub(super) fn with_scratch<T>(read: impl FnOnce(&mut [u8]) -> T) -> T {
    SCRATCH.with_borrow_mut(|scratch| read(scratch))
}

/// A connection.
#[derive(Debug)]
pub struct Connection {
    stream: Stream,
    /// The beginning of an answer that did not come in one piece.
    begun: Vec<u8>,
    closing: bool,
}

/// A large answer of which only the head was kept.
#[derive(Debug, Clone, Default)]
pub struct Download {
    /// HTTP status.
    pub status: u16,
    /// Body bytes that arrived.
    pub bytes: u64,
    /// The head, and whatever of the body came with it.
    begun: Vec<u8>,
    head: usize,
}

impl Download {
    /// The value of a header field; the name in lower case.
    pub fn field(&self, name: &str) -> Option<&[u8]> {
        self.answer().field(name)
    }

    /// Head and beginning of the body; an error is small enough to be all of it.
    pub fn answer(&self) -> Answer<'_> {
        let head = Head { status: self.status, head_bytes: self.head, body_bytes: 0, close: false };
        Answer::new(head, &self.begun)
    }
}

impl Connection {
    pub(super) fn new(stream: Stream) -> Self {
        Self { stream, begun: Vec::new(), closing: false }
    }

    /// Whether the server has said that it hangs up after the last answer.
    pub fn is_closing(&self) -> bool {
        self.closing
    }

    /// Whether it can carry another request, as far as can be known here: the server has neither closed it nor said
    /// anything unasked, as it does before it closes.
    pub fn is_open(&mut self) -> bool {
        let mut byte = [0];
        let mut waits_for_nothing = Context::from_waker(Waker::noop());
        self.stream.poll_read(&mut waits_for_nothing, &mut ReadBuf::new(&mut byte)).is_pending()
    }

    /// Whether a part of the answer to the last request has come, and not all of it.
    pub fn has_begun_to_answer(&self) -> bool {
        !self.begun.is_empty()
    }

    /// Sends a request and reads the answer.
    ///
    /// # Errors
    /// [`LoadError::Broken`], [`LoadError::Closed`], [`LoadError::Answer`].
    pub async fn exchange<T>(
        &mut self,
        request: &[u8],
        read: impl FnOnce(&Answer<'_>) -> T,
    ) -> Result<T, LoadError> {
        self.send(request).await?;
        self.answer(read).await
    }

    /// Sends a request.
    ///
    /// # Errors
    /// [`LoadError::Broken`].
    pub async fn send(&mut self, request: &[u8]) -> Result<(), LoadError> {
        Ok(self.stream.send(request).await?)
    }

    /// Waits for an answer and reads it whole. `read` runs while the answer is in the thread's memory; it
    /// must not wait for anything.
    ///
    /// # Errors
    /// [`LoadError::Broken`], [`LoadError::Closed`], [`LoadError::Answer`].
    pub async fn answer<T>(&mut self, read: impl FnOnce(&Answer<'_>) -> T) -> Result<T, LoadError> {
        let mut read = Some(read);
        poll_fn(|cx| self.poll_answer(cx, &mut read)).await
    }

    /// Waits for the head of an answer that comes in chunks and never ends. Returns what came behind it.
    ///
    /// # Errors
    /// [`LoadError::Broken`], [`LoadError::Closed`], [`LoadError::Answer`], [`LoadError::Refused`].
    pub(super) async fn begin_stream(&mut self) -> Result<Vec<u8>, LoadError> {
        let mut begun = Vec::new();
        loop {
            self.read(|bytes| begun.extend_from_slice(bytes)).await?;
            if let Some((status, head)) = stream_head(&begun)? {
                let rest = begun.split_off(head);
                if status == 200 {
                    return Ok(rest);
                }
                let detail = String::from_utf8_lossy(&rest).chars().take(200).collect();
                return Err(LoadError::Refused { what: "a stream", status, detail });
            }
        }
    }

    /// Waits for bytes and hands over those of one read.
    ///
    /// # Errors
    /// [`LoadError::Broken`], [`LoadError::Closed`].
    pub(super) async fn read<T>(&mut self, take: impl FnOnce(&[u8]) -> T) -> Result<T, LoadError> {
        let mut take = Some(take);
        let read = |cx: &mut Context<'_>| {
            with_scratch(|scratch| {
                let mut buffer = ReadBuf::new(scratch);
                ready!(self.stream.poll_read(cx, &mut buffer))?;
                Poll::Ready(match (buffer.filled(), take.take()) {
                    ([], _) | (_, None) => Err(LoadError::Closed),
                    (bytes, Some(take)) => Ok(take(bytes)),
                })
            })
        };
        poll_fn(read).await
    }

    fn poll_answer<T>(
        &mut self,
        cx: &mut Context<'_>,
        read: &mut Option<impl FnOnce(&Answer<'_>) -> T>,
    ) -> Poll<Result<T, LoadError>> {
        with_scratch(|scratch| {
            loop {
                let mut buffer = ReadBuf::new(scratch);
                match self.stream.poll_read(cx, &mut buffer) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error.into())),
                    Poll::Ready(Ok(())) if buffer.filled().is_empty() => {
                        return Poll::Ready(Err(LoadError::Closed));
                    }
                    Poll::Ready(Ok(())) => {}
                }
                let mut bytes = buffer.filled();
                if !self.begun.is_empty() {
                    self.begun.extend_from_slice(bytes);
                    bytes = &self.begun;
                }
                let whole = match whole(bytes) {
                    Ok(whole) => whole,
                    Err(error) => return Poll::Ready(Err(error)),
                };
                if let Some(head) = whole
                    && let Some(read) = read.take()
                {
                    self.closing = head.close;
                    let done = read(&Answer::new(head, bytes));
                    self.begun = Vec::new();
                    return Poll::Ready(Ok(done));
                }
                if self.begun.is_empty() {
                    self.begun = bytes.to_vec();
                }
            }
        })
    }

    /// Waits for an answer and throws its body away: only its length is looked at.
    ///
    /// With `slow`, not more than so many bytes a second are taken.
    ///
    /// # Errors
    /// [`LoadError::Broken`], [`LoadError::Closed`], [`LoadError::Answer`].
    pub async fn download(&mut self, slow: Option<u64>) -> Result<Download, LoadError> {
        let mut begun = Vec::new();
        let head = loop {
            let got =
                self.stream.receive(Bytes::Wanted, 4096, |bytes| begun.extend_from_slice(bytes)).await?;
            if got == 0 {
                return Err(LoadError::Closed);
            }
            if let Some(head) = Head::read(&begun)? {
                break head;
            }
        };
        self.closing = head.close;
        let mut bytes = (begun.len() - head.head_bytes) as u64;
        let step = slow.map(|per_second| (per_second as f64 * SLOW_STEP.as_secs_f64()).max(1.0) as usize);
        let mut at = Instant::now();
        while bytes < head.body_bytes {
            let left = usize::try_from(head.body_bytes - bytes).unwrap_or(usize::MAX);
            let most = left.min(step.unwrap_or(SCRATCH_BYTES)).min(SCRATCH_BYTES);
            // An error is to be shown; a state is only to be carried.
            let got = match head.status {
                200 => self.stream.receive(Bytes::Discarded, most, |_| {}).await?,
                _ => {
                    let keep = |bytes: &[u8]| begun.extend_from_slice(bytes);
                    self.stream.receive(Bytes::Wanted, most, keep).await?
                }
            };
            if got == 0 {
                return Err(LoadError::Closed);
            }
            bytes += got as u64;
            if step.is_some() {
                at += SLOW_STEP;
                sleep_until(at).await;
            }
        }
        Ok(Download { status: head.status, bytes, begun, head: head.head_bytes })
    }
}

/// Whether the whole answer is there, and nothing behind it: nobody here asks twice without waiting.
fn whole(bytes: &[u8]) -> Result<Option<Head>, LoadError> {
    let Some(head) = Head::read(bytes)? else { return Ok(None) };
    let body = (bytes.len() - head.head_bytes) as u64;
    match head.body_bytes {
        length if length > MAX_ANSWER_BYTES => {
            Err(LoadError::Answer(format!("it has {length} bytes; {MAX_ANSWER_BYTES} are the most")))
        }
        length if body > length => Err(LoadError::Answer("there are bytes behind its end".to_owned())),
        length => Ok((body == length).then_some(head)),
    }
}
