//! A stream shows the keys that its token may read, at every breadcrumb.

use super::support::in_time;
use super::support::tokens::{Token, TokenFile};
use super::*;

async fn open(daemon: &Daemon, token: &Token, speech: Speech, query: &str, id: &str) -> Reader {
    let token = format!("Bearer {}", token.text);
    let headers = [("authorization", token.as_str()), ("last-event-id", id)];
    Reader::open(daemon, speech, query, &headers).await
}

fn keys(copy: &Copy) -> Vec<&str> {
    copy.state.keys().map(|key| std::str::from_utf8(key).unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_tells_what_its_token_may_read_and_ends_when_that_changes() {
    for speech in BOTH {
        let mut file = TokenFile::new();
        let all = file.add(&[""], &[""]);
        let (some, gone) = (file.add(&["a/", "c/"], &[]), file.add(&["b/"], &[]));
        let daemon = file.daemon(&["--heartbeat", "50ms"]);
        let admin = all.http(&daemon);
        admin.post(&["a/1", "b/1", "c/1", "d/1"].map(|key| put(key, "1"))).await;

        let mut readers = Vec::new();
        for (token, query, count) in [(&all, "", 4), (&some, "", 2), (&some, "?prefix=a/", 1), (&gone, "", 1)]
        {
            let mut reader = open(&daemon, token, speech, query, "").await;
            let mut copy = if count == 4 { Copy::whole() } else { Copy::narrow() };
            copy.take(&reader.news().await);
            assert_eq!(copy.state.len(), count, "{query}: {:?}", keys(&copy));
            readers.push((reader, copy));
        }
        // One breadcrumb, of which each is told its own, and one that concerns nobody but one.
        let both = admin.post(&["a/1", "b/2", "c/2", "d/2"].map(|key| put(key, "2"))).await;
        for ((reader, copy), count) in readers.iter_mut().zip([4, 2, 1, 1]) {
            let Item::Updates(body) = reader.news().await else { panic!("no updates") };
            assert_eq!((body.records.len(), &body.header.cursor), (count, &both));
            copy.take(&Item::Updates(body));
        }
        let unseen = admin.post(&[put("d/3", "3")]).await;
        let Ok([(mut whole, mut copy), (mut narrowed, _), (mut a, _), (mut removed, _)]) =
            <[_; 4]>::try_from(readers)
        else {
            panic!("four readers")
        };
        copy.follow_to(&mut whole, &unseen).await;
        in_time("a newer cursor", async {
            while !narrowed.cursor.as_ref().is_some_and(|id| id.starts_with(&unseen)) {
                assert!(matches!(narrowed.next().await, Item::Beat { .. }), "what it may not read");
            }
        })
        .await;
        let id = narrowed.cursor.clone().unwrap();

        file.change(&some, Some(&["a/"]));
        file.change(&gone, None);
        file.save();
        daemon.signal("HUP");
        for (reader, wanted) in [
            (&mut narrowed, "permission-changed"),
            (&mut a, "permission-changed"),
            (&mut removed, "token-removed"),
        ] {
            let Item::Reset(reason) = reader.news().await else { panic!("no reset") };
            assert_eq!(reason, wanted);
            in_time("the stream's end", async { while reader.try_next().await.is_some() {} }).await;
            assert!(reader.ended, "cut off instead of ended");
        }
        // Who kept its rights reads on.
        let last = admin.post(&["a/4", "c/4"].map(|key| put(key, "4"))).await;
        copy.follow_to(&mut whole, &last).await;

        if speech == Speech::Events {
            // The id names the rights, so what was told under others is not gone on from.
            let mut again = open(&daemon, &some, speech, "", &id).await;
            assert!(matches!(again.news().await, Item::Reset(reason) if reason == "cursor-gone"));
            let mut copy = Copy::narrow();
            copy.take(&again.news().await);
            assert_eq!(keys(&copy), ["a/1", "a/4"]);
            let id = again.cursor.clone().unwrap();
            let mut again = open(&daemon, &some, speech, "", &id).await;
            let cursor = admin.post(&[put("a/5", "5")]).await;
            copy.follow_to(&mut again, &cursor).await;
            assert_eq!(copy.snapshots, 1);
        }
        for (token, query, status) in
            [(None, "", 401), (Some(&gone), "", 401), (Some(&some), "?prefix=c/", 403)]
        {
            let token = token.map(|token| format!("Bearer {}", token.text));
            let headers: Vec<_> = token.iter().map(|token| ("authorization", token.as_str())).collect();
            let refused = Reader::ask(&daemon, query, &headers).await;
            assert_eq!(refused.status, status, "{query}: {}", refused.head);
        }
    }
}
