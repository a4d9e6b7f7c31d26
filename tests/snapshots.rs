//! Snapshots, listings and time travel over a cache that changes: each body is the state at its cursor,
//! at least as new as the request, and made once for all requests of the same moment.
#![allow(clippy::unwrap_used)] // a test may unwrap

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::sync::Arc;
use std::time::Duration;

use crumbd::cache::{Breadcrumb, Cache, CacheConfig, WindowLimits};
use crumbd::feed::Upstream;
use crumbd::ingest::IngestBuffer;
use crumbd::model::{
    Batch, Cursor, Digest, Entry, FeedEvent, Grouping, History, Key, KeySelector, ResyncClaim, Revision,
    SyncStatus, Update,
};
use crumbd::view::{Account, Answer, Format, Page, View, ViewConfig};
use crumbd::wire::{Coding, MediaType, Record, RecordReader};
use fastrand::Rng;
use tokio::time::Instant;

/// Keys and values in key order, with the revisions that set them.
type State = BTreeMap<Vec<u8>, (Vec<u8>, Option<Revision>)>;

struct Daemon {
    cache: Cache,
    view: View,
    revision: u64,
}

impl Daemon {
    fn start(window: usize) -> Self {
        let buffer = Arc::new(IngestBuffer::channel(64).unwrap());
        let limits = WindowLimits { max_count: window, ..CacheConfig::default().window };
        let config = CacheConfig { window: limits, ..CacheConfig::default() };
        let (cache, task) = Cache::new(config, Some(History::random()), buffer);
        tokio::spawn(task.run());
        let (view, _) = View::new(cache.reader(), Arc::new(Upstream::remote()), &ViewConfig::default());
        Self { cache, view, revision: 0 }
    }

    async fn current(&self, keys: &KeySelector, format: Format) -> Answer {
        let newest = self.view.newest().unwrap().sequence();
        self.view.current(newest, keys, format, &Account::unlimited()).await.unwrap()
    }

    /// Applies updates as one revision, and returns when they can be read.
    async fn write(&mut self, updates: Vec<Update>) -> Breadcrumb {
        self.revision += 1;
        let revision = Some(Revision(self.revision));
        let updates = updates.into_iter().map(|update| Update { revision, ..update }).collect();
        let before = self.cache.current_breadcrumb();
        self.cache.send(FeedEvent::Updates(Batch::new(updates, Grouping::Whole))).await.unwrap();
        // A status always makes a breadcrumb.
        let status = match before.sync_status() {
            SyncStatus::InSync => SyncStatus::ResyncInProgress,
            _ => SyncStatus::InSync,
        };
        self.cache.on_status_updated(status).await.unwrap();
        let mut crumb = before;
        while crumb.sync_status() != status {
            crumb = crumb.next().await.unwrap();
        }
        crumb
    }

    async fn resync(&mut self, history: Option<History>, updates: Vec<Update>) -> Breadcrumb {
        self.revision += 1;
        let whole_at = Some(Revision(self.revision));
        self.cache.send(FeedEvent::ResyncBegin { history, whole_at, lossy: false }).await.unwrap();
        self.cache.on_updates(updates).await.unwrap();
        let claim = ResyncClaim::default();
        let end = FeedEvent::ResyncEnd { revision: whole_at, claim, complete: true };
        self.cache.send(end).await.unwrap();
        self.write(Vec::new()).await
    }
}

fn key(number: u32) -> Vec<u8> {
    match number % 3 {
        0 => format!("apps/{:03}/{number}", number % 40).into_bytes(),
        1 => format!("pods/{number}").into_bytes(),
        _ => [&[0xfe][..], &number.to_be_bytes()].concat(),
    }
}

fn random_updates(rng: &mut Rng, count: usize, keys: u32) -> Vec<Update> {
    // Each key once: what a revision sets and sets back is no change, and in no breadcrumb.
    let numbers: BTreeSet<u32> = (0..count).map(|_| rng.u32(..keys)).collect();
    let update = |number| {
        let key = key(number);
        match rng.u8(..10) {
            0..3 => Update::delete(key),
            other => Update::put(
                key,
                format!("{{\"n\":{},\"x\":\"{}\"}}", rng.u8(..4), "z".repeat(other as usize * 9)),
            ),
        }
    };
    numbers.into_iter().map(update).collect()
}

