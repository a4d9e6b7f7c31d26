//! The main promise, end to end: a client written from PROTOCOL.md alone, that follows a `push:` feed through
//! thousands of random batches, has at every cursor it is given exactly the state that the writer's own map had there.
//!
//! The writers keep plain maps and note what they hold at the cursor that each write is answered with. The mirrors
//! know nothing of that: they are compared afterwards, by a digest taken over the mirror's whole map at every cursor,
//! and by the maps themselves now and then.
#![allow(clippy::unwrap_used)]

mod support;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use support::daemon::Daemon;
use support::http::{Http, encode};
use support::mirror::{Coding, Media, Mirror, Seen, Step, agree, apply, entries};
use support::record::{Body, Record};
use support::state::{State, assert_same, below, digest};
use support::workload::{Op, Spelled, Workload};
use support::{eventually, in_time};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Enough that the window never ends within a test: what falls out of it is `long_poll.rs`'s subject.
const KEEP: [&str; 6] = ["--keep-count", "1000000", "--keep-bytes", "4GiB", "--keep-age", "1h"];

/// The writer's own account.
#[derive(Default)]
struct Model {
    state: State,
    /// The state at every cursor that a write was answered with.
    at: HashMap<String, Arc<State>>,
    /// The same cursors, oldest first, without repeats.
    order: Vec<String>,
}

impl Model {
    fn note(&mut self, cursor: String) {
        let state = Arc::new(self.state.clone());
        match self.at.get(&cursor) {
            // A write that changed nothing drops no breadcrumb.
            Some(before) => assert_same("two states at one cursor", &state, before),
            None => {
                self.order.push(cursor.clone());
                self.at.insert(cursor, state);
            }
        }
    }
}

/// Where a mirror stood, and with what.
struct Sighting {
    cursor: String,
    digest: u128,
    /// The map itself, now and then.
    state: Option<State>,
}

/// What a mirror brings home.
struct Journey {
    sightings: Vec<Sighting>,
    state: State,
    seen: Seen,
}

/// How fast a mirror reads.
#[derive(Clone, Copy)]
enum Pace {
    /// Asks again at once.
    Keen,
    /// Dawdles up to this long between two requests, by its own dice.
    Dawdling(Duration),
}

/// Follows until the writer's last cursor, noting every stop.
fn follow(mut mirror: Mirror, pace: Pace, last: watch::Receiver<Option<String>>) -> JoinHandle<Journey> {
    tokio::spawn(async move {
        let mut rng = Rng::with_seed(7);
        let mut sightings = Vec::new();
        loop {
            sightings.push(Sighting {
                cursor: mirror.cursor.clone(),
                digest: digest(&mirror.state),
                state: (sightings.len() % 20 == 0).then(|| mirror.state.clone()),
            });
            if last.borrow().as_ref() == Some(&mirror.cursor) {
                return Journey { sightings, state: mirror.state, seen: mirror.seen };
            }
            if let Pace::Dawdling(most) = pace {
                tokio::time::sleep(most.mul_f64(rng.f64())).await;
            }
            assert_ne!(mirror.next("1s").await, Step::Gone, "every breadcrumb is kept");
        }
    })
}

