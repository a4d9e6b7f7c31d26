//! Asks a feed to read everything again, once there is room for keys that were refused for want of it.
//!
//! Reading everything costs the upstream, so it is paced: the more often it was asked for lately, the later it is next.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};

use crate::feed::Upstream;

/// The pause before a feed is asked, and the longest between two times.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(5 * 60);

/// Asks the feed whenever it is wanted, until the cache is gone.
pub(super) async fn ask(mut wanted: watch::Receiver<bool>, upstream: Arc<Upstream>) {
    let mut pause = FIRST_PAUSE;
    let mut last: Option<Instant> = None;
    while wanted.wait_for(|wanted| *wanted).await.is_ok() {
        let now = Instant::now();
        if last.is_none_or(|last| now - last >= LONGEST_PAUSE) {
            pause = FIRST_PAUSE;
        }
        sleep_until(last.unwrap_or(now).max(now - pause) + pause).await;
        // Meanwhile it may have been read for another reason.
        if !*wanted.borrow_and_update() {
            continue;
        }
        upstream.ask_to_reread();
        last = Some(Instant::now());
        pause = (2 * pause).min(LONGEST_PAUSE);
        // It is no longer wanted once the feed has begun. A feed that does not begin is asked again.
        if let Ok(Err(_)) = timeout(LONGEST_PAUSE, wanted.wait_for(|wanted| !wanted)).await {
            return;
        }
    }
}
