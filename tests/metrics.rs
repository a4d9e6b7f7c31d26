//! `/metrics` counts what clients and the feed really did.
#![allow(clippy::unwrap_used)]

mod support;

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use support::daemon::Daemon;
use support::etcd::free_port;
use support::http::Http;
use support::tls::Authority;
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
        // A waiter that is counted may not wait yet when the write comes, and is answered at once then.
        let waited = more("crumbd_delivery_latency_seconds_count");
        assert!((1.0..=20.0).contains(&waited), "{waited} of 20 have waited");
        let at_once = 20.0 - waited;
        let latency = after["crumbd_delivery_latency_seconds_sum"];
        assert!(latency > 0.0 && latency < 600.0, "{latency} s for 20");
        assert_eq!(after["crumbd_delivery_latency_seconds_bucket{le=\"60.0\"}"], waited);
        assert!(after.contains_key("crumbd_delivery_latency_seconds_bucket{le=\"0.1\"}"), "a round bound");
        assert_eq!(more("crumbd_behind_revisions_count"), 22.0, "all who asked for what comes next");
        assert_eq!(more("crumbd_behind_revisions_sum"), 19.0 + at_once);
        assert_eq!(after["crumbd_behind_revisions_bucket{le=\"0.0\"}"], 21.0 - at_once);
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
    for hidden in ["crumbd_keys", "crumbd_payload_bytes", "crumbd_state_", "crumbd_log_lines", "process_"] {
        assert!(!told.keys().any(|name| name.starts_with(hidden)), "{hidden}");
    }
    assert_eq!(answers(&told, 401, ""), 1.0);
}

