//! Resuming after a disconnection, a restart, a gap, and a change of history.

use std::fs;
use std::io::Write as _;

use super::support::http::lines;
use super::support::workload::deleted;
use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_was_cut_off_gets_exactly_what_it_missed() {
    let daemon = Daemon::push(&[]);
    let http = daemon.http();
    let (mut work, mut state) = (Workload::new(3, "", 30), State::new());
    let (first, _) = write(&http, &mut work, &mut state, 10).await.pop().unwrap();
    for speech in BOTH {
        for (query, mut copy, prefix) in [("", Copy::whole(), ""), ("prefix=app/", Copy::narrow(), "app/")] {
            let mut reader = Reader::open(&daemon, speech, &format!("?{query}"), &[]).await;
            copy.take(&reader.news().await);
            for missed in [0, 1, 40] {
                let id = reader.cursor.clone().unwrap();
                drop(reader);
                write(&http, &mut work, &mut state, missed).await;
                let touched = http.post(&[put("app/touched", &format!("\"{id} {missed}\""))]).await;
                state.insert(b"app/touched".to_vec(), format!("\"{id} {missed}\"").as_bytes().into());
                // An EventSource asks with its first address, and with where it really is.
                let query = format!("?from={first}&{query}");
                reader = Reader::open(&daemon, speech, &query, &[("last-event-id", &id)]).await;
                let item = reader.news().await;
                let Item::Updates(body) = &item else { panic!("{item:?}") };
                assert_eq!((body.header.from.as_deref(), &body.header.cursor), (Some(&*id), &touched));
                assert_eq!(body.header.mode, if missed == 0 { "delta" } else { "squash" });
                copy.take(&item);
                assert_same(query.as_str(), &copy.state, &below(&state, prefix.as_bytes()));
            }
            // With nothing missed there is not a word, and then what comes.
            let id = reader.cursor.clone().unwrap();
            let query = format!("?from={id}&{query}");
            let mut reader = Reader::open(&daemon, speech, &query, &[("last-event-id", "")]).await;
            assert!(tokio::time::timeout(A_WHILE, reader.news()).await.is_err(), "something came");
            let cursor = http.post(&[put("app/next", &format!("\"{id}\""))]).await;
            copy.follow_to(&mut reader, &cursor).await;
            state.insert(b"app/next".to_vec(), format!("\"{id}\"").as_bytes().into());
            assert_eq!((copy.snapshots, copy.resets), (1, 0));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_goes_on_after_the_daemon_was_restarted() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("feed.ndjson");
    fs::write(&path, lines(&[put("a", "1"), put("b", "1"), put("c", "1")])).unwrap();
    let feed = format!("file:{}?follow=true", path.display());
    let append = |records: &[String]| {
        let file = fs::OpenOptions::new().append(true).open(&path);
        file.unwrap().write_all(&lines(records)).unwrap();
    };
    for speech in BOTH {
        let mut daemon = Daemon::serve(&["--feed", &feed]);
        let http = daemon.http();
        eventually("readyz", || async { (http.get("/readyz").await.status == 200).then_some(()) }).await;
        let mut reader = Reader::open(&daemon, speech, "", &[]).await;
        let mut copy = Copy::whole();
        copy.take(&reader.news().await);
        append(&[put("a", &format!("\"{speech:?}\""))]);
        copy.take(&reader.news().await);
        assert_eq!(*copy.state[&b"a"[..]], *format!("\"{speech:?}\"").as_bytes());
        drop(daemon);
        append(&[put("b", &format!("\"{speech:?}\"")), deleted("c"), put(&format!("{speech:?}"), "1")]);
        daemon = Daemon::serve(&["--feed", &feed]);
        let id = reader.cursor.clone().unwrap();
        reader = eventually("the daemon to serve", || async {
            let headers = [("accept", "application/x-ndjson"), ("last-event-id", &*id)];
            let reader = Reader::ask(&daemon, "", &headers).await;
            (reader.status == 200).then_some(reader)
        })
        .await;
        let expected = copy.state.len() + 1 - usize::from(copy.state.contains_key(&b"c"[..]));
        while copy.state.len() != expected || *copy.state[&b"b"[..]] != *format!("\"{speech:?}\"").as_bytes()
        {
            copy.take(&reader.news().await);
        }
        assert_eq!((copy.snapshots, copy.resets), (1, 0), "{copy:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_that_is_gone_or_foreign_is_a_reset_and_then_the_state() {
    let daemon = Daemon::push(&["--keep-count", "4"]);
    let http = daemon.http();
    let first = http.post(&[put("a", "0")]).await;
    for i in 1..20 {
        http.post(&[put("a", &i.to_string())]).await;
    }
    let foreign = Daemon::push(&[]).http().cursor().await;
    for speech in BOTH {
        for gone in [&first, &foreign] {
            for query in ["", "&prefix=a"] {
                let query = format!("?from={gone}{query}");
                let mut reader = Reader::open(&daemon, speech, &query, &[]).await;
                assert!(
                    matches!(reader.news().await, Item::Reset(reason) if reason == "cursor-gone"),
                    "{query}"
                );
                let Item::Snapshot(body) = reader.news().await else { panic!("no snapshot: {query}") };
                assert_eq!(body.records.len(), 1);
                let value = format!("\"{speech:?} {query}\"");
                let cursor = http.post(&[put("a", &value)]).await;
                let Item::Updates(body) = reader.news().await else { panic!("no updates: {query}") };
                assert_eq!(body.header.cursor, cursor);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_history_is_a_reset_within_the_stream() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("feed.ndjson");
    fs::write(&path, lines(&[put("a", "1"), put("b", "1")])).unwrap();
    let daemon = Daemon::serve(&["--feed", &format!("file:{}?follow=true", path.display())]);
    let http = daemon.http();
    eventually("readyz", || async { (http.get("/readyz").await.status == 200).then_some(()) }).await;
    let mut readers = Vec::new();
    for speech in BOTH {
        for (query, mut copy) in [("", Copy::whole()), ("?prefix=c", Copy::narrow())] {
            let mut reader = Reader::open(&daemon, speech, query, &[]).await;
            copy.take(&reader.news().await);
            readers.push((reader, copy));
        }
    }
    let aside = dir.path().join("aside");
    fs::write(&aside, lines(&[put("c/1", "1"), put("d", "2")])).unwrap();
    fs::rename(&aside, &path).unwrap();
    for (mut reader, mut copy) in readers {
        let wanted = if copy.state.is_empty() { "c/1" } else { "d" };
        while !copy.state.contains_key(wanted.as_bytes()) {
            copy.take(&reader.news().await);
        }
        assert!(copy.resets >= 1 && copy.snapshots == copy.resets + 1, "{copy:?}");
        assert!(!copy.state.contains_key(&b"a"[..]), "{copy:?}");
    }
}
