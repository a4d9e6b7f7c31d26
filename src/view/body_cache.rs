//! The cache of encoded updates and listings: each body is encoded once and shared. Snapshots have their own cache
//! ([`snapshot`](super::snapshot)).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use quick_cache::Weighter;
use quick_cache::sync::Cache;

use super::lease::{Account, Claim, Lack};
use super::workers::WORKERS;
use super::{Body, Format, KeySelector, OneByOneWith, Run, ViewError};
use crate::model::{Cursor, History, Key, Revision, Sequence};
use crate::wire::{Coding, MediaType};

/// Bodies up to this size are sent uncompressed; compression would cost more than it saves.
pub(super) const UNCOMPRESSED_BYTES: usize = 1024;

/// Updates, diffs and listings up to this size are not counted.
pub(super) const UNCOUNTED_BYTES: usize = 64 * 1024;

/// The weight of a cache entry beside its content, in bytes.
const OVERHEAD_BYTES: u64 = 256;

/// About how many bodies are cached at a time. It sizes the tables; the limit is in bytes.
const EXPECTED_BODIES: usize = 4096;

/// What a body says, beside its keys.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) enum Span {
    /// The updates from a cursor to a breadcrumb.
    Updates { from: Cursor, to: Sequence },
    /// The same, a body for each breadcrumb.
    OneByOne { from: Cursor, to: Sequence, with: OneByOneWith },
    /// The steps from a revision to a kept breadcrumb.
    Past { to: Sequence, base: Option<Revision> },
    /// The difference between two kept breadcrumbs.
    Diff { from: Cursor, to: Cursor, to_sequence: Sequence },
    /// A page of a listing.
    Page { at: Cursor, sequence: Sequence, start_after: Option<Key>, limit: usize },
    /// The value of a key at the revision that set it.
    Value { history: History, revision: Revision },
}

impl Span {
    /// Whether it is an answer to what comes next, and no listing or diff.
    fn is_updates(&self) -> bool {
        matches!(self, Self::Updates { .. } | Self::OneByOne { .. })
    }
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct BodyKey {
    span: Span,
    keys: KeySelector,
    format: Format,
}

/// A body and the coding that was applied to it.
#[derive(Clone, Debug)]
pub(super) struct EncodedBody {
    pub(super) body: Body,
    pub(super) coding: Coding,
}

#[derive(Clone)]
struct Weight;

impl Weighter<BodyKey, EncodedBody> for Weight {
    fn weight(&self, key: &BodyKey, body: &EncodedBody) -> u64 {
        OVERHEAD_BYTES + key.keys.bytes() as u64 + body.body.len()
    }
}

pub(super) struct BodyCache {
    cache: Cache<BodyKey, EncodedBody, Weight>,
    /// How many bodies of updates were encoded.
    encoded: AtomicU64,
}

/// Decides whether there is room for a body of a size. If not, it is not made now.
pub(super) type Admit<'a> = &'a mut dyn FnMut(usize) -> bool;

impl BodyCache {
    pub(super) fn new(max_bytes: u64) -> Self {
        Self { cache: Cache::with_weighter(EXPECTED_BODIES, max_bytes, Weight), encoded: AtomicU64::new(0) }
    }

    /// How many bodies of updates were encoded since the start.
    pub(super) fn encoded(&self) -> u64 {
        self.encoded.load(Ordering::Relaxed)
    }

    /// The body of a large value, which shares the memory of the entry. It is counted while requests hold it: the value
    /// may be replaced meanwhile.
    pub(super) async fn value(
        &self,
        span: Span,
        key: Key,
        value: Bytes,
        account: &Account,
    ) -> Result<Body, ViewError> {
        let format = Format { media: MediaType::Json, coding: Coding::Identity };
        let key = BodyKey { span, keys: KeySelector::key(key), format };
        let counted = || {
            let len = value.len() as u64;
            let body = Body::from_runs(vec![Run::from([value])], len);
            Ok::<_, ViewError>(EncodedBody { body, coding: Coding::Identity })
        };
        let shared = self.cache.get_or_insert_with(&key, counted)?;
        Ok(shared.body.for_request(&mut account.claim()).await?)
    }