fn state_of(crumb: &Breadcrumb) -> State {
    let parts = |entry: &Entry| (entry.key().to_vec(), (entry.value().to_vec(), entry.revision()));
    crumb.kvs().iter().map(parts).collect()
}

fn plain(answer: &Answer) -> Vec<u8> {
    let runs = (0..).map_while(|number| answer.body.run(number));
    let bytes = runs.map(<[_]>::concat).collect::<Vec<_>>().concat();
    match answer.format.coding {
        Coding::Identity => bytes,
        Coding::Zstd => zstd::decode_all(&bytes[..]).unwrap(),
        Coding::Gzip => {
            let mut decoder = flate2::bufread::GzDecoder::new(&bytes[..]);
            let mut plain = Vec::new();
            decoder.read_to_end(&mut plain).unwrap();
            assert!(decoder.into_inner().is_empty(), "one member");
            plain
        }
    }
}

/// Fails with the first difference rather than with two states.
fn same(found: &(Cursor, State), cursor: Cursor, expected: &State, what: &str) {
    assert_eq!(found.0, cursor, "{what}");
    let difference = found.1.iter().zip(expected).find(|(found, expected)| found != expected);
    assert_eq!(difference, None, "{what}: found, expected");
    assert_eq!(found.1.len(), expected.len(), "{what}");
}

/// What is in an NDJSON or bincode body; it must be whole and in key order.
fn read(answer: &Answer) -> (Cursor, State) {
    let mut reader = RecordReader::new(answer.format.media);
    reader.push(&plain(answer));
    let (mut state, mut cursor, mut ended) = (State::new(), None, false);
    let mut digest = Digest::default();
    while let Some(record) = reader.next_record().unwrap() {
        match record {
            Record::Snapshot(header) => cursor = header.cursor,
            Record::Put { entry, .. } => {
                assert!(state.last_key_value().is_none_or(|(last, _)| &last[..] < entry.key()));
                digest.add(&entry);
                state.insert(entry.key().to_vec(), (entry.value().to_vec(), entry.revision()));
            }
            Record::End(end) => {
                ended = true;
                assert_eq!(end.cursor, cursor);
                assert!(end.count.is_none_or(|count| count == state.len() as u64));
                assert!(end.digest.is_none_or(|said| said == digest));
            }
            other => panic!("{other:?}"),
        }
    }
    reader.finish().unwrap();
    assert!(ended);
    assert_eq!(cursor, Some(answer.cursor.into()));
    (answer.cursor, state)
}

fn format(rng: &mut Rng) -> Format {
    let media = [MediaType::Ndjson, MediaType::Bincode][rng.usize(..2)];
    Format { media, coding: Coding::ALL[rng.usize(..3)] }
}

fn under(state: &State, prefix: &[u8]) -> State {
    state.iter().filter(|(key, _)| key.starts_with(prefix)).map(|(k, v)| (k.clone(), v.clone())).collect()
}

/// A seeded life of a cache: batches large and small, deletions, resyncs, new histories, a window that is
/// sometimes too small to follow in.
async fn live(seed: u64, window: usize) {
    let mut rng = Rng::with_seed(seed);
    let mut daemon = Daemon::start(window);
    let mut past: Vec<(Cursor, State)> = Vec::new();
    for round in 0..60 {
        let count = [0, 1, 3, 40, 800][rng.usize(..5)];
        let updates = random_updates(&mut rng, count, 3000);
        let crumb = match rng.u8(..20) {
            0 => {
                past.clear();
                daemon.resync(Some(History::random()), updates).await
            }
            1 | 2 => daemon.resync(None, updates).await,
            _ => daemon.write(updates).await,
        };
        let state = state_of(&crumb);
        if rng.u8(..3) > 0 {
            let current = daemon.current(&KeySelector::ALL, format(&mut rng)).await;
            assert_eq!(current.sequence, crumb.sequence(), "as new as the newest breadcrumb");
            same(&read(&current), crumb.cursor(), &state, &format!("round {round} of seed {seed}"));
        }
        if rng.bool() {
            let prefix =
                [&b"apps/"[..], b"apps/01", b"pods/2", b"\xfe", b"\xfe\0\0\x01", b"none"][rng.usize(..6)];
            let current =
                daemon.current(&KeySelector::prefix(Key::copy_from(prefix)), format(&mut rng)).await;
            same(&read(&current), crumb.cursor(), &under(&state, prefix), "under a prefix");
        }
        past.push((crumb.cursor(), state));
        let (cursor, state) = &past[rng.usize(..past.len())];
        let deadline = Instant::now() + Duration::from_secs(1);
        let kept = daemon
            .view
            .kept(*cursor, &KeySelector::ALL, format(&mut rng), &Account::unlimited(), deadline)
            .await;
        match kept {
            Ok(kept) => same(&read(&kept), *cursor, state, "time travel"),
            Err(_) => assert!(past.len() > window / 3, "{cursor} is not that old"),
        }
        list(&daemon.view, *cursor, state, &mut rng).await;
    }
}

