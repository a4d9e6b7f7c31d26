//! The two ways to ask a daemon for what comes next: one request for each answer, or one long answer.

use std::time::Duration;

use super::body_decoder::{Body, BodyDecoder};
use crate::client::{CheckedState, Client, ClientError, Gap, MirrorSnapshot, Next, Progress, Records};
use crate::model::{Key, OpaqueCursor};
use crate::wire::{Header, MediaType, Mode, Record};

/// Where the application hears how much of a large body has arrived.
pub(super) type OnProgress = Box<dyn FnMut(Progress) + Send>;

/// How a daemon is asked.
#[derive(Debug, Clone, Copy)]
pub(super) enum Transport {
    /// A long poll for each answer.
    LongPoll,
    /// `/v1/stream`. Over a stream a change costs no request, so it arrives sooner after the one before, and many changes
    /// at once cost less. A stream needs a heartbeat: a dead connection looks like one on which nothing happens, so one
    /// that is silent for so long is given up.
    Stream(Duration),
}

/// What a daemon says, whole.
#[expect(clippy::large_enum_variant, reason = "there is one at a time, and nearly always the large one")]
pub(super) enum Answer {
    /// A state.
    State(Header, CheckedState),
    /// Updates to the state that was asked about, with their `end`.
    Updates(Header, Vec<Record>),
    /// Nothing has changed, but the cursor.
    Moved(OpaqueCursor),
    /// The state that was asked about cannot be continued.
    Lost(Gap),
    /// A stream has ended in good order.
    Ended,
}

/// Asks for the keys with a prefix, or for all.
pub(super) struct Session {
    pub(super) prefix: Option<Key>,
    pub(super) transport: Transport,
    pub(super) on_progress: OnProgress,
    open: Option<OpenStream>,
}

struct OpenStream {
    records: Records,
    decoder: BodyDecoder,
}

impl Session {
    pub(super) fn new() -> Self {
        Self { prefix: None, transport: Transport::LongPoll, on_progress: Box::new(|_| ()), open: None }
    }

    /// What comes after this state; the whole state where there is none to continue.
    pub(super) async fn ask(
        &mut self,
        client: &Client,
        state: Option<&MirrorSnapshot>,
    ) -> Result<Answer, ClientError> {
        match self.transport {
            Transport::LongPoll => self.long_poll(client, state).await,
            Transport::Stream(silence) => self.read_stream(client, state, silence).await,
        }
    }

    /// Whether the next answer comes without a request.
    pub(super) fn is_streaming(&self) -> bool {
        self.open.is_some()
    }

    /// Gives an open stream up: another daemon is asked, or another state asked about.
    pub(super) fn close(&mut self) {
        self.open = None;
    }

    async fn long_poll(
        &mut self,
        client: &Client,
        state: Option<&MirrorSnapshot>,
    ) -> Result<Answer, ClientError> {
        let prefix = self.prefix.as_ref();
        let Some((state, cursor)) = state.and_then(|state| state.cursor().map(|cursor| (state, cursor)))
        else {
            let records = client.snapshot(None, prefix, MediaType::Bincode).await?;
            let (body, rights) = whole_body(records, &mut self.on_progress).await?;
            return match body {
                Body::Snapshot(header, state) => {
                    Ok(Answer::State(header, state.under_rights(rights.as_deref())))
                }
                _ => Err(ClientError::Protocol("a state was asked for, not updates".to_owned())),
            };
        };
        match client.next(cursor, state.rights(), prefix, MediaType::Bincode).await? {
            Next::Updates(records) if have_same_rights(state, records.rights()) => {
                match whole_body(*records, &mut self.on_progress).await?.0 {
                    Body::Updates(header, updates) => Ok(Answer::Updates(header, updates)),
                    _ => Err(ClientError::Protocol("updates were asked for, not a state".to_owned())),
                }
            }
            Next::Nothing { cursor, rights } if have_same_rights(state, rights.as_deref()) => {
                Ok(Answer::Moved(cursor))
            }
            // A daemon that had no tokens before cannot refuse what was asked for without rights.
            _ => Ok(Answer::Lost(Gap::RightsChanged)),
        }
    }

    async fn read_stream(
        &mut self,
        client: &Client,
        state: Option<&MirrorSnapshot>,
        silence: Duration,
    ) -> Result<Answer, ClientError> {
        let OpenStream { mut records, mut decoder } = match self.open.take() {
            Some(open) => open,
            None => {
                let from = state.and_then(|state| state.cursor().map(|cursor| (cursor, state.rights())));
                let records = client.stream(from, self.prefix.as_ref(), silence).await?;
                if let Some(state) = state
                    && !have_same_rights(state, records.rights())
                    && state.rights().is_none()
                {
                    // A daemon that had no tokens before does not know that the state was read under other rights.
                    return Ok(Answer::Lost(Gap::RightsChanged));
                }
                OpenStream { records, decoder: BodyDecoder::default() }
            }
        };
        let Some(body) = next_body(&mut records, &mut decoder, &mut self.on_progress).await? else {
            // It was ended and not cut off: the daemon stops, or the connection or its rights have expired.
            if decoder.is_under_way() || !records.has_begun() {
                return Err(client.broke_off("the stream ended too early"));
            }
            return Ok(Answer::Ended);
        };
        let rights = records.rights().map(str::to_owned);
        self.open = Some(OpenStream { records, decoder });
        Ok(match body {
            Body::Snapshot(header, state) => Answer::State(header, state.under_rights(rights.as_deref())),
            Body::Updates(header, updates) => match header.cursor {
                Some(cursor) if header.mode == Some(Mode::None) => Answer::Moved(cursor),
                _ => Answer::Updates(header, updates),
            },
            Body::Reset(reason) => {
                let has_others = state.is_some_and(|state| !have_same_rights(state, rights.as_deref()));
                let is_gone = reason == "cursor-gone" && !has_others;
                Answer::Lost(if is_gone { Gap::CursorGone } else { Gap::RightsChanged })
            }
        })
    }
}

/// Whether an answer under these rights continues the state. No rights mean the right to read everything.
fn have_same_rights(state: &MirrorSnapshot, rights: Option<&str>) -> bool {
    state.rights().unwrap_or("0") == rights.unwrap_or("0")
}

/// The body of an answer, and the rights under which it was made.
async fn whole_body(
    mut records: Records,
    on_progress: &mut OnProgress,
) -> Result<(Body, Option<String>), ClientError> {
    let mut decoder = BodyDecoder::default();
    let mut body = None;
    while let Some(record) = records.next().await? {
        // To its last byte, so that the connection can be used again.
        body = decoder.take(record, on_progress)?.or(body);
    }
    let body = body.filter(|_| !decoder.is_under_way());
    let cut_off = || ClientError::Protocol("the body has no `end`: it was cut off".to_owned());
    Ok((body.ok_or_else(cut_off)?, records.rights().map(str::to_owned)))
}

/// The next whole body; none when the stream has ended.
async fn next_body(
    records: &mut Records,
    decoder: &mut BodyDecoder,
    on_progress: &mut OnProgress,
) -> Result<Option<Body>, ClientError> {
    while let Some(record) = records.next().await? {
        if let Some(body) = decoder.take(record, on_progress)? {
            return Ok(Some(body));
        }
    }
    Ok(None)
}
