//! `Value`, its watcher, filters and backlogs.

use super::*;

#[test]
fn of_a_hundred_unread_values_the_last_one_is_returned() {
    let value = Value::new();
    let mut watcher = value.watch();
    value.set(0);
    assert_eq!(now(&mut watcher), Some(Ok(0)));
    for i in 1..=100 {
        value.set(i);
    }
    assert_eq!(now(&mut watcher), Some(Ok(100)));
    assert_eq!(now(&mut watcher), None);
}

#[test]
fn the_first_get_returns_what_was_current_at_watch_or_newer() {
    let value = Value::of(0);
    let (mut first, mut second) = (value.watch(), value.watch());
    assert_eq!(now(&mut first), Some(Ok(0)));
    value.set(1);
    assert_eq!(now(&mut second), Some(Ok(1)));
    assert_eq!(now(&mut value.watch()), Some(Ok(1)), "each begins with what is current");
    assert_eq!(value.current(), Some(1));
}

#[tokio::test(start_paused = true)]
async fn an_unset_value_is_waited_for() {
    let value = Value::new();
    let mut watcher = value.watch();
    assert_eq!(now(&mut watcher), None);
    assert_eq!(value.current(), None);
    let waiting = tokio::spawn(async move { watcher.get().await });
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(!waiting.is_finished());
    value.set("address 1");
    assert_eq!(waiting.await.expect("the watcher"), Ok("address 1"));
}

#[tokio::test(start_paused = true)]
async fn a_lease_and_its_change_are_seen_one_after_the_other() {
    let lease = Value::new();
    let mut watcher = lease.watch();
    let producer = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        lease.set("192.0.2.1");
        tokio::time::sleep(Duration::from_millis(100)).await;
        lease.set("192.0.2.2");
    };
    let consumer = async { [watcher.get().await, watcher.get().await] };
    let ((), seen) = in_time(async { tokio::join!(producer, consumer) }).await;
    assert_eq!(seen, [Ok("192.0.2.1"), Ok("192.0.2.2")]);
}

#[test]
fn setting_an_equal_value_wakes_the_watchers() {
    let value = Value::of("same");
    let mut watcher = value.watch();
    for _ in 0..3 {
        assert_eq!(now(&mut watcher), Some(Ok("same")));
        assert_eq!(now(&mut watcher), None);
        value.set("same");
    }
}

