//! A range in pages whose size follows the size of the values.
//!
//! How many keys make a page of some size is known only once it has arrived: a store may begin with a million small
//! flags and go on with certificates. So each page decides how many keys the next one has, at most four times its
//! own. A page that is too large for a message is requested again with half as many.

use tokio::task::JoinSet;
use tracing::debug;

use super::EtcdError;
use super::client::Connection;
use crate::wire::etcd::kv::{RangeRequest, RangeResponse};

/// Keys on the first page, which shows how many there are and how large.
const FIRST_PAGE: i64 = 1000;

/// Pages after that. For each one etcd counts all keys that are left, so with pages of a fixed size the time would
/// grow with the square of the keys: a million keys of 240 bytes took etcd 12.6 s with 20,000 keys a page, and take
/// 6.3 s with these.
const PAGES: i64 = 16;

/// The smallest and largest page in bytes, as far as the page before shows: large enough to be quick, small enough for
/// the memory of both sides.
const SMALL_PAGE: i64 = 1 << 20;
const LARGE_PAGE: i64 = 64 << 20;

/// The most keys on a page, as a multiple of the page before.
const GROWTH: i64 = 4;

/// The pages of a range; dropping it cancels the request under way.
pub(super) struct Pages {
    connection: Connection,
    coming: JoinSet<Result<Page, EtcdError>>,
}

/// A page, and the request that it answers.
struct Page {
    answer: RangeResponse,
    request: RangeRequest,
}

impl Pages {
    /// Requests the first page of a range.
    pub(super) fn begin(connection: &Connection, range: RangeRequest) -> Self {
        let mut pages = Self { connection: connection.clone(), coming: JoinSet::new() };
        pages.ask_for(RangeRequest { limit: FIRST_PAGE, ..range });
        pages
    }

    /// The next page; `None` after the last. The one after it is requested meanwhile.
    pub(super) async fn next(&mut self) -> Result<Option<RangeResponse>, EtcdError> {
        let Page { answer, mut request } = match self.coming.join_next().await {
            None => return Ok(None),
            Some(Ok(page)) => page?,
            Some(Err(_)) => return Err(EtcdError::Crashed),
        };
        let header = answer.header.ok_or(EtcdError::Nonsense("a range without a header"))?;
        if request.revision == 0 {
            // Every further page is read at the same revision.
            request.revision = header.revision;
        }
        if let Some(last) = answer.kvs.last().filter(|_| answer.more) {
            // The next key after this one, in etcd's order.
            request.key = [&last.key, &b"\0"[..]].concat().into();
            request.limit = limit(&answer, request.limit);
            self.ask_for(request);
        }
        Ok(Some(answer))
    }

    fn ask_for(&mut self, request: RangeRequest) {
        let connection = self.connection.clone();
        self.coming.spawn(async move { ask(&connection, request).await });
    }
}

/// Requests a page with fewer and fewer keys until it is small enough.
async fn ask(connection: &Connection, mut request: RangeRequest) -> Result<Page, EtcdError> {
    loop {
        match connection.range(request.clone()).await {
            Err(EtcdError::TooLarge(reason)) if request.limit > 1 => {
                request.limit /= 2;
                debug!(keys = request.limit, "a page was too large, asking for half of it: {reason}");
            }
            answer => return Ok(Page { answer: answer?, request }),
        }
    }
}

/// The number of keys for the page after this one, which was requested with `limit`.
fn limit(page: &RangeResponse, limit: i64) -> i64 {
    let keys = i64::try_from(page.kvs.len()).unwrap_or(limit).max(1);
    let bytes: usize = page.kvs.iter().map(|kv| kv.key.len() + kv.value.len()).sum();
    let per_key = (i64::try_from(bytes).unwrap_or(i64::MAX) / keys).max(1);
    let wanted = (page.count / PAGES + 1).clamp((SMALL_PAGE / per_key).max(1), (LARGE_PAGE / per_key).max(1));
    wanted.min(limit.saturating_mul(GROWTH))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::etcd::kv::KeyValue;

    fn page(keys: usize, bytes: usize, count: i64) -> RangeResponse {
        let kv = KeyValue { value: vec![0; bytes].into(), ..KeyValue::default() };
        RangeResponse { kvs: vec![kv; keys], more: true, count, ..RangeResponse::default() }
    }

    #[test]
    fn a_page_follows_the_size_of_what_the_one_before_held() {
        let small = limit(&page(1000, 100, 1_000_000), 1000);
        assert_eq!(small, 4000, "it grows by steps");
        assert!((10_000..70_000).contains(&limit(&page(60_000, 100, 1_000_000), 60_000)));
        let large = limit(&page(60, 1 << 20, 1_000_000), 60_000);
        assert_eq!(large, 64, "64 MiB of values of 1 MiB");
        assert_eq!(limit(&page(1, 200 << 20, 1_000_000), 1), 1, "one at the least");
    }
}
