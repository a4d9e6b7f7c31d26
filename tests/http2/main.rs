//! What is HTTP/2's own: how a connection begins and ends, and what a client can do with streams and windows. What is the
//! same over both protocols is in `over_http2.rs`.
#![allow(clippy::unwrap_used)] // a test may unwrap

mod browser;
mod client;
mod connections;
mod limits;
mod slow_readers;
#[path = "../support/mod.rs"]
mod support;

use serde_json::Value;
use support::eventually;
use support::http::Http;

const FRONTS: [[&str; 2]; 2] = [["--lean-front", "on"], ["--lean-front", "off"]];

async fn status(http: &Http) -> Value {
    http.get("/v1/status").await.ok(200).json()
}

async fn until(http: &Http, what: &str, is: impl Fn(&Value) -> bool) {
    eventually(what, || async { is(&status(http).await).then_some(()) }).await;
}

async fn waiters(http: &Http, wanted: u64) {
    until(http, &format!("{wanted} waiters"), |status| status["waiters"] == wanted).await;
}

/// About 8 MiB.
async fn large(http: &Http) {
    for part in 0..8 {
        let value = vec![b'a' + part; 1 << 20];
        http.put(&[b'a' + part], "application/octet-stream", &value).await;
    }
}
