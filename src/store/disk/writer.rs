//! Content on its way into a file.

use std::io::{self, Seek as _, SeekFrom, Write as _};
use std::ops::ControlFlow;
use std::pin::Pin;
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

/// How many blocks are written at one time, while no more than that are taken.
const TOGETHER: usize = 4;

type Writing = Pin<Box<dyn Future<Output = Result<Option<ContentFile>, StoreError>> + Send>>;

/// Where content is that was taken, except for what is in memory.
enum Place {
    File(ContentFile),
    /// It did not fit, or could not be written.
    Lost,
    Nowhere,
    Writing(Writing),
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

    /// Takes content, and has it written once there is enough. It waits for what was to be written before, so no more is in memory
    /// than that and this.
    async fn add(&mut self, data: Bytes) -> Result<ControlFlow<PutOutcome>, StoreError> {
        const ACTION: &str = "write content";
        self.inner.jobs.check(ACTION)?;
        self.length += data.len() as u64;
        if self.length > self.inner.settings.max_object {
            return Ok(ControlFlow::Break(PutOutcome::TooLarge));
        }
        self.take(data);
        if self.blocks.len() < TOGETHER {
            return Ok(ControlFlow::Continue(()));
        }
        let Some(file) = self.settled().await? else {
            return Ok(ControlFlow::Break(PutOutcome::TooLarge));
        };
        let (inner, blocks) = (Arc::clone(&self.inner), std::mem::take(&mut self.blocks));
        let mut writing: Writing = Box::pin(async move {
            let jobs = Arc::clone(&inner);
            jobs.jobs.run(ACTION, move || inner.write_blocks(file, &blocks)).await
        });
        // It begins now, and goes on while nobody waits for it.
        self.place = match polled_once(writing.as_mut()).await {
            None => Place::Writing(writing),
            Some(written) => written?.map_or(Place::Lost, Place::File),
        };
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

    /// The file, if there is one yet, when nothing is being written to it any more. `None` where what was taken is lost: for an error, it
    /// was told before.
    async fn settled(&mut self) -> Result<Option<Option<ContentFile>>, StoreError> {
        if let Place::Writing(writing) = &mut self.place {
            let written = writing.await;
            self.place = Place::Lost;
            return Ok(written?.map(Some));
        }
        Ok(match std::mem::replace(&mut self.place, Place::Lost) {
            Place::File(file) => Some(Some(file)),
            Place::Nowhere => Some(None),
            Place::Lost | Place::Writing(_) => None,
        })
    }

    async fn store(
        mut self,
        head: ResponseHead,
        trailers: Option<HeaderMap>,
    ) -> Result<PutOutcome, StoreError> {
        let Some(file) = self.settled().await? else { return Ok(PutOutcome::TooLarge) };
        let inner = Arc::clone(&self.inner);
        let work = move || {
            let inner = Arc::clone(&self.inner);
            let mut blocks = std::mem::take(&mut self.blocks);
            blocks.push(std::mem::take(&mut self.rest).freeze());
            let is_small = file.is_none() && self.length <= BLOCK as u64;
            let (payload, content) = match is_small {
                // One of the two is empty.
                true => (
                    Payload::from_bytes(
                        blocks.into_iter().find(|block| !block.is_empty()).unwrap_or_default(),
                    ),
                    None,
                ),
                false => match inner.write_blocks(file, &blocks)? {
                    Some(file) => (Payload::remote(file.content), Some(file)),
                    None => return Ok(PutOutcome::TooLarge),
                },
            };
            let response = StoredResponse::new(head, payload.with_trailers(trailers));
            let new = New { content, fence: self.fence, response, replaces: Replaces::SameSelection };
            inner.write(&self.key, new)
        };
        inner.jobs.run("commit content", work).await
    }
}

/// A file that was not committed goes where that stops nobody: at the end of the write, where one is under way.
impl Drop for Writer {
    fn drop(&mut self) {
        if let Place::File(file) = std::mem::replace(&mut self.place, Place::Lost) {
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
