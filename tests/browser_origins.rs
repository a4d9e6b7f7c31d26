//! Web pages of other origins, in a real browser and as raw requests: what they may read, and that they write nothing.
#![allow(clippy::unwrap_used)]

mod support;

use std::io::{Read as _, Write as _};
use std::net::TcpListener;

use serde_json::{Value, json};
use support::browser::Browser;
use support::daemon::Daemon;
use support::eventually;
use support::http::Http;
use support::tokens::TokenFile;

/// A server of an empty page, at another origin and another site than the daemons of tests.
struct Page {
    origin: String,
}

impl Page {
    fn serve() -> Page {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let origin = format!("http://localhost:{}", listener.local_addr().unwrap().port());
        std::thread::spawn(move || {
            for connection in listener.incoming() {
                let Ok(mut connection) = connection else { return };
                _ = connection.read(&mut [0; 4096]);
                let page = "<!doctype html><title>elsewhere</title><body><form></form>";
                let head = format!(
                    "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: {}\r\n",
                    page.len()
                );
                _ = write!(connection, "{head}Connection: close\r\n\r\n{page}");
            }
        });
        Page { origin }
    }

    async fn in_browser(&self) -> Browser {
        let browser = Browser::start().await;
        browser.open(&self.origin).await;
        browser
    }
}

/// The result of a script with `await` in it. `URL` is the daemon.
async fn run(browser: &Browser, daemon: &Daemon, script: &str) -> Value {
    let script = script.replace("URL", daemon.url());
    browser.run(&format!("return (async () => {{ {script} }})()")).await
}

async fn keys(http: &Http) -> Vec<String> {
    let listed = http.get("/v1/kv").await.ok(200).json();
    let entries = listed["entries"].as_array().unwrap().iter();
    entries.map(|entry| format!("{}={}", entry["key"].as_str().unwrap(), entry["value"])).collect()
}

/// Every way in which a page can try to write. A script cannot see whether it worked.
const WRITES: &str = r#"
    const record = '{"type":"put","key":"evil","value":1}\n', wipe = '{"type":"snapshot"}\n{"type":"end"}\n';
    const tries = [];
    for (const body of [record, wipe]) {
      for (const type of ["text/plain", "application/x-www-form-urlencoded", "application/json", "application/x-ndjson"]) {
        for (const mode of ["no-cors", "cors"])
          tries.push(fetch("URL/v1/updates", { method: "POST", mode, body, headers: { "Content-Type": type } }));
        navigator.sendBeacon("URL/v1/updates", new Blob([body], { type }));
      }
      navigator.sendBeacon("URL/v1/updates", body);
    }
    for (const method of ["PUT", "DELETE"])
      tries.push(fetch("URL/v1/kv/a", { method, body: method === "PUT" ? "evil" : undefined }));
    const done = await Promise.allSettled(tries);
    return done.filter(({ status, value }) => status === "fulfilled" && value.ok).length;
"#;

const FORM: &str = r#"
    const form = document.forms[0];
    form.method = "post"; form.enctype = "text/plain"; form.action = "URL/v1/updates";
    const field = document.createElement("input");
    field.name = '{"type":"put","key":"evil","value":"'; field.value = '"}';
    form.append(field);
    form.submit();
"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_another_site_can_change_nothing_even_where_it_may_read() {
    let page = Page::serve();
    for args in [vec![], vec!["--allow-origin", &page.origin], vec!["--allow-origin", "*"]] {
        let daemon = Daemon::push(&args);
        let http = daemon.http();
        http.put(b"a", "application/json", b"1").await;
        let browser = page.in_browser().await;
        assert_eq!(run(&browser, &daemon, WRITES).await, json!(0), "{args:?}");
        run(&browser, &daemon, FORM).await;
        // The form's answer is shown: it is refused in words.
        browser.sees("body", "cross-origin").await;
        assert_eq!(keys(&http).await, ["a=1"], "{args:?}");
    }
}

const READ: &str = r#"
    try {
      const got = await fetch("URL/v1/breadcrumbs/current", INIT);
      return [got.status, (await got.json()).entries?.length ?? null, got.headers.get("crumbd-cursor") !== null,
        got.headers.get("link") !== null, got.headers.get("etag") !== null];
    } catch (error) { return "refused"; }
