//! Watches that are open while the store changes, etcd is killed and compacted, and the network between etcd and the daemon
//! breaks: each is told of its part of the whole history, which is recorded at etcd itself.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use tokio::task::JoinHandle;

use crate::client::{Client, Watches};
use crate::etcd::kv::{CompactionRequest, Event, PutRequest};
use crate::etcd::lease::{LeaseGrantRequest, LeaseGrantResponse};
use crate::etcd::watch::{WatchCreateRequest, WatchResponse};
use crate::history::{self, Random};
use crate::servers::{Front, all_keys, client_of};
use crate::support::etcd::{Etcd, Net, Proxy};
use crate::support::eventually;
use crate::watches::{create, expected, recorded};

/// Streams that begin in each round, and watches of each.
const STREAMS: usize = 8;
const WATCHES: usize = 3;

/// What happens while a round's writes are made.
#[derive(Clone, Copy, Debug)]
enum Fault {
    None,
    /// Connections to etcd break, and no new one is made for a while.
    Cut,
    /// etcd is silent for a while.
    Silent,
    /// etcd is killed and started again.
    Kill,
    /// Everything that the daemon has read is compacted.
    Compact,
}

/// Every event of the store, read from etcd itself.
#[derive(Default)]
struct Recorder {
    history: Vec<Event>,
    to: i64,
}

impl Recorder {
    async fn catch_up(&mut self, etcd: &Client) {
        let newest = etcd.range(all_keys()).await.unwrap().header.unwrap().revision;
        if newest > self.to {
            self.history.extend(recorded(etcd, self.to + 1, newest).await);
            self.to = newest;
        }
    }
}

/// A watch, and what it was told.
struct Watched {
    create: WatchCreateRequest,
    told: Vec<Event>,
    /// Its last response, if it was cancelled.
    end: Option<WatchResponse>,
}

/// The watches of a stream, which is read until it ends.
struct Stream {
    watched: Arc<Mutex<HashMap<i64, Watched>>>,
    reader: JoinHandle<()>,
}

