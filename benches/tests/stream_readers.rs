//! The readers of streams that the delivery bench measures with count what they heard, and fail when it ends.
#![allow(clippy::unwrap_used)]

#[path = "../../tests/support/mod.rs"]
mod support;

use std::sync::Arc;

use crumbd::client::ClientTls;
use crumbd_bench::load::{Board, Clock, Crowd, CrumbdStream, LoadError, Publisher, Status, Target};
use support::DEADLINE;
use support::daemon::Daemon;

const READERS: usize = 20;

#[tokio::test]
async fn every_reader_hears_every_publication_once_and_an_end_is_a_failure() {
    let daemon = Daemon::push(&[]);
    let target = Target::resolve(daemon.url(), &ClientTls::default()).await.unwrap();
    let board = Arc::new(Board::new(READERS, Clock::Publisher, 1, |_| 0));
    let cursor = Status::get(&target).await.unwrap().cursor.unwrap();
    let crowd = Crowd::of_readers(&target, CrumbdStream::new(&target, &cursor), READERS, board.clone());
    board.all_asked(DEADLINE, |_| {}).await.unwrap();
    let mut publisher = Publisher::connect(&target, 256, None).await.unwrap();
    for round in 1..=5 {
        publisher.publish(&board).await.unwrap();
        board.delivered(round * READERS as u64, DEADLINE).await.unwrap();
    }
    let counts = board.counts();
    assert_eq!((counts.deliveries, counts.holes, counts.failed), (5 * READERS as u64, 0, 0), "{counts:?}");

    drop(daemon);
    let ended = board.undisturbed(DEADLINE).await;
    assert!(matches!(ended, Err(LoadError::Clients { .. })), "{ended:?}");
    crowd.end().await;
}

#[tokio::test]
async fn a_reader_that_is_refused_says_why() {
    let daemon = Daemon::push(&[]);
    let target = Target::resolve(daemon.url(), &ClientTls::default()).await.unwrap();
    let board = Arc::new(Board::new(1, Clock::Publisher, 1, |_| 0));
    let _crowd = Crowd::of_readers(&target, CrumbdStream::new(&target, "nonsense"), 1, board.clone());
    let said = board.all_asked(DEADLINE, |_| {}).await.unwrap_err().to_string();
    assert!(said.contains("the server refused a stream: 400"), "{said}");
}
