//! Lists in pages, all at one revision.

use std::collections::HashSet;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use tokio::task::JoinSet;
use tracing::{debug, warn};

use super::client::Client;
use super::error::KubeError;
use super::object::revision;
use crate::model::Revision;

/// Objects on the first page, which shows how large they are.
const FIRST_PAGE: usize = 500;

/// The most bytes and objects on a page, as far as the page before shows. Larger ones are no faster, and up to three are in
/// memory: one is applied, one is read, and its buffer may just have grown.
const PAGE_BYTES: usize = 2 << 20;
const PAGE_OBJECTS: usize = 10_000;

/// The most objects on a page, as a multiple of the page before.
const GROWTH: usize = 4;

/// How long the server may take to say how far it is.
const POSITION: Duration = Duration::from_secs(10);

/// How many pages in a row may be without an object.
const EMPTY_PAGES: u32 = 16;

/// How often a server may ask for a pause before a page.
const PAUSES: u32 = 10;

/// The representation without what is below `metadata`; a server that does not know it sends whole objects.
const METADATA_ONLY: &str =
    "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json";

/// What to list.
#[derive(Clone, Debug)]
pub(super) struct Listing {
    pub(super) path: String,
    /// Parameters, each with `&` before it.
    pub(super) selectors: String,
    /// The state at this revision; `None`: the newest.
    pub(super) at: Option<Revision>,
    pub(super) metadata_only: bool,
    /// Whether it has no pages, for a server that loses the revision between them.
    pub(super) in_one_page: bool,
}

/// A page of a list.
pub(super) struct Page {
    body: Bytes,
}

/// The contents of a page.
#[derive(Deserialize)]
pub(super) struct Contents<'a> {
    #[serde(default)]
    kind: String,
    metadata: ListMetadata,
    #[serde(borrow, deserialize_with = "null_or_list")]
    items: Option<Vec<&'a RawValue>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ListMetadata {
    #[serde(default)]
    resource_version: String,
    #[serde(default, rename = "continue")]
    token: String,
    /// The objects after this page, if the server counts them.
    remaining_item_count: Option<u64>,
}

/// Where a server is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Position {
    /// Its newest revision, which other types move, too.
    pub(super) revision: Revision,
    /// How many objects there are, if it says so.
    pub(super) objects: Option<u64>,
}

impl Page {
    pub(super) fn contents(&self) -> Result<Contents<'_>, KubeError> {
        let contents: Contents<'_> = serde_json::from_slice(&self.body).map_err(KubeError::Json)?;
        match contents.kind.as_str() {
            "Status" => Err(KubeError::Nonsense("a Status in place of a list")),
            _ => Ok(contents),
        }
    }
}

/// The items of a list, which must be there: what has none is no empty list. `null` is what Go writes for nothing.
fn null_or_list<'de: 'a, 'a, D>(from: D) -> Result<Option<Vec<&'a RawValue>>, D::Error>
where
    D: Deserializer<'de>,
{
    Option::deserialize(from)
}

impl<'a> Contents<'a> {
    /// The revision of the list.
    pub(super) fn revision(&self) -> Result<Revision, KubeError> {
        revision(&self.metadata.resource_version)
    }

    /// The objects, as JSON.
    pub(super) fn objects(&self) -> impl Iterator<Item = &'a str> {
        self.items.iter().flatten().map(|item| item.get())
    }

    fn len(&self) -> usize {
        self.items.as_ref().map_or(0, Vec::len)
    }
}

/// The keys of a page and of the one before it, to find what a server lists twice.
#[derive(Default)]
pub(super) struct Repeats {
    before: HashSet<Vec<u8>>,
    page: HashSet<Vec<u8>>,
    is_logged: bool,
}

impl Repeats {
    pub(super) fn begin_page(&mut self) {
        self.before = std::mem::take(&mut self.page);
    }

    /// Whether the key is listed for the first time. The first that is not is logged.
    pub(super) fn is_first(&mut self, key: &[u8]) -> bool {
        let is_first = self.page.insert(key.to_vec()) && !self.before.contains(key);
        if !is_first && !std::mem::replace(&mut self.is_logged, true) {
            let key = String::from_utf8_lossy(key);
            warn!(
                "the server has listed the key {key:?} twice in one list, and perhaps others; each is counted once"
            );
        }
        is_first
    }
}

/// The pages of a list; dropping it cancels the request under way.
pub(super) struct Pages {
    client: Client,
    listing: Listing,
    limit: usize,
    revision: Option<Revision>,
    /// The last continue token.
    token: String,
    /// Pages in a row without an object.
    empty_pages: u32,
    coming: JoinSet<Result<Page, KubeError>>,
}

impl Pages {
    /// Requests the first page.
    pub(super) fn begin(client: &Client, listing: Listing) -> Self {
        let mut pages = Self {
            client: client.clone(),
            listing,
            limit: FIRST_PAGE,
            revision: None,
            token: String::new(),
            empty_pages: 0,
            coming: JoinSet::new(),
        };
        pages.ask_for("");
        pages
    }

