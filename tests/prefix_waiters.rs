//! Waiters for a prefix: changes elsewhere do not answer them, and do not let them fall out of the window.
#![allow(clippy::unwrap_used)]

mod support;

use std::io::Write as _;

use support::daemon::Daemon;
use support::http::{Got, Http, lines};
use support::record::Body;
use support::workload::put;
use support::{eventually, in_time};
use tokio::task::JoinHandle;

const FRONTS: [&str; 2] = ["on", "off"];

/// So few breadcrumbs are kept that any that is waited for is soon gone.
const KEEP: &str = "4";

fn ask(http: &Http, cursor: &str, query: &str) -> JoinHandle<Got> {
    let (http, path) = (http.clone(), format!("/v1/breadcrumbs/{cursor}/next{query}"));
    tokio::spawn(async move { http.get(&path).await })
}

async fn waiters(http: &Http, expected: u64) {
    let there = || async { (http.get("/v1/status").await.json()["waiters"] == expected).then_some(()) };
    eventually("the waiters", there).await;
}

/// Writes a few thousand keys that concern nobody, many breadcrumbs long.
async fn write_elsewhere(http: &Http, round: usize) -> String {
    let mut last = String::new();
    for n in 0..25 {
        let records: Vec<_> =
            (0..100).map(|key| put(&format!("db/{key}"), &format!("{}", round * 25 + n))).collect();
        last = http.post(&records).await;
    }
    last
}

fn revision(got: &Got) -> u64 {
    got.need("crumbd-revision").parse().unwrap()
}

#[tokio::test]
async fn an_idle_narrow_waiter_is_taken_along_and_never_falls_out_of_the_window() {
    for front in FRONTS {
        let daemon = Daemon::push(&["--keep-count", KEEP, "--lean-front", front]);
        let http = daemon.http();
        let start = http.post(&[put("app/1", "1")]).await;
        let waiter = ask(&http, &start, "?prefix=app%2F&wait=700ms");
        waiters(&http, 1).await;
        let (mut round, mut written) = (0, start.clone());
        while !waiter.is_finished() {
            written = write_elsewhere(&http, round).await;
            round += 1;
        }
        let got = in_time("the waiter", waiter).await.unwrap().ok(204).standing();
        assert_ne!(got.cursor(), start, "lean front {front}: thousands of updates went by");
        let newest = http.get(&format!("/v1/breadcrumbs/{written}")).await.ok(200);
        // The last round may have begun before the answer came.
        assert!(revision(&got) + 25 >= revision(&newest), "{} of {}", revision(&got), revision(&newest));
        let again = http.get(&format!("/v1/breadcrumbs/{start}/next?prefix=app%2F&wait=0")).await;
        assert_eq!(again.status, 410, "where it began is gone");
    }
}

#[tokio::test]
async fn a_narrow_waiter_that_is_touched_after_its_cursor_is_gone_gets_its_delta() {
    for front in FRONTS {
        let daemon = Daemon::push(&["--keep-count", KEEP, "--lean-front", front]);
        let http = daemon.http();
        let start = http.post(&[put("app/1", "1")]).await;
        let waits: Vec<_> = (0..20).map(|_| ask(&http, &start, "?prefix=app%2F&wait=30s")).collect();
        waiters(&http, 20).await;
        write_elsewhere(&http, 0).await;
        http.get(&format!("/v1/breadcrumbs/{start}")).await.problem(410);
        waiters(&http, 20).await;
        let written = http.post(&[put("app/2", "1"), put("db/1", "0")]).await;
        for waiter in waits {
            let got = in_time("a waiter", waiter).await.unwrap().ok(200).standing();
            assert_eq!((got.cursor(), got.need("crumbd-mode")), (&*written, "delta"));
            let body = Body::read(got.need("content-type"), &got.plain());
            assert_eq!(body.header.from.as_deref(), Some(&*start), "`from` is what was asked with");
            assert_eq!(body.records.iter().map(|record| &record.key[..]).collect::<Vec<_>>(), [b"app/2"]);
        }
    }
}

#[tokio::test]
async fn a_change_of_status_answers_narrow_waiters() {
    for front in FRONTS {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("feed.ndjson");
        std::fs::write(&path, lines(&[put("a", "1")])).unwrap();
        let feed = format!("file:{}?follow=true", path.display());
        let daemon = Daemon::serve(&["--feed", &feed, "--lean-front", front]);
        let http = daemon.http();
        eventually("readyz", || async { (http.get("/readyz").await.status == 200).then_some(()) }).await;
        let start = http.cursor().await;
        let waiter = ask(&http, &start, "?prefix=nobody%2F&wait=30s");
        waiters(&http, 1).await;
        let status = "{\"type\":\"status\",\"status\":\"resync-in-progress\"}";
        std::fs::OpenOptions::new().append(true).open(&path).unwrap().write_all(&lines(&[status])).unwrap();
        let got = in_time("the waiter", waiter).await.unwrap().ok(200).standing();
        assert_eq!((got.need("crumbd-status"), got.need("crumbd-reason")), ("resync-in-progress", "status"));
        assert!(Body::read(got.need("content-type"), &got.plain()).records.is_empty());
    }
}
