//! The page at `/`, in a real browser.
#![allow(clippy::unwrap_used)]

mod support;

use serde_json::json;
use support::browser::Browser;
use support::daemon::Daemon;
use support::etcd::{Net, Proxy};
use support::eventually;
use support::http::Http;
use support::tokens::TokenFile;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

fn put(key: &str, value: &str) -> String {
    format!("{{\"type\":\"put\",\"key\":\"{key}\",\"value\":{value}}}")
}

async fn column_is(browser: &Browser, table: &str, number: usize, wanted: &[&str]) {
    let what = format!("column {number} of {table} is {wanted:?}");
    eventually(&what, || async { (browser.column(table, number).await == wanted).then_some(()) }).await;
}

#[tokio::test]
async fn state_keys_and_changes_are_there_and_stay_true() {
    let daemon = Daemon::push(&[]);
    let http = daemon.http();
    http.post(&[put("a/1", "{\"n\": 12345678901234567890}"), put("a/2", "\"two\""), put("b/1", "true")])
        .await;
    let browser = Browser::start().await;
    browser.open(&format!("{}/", daemon.url())).await;
    browser.sees("#banner", "In sync").await;
    browser.sees("#facts", "push:").await;
    column_is(&browser, "#keys-table", 1, &["a/1", "a/2", "b/1"]).await;
    column_is(&browser, "#keys-table", 2, &["{\"n\":12345678901234567890}", "\"two\"", "true"]).await;

    // A change, a new key and a deletion, each where it belongs.
    http.post(&[put("a/2", "2")]).await;
    http.post(&[put("a/15", "[]")]).await;
    http.send("DELETE", "/v1/kv/b/1", &[], None).await.ok(200);
    column_is(&browser, "#keys-table", 1, &["a/1", "a/15", "a/2"]).await;
    column_is(&browser, "#keys-table", 2, &["{\"n\":12345678901234567890}", "[]", "2"]).await;
    column_is(&browser, "#changes-table", 2, &["deleted", "new", "updated"]).await;
    column_is(&browser, "#changes-table", 3, &["b/1", "a/15", "a/2"]).await;

    // Held, the list stands still and nothing is lost.
    browser.click("#pause").await;
    http.post(&[put("a/3", "3")]).await;
    browser.sees("#pause", "Resume (1 new)").await;
    column_is(&browser, "#changes-table", 3, &["b/1", "a/15", "a/2"]).await;
    browser.click("#pause").await;
    column_is(&browser, "#changes-table", 3, &["a/3", "b/1", "a/15", "a/2"]).await;

    // A prefix narrows both.
    http.post(&[put("c/1", "1")]).await;
    browser.enter("#prefix", "c/").await;
    browser.click("#prefix-form button").await;
    column_is(&browser, "#keys-table", 1, &["c/1"]).await;
    http.post(&[put("a/4", "4")]).await;
    http.post(&[put("c/2", "2")]).await;
    column_is(&browser, "#keys-table", 1, &["c/1", "c/2"]).await;
    column_is(&browser, "#changes-table", 3, &["c/2"]).await;
}

#[tokio::test]
async fn many_keys_come_in_pages_and_long_values_are_cut() {
    let daemon = Daemon::push(&[]);
    let keys: Vec<String> = (0..250).map(|number| format!("k/{number:03}")).collect();
    let puts: Vec<_> = keys.iter().map(|key| put(key, &json!("v".repeat(1000)).to_string())).collect();
    daemon.http().post(&puts).await;
    let browser = Browser::start().await;
    browser.open(&format!("{}/", daemon.url())).await;
    let names: Vec<&str> = keys.iter().map(String::as_str).collect();
    column_is(&browser, "#keys-table", 1, &names[..100]).await;
    browser.sees("#keys-note", "100 shown, there are more").await;
    browser.click("#more").await;
    column_is(&browser, "#keys-table", 1, &names[..200]).await;
    browser.click("#more").await;
    column_is(&browser, "#keys-table", 1, &names).await;
    assert_eq!(browser.run("return document.querySelector('#more').hidden").await, true, "there is no more");
    browser.sees("#keys-table tbody tr:first-child", "1,002 characters").await;
    browser.click("#keys-table tbody tr:first-child .cut").await;
    let value = browser.run("return document.querySelector('#keys-table tbody td.value').textContent").await;
    assert_eq!(value.as_str().unwrap().len(), 1002);
}