#[tokio::test]
async fn the_limits_and_the_process_are_told() {
    let limits = ["--max-connections", "50", "--max-upload-bytes", "2MiB", "--snapshot-cache-bytes", "3MiB"];
    let kept = ["--keep-count", "4", "--keep-bytes", "5MiB", "--keep-age", "6m"];
    let daemon = Daemon::push(&[&limits[..], &kept].concat());
    let http = daemon.http();
    for n in 0..9 {
        http.put(b"a", "application/json", n.to_string().as_bytes()).await;
    }
    let told = samples(&http).await;
    for (name, limit) in [
        ("crumbd_connections_limit", 50.0),
        ("crumbd_upload_bytes_limit", f64::from(2 << 20)),
        ("crumbd_upload_bytes_in_flight", 0.0),
        ("crumbd_snapshot_cache_bytes_limit", f64::from(3 << 20)),
        ("crumbd_kept_breadcrumbs_limit", 4.0),
        ("crumbd_kept_breadcrumbs", 4.0),
        ("crumbd_kept_bytes_limit", f64::from(5 << 20)),
        ("crumbd_kept_age_limit_seconds", 360.0),
        ("crumbd_collection_healthy", 1.0),
        ("crumbd_state_failing", 0.0),
        (concat!("crumbd_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"}"), 1.0),
    ] {
        assert_eq!(told[name], limit, "{name}");
    }
    assert!(told["crumbd_kept_age_seconds"] <= told["crumbd_uptime_seconds"]);
    assert!(
        !told.contains_key("crumbd_feed_silence_limit_seconds"),
        "nothing is heard of an upstream that is here"
    );
    let (open, most) = (told["process_open_fds"], told["process_max_fds"]);
    assert!(told["crumbd_connections"] < open && open < most, "{open} of {most}");
    assert!(told["process_resident_memory_bytes"] > f64::from(1 << 20), "a megabyte at least");
    assert!(told["process_cpu_seconds_total"] >= 0.0);
}

#[tokio::test]
async fn failures_of_a_feed_are_counted_and_so_are_the_lines_that_log_them() {
    let feed = format!("etcd://127.0.0.1:{}/app/", free_port());
    let daemon = Daemon::serve(&["--feed", &feed]);
    let told = eventually("three failures", || async {
        let told = samples(&daemon.http()).await;
        (told["crumbd_feed_failures_total"] >= 3.0).then_some(told)
    })
    .await;
    assert_eq!(told["crumbd_collection_in_sync"], 0.0);
    assert_eq!(told["crumbd_feed_silence_limit_seconds"], 120.0);
    assert!(told["crumbd_feed_connect_failures_total"] >= 3.0);
    // Not each of them has a line.
    assert!(told["crumbd_log_lines_total{level=\"warn\"}"] >= 1.0);
    assert!(told["crumbd_log_lines_total{level=\"info\"}"] >= 1.0, "where it listens");
    assert_eq!(told["crumbd_log_lines_total{level=\"debug\"}"], 0.0, "the filter leaves them out");
}

#[tokio::test]
async fn a_state_directory_that_cannot_be_written_is_told_until_it_can_be() {
    let dir = tempfile::tempdir().unwrap();
    let (feed, state) = (dir.path().join("feed"), dir.path().join("state"));
    std::fs::write(&feed, put("a", "1") + "\n").unwrap();
    std::fs::write(&state, "in the way").unwrap();
    let feed = format!("file:{}", feed.display());
    let copy = ["--feed", &feed, "--state-dir", state.to_str().unwrap(), "--state-interval", "20ms"];
    let daemon = Daemon::serve(&copy);
    let http = daemon.http();
    let failing = |wanted: f64| {
        let http = http.clone();
        move || {
            let http = http.clone();
            async move {
                let told = samples(&http).await;
                let is_so =
                    told["crumbd_state_failing"] == wanted && told["crumbd_state_failures_total"] >= 1.0;
                is_so.then_some(())
            }
        }
    };
    eventually("that it fails", failing(1.0)).await;
    std::fs::remove_file(&state).unwrap();
    eventually("that it works", failing(0.0)).await;

    // A push feed tries at each write.
    let store = dir.path().join("store");
    let daemon =
        Daemon::serve_on_a_full_disk(1280, &["--feed", "push:", "--state-dir", store.to_str().unwrap()]);
    let http = daemon.http();
    let large = vec![b'x'; 4 << 20];
    let write = || http.send("PUT", "/v1/kv/large", &[("content-type", "text/plain")], Some(large.clone()));
    write().await.problem(503);
    let told = samples(&http).await;
    assert_eq!((told["crumbd_state_failing"], told["crumbd_state_failures_total"]), (1.0, 1.0));
    daemon.make_room();
    write().await.written();
    let told = samples(&http).await;
    assert_eq!((told["crumbd_state_failing"], told["crumbd_state_failures_total"]), (0.0, 1.0));
}

#[tokio::test]
async fn the_expiry_of_the_certificate_is_told_and_files_that_cannot_be_used() {
    let authority = Authority::new("metrics");
    let (_dir, files) = authority.server_for("30").copied();
    let mut tokens = TokenFile::new();
    let admin = tokens.add_admin();
    let daemon = tokens.daemon(&files.served()).vouched_for_by(&authority);
    let http = admin.http(&daemon);
    let told = samples(&http).await;
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let expires = Duration::from_secs_f64(told["crumbd_tls_certificate_expiry_timestamp_seconds"]);
    let days = |days: u64| Duration::from_secs(days * 24 * 60 * 60);
    assert!(expires > now + days(29) && expires < now + days(31), "{expires:?}");
    let invalid = |told: &BTreeMap<String, f64>| {
        ["certificates", "tokens"].map(|files| told[&format!("crumbd_files_invalid{{files=\"{files}\"}}")])
    };
    assert_eq!(invalid(&told), [0.0, 0.0]);
    let until = |wanted: [f64; 2]| {
        let http = http.clone();
        move || {
            let http = http.clone();
            async move { (invalid(&samples(&http).await) == wanted).then_some(()) }
        }
    };
    std::fs::write(&files.cert, "no certificate").unwrap();
    eventually("that the certificate is bad", until([1.0, 0.0])).await;
    tokens.save_as("no token\n");
    eventually("that both are bad", until([1.0, 1.0])).await;
    authority.server_for("90").replace(&files);
    tokens.save();
    eventually("that both are good", until([0.0, 0.0])).await;
    let expires =
        Duration::from_secs_f64(samples(&http).await["crumbd_tls_certificate_expiry_timestamp_seconds"]);
    assert!(expires > now + days(89), "of the new one");
}