/// Writes one batch in one of the three ways that there are, and notes the state at the answer's cursor.
async fn write(http: &Http, model: &mut Model, batch: &[Op]) {
    let plain = |key: &[u8]| !matches!(key, b"" | b"." | b"..");
    let cursor = match batch {
        [Op::Put { key, value, .. }] if plain(key) => {
            let (content_type, body) = value.put();
            http.put(key, content_type, &body).await
        }
        [Op::Delete { key, .. }] if plain(key) && model.state.contains_key(key) => http.delete(key).await,
        batch => http.post(&batch.iter().map(Op::record).collect::<Vec<_>>()).await,
    };
    batch.iter().for_each(|op| op.apply(&mut model.state));
    model.note(cursor);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_mirror_has_the_models_state_at_every_cursor_it_is_given() {
    const BATCHES: usize = 2000;
    let daemon = Daemon::push(&KEEP);
    let http = daemon.http();
    let mut model = Model::default();
    let mut workload = Workload::new(1, "", 120);
    model.note(http.cursor().await);

    let (say_last, last) = watch::channel(None);
    let paces = [
        (Media::Json, Coding::Identity, Pace::Keen),
        (Media::Ndjson, Coding::Zstd, Pace::Keen),
        (Media::Json, Coding::Gzip, Pace::Dawdling(Duration::from_millis(10))),
        (Media::Ndjson, Coding::Identity, Pace::Dawdling(Duration::from_millis(60))),
        (Media::Json, Coding::Zstd, Pace::Dawdling(Duration::from_millis(150))),
        (Media::Ndjson, Coding::Gzip, Pace::Dawdling(Duration::from_millis(400))),
        (Media::Bincode, Coding::Zstd, Pace::Keen),
    ];
    let mut journeys = Vec::new();
    for (media, coding, pace) in paces {
        let mirror = Mirror::of(daemon.http(), media, coding).await;
        journeys.push(follow(mirror, pace, last.clone()));
    }
    let mut laggard = Mirror::of(daemon.http(), Media::Json, Coding::Identity).await;
    let narrow = Mirror::narrowed(daemon.http(), Media::Ndjson, Coding::Zstd, Some(b"app/")).await;
    let narrow = follow(narrow, Pace::Dawdling(Duration::from_millis(5)), last.clone());

    let mut latecomers = Vec::new();
    for n in 0..BATCHES {
        let batch = workload.batch(40);
        write(&http, &mut model, &batch).await;
        if n % 500 == 250 {
            let mirror = Mirror::of(daemon.http(), Media::Ndjson, Coding::Gzip).await;
            latecomers.push(follow(mirror, Pace::Keen, last.clone()));
        }
        if n == BATCHES - 300 {
            // Thousands of breadcrumbs behind, answered with one squash.
            let from = laggard.cursor.clone();
            let step = laggard.next("0").await;
            assert!(matches!(&step, Step::Changes { mode, .. } if mode == "squash"), "{step:?} since {from}");
            assert_same("the laggard", &laggard.state, &model.at[&laggard.cursor]);
        }
    }
    say_last.send_replace(model.order.last().cloned());

    laggard.follow_to(model.order.last().unwrap()).await;
    assert_same("the laggard at the end", &laggard.state, &model.state);
    let mut seen = Vec::new();
    for journey in journeys.into_iter().chain(latecomers) {
        let journey = in_time("the mirrors to arrive", journey).await.unwrap();
        assert_same("a mirror at the end", &journey.state, &model.state);
        for sighting in &journey.sightings {
            let expected = model.at.get(&sighting.cursor).unwrap_or_else(|| {
                panic!("the only writer was answered with every cursor, but never with {}", sighting.cursor)
            });
            if let Some(state) = &sighting.state {
                assert_same(&sighting.cursor, state, expected);
            }
            assert_eq!(sighting.digest, digest(expected), "at {}", sighting.cursor);
        }
        seen.push(journey.seen);
    }
    let narrow = in_time("the narrow mirror to arrive", narrow).await.unwrap();
    for sighting in &narrow.sightings {
        let expected = below(&model.at[&sighting.cursor], b"app/");
        assert_eq!(sighting.digest, digest(&expected), "below app/ at {}", sighting.cursor);
    }
    assert_same("the narrow mirror at the end", &narrow.state, &below(&model.state, b"app/"));

    // The test is worth something only when it exercised what it says.
    assert!(seen.iter().any(|s| s.deltas > 100), "{seen:?}");
    assert!(seen.iter().any(|s| s.squashes > 10), "{seen:?}");
    assert!(seen.iter().filter(|s| s.compressed > 3).count() >= 4, "{seen:?}");
    assert!(model.order.len() > BATCHES / 2, "{} cursors", model.order.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn current_kept_breadcrumbs_and_diffs_in_both_directions_agree_with_the_model() {
    let daemon = Daemon::push(&KEEP);
    let http = daemon.http();
    let mut model = Model::default();
    let mut workload = Workload::new(2, "", 60);
    model.note(http.cursor().await);
    for _ in 0..300 {
        let batch = workload.batch(25);
        write(&http, &mut model, &batch).await;
    }

    let codings = [Coding::Identity, Coding::Gzip, Coding::Zstd];
    let medias = [Media::Json, Media::Ndjson, Media::Bincode];
    let mut dice = Rng::with_seed(3);
    let mut read = async |path: &str| {
        let accept = medias[dice.usize(..3)].accept();
        let coding = codings[dice.usize(..3)].name();
        let got =
            http.get_with(path, &[("accept", accept), ("accept-encoding", coding)]).await.ok(200).standing();
        let body = Body::read(got.need("content-type"), &got.plain());
        agree(&got, &body);
        body
    };

    let body = read("/v1/breadcrumbs/current").await;
    assert_eq!(Some(&body.header.cursor), model.order.last());
    assert_same("current", &entries(&body), &model.state);

    for cursor in model.order.iter().step_by(3) {
        let body = read(&format!("/v1/breadcrumbs/{cursor}")).await;
        assert_eq!(&body.header.cursor, cursor);
        assert!(body.snapshot);
        assert_same(cursor, &entries(&body), &model.at[cursor]);
        let sum = support::state::hex(digest(&model.at[cursor]));
        assert_eq!(body.header.digest, Some(sum));
        assert_eq!(body.header.count, Some(model.at[cursor].len() as u64));

        let narrow = read(&format!("/v1/breadcrumbs/{cursor}?prefix=app%2F")).await;
        assert_same("a prefix of a kept breadcrumb", &entries(&narrow), &below(&model.at[cursor], b"app/"));
        assert!(narrow.header.count.is_none() && narrow.header.digest.is_none());
    }

    let mut rng = Rng::with_seed(4);
    for n in 0..150 {
        let (from, to) = match n {
            0 => (0, model.order.len() - 1),
            1 => (model.order.len() - 1, 0),
            2 => (5, 5),
            _ => (rng.usize(..model.order.len()), rng.usize(..model.order.len())),
        };
        let (from, to) = (&model.order[from], &model.order[to]);
        let body = read(&format!("/v1/breadcrumbs/{from}/diff/{to}")).await;
        assert!(!body.snapshot);
        assert_eq!(body.header.from.as_ref(), Some(from));
        assert_eq!(&body.header.cursor, to);
        let mut state = State::clone(&model.at[from]);
        let sum = apply(&mut state, digest(&model.at[from]), &body.records);
        assert_same(&format!("diff {from} → {to}"), &state, &model.at[to]);
        assert_eq!(body.header.digest, Some(support::state::hex(sum)));
        assert_eq!(body.header.count, Some(state.len() as u64));
        let known = read(&format!("/v1/breadcrumbs/{from}")).await;
        for record in &body.records {
            // A value that was changed and set back is told with its other revision.
            let same = |known: &&Record| {
                (&known.key, &known.value, known.revision) == (&record.key, &record.value, record.revision)
            };
            assert!(
                !known.records.iter().any(|known| same(&known)),
                "a diff holds differences only: {record:?}"
            );
        }

        let narrow = read(&format!("/v1/breadcrumbs/{from}/diff/{to}?prefix=app")).await;
        let mut state = below(&model.at[from], b"app");
        apply(&mut state, 0, &narrow.records);
        assert_same("a prefix of a diff", &state, &below(&model.at[to], b"app"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_of_many_writers_are_seen_whole_and_in_each_writers_order() {
    many_writers(&KEEP).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ring_and_breadcrumbs_smaller_than_a_write_do_not_tear_writes_apart() {
    many_writers(&[&KEEP[..], &["--ingest-buffer", "ring", "--max-batch", "3"]].concat()).await;
}

/// Several writers at once, each with keys of its own, and mirrors that follow them.
async fn many_writers(args: &[&str]) {
    const WRITERS: usize = 6;
    const WRITES: usize = 150;
    let daemon = Daemon::push(args);

    // Each writer owns the keys below its name. It waits for each answer, so at the answer's cursor its part of the
    // state is exactly what it had written by then, however many other writes the same breadcrumb took along.
    let (say_last, last) = watch::channel(None);
    let keen = follow(Mirror::of(daemon.http(), Media::Ndjson, Coding::Zstd).await, Pace::Keen, last.clone());
    let slow = Mirror::of(daemon.http(), Media::Json, Coding::Gzip).await;
    let slow = follow(slow, Pace::Dawdling(Duration::from_millis(30)), last.clone());
    let mut parts = Vec::new();
    {
        let mut mirror = Mirror::of(daemon.http(), Media::Json, Coding::Identity).await;
        let last = last.clone();
        parts.push(tokio::spawn(async move {
            let mut stops: Vec<Vec<u128>> = Vec::new();
            let mut at = HashMap::new();
            loop {
                let digests = |w| digest(&below(&mirror.state, name(w).as_bytes()));
                let digests: Vec<u128> = (0..WRITERS).map(digests).collect();
                at.insert(mirror.cursor.clone(), digests.clone());
                stops.push(digests);
                if last.borrow().as_ref() == Some(&mirror.cursor) {
                    return (stops, at);
                }
                assert_ne!(mirror.next("1s").await, Step::Gone);
            }
        }));
    }

    let writers = (0..WRITERS).map(|w| {
        let http = daemon.http();
        tokio::spawn(async move {
            let mut workload = Workload::new(100 + w as u64, &name(w), 30);
            let mut model = State::new();
            let mut states = vec![digest(&model)];
            let mut answered = Vec::new();
            for _ in 0..WRITES {
                let batch = workload.batch(12);
                batch.iter().for_each(|op| op.apply(&mut model));
                let cursor = http.post(&batch.iter().map(Op::record).collect::<Vec<_>>()).await;
                states.push(digest(&model));
                answered.push((cursor, digest(&model)));
            }
            (model, states, answered)
        })
    });
    let writers: Vec<_> = writers.collect();
    let mut written = Vec::new();
    for writer in writers {
        written.push(writer.await.unwrap());
    }
    let http = daemon.http();
    say_last.send_replace(Some(http.cursor().await));

    let (stops, at) = in_time("the mirror to arrive", parts.remove(0)).await.unwrap();
    for (w, (_, states, answered)) in written.iter().enumerate() {
        let mut reached = 0;
        for stop in &stops {
            let ahead = states[reached..].iter().position(|state| *state == stop[w]);
            reached += ahead
                .unwrap_or_else(|| panic!("half a write of {w}, or a step back, after {reached} writes"));
        }
        let met = answered.iter().filter(|(cursor, _)| at.contains_key(cursor)).count();
        assert!(met > 0, "the mirror stood at some of the cursors that the writer was given");
        for (cursor, expected) in answered {
            if let Some(digests) = at.get(cursor) {
                assert_eq!(digests[w], *expected, "writer {w} at {cursor}");
            }
        }
    }
    let whole: State = written.iter().flat_map(|(model, _, _)| model.clone()).collect();
    let (keen, slow) = (keen.await.unwrap(), slow.await.unwrap());
    assert_same("the keen mirror", &keen.state, &whole);
    assert_same("the slow mirror", &slow.state, &whole);
    let mut digests = BTreeMap::new();
    for sighting in keen.sightings.iter().chain(&slow.sightings) {
        let first = digests.entry(&sighting.cursor).or_insert(sighting.digest);
        assert_eq!(*first, sighting.digest, "one cursor, one state: {}", sighting.cursor);
    }
}

fn name(writer: usize) -> String {
    format!("writer-{writer}/")
}

#[tokio::test]
async fn a_write_is_seen_by_whoever_reads_at_or_after_its_cursor() {
    let daemon = Daemon::push(&KEEP);
    let http = daemon.http();
    let mut workload = Workload::new(5, "k", 20);
    for _ in 0..100 {
        let (key, value) = (workload.key(), workload.value());
        let (content_type, body) = value.put();
        let cursor = http.put(&key, content_type, &body).await;
        let path = format!("/v1/kv/{}", encode(&key));
        for path in [format!("{path}?at={cursor}"), path] {
            let got = http.get(&path).await.ok(200);
            assert_eq!(got.body, &value.bytes()[..], "{path}");
        }
    }
}

#[tokio::test]
async fn every_nasty_value_survives_byte_for_byte_whatever_the_way_in_and_out() {
    use support::workload::{NASTY_BYTES, NASTY_JSON, NASTY_KEYS, NASTY_TEXT};
    let daemon = Daemon::push(&KEEP);
    let http = daemon.http();
    let values = (NASTY_JSON.iter().map(|json| Spelled::Json((*json).to_owned())))
        .chain(NASTY_TEXT.iter().map(|text| Spelled::Utf8((*text).to_owned())))
        .chain(NASTY_BYTES.iter().map(|bytes| Spelled::Base64(bytes.to_vec())));
    let mut model = State::new();
    let mut batch = Vec::new();
    for (n, value) in values.enumerate() {
        let (content_type, body) = value.put();
        let key = format!("put/{n:02}").into_bytes();
        http.put(&key, content_type, &body).await;
        model.insert(key, value.bytes());
        batch.push(Op::Put { key: format!("post/{n:02}").into_bytes(), value, claim: "put" });
    }
    for key in NASTY_KEYS {
        batch.push(Op::Put {
            key: key.to_vec(),
            value: Spelled::Utf8("of a nasty key".into()),
            claim: "new",
        });
    }
    batch.iter().for_each(|op| op.apply(&mut model));
    http.post(&batch.iter().map(Op::record).collect::<Vec<_>>()).await;

    for media in [Media::Json, Media::Ndjson, Media::Bincode] {
        let mirror = Mirror::of(daemon.http(), media, Coding::Identity).await;
        assert_same(media.accept(), &mirror.state, &model);
    }
    for (key, value) in &model {
        // An empty segment is the list, and dots are taken out of a path by clients before it is sent.
        if matches!(&key[..], b"" | b"." | b"..") {
            continue;
        }
        let got = http.get(&format!("/v1/kv/{}", encode(key))).await.ok(200);
        assert_eq!(got.body, &value[..], "{:?}", String::from_utf8_lossy(key));
    }
}

#[tokio::test]
async fn a_write_that_changes_nothing_drops_no_breadcrumb() {
    let daemon = Daemon::push(&KEEP);
    let http = daemon.http();
    http.post(&[support::workload::put("a", "{\"x\":1}"), support::workload::put("b", "2")]).await;
    let before = http.get("/v1/breadcrumbs/current").await.ok(200);
    for claim in ["put", "new", "updated"] {
        let same = format!("{{\"type\":\"{claim}\",\"key\":\"a\",\"value\":{{ \"x\" : 1 }}}}");
        http.post(&[same, support::workload::deleted("absent")]).await;
    }
    let after = http.get("/v1/breadcrumbs/current").await.ok(200);
    assert_eq!(before.need("crumbd-sequence"), after.need("crumbd-sequence"));
    let next = http.get(&format!("/v1/breadcrumbs/{}/next?wait=0", before.cursor())).await;
    assert_eq!(next.status, 204, "{}", String::from_utf8_lossy(&next.body));
    // The next real change is seen, from the older cursor too.
    http.put(b"a", "application/json", b"3").await;
    let next = eventually("the change", || async {
        let got = http.get(&format!("/v1/breadcrumbs/{}/next?wait=1s", before.cursor())).await;
        (got.status == 200).then_some(got)
    })
    .await;
    let body = Body::read(next.need("content-type"), &next.plain());
    assert_eq!(body.records.len(), 1);
    assert_eq!(body.records[0].kind, "updated");
}