    /// The next page; `None` after the last. The one after it is requested meanwhile.
    ///
    /// # Errors
    /// [`KubeError::Expired`] when the server has lost the revision of the list, before it or in its middle.
    pub(super) async fn next(&mut self) -> Result<Option<Page>, KubeError> {
        let page = match self.coming.join_next().await {
            None => return Ok(None),
            Some(Ok(page)) => page?,
            Some(Err(_)) => return Err(KubeError::Crashed),
        };
        let (read, token, objects) = {
            let contents = page.contents()?;
            (contents.revision()?, contents.metadata.token.clone(), contents.len())
        };
        if *self.revision.get_or_insert(read) != read {
            // A server may go on at a newer revision: that is no state.
            return Err(KubeError::Expired { oldest: None });
        }
        if !token.is_empty() {
            self.empty_pages = if objects == 0 { self.empty_pages + 1 } else { 0 };
            if self.empty_pages > EMPTY_PAGES {
                return Err(KubeError::Nonsense("a list goes on and on without an object"));
            }
            if token == self.token {
                return Err(KubeError::Nonsense("a list has the same continue token twice in a row"));
            }
            self.limit = limit(page.body.len(), objects, self.limit);
            self.ask_for(&token);
            self.token = token;
        }
        Ok(Some(page))
    }

    fn ask_for(&mut self, token: &str) {
        let path = self.listing.request(self.limit, token);
        let (client, metadata_only) = (self.client.clone(), self.listing.metadata_only);
        self.coming.spawn(async move { ask(&client, &path, metadata_only).await });
    }
}

impl Listing {
    /// The path of a page.
    fn request(&self, limit: usize, token: &str) -> String {
        let Self { path, selectors, at, .. } = self;
        // No limit is 0.
        let limit = if self.in_one_page { 0 } else { limit };
        let place = match at {
            // A token names the revision itself.
            _ if !token.is_empty() => {
                let token = percent_encoding::utf8_percent_encode(token, percent_encoding::NON_ALPHANUMERIC);
                format!("&continue={token}")
            }
            Some(at) => format!("&resourceVersion={at}&resourceVersionMatch=Exact"),
            None => String::new(),
        };
        format!("{path}?limit={limit}{selectors}{place}")
    }

    /// Where the server is, by a consistent read of one object.
    pub(super) async fn position(&self, client: &Client) -> Result<Position, KubeError> {
        let (path, what) = (self.request(1, ""), "a list of one object");
        let answer = tokio::time::timeout(POSITION, client.get(&path, what)).await;
        let no_answer = |_| KubeError::NoAnswer { what: what.to_owned(), after: POSITION };
        let page = Page { body: answer.map_err(no_answer)?? };
        let contents = page.contents()?;
        let ListMetadata { token, remaining_item_count: rest, .. } = &contents.metadata;
        let rest = if token.is_empty() { Some(0) } else { *rest };
        let objects = rest.map(|rest| rest + contents.len() as u64);
        Ok(Position { revision: contents.revision()?, objects })
    }
}

/// Requests a page, after the pauses that the server asks for.
async fn ask(client: &Client, path: &str, metadata_only: bool) -> Result<Page, KubeError> {
    let accept = if metadata_only { METADATA_ONLY } else { "application/json" };
    let mut pauses = 0;
    loop {
        match client.get_page(path, accept).await {
            Err(KubeError::Throttled { pause, .. }) if pauses < PAUSES => {
                pauses += 1;
                debug!("the server asks for a pause of {pause:?} before a page");
                tokio::time::sleep(pause.max(Duration::from_millis(100))).await;
            }
            answer => return Ok(Page { body: answer? }),
        }
    }
}

/// The number of objects for the page after one with so many, which was requested with `limit`.
fn limit(bytes: usize, objects: usize, limit: usize) -> usize {
    let each = (bytes / objects.max(1)).max(1);
    (PAGE_BYTES / each).clamp(1, PAGE_OBJECTS).min(limit.saturating_mul(GROWTH))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_follows_the_size_of_the_one_before() {
        assert_eq!(limit(500 * 300, 500, 500), 2000, "it grows by steps");
        assert_eq!(limit(2000 * 3000, 2000, 2000), 699, "2 MiB of objects of 3 kB");
        assert_eq!(limit(500 << 20, 500, 500), 2);
        assert_eq!(limit(300 << 20, 1, 500), 1, "one at the least");
        assert_eq!(limit(100, 0, 500), 2000);
    }

    #[test]
    fn a_page_is_asked_for_at_the_revision_of_the_first() {
        let listing = Listing {
            path: "/api/v1/pods".to_owned(),
            selectors: "&labelSelector=a".to_owned(),
            at: Some(Revision(7)),
            metadata_only: false,
            in_one_page: false,
        };
        let first = "/api/v1/pods?limit=5&labelSelector=a&resourceVersion=7&resourceVersionMatch=Exact";
        assert_eq!(listing.request(5, ""), first);
        assert_eq!(listing.request(5, "x="), "/api/v1/pods?limit=5&labelSelector=a&continue=x%3D");
        let whole = Listing { in_one_page: true, at: None, ..listing };
        assert_eq!(whole.request(5, ""), "/api/v1/pods?limit=0&labelSelector=a");
    }
}
