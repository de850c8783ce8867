//! Content on its way into chunks.

use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::HeaderMap;

use super::content::{LINGER, ON_ITS_WAY, new_content};
use super::error::LinkError;
use super::inner::{Inner, Replaces};
use crate::entry::key::CacheKey;
use crate::entry::{Payload, RemoteContent, ResponseHead, StoredResponse};
use crate::runtime::from_now_on;
use crate::store::content::BoxFuture;
use crate::store::random::random_wide;
use crate::store::{ContentWriter, Fence, PutOutcome};

/// Writes chunks, and at last the record that has them. Nobody knows of them before that.
pub(super) struct Writer {
    buffer: BytesMut,
    content: RemoteContent,
    fence: Fence,
    inner: Arc<Inner>,
    key: CacheKey,
    /// How many chunks were written of which no record says anything.
    written: u64,
}

impl Writer {
    pub(super) fn new(inner: &Arc<Inner>, key: &CacheKey, fence: Fence) -> Self {
        let content = new_content(random_wide(), inner.config.chunk, 0);
        let (inner, key) = (Arc::clone(inner), key.clone());
        Self { buffer: BytesMut::new(), content, fence, inner, key, written: 0 }
    }

    /// Takes the next bytes, and writes what fills chunks. Whether it still fits.
    pub(super) async fn add(&mut self, data: &[u8]) -> Result<bool, LinkError> {
        self.content.length += data.len() as u64;
        if self.content.length > self.inner.config.max_object {
            return Ok(false);
        }
        let chunk = usize::try_from(self.inner.config.chunk).unwrap_or(usize::MAX);
        let mut rest = data;
        while !rest.is_empty() {
            let (now, later) = rest.split_at(rest.len().min(chunk - self.buffer.len()));
            self.buffer.extend_from_slice(now);
            rest = later;
            if self.buffer.len() == chunk {
                self.flush().await?;
            }
        }
        Ok(true)
    }

    async fn flush(&mut self) -> Result<(), LinkError> {
        let data = std::mem::take(&mut self.buffer);
        let number = self.written;
        // Counted before it is there: it may be, whatever is heard of it.
        self.written += 1;
        self.inner.contents(&self.key).write(self.content, number, &data, ON_ITS_WAY).await
    }

    /// Stores a response with this content.
    pub(super) async fn store(
        mut self,
        head: ResponseHead,
        trailers: Option<HeaderMap>,
    ) -> Result<PutOutcome, LinkError> {
        if self.content.length > self.inner.config.max_object {
            return Ok(PutOutcome::TooLarge);
        }
        let mut deadline = self.inner.content_deadline();
        let is_remote = self.written > 0 || self.content.length > self.inner.config.inline;
        let payload = if is_remote {
            deadline.in_time(self.complete(&head)).await?;
            Payload::remote(self.content)
        } else {
            Payload::from_bytes(std::mem::take(&mut self.buffer).freeze())
        };
        let response = StoredResponse::new(head, payload.with_trailers(trailers));
        // From here on a record may have them, also where nobody waits for the answer any more.
        let written = std::mem::take(&mut self.written);
        let writing = self.inner.write(&self.key, response, self.fence, &Replaces::SameSelection);
        let stored = deadline.in_time(Box::pin(writing)).await;
        if matches!(stored, Ok(PutOutcome::Superseded | PutOutcome::TooLarge)) {
            self.written = written;
        }
        stored
    }

    /// Writes the rest of the content, and lets all of it live as long as the response is of use.
    async fn complete(&mut self, head: &ResponseHead) -> Result<(), LinkError> {
        if !self.buffer.is_empty() {
            self.flush().await?;
        }
        let time = self.inner.time_of_use(head).saturating_add(LINGER);
        match self.inner.contents(&self.key).expire(self.content, time).await? {
            true => Ok(()),
            false => Err(LinkError::bad("the server has dropped the content before it was stored")),
        }
    }
}

/// What no record has goes.
impl Drop for Writer {
    fn drop(&mut self) {
        if self.written > 0 {
            let contents = self.inner.contents(&self.key);
            let length = self.written * u64::from(self.inner.config.chunk);
            let content = RemoteContent::new(self.content.id, length);
            from_now_on(async move { contents.remove(content).await });
        }
    }
}

impl ContentWriter for Writer {
    fn write(&mut self, data: Bytes) -> BoxFuture<'_, ControlFlow<PutOutcome>> {
        Box::pin(async move {
            match self.add(&data).await {
                Ok(true) => Ok(ControlFlow::Continue(())),
                Ok(false) => Ok(ControlFlow::Break(PutOutcome::TooLarge)),
                Err(error) => Err(error.to("write content")),
            }
        })
    }

    fn commit(
        self: Box<Self>,
        head: ResponseHead,
        trailers: Option<HeaderMap>,
    ) -> BoxFuture<'static, PutOutcome> {
        Box::pin(async move { self.store(head, trailers).await.map_err(|error| error.to("commit content")) })
    }
}
