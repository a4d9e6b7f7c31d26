//! Metrics of streams, and streams on old connections.

use std::collections::BTreeMap;

use super::*;

async fn samples(http: &Http) -> BTreeMap<String, f64> {
    let text = String::from_utf8(http.get("/metrics").await.ok(200).body).unwrap();
    let ours = text.lines().filter(|line| line.starts_with("crumbd_stream"));
    ours.map(|line| line.rsplit_once(' ').unwrap())
        .map(|(name, value)| (name.to_owned(), value.parse().unwrap()))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_are_counted_by_what_they_are_and_what_they_tell() {
    let daemon = Daemon::push(&["--keep-count", "4"]);
    let http = daemon.http();
    let start = http.post(&[put("a", "0")]).await;
    let running = |speech| match speech {
        Speech::Ndjson => "crumbd_streams{format=\"application/x-ndjson\"}",
        Speech::Events => "crumbd_streams{format=\"text/event-stream\"}",
    };
    let none = samples(&http).await;
    assert_eq!((none[running(Speech::Ndjson)], none[running(Speech::Events)]), (0.0, 0.0));
    let mut readers = Vec::new();
    for (speech, query) in [
        (Speech::Ndjson, ""),
        (Speech::Events, ""),
        (Speech::Events, "?prefix=a"),
        (Speech::Events, "?prefix=b"),
    ] {
        let mut reader = Reader::open(&daemon, speech, query, &[]).await;
        assert!(matches!(reader.news().await, Item::Snapshot(_)));
        readers.push(reader);
    }
    let now = samples(&http).await;
    assert_eq!((now[running(Speech::Ndjson)], now[running(Speech::Events)]), (1.0, 3.0));
    assert_eq!(now["crumbd_stream_scopes"], 3.0);
    assert_eq!(now["crumbd_stream_bodies_total{mode=\"snapshot\"}"], 4.0);
    let made = now["crumbd_stream_snapshots_made_total"];
    assert!((3.0..=4.0).contains(&made), "those of one scope share: {made}");

    let late = http.post(&[put("a", "1")]).await;
    for reader in &mut readers[..3] {
        assert!(matches!(reader.news().await, Item::Updates(_)));
    }
    assert_eq!(samples(&http).await["crumbd_stream_bodies_total{mode=\"delta\"}"], 3.0);
    // One comes back two breadcrumbs late, and one with a cursor that is gone.
    for n in 2..4 {
        http.post(&[put("a", &n.to_string())]).await;
    }
    let squashed = samples(&http).await["crumbd_stream_bodies_total{mode=\"squash\"}"];
    let mut reader = Reader::open(&daemon, Speech::Ndjson, &format!("?from={late}"), &[]).await;
    assert!(matches!(reader.news().await, Item::Updates(body) if body.header.mode == "squash"));
    assert!(samples(&http).await["crumbd_stream_bodies_total{mode=\"squash\"}"] > squashed);
    for n in 4..10 {
        http.post(&[put("a", &n.to_string())]).await;
    }
    let mut gone = Reader::open(&daemon, Speech::Events, &format!("?from={start}"), &[]).await;
    assert!(matches!(gone.news().await, Item::Reset(_)));
    assert!(matches!(gone.news().await, Item::Snapshot(_)));
    assert_eq!(samples(&http).await["crumbd_stream_resets_total"], 1.0);

    drop((readers, reader, gone));
    eventually("no stream to run", || async {
        let now = samples(&http).await;
        (now[running(Speech::Ndjson)] + now[running(Speech::Events)] == 0.0).then_some(())
    })
    .await;
    let end = samples(&http).await;
    assert_eq!(end["crumbd_streams_begun_total{format=\"text/event-stream\"}"], 4.0);
    assert_eq!(end["crumbd_stream_scopes"], 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_ends_when_its_connection_is_old_and_its_reader_goes_on_over_another_one() {
    for front in ["on", "off"] {
        let daemon = Daemon::push(&["--max-connection-age", "300ms", "--lean-front", front]);
        let http = daemon.http();
        let (mut work, mut state) = (Workload::new(8, "", 20), State::new());
        write(&http, &mut work, &mut state, 1).await;
        for speech in BOTH {
            let mut copy = Copy::whole();
            let mut reader = Reader::open(&daemon, speech, "", &[]).await;
            for connection in 0..4 {
                if connection == 3 {
                    // It is quiet when its time comes.
                    while let Some(item) = reader.try_next().await {
                        copy.take(&item);
                    }
                } else {
                    while !reader.ended {
                        let (cursor, _) = write(&http, &mut work, &mut state, 1).await.pop().unwrap();
                        while reader.cursor.as_ref() != Some(&cursor) {
                            let Some(item) = in_time("news", reader.try_next()).await else { break };
                            copy.take(&item);
                        }
                    }
                }
                assert!(reader.ended, "cut off instead of ended");
                // One that had nothing to say has named no cursor.
                let id = copy.cursor.clone();
                reader = Reader::open(&daemon, speech, "", &[("last-event-id", &*id)]).await;
            }
            let last = http.post(&[put("last", &format!("\"{speech:?} {front}\""))]).await;
            state.insert(b"last".to_vec(), format!("\"{speech:?} {front}\"").as_bytes().into());
            copy.follow_to(&mut reader, &last).await;
            assert_same("after five connections", &copy.state, &state);
            assert_eq!((copy.snapshots, copy.resets), (1, 0));
        }
    }
}

/// Or it would begin anew for ever.
#[tokio::test(flavor = "multi_thread")]
async fn who_begins_on_an_old_connection_is_told_the_state_first() {
    let daemon = Daemon::push(&["--max-connection-age", "1ms"]);
    daemon.http().post(&[put("a", "1")]).await;
    for speech in BOTH {
        let mut reader = Reader::open(&daemon, speech, "", &[]).await;
        assert!(matches!(reader.news().await, Item::Snapshot(body) if body.records.len() == 1));
        in_time("the end", async { while reader.try_next().await.is_some() {} }).await;
        assert!(reader.ended && reader.cursor.is_some());
    }
}