#[tokio::test]
async fn a_daemon_out_of_reach_is_told_and_one_that_is_back_is_followed_again() {
    let daemon = Daemon::push(&[]);
    let http = daemon.http();
    http.post(&[put("a", "1")]).await;
    let network = Proxy::before(daemon.url().trim_start_matches("http://").to_owned()).await;
    let browser = Browser::start().await;
    browser.open(&format!("http://{}/", network.endpoint())).await;
    column_is(&browser, "#keys-table", 1, &["a"]).await;
    network.set(Net::Cut);
    browser.sees("#banner", "The daemon does not answer").await;
    column_is(&browser, "#keys-table", 1, &["a"]).await;
    http.post(&[put("b", "1")]).await;
    network.set(Net::Open);
    browser.sees("#banner", "In sync").await;
    column_is(&browser, "#keys-table", 1, &["a", "b"]).await;
    column_is(&browser, "#changes-table", 3, &["b"]).await;
}

#[tokio::test]
async fn with_tokens_it_asks_for_one_and_shows_what_that_may_read() {
    let mut file = TokenFile::new();
    let all = file.add(&[""], &[""]);
    let some = file.add(&["a/"], &[]);
    let daemon = file.daemon(&[]);
    all.http(&daemon).post(&[put("a/1", "1"), put("b/1", "1")]).await;
    let browser = Browser::start().await;
    browser.open(&format!("{}/", daemon.url())).await;
    browser.sees("#token-form", "requires a token").await;
    browser.enter("#token", "nonsense").await;
    browser.click("#token-form button").await;
    browser.sees("#token-error", "this token is unknown").await;
    browser.enter("#token", &some.text).await;
    browser.click("#token-form button").await;
    column_is(&browser, "#keys-table", 1, &["a/1"]).await;
    browser.sees("#banner", "In sync").await;
    all.http(&daemon).post(&[put("b/2", "1"), put("a/2", "1")]).await;
    column_is(&browser, "#keys-table", 1, &["a/1", "a/2"]).await;
    column_is(&browser, "#changes-table", 3, &["a/2"]).await;
}

/// A key and its value in a collection.
async fn put_in(http: &Http, path: &str) {
    http.send("PUT", path, &[], Some(b"1".to_vec())).await.ok(200);
}

#[tokio::test]
async fn one_of_several_collections_is_chosen_and_everything_shown_is_of_that_one() {
    let daemon = Daemon::serve(&["--feed", "push:", "--feed", "pods=push:", "--feed", "nodes=push:"]);
    let http = daemon.http();
    for path in ["/v1/kv/default", "/v1/c/pods/kv/pod", "/v1/c/nodes/kv/node"] {
        put_in(&http, path).await;
    }
    let browser = Browser::start().await;
    browser.open(&format!("{}/", daemon.url())).await;
    column_is(&browser, "#keys-table", 1, &["default"]).await;
    browser.sees("#collections", "pods").await;
    browser.click("#collection option[value=pods]").await;
    column_is(&browser, "#keys-table", 1, &["pod"]).await;
    browser.sees("#banner", "In sync").await;
    browser.sees("#follow", "/v1/c/pods/breadcrumbs/current").await;
    browser.sees("#follow", "--collection pods").await;
    // A change of another collection is not shown.
    put_in(&http, "/v1/c/nodes/kv/other").await;
    put_in(&http, "/v1/c/pods/kv/pod2").await;
    column_is(&browser, "#changes-table", 3, &["pod2"]).await;
    assert_eq!(browser.run("return location.hash").await, "#collection=pods");
    browser.run("history.back()").await;
    column_is(&browser, "#keys-table", 1, &["default"]).await;

    // The address alone is enough, and an unknown name is said.
    browser.open("about:blank").await;
    browser.open(&format!("{}/#collection=nodes", daemon.url())).await;
    column_is(&browser, "#keys-table", 1, &["node", "other"]).await;
    browser.run("location.hash = 'collection=none'").await;
    browser.sees("#banner", "there is no collection \"none\"").await;
    browser.click("#collection option[value=pods]").await;
    column_is(&browser, "#keys-table", 1, &["pod", "pod2"]).await;
}