    /// The cached body, or the one that `encode` makes now on a blocking thread. Concurrent requests for the same body
    /// share one encoding. Once `encode` knows the size it asks for room; without room it is called again later. With
    /// `needs_worker` it may take memory before it knows the size, so only as many run at a time as there are cores.
    pub(super) async fn get<F>(
        &self,
        span: Span,
        keys: &KeySelector,
        format: Format,
        account: &Account,
        needs_worker: bool,
        encode: F,
    ) -> Result<EncodedBody, ViewError>
    where
        F: Fn(Admit<'_>) -> Option<Vec<u8>> + Send + Sync + 'static,
    {
        let key = |coding| {
            let format = Format { coding, ..format };
            BodyKey { span: span.clone(), keys: keys.clone(), format }
        };
        let mut claim = account.claim();
        if let Some(cached) = self.cache.get(&key(format.coding)) {
            return cached.for_request(&mut claim).await;
        }
        // A body in a coding exists beside the plain one while it is made, and is smaller.
        let copies = if format.coding == Coding::Identity { 1 } else { 2 };
        let plain =
            self.plain(key(Coding::Identity), (copies, needs_worker), &mut claim, Arc::new(encode)).await?;
        if format.coding == Coding::Identity {
            return Ok(plain);
        }
        // Where another request made the plain body, there is no room for this one yet.
        while plain.body.is_counted()
            && let Err(lack) = claim.try_take(plain.body.len())
        {
            claim.wait(lack).await?;
        }
        let (key, mut made) = (key(format.coding), None);
        let compressed = self.cache.get_or_insert_async(&key, async {
            let compressed = self.compress(plain, format.coding).await?;
            made = Some(compressed.body.made_in(&mut claim));
            Ok::<_, ViewError>(compressed)
        });
        let compressed = compressed.await?;
        match made {
            Some(body) => Ok(EncodedBody { body, ..compressed }),
            None => compressed.for_request(&mut claim).await,
        }
    }

    async fn compress(&self, body: EncodedBody, coding: Coding) -> Result<EncodedBody, ViewError> {
        if !body.is_compressible(coding) {
            return Ok(body);
        }
        match body.body.is_counted() {
            true => WORKERS.run(move || body.compressed(coding)).await?,
            false => WORKERS.run_small(move || body.compressed(coding)).await?,
        }
    }

    async fn plain<F>(
        &self,
        key: BodyKey,
        (copies, needs_worker): (u64, bool),
        claim: &mut Claim,
        encode: Arc<F>,
    ) -> Result<EncodedBody, ViewError>
    where
        F: Fn(Admit<'_>) -> Option<Vec<u8>> + Send + Sync + 'static,
    {
        let is_updates = key.span.is_updates();
        loop {
            // The made body with its lease. The cache has it without.
            let mut made = None;
            let plain = self.cache.get_or_insert_async(&key, async {
                let bytes = encode_in_room(needs_worker, copies, claim, &encode).await?;
                self.encoded.fetch_add(u64::from(is_updates), Ordering::Relaxed);
                let plain = EncodedBody::plain(bytes);
                made = Some(plain.body.made_in(claim));
                Ok(plain)
            });
            match (plain.await, made) {
                (Ok(plain), Some(body)) => return Ok(EncodedBody { body, ..plain }),
                (Ok(plain), None) => return plain.for_request(claim).await,
                (Err(NotMade::Failed(error)), _) => return Err(error),
                (Err(NotMade::OverShare(lack)), _) => claim.wait(lack).await?,
            }
        }
    }

    /// The body, if it is cached. It is not for a request yet.
    pub(super) fn cached(&self, span: Span, keys: &KeySelector, format: Format) -> Option<EncodedBody> {
        self.cache.get(&BodyKey { span, keys: keys.clone(), format })
    }
}

/// Why a body is not made.
enum NotMade {
    Failed(ViewError),
    /// The client's own share lacks room. It has to wait where nobody else waits for the body.
    OverShare(Lack),
}

impl<E: Into<ViewError>> From<E> for NotMade {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

/// The bytes that `encode` makes, once there is room for this many copies of them. A large body needs a worker: each
/// thread that makes one keeps some memory for the next.
async fn encode_in_room<F>(
    mut needs_worker: bool,
    copies: u64,
    claim: &mut Claim,
    encode: &Arc<F>,
) -> Result<Vec<u8>, NotMade>
where
    F: Fn(Admit<'_>) -> Option<Vec<u8>> + Send + Sync + 'static,
{
    loop {
        // The claim moves to the thread: the bytes are counted there even if the client disconnects.
        let (encode, mut taken) = (Arc::clone(encode), claim.take());
        let encode_now = move || {
            let (mut lack, mut is_large) = (None, false);
            let bytes = encode(&mut |size| {
                is_large = size > UNCOUNTED_BYTES;
                if is_large && needs_worker {
                    lack = taken.try_take(copies * size as u64).err();
                }
                !is_large || (needs_worker && lack.is_none())
            });
            (bytes, lack, is_large, taken)
        };
        let encoded = match needs_worker {
            true => WORKERS.run(encode_now).await?,
            false => WORKERS.run_small(encode_now).await?,
        };
        let (bytes, lack);
        (bytes, lack, needs_worker, *claim) = encoded;
        match (bytes, lack) {
            (Some(bytes), _) => return Ok(bytes),
            (None, Some(lack @ Lack::Own(_))) => return Err(NotMade::OverShare(lack)),
            (None, Some(lack)) => claim.wait(lack).await?,
            (None, None) => {}
        }
    }
}

/// A body, which is counted if it is large.
fn body_of(bytes: Vec<u8>) -> Body {
    if bytes.len() > UNCOUNTED_BYTES { Body::counted(bytes) } else { bytes.into() }
}

impl EncodedBody {
    /// A body before compression.
    pub(super) fn plain(bytes: Vec<u8>) -> Self {
        Self { body: body_of(bytes), coding: Coding::Identity }
    }

    async fn for_request(self, claim: &mut Claim) -> Result<Self, ViewError> {
        Ok(Self { body: self.body.for_request(claim).await?, ..self })
    }

    fn is_compressible(&self, coding: Coding) -> bool {
        self.body.len() > UNCOMPRESSED_BYTES as u64 && coding != Coding::Identity
    }

    /// The body in this coding, or unchanged if it is too small. Runs on the calling thread.
    pub(super) fn compressed(self, coding: Coding) -> Result<Self, ViewError> {
        match self.body.as_one().filter(|_| self.is_compressible(coding)) {
            Some(bytes) => Ok(Self { body: body_of(coding.encode(bytes)?), coding }),
            None => Ok(self),
        }
    }
}

pub(super) async fn run_blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, ViewError> {
    Ok(tokio::task::spawn_blocking(work).await?)
}
