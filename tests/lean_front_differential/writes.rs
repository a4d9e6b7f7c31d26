//! Waits that end with a write, and writes on the connection that waited.

use crate::exchange::{Case, Line, settled};
use crate::grammar::LAST;
use crate::support::eventually;
use crate::twins::{Twins, status};

fn get(cursor: &str, query: &str) -> String {
    format!("GET /v1/breadcrumbs/{cursor}/next{query} HTTP/1.1\r\nHost: a\r\n\r\n")
}

fn put(key: &str, value: &str) -> String {
    let length = value.len();
    format!(
        "PUT /v1/kv/{key} HTTP/1.1\r\nHost: a\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\n\r\n{value}"
    )
}

/// Sends it to both; when both wait, writes to both.
async fn same(twins: &Twins, name: &str, text: &str, waits: bool) -> String {
    let case = Case { name: name.to_owned(), writes: vec![text.into(), LAST.into()], half_closed: false };
    let lines = [Line::send(&twins.lean, &case).await, Line::send(&twins.framework, &case).await];
    for daemon in [&twins.lean, &twins.framework] {
        if waits {
            let waiting = || async { (status(daemon, None).await["waiters"] == 1).then_some(()) };
            eventually("the request waits", waiting).await;
            daemon.http().put(b"app/later", "text/plain", name.as_bytes()).await;
        }
    }
    let [lean, framework] = settled(&case, &lines).await;
    assert_eq!(lean, framework, "{name}: left is lean");
    assert!(lean.closed, "{name}: the last request was answered: {lean:?}");
    let cursor = |(name, value): &(String, String)| (name == "crumbd-cursor").then(|| value.clone());
    lean.heard.answers.iter().rev().find_map(|answer| answer.headers.iter().find_map(cursor)).unwrap()
}

#[tokio::test]
async fn a_connection_that_waits_and_writes_in_turn_is_answered_the_same() {
    let twins = Twins::of_a_log().await;
    let at = twins.places.newest.clone();
    let put = |value: &str| put("app/1", value);
    let at = same(&twins, "a wait", &get(&at, "?wait=20s"), true).await;
    let at = same(&twins, "a narrow wait", &get(&at, "?wait=20s&prefix=app%2F"), true).await;
    let both = format!("{}{}", get(&at, "?wait=20s"), put("one"));
    let at = same(&twins, "a wait and a write behind it", &both, true).await;
    let both = format!("{}{}{}", put("two"), get(&at, "?wait=20s"), put("three"));
    let at = same(&twins, "a write, what it wrote, a write", &both, false).await;
    let chunked = "PUT /v1/kv/app/1 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nfor\r\n1\r\ny\r\n0\r\n\r\n";
    let both = format!("{chunked}{}{chunked}", get(&at, ""));
    let at = same(&twins, "writes in chunks", &both, false).await;
    let smuggled = put(&get(&at, "?wait=0"));
    let both = format!("{}{smuggled}{}", get(&at, "?wait=0"), get(&at, ""));
    let at = same(&twins, "a value that looks like a request", &both, false).await;
    let expect = put("five").replace("Content-Length", "Expect: 100-continue\r\nContent-Length");
    let both = format!("{expect}{}{}", get(&at, ""), put("six"));
    same(&twins, "a write that asks first", &both, false).await;
}

#[tokio::test]
async fn a_write_is_where_it_ends_however_it_is_cut() {
    let twins = Twins::of_a_log().await;
    let at = &twins.places.newest;
    let text =
        format!("{}{}{}{LAST}", get(at, "?wait=0"), put("a", &get(at, "?wait=0")), get(at, "")).into_bytes();
    for border in (1..text.len()).step_by(7) {
        let writes = vec![text[..border].to_vec(), text[border..].to_vec()];
        let case = Case { name: format!("cut at {border}"), writes, half_closed: false };
        let lines = [Line::send(&twins.lean, &case).await, Line::send(&twins.framework, &case).await];
        let [lean, framework] = settled(&case, &lines).await;
        assert_eq!(lean, framework, "{}: left is lean", case.name);
        assert_eq!((lean.heard.answers.len(), lean.closed), (4, true), "{}: {lean:?}", case.name);
    }
}
