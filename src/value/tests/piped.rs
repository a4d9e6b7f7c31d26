//! `pipe`.

use tokio::sync::mpsc;

use super::super::pipe;
use super::*;

#[tokio::test(start_paused = true)]
async fn a_slow_receiver_of_a_pipe_gets_the_newest_value() {
    let value = Value::of(0);
    let (to, mut from) = mpsc::channel(1);
    let piping = tokio::spawn(pipe(value.watch(), to));
    assert_eq!(in_time(from.recv()).await, Some(0));
    for i in 1..=100 {
        value.set(i);
        tokio::task::yield_now().await;
        tokio::task::yield_now().await;
    }
    // What was in the channel when the receiver left, and then the newest.
    assert_eq!(in_time(from.recv()).await, Some(1));
    assert_eq!(in_time(from.recv()).await, Some(100));
    assert!(from.try_recv().is_err());
    drop(value);
    assert_eq!(in_time(piping).await.expect("the pipe"), Err(GetError::Closed));
    assert_eq!(in_time(from.recv()).await, None);
}

#[tokio::test(start_paused = true)]
async fn a_pipe_can_be_stopped_while_nobody_reads() {
    let value = Value::of(0);
    let (to, mut from) = mpsc::channel(1);
    let mut watcher = value.watch();
    {
        let mut piping = Box::pin(pipe(&mut watcher, to));
        assert!(piping.as_mut().now_or_never().is_none());
        value.set(1);
        assert!(piping.as_mut().now_or_never().is_none(), "there is no room for it");
        assert!(timeout(Duration::from_secs(60), piping).await.is_err(), "it is stopped by dropping it");
    }
    assert_eq!(from.recv().await, Some(0));
    assert_eq!(from.recv().await, None);
    assert_eq!(now(&mut watcher), Some(Ok(1)), "what was not sent is not lost");
}

#[tokio::test(start_paused = true)]
async fn a_pipe_ends_when_its_receiver_has_gone_also_while_nothing_comes() {
    let value = Value::<u32>::new();
    let (to, from) = mpsc::channel(1);
    let piping = tokio::spawn(pipe(value.watch(), to));
    tokio::time::sleep(Duration::from_secs(1)).await;
    drop(from);
    assert_eq!(in_time(piping).await.expect("the pipe"), Ok(()));
    // And while there is no room.
    value.set(1);
    let (to, from) = mpsc::channel(1);
    let piping = tokio::spawn(pipe(value.watch().filter(|_| true), to));
    tokio::time::sleep(Duration::from_secs(1)).await;
    drop(from);
    assert_eq!(in_time(piping).await.expect("the pipe"), Ok(()));
    assert_eq!(value.watchers(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_pipe_of_a_backlog_ends_with_it() {
    let ports = RangedValue::new();
    ports.set("http", 80);
    ports.set("https", 443);
    let (to, mut from) = mpsc::channel(8);
    assert_eq!(in_time(pipe(ports.watch().backlog_only(), to)).await, Err(GetError::BacklogDone));
    let mut seen = Vec::new();
    while let Some(change) = from.recv().await {
        seen.push(shown(change));
    }
    assert_eq!(seen, ["http=80", "https=443"]);
}
