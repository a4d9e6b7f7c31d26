//! What a browser has of HTTP/2: more than six streams of a daemon at a time.

use serde_json::json;

use super::waiters;
use crate::support::browser::Browser;
use crate::support::daemon::Daemon;
use crate::support::eventually;
use crate::support::tls::Authority;

/// Over HTTP/1.1 a browser opens six connections to a server, and each stream is one of them.
const STREAMS: u64 = 20;

#[tokio::test(flavor = "multi_thread")]
async fn a_page_reads_twenty_streams_at_a_time() {
    let authority = Authority::new("authority");
    let own = authority.server();
    let daemon = Daemon::push(&["--tls-cert", &own.cert, "--tls-key", &own.key]).vouched_for_by(&authority);
    let http = daemon.http();
    http.put(b"a", "application/json", b"1").await;
    let browser = Browser::start().await;
    browser.open(&format!("{}/livez", daemon.url())).await;
    let start = format!(
        r#"
        window.changes = Array({STREAMS}).fill(0);
        window.sources = changes.map((_, number) => {{
            const source = new EventSource("/v1/stream");
            source.addEventListener("breadcrumb", () => changes[number]++);
            return source;
        }});
        "#
    );
    browser.run(&start).await;
    waiters(&http, STREAMS).await;
    http.put(b"a", "application/json", b"2").await;
    eventually("every stream to have the change", || async {
        let changes = browser.run("return window.changes").await;
        (changes == json!(vec![1; STREAMS as usize])).then_some(())
    })
    .await;
    let protocol = "return performance.getEntriesByType('navigation')[0].nextHopProtocol";
    assert_eq!(browser.run(protocol).await, json!("h2"));
}
