//! A client written from PROTOCOL.md alone: a map, a cursor, and a doubt about everything it is told.
//!
//! It follows `rel="next"` and holds each answer to the contract: `new` only for a key it has not, `updated` and
//! `deleted` only for one it has, count and digest equal to those of its own map, headers that say what the body
//! says, a revision that never goes back. The digest is computed here, from the contract's words.

use std::collections::BTreeSet;

use super::http::{Got, Http, encode};
use super::record::{Body, Record};
use super::state::{State, digest, entry_digest, hex};

/// What the mirror asks for in `Accept`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Media {
    Json,
    Ndjson,
    Bincode,
}

/// What the mirror asks for in `Accept-Encoding`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coding {
    Identity,
    Gzip,
    Zstd,
}

/// What one request of the mirror came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// The whole state was taken anew.
    Snapshot,
    /// This many updates were applied, in this mode.
    Changes { updates: usize, mode: String },
    /// 204: nothing after the cursor within the wait.
    Nothing,
    /// 410: the cursor can not be continued here.
    Gone,
}

/// A client's copy of the state.
pub struct Mirror {
    http: Http,
    media: Media,
    coding: Coding,
    prefix: Option<Vec<u8>>,
    pub state: State,
    /// Kept in step with the map, update by update, so that a fault in one of the two shows.
    digest: u128,
    pub cursor: String,
    pub status: String,
    pub history: String,
    pub revision: u64,
    sequence: u64,
    /// Where the last answer's link leads.
    link: String,
    /// How many answers came in each mode, compressed or not: what a test really exercised.
    pub seen: Seen,
}

/// What a mirror has been served.
#[derive(Debug, Default, Clone)]
pub struct Seen {
    pub snapshots: usize,
    pub deltas: usize,
    pub squashes: usize,
    pub compressed: usize,
}

impl Media {
    pub fn accept(self) -> &'static str {
        match self {
            Media::Json => "application/json",
            Media::Ndjson => "application/x-ndjson",
            Media::Bincode => "application/vnd.crumbd.v1+bincode",
        }
    }
}

impl Coding {
    pub fn name(self) -> &'static str {
        match self {
            Coding::Identity => "identity",
            Coding::Gzip => "gzip",
            Coding::Zstd => "zstd",
        }
    }
}

impl Mirror {
    /// A mirror that has taken the current snapshot.
    pub async fn of(http: Http, media: Media, coding: Coding) -> Mirror {
        Mirror::narrowed(http, media, coding, None).await
    }

    /// A mirror of the keys below a prefix.
    pub async fn narrowed(http: Http, media: Media, coding: Coding, prefix: Option<&[u8]>) -> Mirror {
        let mut mirror = Mirror {
            http,
            media,
            coding,
            prefix: prefix.map(<[u8]>::to_vec),
            state: State::new(),
            digest: 0,
            cursor: String::new(),
            status: String::new(),
            history: String::new(),
            revision: 0,
            sequence: 0,
            link: String::new(),
            seen: Seen::default(),
        };
        mirror.take_current().await;
        mirror
    }

    /// Asks for another media type and coding from now on.
    pub fn speak(&mut self, media: Media, coding: Coding) {
        (self.media, self.coding) = (media, coding);
    }

    /// Forgets what it has and takes the current snapshot.
    pub async fn take_current(&mut self) -> Step {
        let query =
            self.prefix.as_ref().map_or(String::new(), |prefix| format!("?prefix={}", encode(prefix)));
        let got = self.ask(&format!("/v1/breadcrumbs/current{query}")).await.ok(200);
        self.take_snapshot(&got);
        Step::Snapshot
    }

    /// Follows the link once.
    pub async fn next(&mut self, wait: &str) -> Step {
        let mut path = self.link.clone();
        // Whether the link carries the prefix by itself is `http_conformance.rs`'s question.
        let prefix = self.prefix.as_ref().filter(|_| !path.contains("prefix="));
        for parameter in
            [prefix.map(|prefix| format!("prefix={}", encode(prefix))), Some(format!("wait={wait}"))]
        {
            let Some(parameter) = parameter else { continue };
            path.push(if path.contains('?') { '&' } else { '?' });
            path.push_str(&parameter);
        }
        let got = self.ask(&path).await;
        match got.status {
            200 => self.take_changes(&got),
            204 => self.take_nothing(&got),
            410 => {
                got.problem(410);
                Step::Gone
            }
            other => panic!("{path}: {other}: {}", String::from_utf8_lossy(&got.body)),
        }
    }

