//! `/metrics` counts what clients and the feed really did.
#![allow(clippy::unwrap_used)]

mod support;

use std::collections::BTreeMap;

use support::daemon::Daemon;
use support::http::Http;
use support::tokens::TokenFile;
use support::workload::put;
use support::{eventually, in_time};

/// Every sample by its name and labels, as written.
async fn samples(http: &Http) -> BTreeMap<String, f64> {
    let got = http.get("/metrics").await.ok(200);
    assert!(got.need("content-type").starts_with("application/openmetrics-text"));
    assert_eq!(got.need("cache-control"), "no-store");
    read(&String::from_utf8(got.body).unwrap())
}

/// The samples of a text that is held to its format: a type and a help before each family, an end at the end, no sample twice.
fn read(text: &str) -> BTreeMap<String, f64> {
    assert!(text.ends_with("# EOF\n"), "{text}");
    let mut all = BTreeMap::new();
    let mut family = String::new();
    for line in text.lines() {
        if let Some(described) = line.strip_prefix("# TYPE ") {
            family = described.split(' ').next().unwrap().to_owned();
        } else if !line.starts_with('#') {
            let (name, value) = line.rsplit_once(' ').unwrap();
            assert!(!family.is_empty() && name.starts_with(&family), "{line} among {family}");
            assert!(all.insert(name.to_owned(), value.parse().unwrap()).is_none(), "twice: {line}");
        }
    }
    all
}

fn answers(samples: &BTreeMap<String, f64>, status: u16, reason: &str) -> f64 {
    let wanted = |name: &str| {
        name.starts_with("crumbd_answers_total")
            && name.contains(&format!("status=\"{status}\""))
            && name.contains(&format!("reason=\"{reason}\""))
    };
    samples.iter().filter(|(name, _)| wanted(name)).map(|(_, count)| count).sum()
}

#[tokio::test]
async fn what_was_written_and_what_was_answered_is_counted() {
    for front in ["on", "off"] {
        let daemon = Daemon::push(&["--lean-front", front]);
        let http = daemon.http();
        let before = samples(&http).await;
        let (mut cursor, mut first) = (http.cursor().await, None);
        for n in 0..20 {
            let next = format!("/v1/breadcrumbs/{cursor}/next?wait=30s");
            let waiting = tokio::spawn({
                let http = http.clone();
                async move { http.get(&next).await.ok(200) }
            });
            eventually("the waiter waits", || async {
                (samples(&http).await["crumbd_waiters"] == 1.0).then_some(())
            })
            .await;
            http.post(&[put("key", &n.to_string()), put("same", "1")]).await;
            cursor = in_time("the waiter", waiting).await.unwrap().cursor().to_owned();
            first.get_or_insert_with(|| cursor.clone());
        }
        // Nineteen revisions behind, answered at once.
        http.get(&format!("/v1/breadcrumbs/{}/next", first.unwrap())).await.ok(200);
        http.get(&format!("/v1/breadcrumbs/{cursor}/next?wait=0")).await.ok(204);
        http.get("/v1/breadcrumbs/nonsense/next").await.problem(400);
        http.get("/v1/kv/absent").await.problem(404);

        let after = samples(&http).await;
        let more = |name: &str| after[name] - before.get(name).copied().unwrap_or(0.0);
        assert_eq!(more("crumbd_updates_total"), 40.0);
        assert_eq!(more("crumbd_updates_suppressed_total"), 19.0);
        assert_eq!(more("crumbd_breadcrumbs_total"), 20.0);
        assert_eq!((after["crumbd_keys"], after["crumbd_waiters"]), (2.0, 0.0));
        assert_eq!((after["crumbd_ready"], after["crumbd_revision"]), (1.0, 20.0));
        assert_eq!(after["crumbd_feed_status{status=\"in-sync\"}"], 1.0);
        assert_eq!(more("crumbd_delivery_latency_seconds_count"), 20.0, "those who waited");
        let latency = after["crumbd_delivery_latency_seconds_sum"];
        assert!(latency > 0.0 && latency < 600.0, "{latency} s for 20");
        assert_eq!(more("crumbd_behind_revisions_count"), 22.0, "all who asked for what comes next");
        assert_eq!(more("crumbd_behind_revisions_sum"), 19.0);
        assert_eq!(after["crumbd_behind_revisions_bucket{le=\"0.0\"}"], 21.0);
        assert_eq!(after["crumbd_behind_revisions_bucket{le=\"25.0\"}"], 22.0);
        assert_eq!(answers(&after, 200, "next"), 20.0);
        assert_eq!(answers(&after, 200, "behind"), 1.0);
        assert_eq!(answers(&after, 204, "timeout"), 1.0);
        assert_eq!(answers(&after, 200, "written"), 20.0);
        assert_eq!((answers(&after, 400, ""), answers(&after, 404, "read")), (1.0, 1.0));
        assert!(after["crumbd_connections"] >= 1.0 && after["crumbd_connections_accepted_total"] >= 1.0);
    }
}

#[tokio::test]
async fn a_scrape_needs_a_token_and_the_size_of_the_state_one_for_everything() {
    let mut file = TokenFile::new();
    let (all, some) = (file.add(&[""], &[""]), file.add(&["a/"], &[]));
    let daemon = file.daemon(&[]);
    daemon.http().get("/metrics").await.problem(401);
    assert!(samples(&all.http(&daemon)).await.contains_key("crumbd_keys"));
    let told = samples(&some.http(&daemon)).await;
    assert!(!told.contains_key("crumbd_keys") && !told.contains_key("crumbd_payload_bytes"));
    assert_eq!(answers(&told, 401, ""), 1.0);
}
