//! `next`, cancellation, the end, and what is held in memory.

use super::*;

#[tokio::test]
async fn next_returns_at_once_what_exists_already() {
    let cache = running();
    let first = cache.current_breadcrumb();
    let second = publish(&cache, vec![Update::put("a", "1")]).await;
    let next = first.next().now_or_never().expect("it is there").expect("it is no error");
    assert_eq!(next.sequence(), second.sequence());
    assert!(second.next().now_or_never().is_none(), "nothing follows yet");
}

#[tokio::test]
async fn a_cancelled_next_loses_nothing_and_wakes_nobody_late() {
    let cache = running();
    let mut crumb = cache.current_breadcrumb();
    for round in 0..100 {
        let mut abandoned = Box::pin(crumb.next());
        assert!(abandoned.as_mut().now_or_never().is_none(), "it has to wait");
        // Dropped while it waits, and dropped after it was woken and before it looked.
        if round % 2 == 0 {
            drop(abandoned);
            publish(&cache, vec![Update::put("a", round.to_string())]).await;
        } else {
            publish(&cache, vec![Update::put("a", round.to_string())]).await;
            drop(abandoned);
        }
        let next = in_time(crumb.next()).await.expect("it is there");
        assert_eq!(next.sequence().0, crumb.sequence().0 + 1);
        crumb = next;
    }
}

