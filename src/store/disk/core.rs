//! The store without its guard.

use std::io;
use std::sync::Arc;

use bytes::Bytes;

use super::content::{BLOCK, Blocks};
use super::inner::{Inner, LARGE_RECORD, New, Replaces, Settings};
use super::jobs::begin;
use super::purges::{held, plain};
use super::writer::Writer;
use crate::entry::key::CacheKey;
use crate::entry::{Payload, RemoteContent, ResponseHead, StoredResponse};
use crate::error::StoreError;
use crate::runtime::{from_now_on, lock};
use crate::semantics::range::ByteRange;
use crate::store::{
    BeginOutcome, Expected, Fence, Lookup, PurgeMode, PurgeNumber, PurgeScope, PurgeTarget, PutOutcome,
    Store, StoreLimits, StoreStatistics, StoredBody, StoredId, Variants,
};

#[derive(Clone)]
pub(super) struct Core(pub(super) Arc<Inner>);

impl Core {
    async fn put_whole(
        &self,
        key: &CacheKey,
        response: StoredResponse,
        fence: Fence,
    ) -> Result<PutOutcome, StoreError> {
        let Inner { jobs, namer, purges, settings, .. } = &*self.0;
        if response.payload().len() > settings.max_object {
            return Ok(PutOutcome::TooLarge);
        }
        // Until it is in the index, whatever becomes of the call.
        let holding = purges.held.holding(namer.of(key));
        let (inner, key) = (Arc::clone(&self.0), key.clone());
        let work = move || {
            let _holding = holding;
            inner.put(&key, response, fence)
        };
        jobs.write("put", work).await
    }
}

impl Inner {
    /// Content that does not fit into the record goes into a file first.
    fn put(&self, key: &CacheKey, response: StoredResponse, fence: Fence) -> io::Result<PutOutcome> {
        let payload = response.payload();
        let replaces = Replaces::SameSelection;
        // What another store keeps elsewhere is for that one to open.
        let record = self.index.peek(self.namer.of(key)).map_or(0, |entry| entry.record);
        let is_small = payload.len() <= BLOCK as u64 && record <= LARGE_RECORD;
        if payload.is_remote() || payload.is_empty() || is_small {
            return self.write(key, New { content: None, fence, replaces, response });
        }
        let blocks: Vec<Bytes> = payload.pieces().into_iter().flatten().cloned().collect();
        // There is no room for it now.
        let Some(file) = self.write_blocks(None, &blocks)? else { return Ok(PutOutcome::Superseded) };
        let remote = Payload::remote(file.content).with_trailers(payload.trailers().cloned());
        let response = StoredResponse { head: response.head, payload: remote };
        self.write(key, New { content: Some(file), fence, replaces, response })
    }

    /// Closes the files that are open all the time.
    pub(super) fn let_go(&self) {
        self.purges.close();
        drop(lock(&self.lock).take());
    }
}

/// Futures are boxed: those of a request have those of its store in them, and these are large.
impl Store for Core {
    /// Says that there is nothing, where that is so. What is there has to be read.
    fn try_get(&self, key: &CacheKey) -> Option<Lookup> {
        let Inner { index, jobs, namer, purges, .. } = &*self.0;
        let fence = purges.fence();
        let is_known = !jobs.have_ended() && !index.has(namer.of(key));
        is_known.then(|| Lookup::new(fence, Variants::default()))
    }

    async fn get(&self, key: &CacheKey) -> Result<Lookup, StoreError> {
        if let Some(lookup) = self.try_get(key) {
            return Ok(lookup);
        }
        let (inner, key) = (Arc::clone(&self.0), key.clone());
        Box::pin(self.0.jobs.read("look up", move || inner.look_up(&key))).await
    }

