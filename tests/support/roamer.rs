//! A client that any replica may answer, one request after the other, and that is never told who is alive.
//!
//! It is a client as PROTOCOL.md has it: it takes one snapshot, follows its cursor for ever and asks again what was not
//! answered. Its map is the mirror's own work, and so are its doubts: every answer's count and digest are held to the map,
//! a revision never goes back, the history stays the same and a second snapshot is a failure.
//!
//! Not [`super::mirror::Mirror`], because that one holds whoever answers to one daemon's sequence, and fails without an
//! answer.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use fastrand::Rng;

use super::http::{Got, Http};
use super::in_time;
use super::mirror::{Coding, Media, agree, apply, entries};
use super::record::Body;
use super::state::{State, digest, hex};

/// Between an attempt that failed and the next one. Not a synchronisation: a client that is refused does not come back
/// at once.
const PAUSE: Duration = Duration::from_millis(20);

/// What says that nobody has answered yet: a load balancer without a replica, a replica without a state.
const NOT_ANSWERED: [u16; 3] = [502, 503, 504];

pub struct Roamer {
    rng: Rng,
    pub state: State,
    /// Kept in step with the map, update by update, so that a fault in one of the two shows.
    digest: u128,
    cursor: String,
    history: String,
    pub revision: u64,
    /// Who answered, an answer each: what a load balancer says in `X-Replica`, else the name of whom was asked.
    pub answered: Vec<String>,
    /// How often one continued a cursor that another had handed out.
    pub moved: usize,
    /// What came instead of an answer.
    pub retries: Vec<String>,
}

impl Roamer {
    /// A client that begins at `start` and moves at random between all of them, until the revision `last`.
    pub async fn roam(start: &Http, everywhere: &[Http], seed: u64, last: &AtomicU64) -> Roamer {
        let mut roamer = Roamer::start(start, seed).await;
        while roamer.revision < last.load(Ordering::SeqCst) {
            let choose = |rng: &mut Rng| {
                let which = rng.usize(..everywhere.len());
                Some((which.to_string(), everywhere[which].clone()))
            };
            roamer.step("300ms", choose).await;
        }
        roamer
    }

    /// Takes the first snapshot, and the last one.
    pub async fn start(http: &Http, seed: u64) -> Roamer {
        let got = http.get("/v1/breadcrumbs/current").await.ok(200).standing();
        let body = Body::read(got.need("content-type"), &got.plain());
        agree(&got, &body);
        assert!(body.snapshot);
        let state = entries(&body);
        let digest = digest(&state);
        assert_eq!(body.header.digest, Some(hex(digest)));
        Roamer {
            rng: Rng::with_seed(seed),
            state,
            digest,
            cursor: body.header.cursor,
            history: body.header.history,
            revision: body.header.revision,
            answered: Vec::new(),
            moved: 0,
            retries: Vec::new(),
        }
    }

    /// Asks for `next` until somebody answers, in a media type and coding of its choice, and takes the answer: changes or
    /// none. `choose` names who is asked, at every attempt anew; nobody, where nobody is known to live.
    pub async fn step(
        &mut self,
        wait: &str,
        mut choose: impl FnMut(&mut Rng) -> Option<(String, Http)>,
    ) -> Got {
        let media = [Media::Json, Media::Ndjson, Media::Bincode][self.rng.usize(..3)];
        let coding = [Coding::Identity, Coding::Gzip, Coding::Zstd][self.rng.usize(..3)];
        let headers = [("accept", media.accept()), ("accept-encoding", coding.name())];
        let path = format!("/v1/breadcrumbs/{}/next?wait={wait}", self.cursor);
        let Self { rng, retries, .. } = self;
        let (by, got) = in_time("an answer", async {
            loop {
                if let Some((name, http)) = choose(rng) {
                    let failed = match http.try_send("GET", &path, &headers, None).await {
                        Ok(got) => {
                            let by = got.header("x-replica").unwrap_or(&name).to_owned();
                            if !NOT_ANSWERED.contains(&got.status) {
                                return (by, got);
                            }
                            format!("{} by {by}", got.status)
                        }
                        Err(error) => format!("{name}: {error:?}"),
                    };
                    retries.push(failed);
                }
                tokio::time::sleep(PAUSE).await;
            }
        })
        .await;
        self.moved += usize::from(got.status == 200 && self.answered.last().is_some_and(|last| *last != by));
        self.take(&by, &got);
        self.answered.push(by);
        got
    }

    fn take(&mut self, by: &str, got: &Got) {
        assert!(
            got.status == 200 || got.status == 204,
            "after its first snapshot a client gets changes and nothing else; {by} on {}: {} {}",
            got.asked,
            got.status,
            String::from_utf8_lossy(&got.body)
        );
        let got = got.clone().standing();
        let revision: u64 = got.need("crumbd-revision").parse().unwrap();
        assert!(revision >= self.revision, "{by} on {}: {revision} after {}", got.asked, self.revision);
        self.revision = revision;
        if got.status == 204 {
            self.cursor = got.cursor().to_owned();
            return;
        }
        let body = Body::read(got.need("content-type"), &got.plain());
        agree(&got, &body);
        assert!(!body.snapshot, "a second snapshot: {by} on {}", got.asked);
        assert_eq!(body.header.from.as_deref(), Some(&*self.cursor), "{by}");
        assert_eq!(body.header.history, self.history, "{by}");
        self.digest = apply(&mut self.state, self.digest, &body.records);
        assert_eq!(body.header.count, Some(self.state.len() as u64), "{by} on {}", got.asked);
        assert_eq!(body.header.digest, Some(hex(self.digest)), "{by} on {}", got.asked);
        self.cursor = body.header.cursor;
    }
}
