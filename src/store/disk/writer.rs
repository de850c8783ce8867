//! Content on its way into a file.

use std::io::{self, Seek as _, SeekFrom, Write as _};
use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::HeaderMap;

use super::content::{BLOCK, bytes_of, checksum};
use super::folder::{Staged, is_full};
use super::held::Holding;
use super::index::Reserved;
use super::inner::{Inner, New, Replaces};
use super::jobs::Begun;
use crate::entry::key::CacheKey;
use crate::entry::{Payload, RemoteContent, ResponseHead, StoredResponse};
use crate::error::StoreError;
use crate::runtime::polled_once;
use crate::store::content::BoxFuture;
use crate::store::{ContentWriter, Fence, PutOutcome};

/// A file that content is being written to. Its name is not known to anybody before it is committed.
pub(super) struct ContentFile {
    pub(super) content: RemoteContent,
    pub(super) staged: Staged,
    /// Given back when the file is counted.
    pub(super) reserved: Reserved,
}

const WRITE: &str = "write content";
/// How many blocks wait at most while others are being written.
const WAITING: usize = 2;

/// Where content is that was taken, except for what is in memory.
enum Place {
    /// It could not be written.
    Failed,
    File(ContentFile),
    /// There was no room for it.
    Full,
    Nowhere,
    Writing(Begun<Option<ContentFile>>),
}

/// Writes blocks, and at last the record that says which content it is.
pub(super) struct Writer {
    /// Whole blocks that are not being written yet.
    blocks: Vec<Bytes>,
    fence: Fence,
    _holding: Holding,
    inner: Arc<Inner>,
    key: CacheKey,
    length: u64,
    place: Place,
    /// What comes after them: less than a block.
    rest: BytesMut,
}

impl Writer {
    pub(super) fn new(inner: &Arc<Inner>, key: &CacheKey, fence: Fence) -> Self {
        let holding = inner.purges.held.holding(inner.namer.of(key));
        let (inner, key) = (Arc::clone(inner), key.clone());
        let (blocks, place, rest) = (Vec::new(), Place::Nowhere, BytesMut::new());
        Self { blocks, fence, _holding: holding, inner, key, length: 0, place, rest }
    }

    /// Takes content. Its blocks are written in the background, and it waits where too many of them are not.
    async fn add(&mut self, data: Bytes) -> Result<ControlFlow<PutOutcome>, StoreError> {
        self.inner.jobs.check(WRITE)?;
        self.length += data.len() as u64;
        if self.length > self.inner.settings.max_object {
            return Ok(ControlFlow::Break(PutOutcome::TooLarge));
        }
        self.take(data);
        // What fits into a record is written with that.
        if self.length <= BLOCK as u64 || self.blocks.is_empty() {
            return Ok(ControlFlow::Continue(()));
        }
        if let Place::Writing(writing) = &mut self.place
            && self.blocks.len() < WAITING
        {
            match polled_once(writing.as_mut()).await {
                None => return Ok(ControlFlow::Continue(())),
                Some(written) => self.has_written(written)?,
            }
        }
        self.settle().await?;
        // Before anything is taken out of this: nothing is lost where nobody waits for it any more.
        let permit = self.inner.jobs.to_write(WRITE).await?;
        let file = match std::mem::replace(&mut self.place, Place::Failed) {
            Place::File(file) => Some(file),
            Place::Nowhere => None,
            other => {
                self.place = other;
                return self.refused().map(ControlFlow::Break);
            }
        };
        let (inner, blocks) = (Arc::clone(&self.inner), std::mem::take(&mut self.blocks));
        self.place = Place::Writing(permit.begin(WRITE, move || inner.write_blocks(file, &blocks)));
        Ok(ControlFlow::Continue(()))
    }

    fn take(&mut self, mut data: Bytes) {
        while !data.is_empty() {
            if self.rest.is_empty() && data.len() >= BLOCK {
                self.blocks.push(data.split_to(BLOCK));
                continue;
            }
            let part = data.split_to(data.len().min(BLOCK - self.rest.len()));
            self.rest.extend_from_slice(&part);
            if self.rest.len() == BLOCK {
                self.blocks.push(self.rest.split().freeze());
            }
        }
    }

