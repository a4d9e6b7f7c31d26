use super::*;

fn heard(last: u64, count: u64) -> Heard {
    Heard { last, count: Some(count) }
}

#[test]
fn a_hole_is_seen_and_a_squash_is_none() {
    let board = Board::new(2, Clock::Publisher, 1, |_| 0);
    (1..=5).for_each(|number| board.publishes(number));
    board.heard(0, heard(1, 1), 10);
    board.heard(0, heard(5, 4), 10);
    assert_eq!((board.counts().deliveries, board.counts().holes), (5, 0));
    board.heard(1, heard(3, 2), 10);
    assert_eq!((board.counts().holes, board.lost(5), board.lost(3)), (1, 1, 0));
    assert_eq!(board.latencies.percentiles().count, 8);
}

#[test]
fn with_prefixes_each_waiter_has_numbers_of_its_own() {
    let board = Board::new(3, Clock::Publisher, 3, |waiter| waiter as u64);
    board.heard(1, heard(4, 1), 0);
    assert_eq!((board.lost(4), board.counts().holes), (1, 0), "waiter 0 has not heard 3");
    board.heard(0, heard(3, 1), 0);
    assert_eq!(board.lost(4), 0);
    board.heard(0, heard(7, 1), 0);
    assert_eq!(board.counts().holes, 1, "7 is not for waiter 0");
}

#[tokio::test]
async fn a_waiter_that_fails_ends_every_wait() {
    let board = Board::new(1, Clock::Publisher, 1, |_| 0);
    board.has_failed("gone".to_owned());
    let ended = board.delivered(1, Duration::from_secs(60)).await;
    assert!(matches!(ended, Err(LoadError::Clients { count: 1, .. })));
}
