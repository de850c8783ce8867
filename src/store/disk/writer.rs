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
use super::jobs::begin;
use crate::entry::key::CacheKey;
use crate::entry::{Payload, RemoteContent, ResponseHead, StoredResponse};
use crate::error::StoreError;
use crate::store::content::BoxFuture;
use crate::store::{ContentWriter, Fence, PutOutcome};

/// A file that content is being written to. Its name is not known to anybody before it is committed.
pub(super) struct ContentFile {
    pub(super) content: RemoteContent,
    pub(super) staged: Staged,
    /// Given back when the file is counted.
    pub(super) reserved: Reserved,
}

/// Content that did not fit into a file.
const TOO_MUCH: ControlFlow<PutOutcome> = ControlFlow::Break(PutOutcome::TooLarge);

/// Writes blocks, and at last the record that says which content it is.
pub(super) struct Writer {
    /// What is not written yet: less than a block, or one block.
    buffer: BytesMut,
    fence: Fence,
    /// `None` as long as all of it is in the buffer, and while a block is being written.
    file: Option<ContentFile>,
    _holding: Holding,
    inner: Arc<Inner>,
    key: CacheKey,
    length: u64,
}

impl Writer {
    pub(super) fn new(inner: &Arc<Inner>, key: &CacheKey, fence: Fence) -> Self {
        let holding = inner.purges.held.holding(inner.namer.of(key));
        let (inner, key) = (Arc::clone(inner), key.clone());
        Self { buffer: BytesMut::new(), fence, file: None, _holding: holding, inner, key, length: 0 }
    }

    async fn add(&mut self, data: Bytes) -> Result<ControlFlow<PutOutcome>, StoreError> {
        const ACTION: &str = "write content";
        let is_interrupted = self.file.is_none() && self.length > self.buffer.len() as u64;
        if is_interrupted {
            return Err(StoreError::new(ACTION, "a write before this one was not waited for"));
        }
        self.length += data.len() as u64;
        if self.length > self.inner.settings.max_object {
            return Ok(TOO_MUCH);
        }
        let mut blocks = Vec::new();
        let mut rest = &data[..];
        while !rest.is_empty() {
            if self.buffer.len() == BLOCK {
                blocks.push(self.buffer.split().freeze());
            }
            let (now, later) = rest.split_at(rest.len().min(BLOCK - self.buffer.len()));
            self.buffer.extend_from_slice(now);
            rest = later;
        }
        if blocks.is_empty() {
            return Ok(ControlFlow::Continue(()));
        }
        let (inner, file) = (Arc::clone(&self.inner), self.file.take());
        let written = self.inner.jobs.run(ACTION, move || inner.write_blocks(file, &blocks)).await?;
        self.file = written;
        Ok(if self.file.is_some() { ControlFlow::Continue(()) } else { TOO_MUCH })
    }

    async fn store(
        mut self,
        head: ResponseHead,
        trailers: Option<HeaderMap>,
    ) -> Result<PutOutcome, StoreError> {
        let inner = Arc::clone(&self.inner);
        let work = move || {
            let inner = Arc::clone(&self.inner);
            let last = std::mem::take(&mut self.buffer).freeze();
            let (payload, content) = match self.file.take() {
                None => (Payload::from_bytes(last), None),
                Some(file) => match inner.write_blocks(Some(file), &[last])? {
                    Some(file) => (Payload::remote(file.content), Some(file)),
                    None => return Ok(PutOutcome::TooLarge),
                },
            };
            if payload.len() != self.length {
                return Err(io::Error::other("a write before this was not waited for"));
            }
            let response = StoredResponse::new(head, payload.with_trailers(trailers));
            let new = New { content, fence: self.fence, response, replaces: Replaces::SameSelection };
            inner.write(&self.key, new)
        };
        inner.jobs.run("commit content", work).await
    }
}

/// A file that was not committed goes where that stops nobody.
impl Drop for Writer {
    fn drop(&mut self) {
        if let Some(file) = self.file.take() {
            begin(move || drop(file));
        }
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
                file.staged.file.seek(SeekFrom::Start(start))?;
                file.staged.file.write_all(block)?;
                file.staged.file.write_all(&sum)
            })?;
            file.content.length = after;
        }
        Ok(Some(file))
    }

    /// Tries again with more room where the disk is full.
    pub(super) fn with_room<T>(&self, mut write: impl FnMut() -> io::Result<T>) -> io::Result<T> {
        match write() {
            Err(error) if is_full(&error) => {
                self.make_room();
                write()
            }
            written => written,
        }
    }
}