    /// Follows the link until the mirror stands at this cursor.
    pub async fn follow_to(&mut self, cursor: &str) {
        self.follow_until("the mirror to reach a cursor", |mirror| mirror.cursor == cursor).await;
    }

    /// Follows the link until the mirror is as wanted, by ordinary answers only: its cursors stay good.
    pub async fn follow_until(&mut self, what: &str, wanted: impl Fn(&Mirror) -> bool) {
        super::in_time(what, async {
            while !wanted(self) {
                assert_ne!(self.next("5s").await, Step::Gone, "the cursor {} was lost", self.cursor);
            }
        })
        .await;
    }

    /// Goes on at another daemon, or at the same one after a restart: the cursor is all that it takes along.
    pub fn move_to(&mut self, http: Http) {
        self.http = http;
        self.sequence = 0;
    }

    async fn ask(&mut self, path: &str) -> Got {
        let headers = [("accept", self.media.accept()), ("accept-encoding", self.coding.name())];
        let got = self.http.get_with(path, &headers).await;
        if let Some(coding) = got.header("content-encoding") {
            assert_eq!(coding, self.coding.name(), "{path}: a coding that was not asked for");
            assert!(got.plain().len() > 1024, "{path}: bodies of up to 1 KiB are sent as they are");
            self.seen.compressed += 1;
        }
        got
    }

    /// Takes the answer of `current`.
    fn take_snapshot(&mut self, got: &Got) {
        let body = self.body(got);
        assert!(body.snapshot && body.header.mode == "snapshot", "a snapshot, not {:?}", body.header);
        self.state = entries(&body);
        self.digest = digest(&self.state);
        self.seen.snapshots += 1;
        self.stand(got, &body);
    }

    /// Takes a 200 of `next`.
    fn take_changes(&mut self, got: &Got) -> Step {
        let body = self.body(got);
        assert!(!body.snapshot, "a gap is a real 410, never hidden inside a 200");
        let from = body.header.from.as_deref().unwrap_or_else(|| panic!("{}: no `from`", got.asked));
        // What `from` is to a narrow waiter is `long_poll.rs`'s question.
        assert!(
            from == self.cursor || self.prefix.is_some(),
            "updates since {}, not since {from}",
            self.cursor
        );
        assert_eq!(body.header.history, self.history, "another history is a 410");
        assert!(
            body.header.revision >= self.revision,
            "revision {} after {}",
            body.header.revision,
            self.revision
        );
        assert!(
            body.header.sequence > self.sequence,
            "sequence {} after {}",
            body.header.sequence,
            self.sequence
        );
        let (before, status) = (self.digest, self.status.clone());
        self.digest = apply(&mut self.state, self.digest, &body.records);
        self.stand(got, &body);
        // A squash may come to nothing: a key that was made and deleted again.
        if self.prefix.is_none() && body.records.is_empty() && body.header.mode == "delta" {
            assert!(
                self.status != status,
                "an answer without updates is a change of status: {:?}",
                body.header
            );
        }
        if body.records.is_empty() {
            assert_eq!(before, self.digest);
        }
        match &*body.header.mode {
            "delta" => self.seen.deltas += 1,
            "squash" => self.seen.squashes += 1,
            _ => {}
        }
        Step::Changes { updates: body.records.len(), mode: body.header.mode }
    }

    /// Takes a 204: the state stays as it is, the cursor may move on.
    fn take_nothing(&mut self, got: &Got) -> Step {
        let got = got.clone().standing();
        assert!(got.body.is_empty());
        let revision = got.need("crumbd-revision").parse().unwrap();
        assert!(revision >= self.revision, "a 204's revision {revision} after {}", self.revision);
        self.revision = revision;
        self.cursor = got.cursor().to_owned();
        self.link = got.next_link().to_owned();
        Step::Nothing
    }

