//! Typha's followers, and more of them.

use super::*;

/// Typha's kinds of followers, by how they fall behind.
#[derive(Clone, Copy, Debug)]
struct Temper {
    name: &'static str,
    /// Before it takes its first breadcrumb.
    start: Duration,
    /// When it is less behind than this, it sleeps for so long: then it meets both breadcrumbs
    /// that exist and breadcrumbs that it has to wait for.
    latency: Duration,
}

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

const FOLLOWERS: [Temper; 4] = [
    Temper { name: "happy", start: ms(0), latency: ms(0) },
    Temper { name: "sleepy", start: ms(100), latency: ms(100) },
    Temper { name: "grumpy", start: ms(10), latency: ms(100) },
    Temper { name: "bashful", start: ms(1), latency: ms(1) },
];

/// What a follower has seen once it was in sync.
struct Followed {
    state: BTreeMap<Vec<u8>, Vec<u8>>,
    in_sync_at: Revision,
    problems: Vec<String>,
}

async fn follow(cache: Cache, temper: Temper) -> Followed {
    tokio::time::sleep(temper.start).await;
    let mut crumb = cache.current_breadcrumb();
    drop(cache);
    let mut state: BTreeMap<_, _> =
        crumb.kvs().iter().map(|entry| (entry.key().to_vec(), entry.value().to_vec())).collect();
    let mut problems = Vec::new();
    while crumb.sync_status() != SyncStatus::InSync {
        let behind = SystemTime::now().duration_since(crumb.timestamp()).unwrap_or_default();
        if behind < temper.latency {
            tokio::time::sleep(temper.latency).await;
        }
        crumb = crumb.next().await.expect("the cache goes on until everybody is in sync");
        for delta in crumb.deltas() {
            let key = delta.entry.key().to_vec();
            let (existed, value) = match delta.kind {
                DeltaKind::Deleted => (state.remove(&key).is_some(), None),
                _ => {
                    let value = delta.entry.value().to_vec();
                    (state.insert(key, value.clone()).is_some(), Some(value))
                }
            };
            if existed == (delta.kind == DeltaKind::New) {
                problems.push(format!("{delta:?}, {value:?} at {crumb:?}"));
            }
        }
    }
    Followed { state, in_sync_at: crumb.revision(), problems }
}

/// `count` updates in slices, over a hundred keys.
async fn with_a_variety_of_followers(count: usize, slice: usize) {
    let (cache, task, _) = cache_with(small_batches(), 2 * MAX_BATCH);
    let task = tokio::spawn(task.run());
    let followers = FOLLOWERS.map(|temper| (temper.name, tokio::spawn(follow(cache.clone(), temper))));

    let mut model = BTreeMap::new();
    let mut pending = Vec::with_capacity(slice);
    for i in 1..=count {
        let (key, value) = (format!("/config/{:02}", i % 100), format!("config{}", i % 55));
        model.insert(key.clone().into_bytes(), value.clone().into_bytes());
        pending.push(Update::put(key, value).at(i as u64));
        if pending.len() == slice {
            cache.on_updates(std::mem::take(&mut pending)).await.expect("updates");
        }
        if i == count / 2 {
            cache.on_updates(vec![]).await.expect("no updates");
        }
    }
    cache.on_updates(pending).await.expect("updates");
    cache.on_status_updated(SyncStatus::InSync).await.expect("a status");

    for (name, follower) in followers {
        let followed = in_time(follower).await.expect("a follower ends");
        assert_eq!(followed.problems, Vec::<String>::new(), "{name}");
        assert_eq!(followed.state, model, "{name}");
        assert_eq!(followed.in_sync_at, Revision(count as u64), "{name} was in sync before all data");
    }
    let current = cache.current_breadcrumb();
    assert_eq!((current.kvs().len(), current.sync_status()), (model.len(), SyncStatus::InSync));
    cache.stop();
    in_time(task).await.expect("the task ends");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn followers_agree_after_123_single_updates() {
    with_a_variety_of_followers(123, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn followers_agree_after_12345_single_updates() {
    with_a_variety_of_followers(12_345, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn followers_agree_after_12345_updates_in_slices_of_100() {
    with_a_variety_of_followers(12_345, 100).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn followers_agree_after_12345_updates_in_slices_of_101() {
    with_a_variety_of_followers(12_345, 101).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn followers_agree_after_123456_single_updates() {
    with_a_variety_of_followers(123_456, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_blocked_follower_can_be_stopped() {
    let cache = running();
    let crumb = cache.current_breadcrumb();
    let started = Arc::new(tokio::sync::Notify::new());
    let start = Arc::clone(&started);
    let follower = tokio::spawn(async move {
        let mut next = Box::pin(crumb.next());
        assert!(next.as_mut().now_or_never().is_none(), "it has to wait");
        start.notify_one();
        next.await.map(|next| next.sequence())
    });
    started.notified().await;
    follower.abort();
    assert!(in_time(follower).await.expect_err("it was aborted").is_cancelled());
    in_time(publish(&cache, vec![Update::put("a", "1")])).await;
}

/// Ready means: in sync at least once.
#[tokio::test]
async fn the_status_is_seen_as_soon_as_it_is_said() {
    let cache = running();
    let mut crumb = cache.current_breadcrumb();
    use SyncStatus::{InSync, ResyncInProgress};
    for status in [InSync, ResyncInProgress, InSync, ResyncInProgress] {
        cache.on_status_updated(status).await.expect("a status");
        crumb = in_time(crumb.next()).await.expect("it is published");
        assert_eq!((crumb.sync_status(), crumb.deltas().len()), (status, 0));
    }
    assert_eq!(crumb.sequence().0, 5, "four statuses, four breadcrumbs");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_followers_see_every_breadcrumb() {
    const FOLLOWERS: usize = 10_000;
    const ROUNDS: u64 = 20;
    let cache = running();
    let first = cache.current_breadcrumb();
    let follow = |mut crumb: Breadcrumb| async move {
        let mut deltas = 0;
        for round in 1..=ROUNDS {
            let next = crumb.next().await.expect("the next round");
            assert_eq!((next.sequence().0, next.from()), (round + 1, crumb.cursor()));
            deltas += next.deltas().len();
            crumb = next;
        }
        (deltas, crumb.kvs().digest(), crumb.next().await.is_err())
    };
    let followers: Vec<_> = (0..FOLLOWERS).map(|_| tokio::spawn(follow(first.clone()))).collect();
    drop(first);
    for round in 0..ROUNDS {
        let updates = ["a", "b", "c"].map(|key| Update::put(key, round.to_string()).at(round + 1));
        in_time(publish(&cache, updates.into())).await;
    }
    let digest = cache.current_breadcrumb().kvs().digest();
    cache.stop();
    for follower in followers {
        let seen = in_time(follower).await.expect("a follower ends");
        assert_eq!(seen, (3 * ROUNDS as usize, digest, true));
    }
}
