//! Back-pressure of the bounded buffer between feed and cache, a channel or a ring. When it is full, writers get a 429 with
//! a time to retry, feeds wait and report it, and nothing is lost.
#![allow(clippy::unwrap_used)]

mod support;

use std::fmt::Write as _;

use support::daemon::Daemon;
use support::eventually;
use support::workload::put;

const KINDS: [&str; 2] = ["channel", "ring"];

fn sample(metrics: &str, name: &str) -> f64 {
    let line = metrics.lines().find_map(|line| line.strip_prefix(&format!("{name} ")));
    line.unwrap_or_else(|| panic!("no {name}: {metrics}")).parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_write_is_either_answered_429_with_a_time_to_come_back_or_there() {
    for kind in KINDS {
        let daemon = Daemon::push(&["--ingest-buffer", kind, "--ingest-capacity", "1", "--max-batch", "1"]);
        let http = daemon.http();
        let capacity = http.get("/v1/status").await.ok(200).json()["ingest"]["capacity"].clone();
        assert_eq!(capacity, 1);
        let (mut refused, mut written) = (0, Vec::new());
        // Until some were refused: how many find it full is the scheduler's choice.
        for round in 0..200 {
            let writers: Vec<_> = (0..64)
                .map(|n| {
                    let (http, key) = (http.clone(), format!("{round}/{n}"));
                    tokio::spawn(async move {
                        (http.send("PUT", &format!("/v1/kv/{key}"), &[], Some(b"1".to_vec())).await, key)
                    })
                })
                .collect();
            for writer in writers {
                match writer.await.unwrap() {
                    (got, _) if got.status == 429 => {
                        let problem = got.problem(429);
                        let seconds: u64 = got.need("retry-after").parse().unwrap();
                        assert!((1..=60).contains(&seconds) && problem["retry_after"] == seconds);
                        refused += 1;
                    }
                    (got, key) => {
                        got.ok(200);
                        written.push(key);
                    }
                }
            }
            if refused >= 10 {
                break;
            }
        }
        assert!(refused >= 10, "a buffer of one was never full ({kind})");
        let status = http.get("/v1/status").await.ok(200).json();
        assert_eq!(status["count"], written.len(), "what was refused is not there, and all else is ({kind})");
        for key in written.iter().step_by(7) {
            http.get(&format!("/v1/kv/{key}")).await.ok(200);
        }
    }
}

#[tokio::test]
async fn a_feed_that_is_faster_than_the_cache_waits_says_so_and_loses_nothing() {
    const KEYS: usize = 60_000;
    for kind in KINDS {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("feed.ndjson");
        let mut text = String::new();
        for n in 0..KEYS {
            writeln!(text, "{}", put(&format!("key/{n:06}"), &format!("{{\"n\":{n}}}"))).unwrap();
        }
        std::fs::write(&path, text).unwrap();
        let feed = format!("file:{}", path.display());
        let args = ["--ingest-buffer", kind, "--ingest-capacity", "1", "--max-batch", "1"];
        let daemon = Daemon::serve(&[&["--feed", &feed], &args[..]].concat());
        let http = daemon.http();
        eventually("the feed is read", || async { (http.get("/readyz").await.status == 200).then_some(()) })
            .await;
        let status = http.get("/v1/status").await.ok(200).json();
        assert_eq!((&status["count"], &status["revision"]), (&KEYS.into(), &KEYS.into()), "{kind}");
        let metrics = String::from_utf8(http.get("/metrics").await.ok(200).body).unwrap();
        assert!(sample(&metrics, "crumbd_feed_waits_total") > 0.0, "{kind}");
        assert!(sample(&metrics, "crumbd_feed_wait_seconds_total") > 0.0, "{kind}");
        assert_eq!(sample(&metrics, "crumbd_updates_total"), KEYS as f64);
    }
}