    fn body(&self, got: &Got) -> Body {
        let got = got.clone().standing();
        let content_type = got.need("content-type");
        assert_eq!(content_type.split(';').next(), Some(self.media.accept()));
        let body = Body::read(content_type, &got.plain());
        agree(&got, &body);
        if let Some(prefix) = &self.prefix {
            assert!(
                body.records.iter().all(|record| record.key.starts_with(prefix)),
                "a key outside of the prefix"
            );
            assert!(body.header.count.is_none() && body.header.digest.is_none(), "left out with a prefix");
        }
        body
    }

    /// Takes the header's place as the mirror's own, once the map agrees with it.
    fn stand(&mut self, got: &Got, body: &Body) {
        if self.prefix.is_none() {
            let (count, sum) = (self.state.len() as u64, hex(self.digest));
            assert_eq!(sum, hex(digest(&self.state)), "the mirror's own bookkeeping");
            assert_eq!(body.header.count, Some(count), "count at {}", body.header.cursor);
            assert_eq!(body.header.digest.as_deref(), Some(&*sum), "digest at {}", body.header.cursor);
            if let Some(end) = &body.end {
                assert_eq!((end.count, end.digest.as_deref()), (Some(count), Some(&*sum)), "`end`");
            }
        }
        self.cursor = body.header.cursor.clone();
        self.status = body.header.status.clone();
        self.history = body.header.history.clone();
        self.revision = body.header.revision;
        self.sequence = body.header.sequence;
        self.link = got.next_link().to_owned();
    }
}

/// Fails unless headers and body say the same.
pub fn agree(got: &Got, body: &Body) {
    let header = &body.header;
    let pairs = [
        ("crumbd-cursor", header.cursor.clone()),
        ("crumbd-mode", header.mode.clone()),
        ("crumbd-reason", header.reason.clone()),
        ("crumbd-revision", header.revision.to_string()),
        ("crumbd-sequence", header.sequence.to_string()),
        ("crumbd-status", header.status.clone()),
    ];
    for (name, said) in pairs {
        assert_eq!(got.need(name), said, "{}: {name} and the body", got.asked);
    }
    humantime::parse_rfc3339(&header.timestamp)
        .unwrap_or_else(|e| panic!("timestamp {}: {e}", header.timestamp));
    if let Some(end) = &body.end {
        assert_eq!(end.cursor, header.cursor, "{}: the cursor of `end`", got.asked);
    }
    assert!(body.snapshot == (header.mode == "snapshot"), "{}: mode {}", got.asked, header.mode);
    if header.mode == "squash" {
        assert!(body.records.is_sorted_by(|a, b| a.key < b.key), "{}: not in key order", got.asked);
    }
    assert!(!(body.snapshot && header.from.is_some()), "{}: `from` is not for snapshots", got.asked);
}

/// The state that a snapshot's body holds.
pub fn entries(body: &Body) -> State {
    let mut state = State::new();
    for record in &body.records {
        assert_eq!(record.kind, "new", "everything in a snapshot is new: {record:?}");
        let twice = state.insert(record.key.clone(), record.value.clone().unwrap());
        assert!(twice.is_none(), "twice in one snapshot: {record:?}");
    }
    state
}

/// Applies updates to a state and gives its new digest. Fails when a type is not true of the state, or a key comes twice.
pub fn apply(state: &mut State, mut digest: u128, records: &[Record]) -> u128 {
    let mut keys = BTreeSet::new();
    for record in records {
        if record.kind == "status" {
            continue;
        }
        assert!(keys.insert(&record.key), "twice in one answer: {record:?}");
        let before = match &record.value {
            Some(value) => {
                digest = digest.wrapping_add(entry_digest(&record.key, value));
                state.insert(record.key.clone(), value.clone())
            }
            None => state.remove(&record.key),
        };
        if let Some(before) = &before {
            digest = digest.wrapping_sub(entry_digest(&record.key, before));
        }
        match &*record.kind {
            "new" => assert!(before.is_none(), "`new` of a key that was there: {record:?}"),
            "updated" => assert!(before.is_some(), "`updated` of a key that was not there: {record:?}"),
            "deleted" => assert!(before.is_some(), "`deleted` of a key that was not there: {record:?}"),
            other => panic!("{other:?} never goes out: {record:?}"),
        }
    }
    digest
}