/// All pages of a listing at a cursor, if it is still kept.
async fn list(view: &View, cursor: Cursor, state: &State, rng: &mut Rng) {
    let prefix = [&b""[..], b"apps/", b"pods/1"][rng.usize(..3)];
    let limit = rng.usize(100..900);
    let (mut listed, mut start_after) = (State::new(), None);
    loop {
        let page = Page { keys: KeySelector::prefix(Key::copy_from(prefix)), start_after, limit };
        let format = Format { media: MediaType::Ndjson, coding: Coding::Identity };
        let Ok(answer) = view.page(page, Some(cursor), format, &Account::unlimited(), Instant::now()).await
        else {
            return;
        };
        let (_, entries) = read(&answer);
        assert!(entries.len() <= limit);
        let more = String::from_utf8_lossy(&plain(&answer)).lines().next().unwrap().contains("\"more\":true");
        start_after = entries.last_key_value().map(|(key, _)| Key::copy_from(key));
        listed.extend(entries);
        if !more {
            break;
        }
    }
    same(&(cursor, listed), cursor, &under(state, prefix), "a listing");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_snapshot_is_the_state_at_its_cursor() {
    for (seed, window) in [(1, 1000), (2, 1000), (3, 9), (4, 2)] {
        live(seed, window).await;
    }
}

#[tokio::test]
async fn a_value_that_changed_and_changed_back_has_its_new_revision() {
    let mut daemon = Daemon::start(100);
    let ndjson = Format { media: MediaType::Ndjson, coding: Coding::Identity };
    daemon.write(vec![Update::put("a", "1"), Update::put("b", "1")]).await;
    daemon.current(&KeySelector::ALL, ndjson).await;
    // In one breadcrumb, over two revisions.
    let at = |revision, update: Update| Update { revision: Some(Revision(revision)), ..update };
    let there_and_back =
        vec![at(7, Update::put("a", "2")), at(8, Update::put("a", "1")), at(8, Update::put("b", "2"))];
    daemon.cache.on_updates(there_and_back).await.unwrap();
    daemon.revision = 8;
    let crumb = daemon.write(Vec::new()).await;
    let current = daemon.current(&KeySelector::ALL, ndjson).await;
    same(&read(&current), crumb.cursor(), &state_of(&crumb), "with revisions");
}

#[tokio::test]
async fn all_who_ask_at_once_share_one_body_and_none_is_older_than_its_request() {
    let mut daemon = Daemon::start(1000);
    let mut rng = Rng::with_seed(9);
    let updates = random_updates(&mut rng, 20_000, 30_000);
    daemon.write(updates).await;
    let format = Format { media: MediaType::Json, coding: Coding::Zstd };
    let ask = |view: &View| {
        let (view, now) = (view.clone(), view.newest().unwrap().sequence());
        tokio::spawn(async move {
            let answer = view.current(now, &KeySelector::ALL, format, &Account::unlimited()).await.unwrap();
            assert!(answer.sequence >= now, "{:?} for one who saw {now:?}", answer.sequence);
            answer
        })
    };
    let first: Vec<_> = (0..200).map(|_| ask(&daemon.view)).collect();
    let mut asked = Vec::new();
    for _ in 0..20 {
        daemon.write(random_updates(&mut rng, 10, 30_000)).await;
        asked.extend((0..50).map(|_| ask(&daemon.view)));
    }
    let mut bodies = BTreeMap::new();
    for answer in first.into_iter().chain(asked) {
        let answer = answer.await.unwrap();
        let opening = answer.body.run(0).unwrap()[0].as_ptr();
        // Compared by address while all are alive.
        let known = bodies.entry(answer.sequence.0).or_insert((opening, answer.clone()));
        assert_eq!(known.0, opening, "one body for one state");
    }
    assert!(bodies.len() <= 22, "{} preparations for 1200 requests", bodies.len());
}