impl Stream {
    /// Opens these watches. Those that begin now begin after the revision that the daemon names.
    async fn open(client: &Client, creates: Vec<WatchCreateRequest>) -> Stream {
        let mut creates = creates.into_iter().map(|create| (create.clone(), create));
        let (first, asked) = creates.next().unwrap();
        let mut watches = client.watch(asked).await.unwrap();
        let watched: Arc<Mutex<HashMap<i64, Watched>>> = Arc::default();
        let mut next = Some(first);
        while let Some(create) = next {
            let response = loop {
                let response = watches.next().await.unwrap();
                if response.created {
                    break response;
                }
                note(&watched, response);
            };
            let begins_at = response.header.unwrap().revision + 1;
            let start_revision = if create.start_revision == 0 { begins_at } else { create.start_revision };
            let create = WatchCreateRequest { start_revision, ..create };
            let watch = Watched { create, told: Vec::new(), end: None };
            watched.lock().unwrap().insert(response.watch_id, watch);
            next = creates.next().map(|(create, asked)| {
                watches.create(asked);
                create
            });
        }
        let reader = tokio::spawn(read(watches, Arc::clone(&watched)));
        Stream { watched, reader }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

async fn read(mut watches: Watches, watched: Arc<Mutex<HashMap<i64, Watched>>>) {
    while let Ok(response) = watches.next().await {
        note(&watched, response);
    }
}

fn note(watched: &Mutex<HashMap<i64, Watched>>, response: WatchResponse) {
    let mut watched = watched.lock().unwrap();
    let watch = watched.get_mut(&response.watch_id).expect("a watch that was created");
    assert!(watch.end.is_none(), "nothing comes after the end: {response:?}");
    if response.canceled {
        watch.end = Some(response);
    } else {
        watch.told.extend(response.events);
    }
}

/// Sets keys whose lease ends soon, by itself.
async fn put_with_a_short_lease(client: &Client) {
    let grant = LeaseGrantRequest { ttl: 1, ..LeaseGrantRequest::default() };
    let granted: LeaseGrantResponse = client.call("/etcdserverpb.Lease/LeaseGrant", grant).await.unwrap();
    for key in ["a/short", "b/short"] {
        let put = PutRequest {
            key: key.into(),
            value: "soon gone".into(),
            lease: granted.id,
            ..Default::default()
        };
        client.put(put).await.unwrap();
    }
}

async fn follow(seed: u64, more: &[&str]) {
    let mut random = Random::new(seed);
    let mut etcd = Etcd::start().await;
    let network = Proxy::before(etcd.endpoint()).await;
    let direct = client_of(&etcd);
    history::write(&direct, &mut random, 20).await;
    let front = Front::start(&network.feed(""), more);
    let ours = front.ready().await;
    let began = ours.range(all_keys()).await.unwrap().header.unwrap().revision;
    let mut recorder = Recorder { to: began, ..Recorder::default() };
    let mut streams: Vec<Stream> = Vec::new();
    let faults =
        [Fault::None, Fault::Cut, Fault::Kill, Fault::Compact, Fault::Silent, Fault::Cut, Fault::Compact];
    for fault in faults {
        let newest = ours.range(all_keys()).await.unwrap().header.unwrap().revision;
        for _ in 0..STREAMS {
            let mut some = || {
                let create = create(&mut random, began + 1, newest.max(began + 2));
                // Half of them begin now.
                let start_revision = if random.one_in(2) { 0 } else { create.start_revision };
                WatchCreateRequest { start_revision, ..create }
            };
            streams.push(Stream::open(&ours, (0..WATCHES).map(|_| some()).collect()).await);
        }
        match fault {
            Fault::Cut => network.set(Net::Cut),
            Fault::Silent => network.set(Net::Silent),
            _ => {}
        }
        put_with_a_short_lease(&direct).await;
        history::write(&direct, &mut random, 60).await;
        match fault {
            Fault::None => {}
            Fault::Cut => network.set(Net::Open),
            // Until the daemon has given the connection up.
            Fault::Silent => {
                eventually("the daemon to notice", || async { ours.range(all_keys()).await.err() }).await;
                network.set(Net::Open);
            }
            Fault::Kill => {
                etcd.kill();
                etcd.restart().await;
                eventually("a connection", || async { direct.range(all_keys()).await.ok() }).await;
            }
            Fault::Compact => {
                eventually("the daemon has read it", || async { ours.range(all_keys()).await.ok() }).await;
                recorder.catch_up(&direct).await;
                let compact = CompactionRequest { revision: recorder.to, physical: true };
                direct.compact(compact).await.unwrap();
            }
        }
        eventually("the daemon has read it", || async { ours.range(all_keys()).await.ok() }).await;
    }
    // The last short lease has ended, too.
    eventually("the end of a lease", || async {
        let short = crate::etcd::kv::RangeRequest { key: "a/short".into(), ..Default::default() };
        (direct.range(short).await.unwrap().count == 0).then_some(())
    })
    .await;
    recorder.catch_up(&direct).await;
    compare(&streams, &recorder.history).await;
}

/// Compares what each watch was told with its part of the history.
async fn compare(streams: &[Stream], history: &[Event]) {
    let mut compared = 0;
    for stream in streams {
        let all_told = || async {
            let watched = stream.watched.lock().unwrap();
            let is_told = |watch: &Watched| watch.told.len() >= expected(&watch.create, history).len();
            watched.values().all(|watch| watch.end.is_some() || is_told(watch)).then_some(())
        };
        eventually("every watch to be told of everything", all_told).await;
        for watch in stream.watched.lock().unwrap().values() {
            assert!(watch.end.is_none(), "{:?} of {:?}", watch.end, watch.create);
            assert_eq!(watch.told, expected(&watch.create, history), "{:?}", watch.create);
            compared += watch.told.len();
        }
    }
    assert!(compared > 1000, "there was something to compare: {compared} events");
}

#[tokio::test(flavor = "multi_thread")]
async fn open_watches_are_told_of_the_whole_history_through_faults() {
    follow(11, &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn open_watches_are_told_of_the_whole_history_through_faults_in_breadcrumbs_of_many_revisions() {
    follow(12, &["--min-interval", "100ms"]).await;
}

/// etcd has compacted what the daemon could not read: no watch goes on over the gap.
#[tokio::test(flavor = "multi_thread")]
async fn a_watch_ends_as_compacted_where_the_daemon_has_missed_something() {
    let mut random = Random::new(13);
    let etcd = Etcd::start().await;
    let network = Proxy::before(etcd.endpoint()).await;
    let direct = client_of(&etcd);
    let front = Front::start(&network.feed(""), &[]);
    let ours = front.ready().await;
    let zero = bytes::Bytes::from_static(&[0]);
    let everything = |start_revision| WatchCreateRequest {
        key: zero.clone(),
        range_end: zero.clone(),
        prev_kv: true,
        start_revision,
        ..WatchCreateRequest::default()
    };
    let began = ours.range(all_keys()).await.unwrap().header.unwrap().revision;
    let mut recorder = Recorder { to: began, ..Recorder::default() };
    let mut stream = Stream::open(&ours, vec![everything(0)]).await;
    for _ in 0..3 {
        history::write(&direct, &mut random, 40).await;
        recorder.catch_up(&direct).await;
        eventually("the watch to be told of it", || async {
            let watched = stream.watched.lock().unwrap();
            let last = watched.values().next().unwrap().told.last()?.kv.as_ref()?.mod_revision;
            (last == recorder.to).then_some(())
        })
        .await;
        network.set(Net::Cut);
        eventually("the daemon to notice", || async { ours.range(all_keys()).await.err() }).await;
        history::write(&direct, &mut random, 40).await;
        recorder.catch_up(&direct).await;
        direct.compact(CompactionRequest { revision: recorder.to, physical: true }).await.unwrap();
        network.set(Net::Open);
        let end = eventually("the end of the watch", || async {
            stream.watched.lock().unwrap().values().next().unwrap().end.clone()
        })
        .await;
        let from = end.compact_revision;
        assert!(from > 0, "{end:?}");
        {
            let watched = stream.watched.lock().unwrap();
            let watch = watched.values().next().unwrap();
            let whole = expected(&watch.create, &recorder.history);
            assert_eq!(
                watch.told,
                whole[..watch.told.len()],
                "what it was told before is a part without a gap"
            );
        }
        // A client goes on at the revision that it is told of.
        stream = Stream::open(&ours, vec![everything(from)]).await;
        eventually("the daemon has read it", || async { ours.range(all_keys()).await.ok() }).await;
    }
}