"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_page_reads_from_a_daemon_that_allows_its_origin_and_from_no_other() {
    let page = Page::serve();
    let mut tokens = TokenFile::new();
    let token = tokens.add(&[""], &[""]);
    let open = READ.replace("INIT", "{}");
    let with_token =
        READ.replace("INIT", &format!("{{ headers: {{ Authorization: 'Bearer {}' }} }}", token.text));
    let browser = page.in_browser().await;

    let closed = Daemon::push(&[]);
    assert_eq!(run(&browser, &closed, &open).await, json!("refused"));
    let other = Daemon::push(&["--allow-origin", "https://app.example"]);
    assert_eq!(run(&browser, &other, &open).await, json!("refused"));
    for allowed in [page.origin.as_str(), "*"] {
        let daemon = Daemon::push(&[
            "--allow-origin",
            &format!("https://app.example,{allowed}").replace("https://app.example,*", "*"),
        ]);
        daemon.http().put(b"a", "application/json", b"1").await;
        assert_eq!(run(&browser, &daemon, &open).await, json!([200, 1, true, true, true]));
        // With a token the browser asks first, and it asks without the token.
        let daemon = tokens.daemon(&["--allow-origin", allowed]);
        token.http(&daemon).put(b"a", "application/json", b"1").await;
        assert_eq!(run(&browser, &daemon, &with_token).await, json!([200, 1, true, true, true]));
        assert_eq!(run(&browser, &daemon, &open).await, json!([401, null, false, false, false]));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_source_comes_back_after_a_full_budget_and_with_an_id_that_is_not_ours() {
    let page = Page::serve();
    let daemon = Daemon::push(&["--allow-origin", "*", "--max-waiters", "1"]);
    let http = daemon.http();
    let cursor = http.put(b"a", "application/json", b"1").await;
    let waiting = tokio::spawn({
        let (http, path) = (http.clone(), format!("/v1/breadcrumbs/{cursor}/next?wait=5m"));
        async move { http.get(&path).await }
    });
    let waiters = async || http.get("/v1/status").await.json()["waiters"].as_u64().unwrap();
    eventually("the only place to be taken", || async { (waiters().await == 1).then_some(()) }).await;
    let browser = page.in_browser().await;
    let start = r#"
        window.errors = 0; window.snapshots = 0;
        window.source = new EventSource("URL/v1/stream");
        source.addEventListener("error", () => { if (source.readyState === 2) window.closed = true; else errors++; });
        source.addEventListener("snapshot", () => snapshots++);
    "#;
    run(&browser, &daemon, start).await;
    eventually("a try without a place", || async {
        (browser.run("return window.errors > 0 || window.closed").await == json!(true)).then_some(())
    })
    .await;
    assert_eq!(browser.run("return window.closed ?? false").await, json!(false), "it is closed for good");
    http.put(b"a", "application/json", b"2").await;
    waiting.await.unwrap().ok(200);
    eventually("the state to come", || async {
        (browser.run("return window.snapshots").await.as_u64().unwrap() > 0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn an_event_stream_with_an_unknown_id_begins_with_a_reset() {
    for front in ["on", "off"] {
        let daemon = Daemon::push(&["--lean-front", front, "--heartbeat", "100ms"]);
        let unknown = "Last-Event-ID: an id of another server\r\n";
        let lines = format!("Host: a\r\nAccept: text/event-stream\r\n{unknown}");
        let text = read_until(&daemon, "GET /v1/stream HTTP/1.1", &lines, "event: snapshot").await;
        assert!(text.starts_with("HTTP/1.1 200 "), "{text}");
        let (reset, snapshot) = (text.find("event: reset"), text.find("event: snapshot"));
        assert!(reset.is_some() && reset < snapshot, "{text}");
        // A program that reads NDJSON is told of its mistake.
        let (code, answer) =
            status(&daemon, "GET /v1/stream HTTP/1.1", &format!("Host: a\r\n{unknown}")).await;
        assert_eq!(code, 400, "{answer}");
    }
}

/// The answer to a request with these header lines, up to this text at least.
async fn read_until(daemon: &Daemon, request: &str, lines: &str, wanted: &str) -> String {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut stream = tokio::net::TcpStream::connect(daemon.address()).await.unwrap();
    stream.write_all(format!("{request}\r\n{lines}\r\n").as_bytes()).await.unwrap();
    let (mut answer, mut piece) = (String::new(), [0; 4096]);
    while !answer.contains(wanted) {
        let read = support::in_time("an answer", stream.read(&mut piece)).await.unwrap();
        assert!(read > 0, "{request:?} {lines:?} got no {wanted:?}: {answer}");
        answer += &String::from_utf8_lossy(&piece[..read]);
    }
    answer
}

/// The status of the answer to a request with these header lines, and the answer.
async fn status(daemon: &Daemon, request: &str, lines: &str) -> (u16, String) {
    let answer = read_until(daemon, request, lines, "\r\n\r\n").await;
    (answer.split(' ').nth(1).unwrap().parse().unwrap(), answer)
}

#[tokio::test]
async fn a_request_names_its_host_once_and_properly() {
    for front in ["on", "off"] {
        let daemon = Daemon::push(&["--lean-front", front]);
        let cursor = daemon.http().cursor().await;
        for target in
            ["/livez", "/v1/breadcrumbs/current", &format!("/v1/breadcrumbs/{cursor}/next?wait=0"), "/none"]
        {
            let get = format!("GET {target} HTTP/1.1");
            let good = status(&daemon, &get, "Host: crumbd:7811\r\n").await.0;
            assert_ne!(good, 400, "{target}");
            for bad in [
                "",
                "Host: a\r\nHost: a\r\n",
                "Host: a b\r\n",
                "Host: a/<>\r\n",
                "Host:\r\n",
                "Host: u@a\r\n",
            ] {
                let (code, answer) = status(&daemon, &get, bad).await;
                assert_eq!(code, 400, "{target} {bad:?}: {answer}");
            }
            let old = status(&daemon, &format!("GET {target} HTTP/1.0"), "").await.0;
            assert_eq!(old, good, "{target}: HTTP/1.0 has no Host");
        }
    }
}

#[tokio::test]
async fn a_name_that_a_page_could_have_is_misdirected_on_an_open_local_daemon() {
    let mut tokens = TokenFile::new();
    tokens.add(&[""], &[""]);
    for front in ["on", "off"] {
        let daemon = |args: &[&str]| Daemon::push(&[&["--lean-front", front], args].concat());
        let [open, allowing, any] =
            [daemon(&[]), daemon(&["--allow-host", "a.example, b.example"]), daemon(&["--allow-host", "*"])];
        let guarded = tokens.daemon(&["--lean-front", front]);
        let asked = async |daemon: &Daemon, path: &str, host: &str| {
            status(daemon, &format!("GET {path} HTTP/1.1"), &format!("Host: {host}\r\n")).await
        };
        let cursor = open.http().cursor().await;
        for path in ["/v1/breadcrumbs/current", "/v1/kv", &format!("/v1/breadcrumbs/{cursor}/next?wait=0")] {
            for good in ["localhost", "127.0.0.1:1", "[::1]:7811", "crumbd", "x.localhost:80", "LocalHost."] {
                assert!([200, 204].contains(&asked(&open, path, good).await.0), "{path} {good}");
            }
            for bad in ["evil.example", "evil.example:7811", "127.0.0.1.evil.example"] {
                let (code, answer) = asked(&open, path, bad).await;
                assert_eq!(code, 421, "{path} {bad}: {answer}");
                assert_eq!(asked(&allowing, path, bad).await.0, 421);
                assert_ne!(asked(&any, path, bad).await.0, 421);
                assert_eq!(asked(&guarded, path, bad).await.0, 401);
            }
            assert_ne!(asked(&allowing, path, "B.example:7811").await.0, 421);
        }
        let got = open.http().get_with("/v1/kv", &[("host", "evil.example")]).await;
        let problem = got.problem(421);
        assert!(problem["detail"].as_str().unwrap().contains("--allow-host evil.example"), "{problem}");
        // Probes and the page have no data.
        assert_eq!(asked(&open, "/livez", "evil.example").await.0, 200);
        // The target counts, not the header.
        let (code, _) = status(&open, "GET http://evil.example/v1/kv HTTP/1.1", "Host: localhost\r\n").await;
        assert_eq!(code, 421);
    }
}

#[tokio::test]
async fn links_begin_with_the_path_of_the_proxy() {
    for front in ["on", "off"] {
        let daemon = Daemon::push(&["--lean-front", front, "--base-path", "/mirror/crumbd/"]);
        let http = daemon.http();
        let cursor = http.put(b"a", "text/plain", b"1").await;
        for path in [
            "/v1/breadcrumbs/current".to_owned(),
            format!("/v1/breadcrumbs/{cursor}/next?wait=0"),
            "/v1/kv/a".to_owned(),
        ] {
            let got = http.get(&path).await;
            let link = got.next_link();
            assert!(
                link.starts_with("/mirror/crumbd/v1/breadcrumbs/") && link.ends_with("/next"),
                "{path}: {link}"
            );
        }
    }
    let ended = Daemon::serve_and_end(&["--base-path", "crumbd"]);
    assert!(ended.stderr.contains("--base-path") && ended.stderr.contains("/crumbd"), "{}", ended.stderr);
}
