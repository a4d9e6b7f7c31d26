//! Answers that cannot get better.

use super::super::daemon::{Fault, Kind};
use super::super::scene::{Scene, scene};
use super::super::stage::{Broken, Given, Stage};

pub(super) const SCENES: &[Scene] = &[
    scene!("401", Fatal, BOTH, unauthorized, "The token is not known: 401."),
    scene!("403", Fatal, BOTH, forbidden, "The client may no longer read: 403 while it follows."),
    scene!(
        "403-permission-changed",
        Fatal,
        BOTH,
        permission_changed,
        "The rights have changed, and none are left: 403, again and again."
    ),
    scene!(
        "404-of-another-server",
        Fatal,
        BOTH,
        not_found,
        "Another server is at the address, and answers 404 with a page."
    ),
    scene!("400", Fatal, BOTH, bad_request, "A request is refused as malformed: 400."),
    scene!("406", Fatal, BOTH, not_acceptable, "No media type suits: 406."),
];

async fn refused_at_first(stage: &mut Stage, fault: Fault, text: &str) -> Result<(), Broken> {
    stage.daemon().down(fault);
    stage.start(Given::default())?;
    stage.ends_with(text).await
}

async fn unauthorized(stage: &mut Stage) -> Result<(), Broken> {
    let detail = "no token of this daemon is the one of the request (7c1f)";
    let fault = Fault::problem(401, "token-unknown", detail).with("WWW-Authenticate", "Bearer");
    refused_at_first(stage, fault, detail).await
}

async fn forbidden(stage: &mut Stage) -> Result<(), Broken> {
    stage.follows(Given::default()).await?;
    let detail = "this token may read no key here (9d20)";
    stage.daemon().down(Fault::problem(403, "not-permitted", detail));
    stage.ends_with(detail).await
}

/// It asks again after `permission-changed`, and the answer to that is 403 too.
async fn permission_changed(stage: &mut Stage) -> Result<(), Broken> {
    stage.follows(Given::default()).await?;
    let detail = "what this token may read has changed (c4e8)";
    stage.daemon().fail(Kind::Follow, Fault::problem(403, "permission-changed", detail));
    stage.until("the first 403 has come", |stage| stage.daemon().pending_faults() == 0).await?;
    stage.daemon().down(Fault::problem(403, "not-permitted", detail));
    stage.ends_with(detail).await
}

async fn not_found(stage: &mut Stage) -> Result<(), Broken> {
    let page = "<html><title>404 Not Found</title><h1>Not Found</h1></html>\n".to_owned();
    let headers = vec![("Content-Type", "text/html".to_owned())];
    refused_at_first(stage, Fault::Instead { status: 404, headers, body: page }, "404").await
}

async fn bad_request(stage: &mut Stage) -> Result<(), Broken> {
    let detail = "the request is malformed in a way that only this sentence knows (3b1e)";
    refused_at_first(stage, Fault::problem(400, "malformed", detail), detail).await
}

async fn not_acceptable(stage: &mut Stage) -> Result<(), Broken> {
    let detail = "Accept allows none of the media types that are here (51aa)";
    refused_at_first(stage, Fault::problem(406, "not-acceptable", detail), detail).await
}