    async fn open(
        &self,
        key: &CacheKey,
        content: RemoteContent,
        range: Option<ByteRange>,
    ) -> Result<Option<StoredBody>, StoreError> {
        let (inner, key) = (Arc::clone(&self.0), key.clone());
        let opened = self.0.jobs.read("open content", move || inner.open(&key, content, range));
        let opened = Box::pin(opened).await?;
        Ok(opened.map(|(reading, first)| StoredBody::new(Blocks::new(&self.0.jobs, reading, first))))
    }

    fn expect(&self, key: &CacheKey) -> Expected {
        let Inner { namer, purges, .. } = &*self.0;
        let holding = purges.held.holding(namer.of(key));
        Expected::new(held(purges.fence()), holding)
    }

    async fn put(
        &self,
        key: &CacheKey,
        response: StoredResponse,
        fence: Fence,
    ) -> Result<PutOutcome, StoreError> {
        Box::pin(self.put_whole(key, response, fence)).await
    }

    async fn begin(
        &self,
        key: &CacheKey,
        expected_length: Option<u64>,
        fence: Fence,
    ) -> Result<BeginOutcome, StoreError> {
        let Inner { jobs, namer, purges, settings, .. } = &*self.0;
        jobs.check("begin content")?;
        if expected_length.is_some_and(|length| length > settings.max_object) {
            return Ok(BeginOutcome::Refused(PutOutcome::TooLarge));
        }
        if purges.concern(key, namer.of(key), fence, PurgeScope::Key) {
            return Ok(BeginOutcome::Refused(PutOutcome::Superseded));
        }
        Ok(BeginOutcome::Writer(Box::new(Writer::new(&self.0, key, fence))))
    }

    async fn freshen(
        &self,
        key: &CacheKey,
        of: StoredId,
        head: ResponseHead,
        fence: Fence,
    ) -> Result<PutOutcome, StoreError> {
        let Inner { jobs, namer, purges, .. } = &*self.0;
        let holding = purges.held.holding(namer.of(key));
        let (inner, key) = (Arc::clone(&self.0), key.clone());
        let work = move || {
            let _holding = holding;
            inner.freshen(&key, of, head, fence)
        };
        Box::pin(jobs.write("freshen", work)).await
    }

    async fn purged_since(
        &self,
        key: &CacheKey,
        since: Fence,
        scope: PurgeScope,
    ) -> Result<bool, StoreError> {
        let Inner { jobs, namer, purges, .. } = &*self.0;
        jobs.check("ask after purges")?;
        Ok(plain(since) == Fence::default() || purges.concern(key, namer.of(key), since, scope))
    }

    async fn invalidate(&self, targets: &[PurgeTarget], mode: PurgeMode) -> Result<PurgeNumber, StoreError> {
        let Inner { jobs, namer, purges, .. } = &*self.0;
        // A purge that concerns nothing waits for no job.
        jobs.check("purge")?;
        let inner = Arc::clone(&self.0);
        let before = inner.room.times();
        let make_room = move || inner.make_room(before);
        let number = Box::pin(purges.purge(namer, jobs, targets, mode, make_room)).await?;
        let is_of_everything = mode == PurgeMode::Remove && targets.contains(&PurgeTarget::All);
        if is_of_everything && self.0.sweeps.ask(number.get()) {
            // The entry of the log alone does it; this gives the disk back.
            from_now_on(Arc::clone(&self.0).sweep());
        }
        Ok(number)
    }

    fn limits(&self) -> StoreLimits {
        let Settings { max_object, max_variants } = self.0.settings;
        StoreLimits::new().max_object(max_object).max_variants(max_variants).takes_streams(true).waits(true)
    }

    /// Bytes on the disk.
    fn statistics(&self) -> StoreStatistics {
        let index = &self.0.index;
        StoreStatistics::new(index.bytes(), index.len(), index.evictions())
    }
}

/// The database is closed where that stops nobody.
impl Drop for Inner {
    fn drop(&mut self) {
        let purges = Arc::clone(&self.purges);
        let lock = lock(&self.lock).take();
        begin(move || {
            purges.close();
            drop(lock);
        });
    }
}