/// A proxy that serves the daemon under the path `/crumbd/`, and takes that off.
async fn proxy_with_path(daemon: &Daemon) -> String {
    let to = daemon.url().trim_start_matches("http://").to_owned();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let mut server = TcpStream::connect(&to).await.unwrap();
            tokio::spawn(async move {
                let (mut asks, mut hears) = client.split();
                let (mut answers, mut asked) = server.split();
                let requests = async {
                    let mut chunk = vec![0; 1 << 16];
                    while let Ok(read @ 1..) = asks.read(&mut chunk).await {
                        let head = String::from_utf8_lossy(&chunk[..read]).replacen(" /crumbd/", " /", 1);
                        asked.write_all(head.as_bytes()).await.unwrap();
                    }
                };
                tokio::select! {
                    () = requests => {}
                    _ = tokio::io::copy(&mut answers, &mut hears) => {}
                }
            });
        }
    });
    format!("http://{address}/crumbd/")
}

#[tokio::test]
async fn a_collection_is_shown_through_a_proxy_that_adds_a_path() {
    let daemon = Daemon::serve(&["--base-path", "/crumbd", "--feed", "push:", "--feed", "pods=push:"]);
    put_in(&daemon.http(), "/v1/c/pods/kv/pod").await;
    let browser = Browser::start().await;
    let page = proxy_with_path(&daemon).await;
    browser.open(&format!("{page}#collection=pods")).await;
    column_is(&browser, "#keys-table", 1, &["pod"]).await;
    browser.sees("#banner", "In sync").await;
    browser.sees("#follow", &format!("{page}v1/c/pods/breadcrumbs/current")).await;
    put_in(&daemon.http(), "/v1/c/pods/kv/pod2").await;
    column_is(&browser, "#changes-table", 3, &["pod2"]).await;
}

#[tokio::test]
async fn a_token_for_one_named_collection_is_shown_that_one() {
    let mut file = TokenFile::new();
    let mut tokens = Vec::new();
    for args in [&["--read", ""][..], &["--read", "", "--write", "", "--collection", "pods"]] {
        tokens.push(file.add_with(args));
    }
    file.save();
    let daemon = Daemon::serve(&["--feed", "push:", "--feed", "pods=push:", "--tokens", file.path()]);
    put_in(&tokens[1].http(&daemon), "/v1/c/pods/kv/pod").await;
    let browser = Browser::start().await;
    browser.open(&format!("{}/", daemon.url())).await;
    browser.sees("#token-form", "requires a token").await;
    browser.enter("#token", &tokens[1].text).await;
    browser.click("#token-form button").await;
    column_is(&browser, "#keys-table", 1, &["pod"]).await;
    browser.sees("#collections", "pods").await;
    browser.sees("#banner", "In sync").await;
    // One for the default collection is shown that one as ever.
    browser.run("sessionStorage.clear()").await;
    browser.open("about:blank").await;
    browser.open(&format!("{}/", daemon.url())).await;
    browser.sees("#token-form", "requires a token").await;
    browser.enter("#token", &tokens[0].text).await;
    browser.click("#token-form button").await;
    browser.sees("#banner", "In sync").await;
    assert_eq!(browser.run("return document.querySelector('#collections').hidden").await, true);
}

#[tokio::test]
async fn it_lets_nothing_else_in_and_its_links_lead_somewhere() {
    let daemon = Daemon::push(&[]);
    let http = Http::new(daemon.url());
    for path in ["/", "/page.css", "/page.js"] {
        let got = http.get(path).await.ok(200);
        assert!(got.need("content-security-policy").starts_with("default-src 'none';"), "{path}");
        assert_eq!(got.need("x-content-type-options"), "nosniff");
        let etag = got.need("etag").to_owned();
        http.get_with(path, &[("if-none-match", &etag)]).await.ok(304);
        http.get(&format!("{path}?x=1")).await.problem(400);
    }
    let browser = Browser::start().await;
    browser.open(&format!("{}/", daemon.url())).await;
    browser.sees("#banner", "In sync").await;
    let links = browser.run("return [...document.links].map(link => new URL(link.href).pathname)").await;
    let links: Vec<String> = serde_json::from_value(links).unwrap();
    assert!(links.len() >= 4, "{links:?}");
    for link in links {
        http.get(&link).await.ok(200);
    }
}