#[test]
fn an_empty_value_is_a_value() {
    let value = Value::new();
    let mut watcher = value.watch();
    value.set("");
    assert_eq!(now(&mut watcher), Some(Ok("")));
    let value = Value::<Option<u8>>::new();
    let mut watcher = value.watch();
    value.set(None);
    assert_eq!(now(&mut watcher), Some(Ok(None)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_consumers_of_different_speed_go_forward_and_all_reach_the_last_value() {
    let value = Value::new();
    let consumers: Vec<_> = (0..100)
        .map(|delay_ms| {
            let mut watcher = value.watch();
            tokio::spawn(async move {
                let mut last = 0;
                while last != 100 {
                    let next = in_time(watcher.get()).await.expect("a value");
                    assert!(next > last, "{next} came after {last}");
                    last = next;
                    tokio::time::sleep(Duration::from_millis(delay_ms)).await;
                }
            })
        })
        .collect();
    for i in 1..=100 {
        value.set(i);
        tokio::time::sleep(Duration::from_micros(200)).await;
    }
    for consumer in consumers {
        in_time(consumer).await.expect("a consumer");
    }
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_get_leaves_the_watcher_as_it_was() {
    let value = Value::new();
    let mut watcher = value.watch();
    assert!(timeout(Duration::from_secs(1), watcher.get()).await.is_err());
    value.set(1);
    assert_eq!(now(&mut watcher), Some(Ok(1)));
    // Also one that was woken and had not looked yet.
    let mut woken = Box::pin(watcher.get());
    assert!(woken.as_mut().now_or_never().is_none());
    value.set(2);
    drop(woken);
    assert_eq!(now(&mut watcher), Some(Ok(2)));
}

#[test]
fn dropped_watchers_leave_nothing() {
    let value = Value::new();
    let mut watchers: Vec<_> = (0..100).map(|_| value.watch()).collect();
    for _ in 0..10_000 {
        watchers[10] = value.watch();
    }
    assert_eq!(value.watchers(), 100);
    value.set(1);
    for watcher in &mut watchers {
        assert_eq!(now(watcher), Some(Ok(1)));
    }
    drop(watchers);
    assert_eq!(value.watchers(), 0);
}

#[tokio::test(start_paused = true)]
async fn dropping_the_value_closes_its_watchers_after_the_last_value() {
    let value = Value::<u32>::new();
    let (mut waits, mut behind) = (value.watch(), value.watch());
    let waits = tokio::spawn(async move { waits.get().await });
    tokio::time::sleep(Duration::from_secs(1)).await;
    drop(value);
    assert_eq!(waits.await.expect("the watcher"), Err(GetError::Closed));
    assert_eq!(now(&mut behind), Some(Err(GetError::Closed)));

    let value = Value::new();
    let mut behind = value.watch();
    value.set(1);
    drop(value);
    assert_eq!(now(&mut behind), Some(Ok(1)));
    for _ in 0..2 {
        assert_eq!(now(&mut behind), Some(Err(GetError::Closed)));
    }
}

#[test]
fn a_filter_waits_until_its_predicate_holds() {
    let value = Value::of(1);
    let mut watcher = value.watch();
    {
        let mut even = (&mut watcher).filter(|value| value % 2 == 0);
        assert_eq!(now(&mut even), None);
        value.set(3);
        assert_eq!(now(&mut even), None);
        value.set(4);
        assert_eq!(now(&mut even), Some(Ok(4)));
        value.set(5);
        assert_eq!(now(&mut even), None);
    }
    // What the filter let pass by is seen by the watcher that was lent.
    assert_eq!(now(&mut watcher), None);
    drop(value);
    assert_eq!(now(&mut watcher.filter(|_| true)), Some(Err(GetError::Closed)));
}

#[test]
fn a_watcher_goes_on_after_a_value_that_cannot_be_decoded() {
    let value = Value::new();
    let mut numbers = value.watch().filter_map(|text: &str| {
        let skipped = text.is_empty();
        (!skipped).then(|| text.parse::<u32>().map_err(|error| error.to_string()))
    });
    let mut seen = Vec::new();
    for text in ["1", "", "x", "3", "4", "y", "z"] {
        value.set(text);
        seen.extend(now(&mut numbers).map(|item| item.expect("open").ok()));
    }
    assert_eq!(seen, [Some(1), None, Some(3), Some(4), None, None]);
}

#[test]
fn the_backlog_of_a_value_is_its_first_value_and_ends_for_good() {
    let value = Value::of(1);
    let mut watcher = value.watch();
    let mut backlog = (&mut watcher).backlog_only();
    assert_eq!(now(&mut backlog), Some(Ok(1)));
    assert_eq!(now(&mut backlog), Some(Err(GetError::BacklogDone)));
    value.set(2);
    assert_eq!(now(&mut backlog), Some(Err(GetError::BacklogDone)));
    assert_eq!(now(&mut watcher), Some(Ok(2)));
    assert_eq!(now(&mut (&mut watcher).backlog_only()), Some(Err(GetError::BacklogDone)));

    // That there is nothing is known too.
    let value = Value::new();
    let mut watcher = value.watch();
    assert_eq!(now(&mut (&mut watcher).backlog_only()), Some(Err(GetError::BacklogDone)));
    value.set(1);
    assert_eq!(now(&mut (&mut watcher).backlog_only()), Some(Err(GetError::BacklogDone)));
    assert_eq!(now(&mut watcher), Some(Ok(1)));
}

#[test]
fn a_backlog_without_matching_values_is_done() {
    let value = Value::of(1);
    let mut even = value.watch().filter(|value| value % 2 == 0);
    assert_eq!(even.get_backlog().now_or_never(), Some(Err(GetError::BacklogDone)));
}
