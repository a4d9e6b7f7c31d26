//! Clients that read slowly, or nothing. Over HTTP/2 a client decides it for each stream.

use std::time::{Duration, Instant};

use h2::client::Builder;

use crate::client::{Connection, take, whole};
use crate::support::daemon::Daemon;
use crate::support::in_time;
use crate::{large, status, until};

fn in_flight(status: &serde_json::Value) -> u64 {
    status["snapshot_bytes_in_flight"].as_u64().unwrap()
}

#[tokio::test]
async fn a_stream_that_reads_nothing_is_reset_and_what_it_held_is_given_back() {
    let daemon = Daemon::push(&["--stall-timeout", "700ms"]);
    let http = daemon.http();
    large(&http).await;
    // Windows that hold nothing, a little, or much.
    for window in [0, 1, 10_000, 200_000] {
        let mut connection = Connection::with(&daemon, Builder::new().initial_window_size(window)).await;
        let mut answers = Vec::new();
        for _ in 0..5 {
            let answer = connection.begin("/v1/breadcrumbs/current").await.unwrap();
            answers.push(in_time("a head", answer).await.unwrap().into_body());
        }
        assert!(in_flight(&status(&http).await) > 7 << 20, "a window of {window}");
        until(&http, "what it held", |status| in_flight(status) == 0).await;
        for mut body in answers {
            let error = loop {
                match in_time("a reset", body.data()).await {
                    Some(Ok(_)) => {}
                    Some(Err(error)) => break error,
                    None => panic!("a body that came whole through a window of {window}"),
                }
            };
            assert!(error.is_reset(), "{error}");
        }
        let answer = connection.begin("/livez").await.unwrap();
        assert_eq!(in_time("a head", answer).await.expect("the connection goes on").status().as_u16(), 200);
    }
}

#[tokio::test]
async fn an_answer_in_one_piece_that_is_not_read_ends_its_connection() {
    let daemon = Daemon::push(&["--stall-timeout", "500ms"]);
    daemon.http().put(b"a", "text/plain", &[b'a'; 1000]).await;
    let mut connection = Connection::with(&daemon, Builder::new().initial_window_size(10)).await;
    let answer = connection.begin("/v1/kv/a").await.unwrap();
    let _body = in_time("a head", answer).await.unwrap().into_body();
    _ = in_time("the end", connection.driver).await;
}

#[tokio::test]
async fn who_takes_little_of_many_streams_gets_them_all() {
    let stall = Duration::from_millis(1500);
    let daemon = Daemon::push(&["--stall-timeout", "1500ms"]);
    large(&daemon.http()).await;
    // The window of the connection is what all of them share, and the first is served to its end before the others.
    let mut builder = Builder::new();
    builder.initial_window_size(1 << 20).initial_connection_window_size(65_535);
    let mut connection = Connection::with(&daemon, &builder).await;
    let mut bodies = Vec::new();
    for _ in 0..20 {
        let answer = connection.begin("/v1/kv/a").await.unwrap();
        bodies.push((in_time("a head", answer).await.unwrap().into_body(), Vec::new()));
    }
    let begun = Instant::now();
    // Slowly, for several times as long as nothing would be borne.
    while begun.elapsed() < 4 * stall {
        for (body, read) in &mut bodies {
            if let Ok(Some(bytes)) = tokio::time::timeout(Duration::from_millis(5), body.data()).await {
                take(body, bytes.expect("who is slow is served"), read);
            }
        }
    }
    for (mut body, mut read) in bodies {
        while let Some(bytes) = in_time("the rest", body.data()).await {
            take(&mut body, bytes.expect("who is slow is served"), &mut read);
        }
        assert_eq!(read.len(), 1 << 20);
    }
}

#[tokio::test]
async fn a_stream_of_events_that_is_silent_is_not_one_that_is_not_read() {
    let daemon = Daemon::push(&["--stall-timeout", "300ms"]);
    let http = daemon.http();
    let mut connection = Connection::to(&daemon).await;
    let answer = connection.begin("/v1/stream").await.unwrap();
    let mut body = in_time("a head", answer).await.unwrap().into_body();
    let mut read = Vec::new();
    let mut changes = 0;
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(2) || changes < 3 {
        if let Ok(Some(bytes)) = tokio::time::timeout(Duration::from_millis(700), body.data()).await {
            take(&mut body, bytes.expect("a stream goes on"), &mut read);
            continue;
        }
        http.put(b"a", "application/json", changes.to_string().as_bytes()).await;
        changes += 1;
    }
    // Slow readers cost no more than what is queued for them, and are reset too.
    large(&http).await;
    let mut stuck = Connection::with(&daemon, Builder::new().initial_window_size(1000)).await;
    let mut streams = Vec::new();
    for _ in 0..10 {
        let answer = stuck.begin("/v1/stream").await.unwrap();
        streams.push(in_time("a head", answer).await.unwrap().into_body());
    }
    until(&http, "what they held", |status| in_flight(status) == 0).await;
    until(&http, "their places", |status| status["waiters"].as_u64().unwrap() <= 1).await;
    whole(stuck.begin("/livez").await.unwrap()).await.expect("the connection goes on");
}