    /// Waits for what is being written.
    async fn settle(&mut self) -> Result<(), StoreError> {
        if let Place::Writing(writing) = &mut self.place {
            let written = writing.await;
            self.has_written(written)?;
        }
        Ok(())
    }

    fn has_written(&mut self, written: Result<Option<ContentFile>, StoreError>) -> Result<(), StoreError> {
        self.place = Place::Failed;
        self.place = written?.map_or(Place::Full, Place::File);
        Ok(())
    }

    /// Why nothing more is taken, where that is so.
    fn refused(&self) -> Result<PutOutcome, StoreError> {
        match self.place {
            // Only for now: next time there may be room.
            Place::Full => Ok(PutOutcome::Superseded),
            _ => Err(StoreError::new(WRITE, "a write before this one has failed")),
        }
    }

    async fn store(
        mut self,
        head: ResponseHead,
        trailers: Option<HeaderMap>,
    ) -> Result<PutOutcome, StoreError> {
        self.settle().await?;
        if matches!(self.place, Place::Failed | Place::Full) {
            return self.refused();
        }
        let inner = Arc::clone(&self.inner);
        inner.jobs.write("commit content", move || self.write_record(head, trailers)).await
    }

    /// Writes what is left, and the record.
    fn write_record(mut self, head: ResponseHead, trailers: Option<HeaderMap>) -> io::Result<PutOutcome> {
        let mut blocks = std::mem::take(&mut self.blocks);
        blocks.push(std::mem::take(&mut self.rest).freeze());
        let file = match std::mem::replace(&mut self.place, Place::Nowhere) {
            Place::File(file) => Some(file),
            _ => None,
        };
        let (payload, content) = if file.is_none() && self.length <= BLOCK as u64 {
            // There is one that is not empty, at most.
            let all = blocks.into_iter().find(|block| !block.is_empty());
            (Payload::from_bytes(all.unwrap_or_default()), None)
        } else {
            match self.inner.write_blocks(file, &blocks)? {
                Some(file) => (Payload::remote(file.content), Some(file)),
                None => return Ok(PutOutcome::Superseded),
            }
        };
        let response = StoredResponse::new(head, payload.with_trailers(trailers));
        let new = New { content, fence: self.fence, response, replaces: Replaces::SameSelection };
        self.inner.write(&self.key, new)
    }
}

impl ContentWriter for Writer {
    fn write(&mut self, data: Bytes) -> BoxFuture<'_, ControlFlow<PutOutcome>> {
        Box::pin(self.add(data))
    }

    fn commit(
        self: Box<Self>,
        head: ResponseHead,
        trailers: Option<HeaderMap>,
    ) -> BoxFuture<'static, PutOutcome> {
        Box::pin(self.store(head, trailers))
    }
}

impl Inner {
    /// Writes blocks, to a new file where there is none yet. `None` where there is no room for it.
    pub(super) fn write_blocks(
        &self,
        file: Option<ContentFile>,
        blocks: &[Bytes],
    ) -> io::Result<Option<ContentFile>> {
        let mut file = match file {
            Some(file) => file,
            None => ContentFile {
                content: RemoteContent::new(self.namer.new_content(), 0),
                staged: self.with_room(|| self.folder.stage())?,
                reserved: self.index.reservation(),
            },
        };
        for block in blocks.iter().filter(|block| !block.is_empty()) {
            let RemoteContent { id, length, .. } = file.content;
            let (start, number) = (bytes_of(length), length / BLOCK as u64);
            let after = length + block.len() as u64;
            if !file.reserved.grow_to(bytes_of(after)) {
                return Ok(None);
            }
            self.remove_evicted();
            let sum = checksum(id, number, block);
            self.with_room(|| {
                file.staged.file()?.seek(SeekFrom::Start(start))?;
                file.staged.file()?.write_all(block)?;
                file.staged.file()?.write_all(&sum)
            })?;
            file.content.length = after;
        }
        Ok(Some(file))
    }

    /// Tries again with more room where the disk is full.
    pub(super) fn with_room<T>(&self, mut write: impl FnMut() -> io::Result<T>) -> io::Result<T> {
        let before = self.room.times();
        match write() {
            Err(error) if is_full(&error) => {
                self.make_room(before);
                write()
            }
            written => written,
        }
    }
}
