//! Clients that are too slow.

use crate::exchange::{Came, Case, Line};
use crate::support::daemon::Daemon;
use crate::support::{eventually, in_time};

/// Long enough that a request which is not held back is not cut.
const HEADER_TIMEOUT: &str = "700ms";

#[tokio::test]
async fn a_head_that_is_begun_and_not_ended_is_a_408() {
    let serve = |front: &str| Daemon::push(&["--header-timeout", HEADER_TIMEOUT, "--lean-front", front]);
    let (lean, framework) = (serve("on"), serve("off"));
    let gone = "GET /v1/breadcrumbs/5f0c11d29a3b4e77.1842.s9d03c1f2/next?wait=0 HTTP/1.1\r\nHost: a\r\n\r\n";
    let livez = "GET /livez HTTP/1.1\r\nHost: a\r\n\r\n";
    let mut exchanges = Vec::new();
    for begun in
        ["G", "GET /v1/breadcrumbs/", "GET /v1/breadcrumbs/x/next HTTP/1.1\r\nHost: a\r\n", "POST /v1/up"]
    {
        for before in ["", gone, livez] {
            let text = format!("{before}{begun}");
            let case = Case { name: format!("{text:?}"), writes: vec![text.into()], half_closed: false };
            let lines = [Line::send(&lean, &case).await, Line::send(&framework, &case).await];
            exchanges.push((case, lines));
        }
    }
    for (case, lines) in exchanges {
        // Time ends it, not the quiet.
        let closed = || async { lines.iter().all(|line| line.came().closed).then_some(()) };
        eventually("the connections to be closed", closed).await;
        let [lean, framework] = lines.map(|line| line.came());
        let told =
            |came: &Came| came.heard.answers.iter().map(|answer| answer.status.clone()).collect::<Vec<_>>();
        assert_eq!(told(&lean), told(&framework), "{}: left is lean", case.name);
        let last = lean.heard.answers.last().expect("an answer");
        assert!(last.status.contains(" 408 "), "{}: {lean:?}", case.name);
    }
    in_time("livez", lean.http().get("/livez")).await.ok(200);
}