#[tokio::test]
async fn a_snapshot_that_is_held_never_changes() {
    let cache = running();
    let held = publish(&cache, vec![Update::put("foo", "bar")]).await;
    let (digest, len) = (held.kvs().digest(), held.kvs().len());
    for i in 0..100 {
        publish(&cache, vec![Update::put(format!("key{i}"), "x"), Update::put("foo", i.to_string())]).await;
    }
    assert_eq!((held.kvs().digest(), held.kvs().len()), (digest, len));
    assert_eq!(value(&held, "foo").as_deref(), Some("bar"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn updates_of_each_producer_are_applied_in_its_order() {
    const PRODUCERS: usize = 4;
    const UPDATES: usize = 500;
    let cache = running();
    let mut crumb = cache.current_breadcrumb();
    let produce = |producer: usize| {
        let cache = cache.clone();
        async move {
            for i in 0..UPDATES {
                let update = Update::put(format!("producer{producer}"), i.to_string());
                cache.on_updates(vec![update]).await.expect("the cache takes updates");
            }
        }
    };
    let producers: Vec<_> = (0..PRODUCERS).map(|producer| tokio::spawn(produce(producer))).collect();
    let mut last = BTreeMap::new();
    while last.len() < PRODUCERS || last.values().any(|value| *value != UPDATES - 1) {
        crumb = in_time(crumb.next()).await.expect("more comes");
        for delta in crumb.deltas() {
            let text = std::str::from_utf8(delta.entry.value()).expect("text");
            let value: usize = text.parse().expect("a number");
            let before = last.insert(delta.entry.key().to_vec(), value);
            assert!(before.is_none_or(|before| before < value), "{before:?} before {value}");
        }
    }
    for producer in producers {
        producer.await.expect("a producer ends");
    }
}

#[tokio::test]
async fn a_full_buffer_makes_the_producer_wait_and_a_cache_at_work_lets_it_go_on() {
    let (cache, task, _) = cache_with(small_batches(), 2);
    for update in fresh(2) {
        cache.on_updates(vec![update]).await.expect("there is room");
    }
    let mut third = Box::pin(cache.on_updates(vec![Update::put("third", "1")]));
    assert!(third.as_mut().now_or_never().is_none(), "it has to wait");
    assert_eq!(cache.backlog(), (2, 2));
    tokio::spawn(task.run());
    in_time(third).await.expect("there is room now");
}

#[tokio::test]
async fn followers_that_wait_when_the_cache_stops_are_told() {
    let cache = running();
    let crumb = publish(&cache, vec![Update::put("a", "1")]).await;
    let waiting: Vec<_> = (0..100)
        .map(|_| {
            let crumb = crumb.clone();
            tokio::spawn(async move { crumb.next().await.map(|next| next.sequence()) })
        })
        .collect();
    tokio::task::yield_now().await;
    cache.stop();
    for follower in waiting {
        let error = in_time(follower).await.expect("a follower ends").expect_err("nothing follows");
        assert!(error.cause().is::<Stopped>(), "{error}");
    }
    assert!(crumb.next().await.is_err(), "also who asks later");
    assert_eq!(cache.current_breadcrumb().sequence(), crumb.sequence(), "the last state can still be read");
}

#[tokio::test]
async fn what_was_sent_before_the_stop_is_applied_before_followers_are_told() {
    let (cache, task, _) = cache_with(small_batches(), 64);
    let mut crumb = cache.current_breadcrumb();
    for update in fresh(30) {
        cache.on_updates(vec![update]).await.expect("there is room");
    }
    cache.stop();
    tokio::spawn(task.run());
    while let Ok(next) = in_time(crumb.next()).await {
        crumb = next;
    }
    assert_eq!(crumb.kvs().len(), 30);
}

#[tokio::test]
async fn a_producer_after_the_stop_gets_an_error() {
    let (cache, task, _) = cache_with(small_batches(), 1);
    cache.on_updates(fresh(1)).await.expect("there is room");
    let (blocked_cache, started) = (cache.clone(), Arc::new(tokio::sync::Notify::new()));
    let start = Arc::clone(&started);
    let blocked = tokio::spawn(async move {
        let mut write = Box::pin(blocked_cache.on_updates(fresh(1)));
        assert!(write.as_mut().now_or_never().is_none(), "it has to wait");
        start.notify_one();
        write.await
    });
    started.notified().await;
    cache.stop();
    assert_eq!(in_time(blocked).await.expect("the producer ends"), Err(Stopped));
    task.run().await;
    assert_eq!(cache.on_updates(fresh(1)).await, Err(Stopped));
    assert_eq!(cache.on_status_updated(SyncStatus::InSync).await, Err(Stopped));
}

/// An ingest task that is dropped, or dies, must not leave anybody waiting.
#[tokio::test]
async fn when_the_ingest_task_is_gone_nobody_waits_for_ever() {
    let (cache, task, buffer) = cache_with(small_batches(), 1);
    let (ack, answer) = crumbd::ingest::reply_channel();
    let mut batch = Batch::new(fresh(1), Grouping::Whole);
    batch.ack = Some(ReplyTo::new(ack));
    cache.send(FeedEvent::Updates(batch)).await.expect("there is room");
    let mut blocked = Box::pin(cache.on_updates(fresh(1)));
    assert!(blocked.as_mut().now_or_never().is_none(), "it has to wait");
    let crumb = cache.current_breadcrumb();
    drop(task);
    assert!(in_time(crumb.next()).await.is_err(), "a follower is told");
    assert_eq!(in_time(blocked).await, Err(Stopped), "a producer is told");
    assert!(in_time(answer).await.is_err(), "a writer is told");
    assert!(buffer.is_empty());
}

/// A cache that keeps no more than it must, so that only readers hold anything.
fn forgetful() -> CacheConfig {
    let window =
        crumbd::cache::WindowLimits { max_count: 1, max_bytes: 1 << 20, max_age: Duration::from_secs(60) };
    CacheConfig { window, ..small_batches() }
}

#[tokio::test]
async fn a_slow_follower_pins_the_trail_and_its_leaving_frees_it() {
    const ROUNDS: usize = 200;
    let (cache, task, _) = cache_with(forgetful(), 4);
    tokio::spawn(task.run());
    let slow = cache.current_breadcrumb();
    let mut superseded = Vec::new();
    for round in 0..ROUNDS {
        let crumb = publish(&cache, vec![Update::put("a", round.to_string())]).await;
        superseded.push(crumb.kvs().get(b"a").cloned().expect("it was put"));
    }
    // The last one is the current state.
    superseded.pop();
    assert_eq!(cache.window_usage().breadcrumbs, 1);
    // One probe is used up by asking.
    let is_held = |entry: Entry| {
        let address = entry.address();
        entry.at(Revision(1)).address() != address
    };
    assert_eq!(slow.later().count(), ROUNDS);
    assert!(is_held(superseded.remove(0)), "the slow follower holds what was superseded");
    drop(slow);
    // Evicted breadcrumbs are freed on a thread of their own.
    let deadline = Instant::now() + PATIENCE;
    while is_held(superseded.pop().expect("it is freed before the probes are used up")) {
        assert!(Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_trail_of_a_hundred_thousand_breadcrumbs_is_freed_without_recursion() {
    let (cache, task, _) = cache_with(CacheConfig { max_batch: 1, ..forgetful() }, 1024);
    let task = tokio::spawn(task.run());
    let oldest = cache.current_breadcrumb();
    for i in 0..100_000u32 {
        cache.on_updates(vec![Update::put("a", i.to_le_bytes())]).await.expect("an update");
    }
    cache.stop();
    task.await.expect("the task ends");
    assert_eq!(cache.current_breadcrumb().sequence().0, 100_001);
    drop(cache);
    drop(oldest);
}

#[tokio::test]
async fn a_follower_that_fell_out_of_the_window_is_told_so() {
    let (cache, task, _) = cache_with(forgetful(), 4);
    tokio::spawn(task.run());
    let old = publish(&cache, vec![Update::put("a", "1")]).await;
    let new = publish(&cache, vec![Update::put("a", "2")]).await;
    assert!(matches!(cache.locate(old.cursor()), Position::Gone));
    assert!(matches!(cache.locate(new.cursor()), Position::At(_)));
    let ahead = Cursor { revision: new.revision().next(), ..new.cursor() };
    assert!(matches!(cache.locate(ahead), Position::Ahead));
    let other = Cursor { history: History::derive(b"another"), ..new.cursor() };
    assert!(matches!(cache.locate(other), Position::OtherHistory));
    assert_eq!(old.next().await.expect("who holds it can go on").sequence(), new.sequence());
}
