//! zstd bodies, read by decoders that stop after the first frame without an error.
#![allow(clippy::unwrap_used)]

mod support;

use support::daemon::Daemon;
use support::tools;
use support::workload::put;

/// Both of the module's ways to decode a body at once. aiohttp and urllib3 use such an object.
const PYTHON: &str = r#"
import sys, urllib.request, zstandard

def get(url, accept, coding):
    headers = {"Accept": accept, "Accept-Encoding": coding}
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers)) as response:
        return response.headers["Content-Encoding"], response.read()

for url in sys.argv[1:]:
    for accept in ("application/json", "application/x-ndjson", "application/json; values=string"):
        none, plain = get(url, accept, "identity")
        zstd, coded = get(url, accept, "zstd")
        assert (none, zstd) == (None, "zstd"), (none, zstd)
        assert len(coded) < len(plain), (url, accept)
        assert zstandard.ZstdDecompressor().decompressobj().decompress(coded) == plain, (url, accept)
        assert zstandard.ZstdDecompressor().decompress(coded) == plain, (url, accept)
        gzip, _ = get(url, accept, "gzip, deflate, br, zstd")
        assert gzip == "gzip", gzip
"#;

#[tokio::test]
async fn decoders_of_one_frame_read_whole_bodies() {
    let daemon = Daemon::push(&[]);
    let http = daemon.http();
    let before = http.cursor().await;
    let value =
        |n: u64| format!("\"{:x}\"", u128::from(n).wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C834));
    for batch in 0..4 {
        let keys = batch * 5000..(batch + 1) * 5000;
        http.post(&keys.map(|n| put(&format!("key/{n:05}"), &value(n))).collect::<Vec<_>>()).await;
    }
    let now = http.cursor().await;
    let paths = [
        "current".to_owned(),
        "current?prefix=key%2F1".to_owned(),
        now.clone(),
        format!("{before}/next"),
        format!("{before}/diff/{now}"),
    ];
    let urls = paths.map(|path| format!("{}/v1/breadcrumbs/{path}", daemon.url()));
    let mut python = tools::python("zstandard");
    let listing = format!("{}/v1/kv?limit=20000", daemon.url());
    let done = python.args(["-c", PYTHON]).args(urls).arg(listing).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}
