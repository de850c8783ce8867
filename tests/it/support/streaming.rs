//! What a store has seen of content that it takes while it comes.

use std::ops::ControlFlow;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::HeaderMap;
use larder::store::{BeginOutcome, ContentWriter, Fence, PutOutcome, Store};
use larder::{CacheKey, ResponseHead, StoreError, StoredResponse};

use super::forward::forward;

/// What a store has seen, with numbers of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Saw {
    Begin(Option<u64>),
    Commit(PutOutcome),
    /// A writer that was not committed.
    Drop,
    Put(u64),
    Write(usize),
}

/// What a store refuses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Refusal {
    Begin(PutOutcome),
    #[default]
    None,
    /// To take anything but the whole.
    Pieces,
    /// What comes after so many bytes.
    Write(usize, PutOutcome),
}

/// A store that takes content while it comes, and notes what it sees of it. Clones are the same store.
#[derive(Clone)]
pub struct Noting<S> {
    refusal: Refusal,
    saw: Notes,
    store: Arc<S>,
}

#[derive(Clone, Default)]
struct Notes(Arc<Mutex<Vec<Saw>>>);

impl Notes {
    fn note(&self, saw: Saw) {
        self.0.lock().unwrap().push(saw);
    }
}

impl<S: Store> Noting<S> {
    pub fn of(store: S) -> Self {
        Self { refusal: Refusal::None, saw: Notes::default(), store: Arc::new(store) }
    }

    pub fn refusing(self, refusal: Refusal) -> Self {
        Self { refusal, ..self }
    }

    /// What it has seen since the last call of this.
    pub fn saw(&self) -> Vec<Saw> {
        std::mem::take(&mut *self.saw.0.lock().unwrap())
    }
}

impl<S: Store> Store for Noting<S> {
    forward!(store: try_get, get, open, expect, freshen, purged_since, invalidate, limits, statistics);

    async fn put(
        &self,
        key: &CacheKey,
        response: StoredResponse,
        fence: Fence,
    ) -> Result<PutOutcome, StoreError> {
        self.saw.note(Saw::Put(response.payload().len()));
        self.store.put(key, response, fence).await
    }

    async fn begin(
        &self,
        key: &CacheKey,
        expected_length: Option<u64>,
        fence: Fence,
    ) -> Result<BeginOutcome, StoreError> {
        self.saw.note(Saw::Begin(expected_length));
        match self.refusal {
            Refusal::Begin(outcome) => return Ok(BeginOutcome::Refused(outcome)),
            Refusal::Pieces => return Ok(BeginOutcome::PutWhole),
            Refusal::None | Refusal::Write(..) => {}
        }
        Ok(match self.store.begin(key, expected_length, fence).await? {
            BeginOutcome::Writer(writer) => BeginOutcome::Writer(Box::new(NotingWriter {
                has_written: 0,
                refusal: self.refusal,
                saw: self.saw.clone(),
                writer: Some(writer),
            })),
            begun => begun,
        })
    }
}

struct NotingWriter {
    has_written: usize,
    refusal: Refusal,
    saw: Notes,
    writer: Option<Box<dyn ContentWriter>>,
}

type OfWriter<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

impl ContentWriter for NotingWriter {
    fn write(&mut self, data: Bytes) -> OfWriter<'_, ControlFlow<PutOutcome>> {
        self.saw.note(Saw::Write(data.len()));
        self.has_written += data.len();
        match self.refusal {
            Refusal::Write(most, outcome) if self.has_written > most => {
                Box::pin(std::future::ready(Ok(ControlFlow::Break(outcome))))
            }
            _ => self.writer.as_mut().expect("it is not committed").write(data),
        }
    }

    fn commit(
        mut self: Box<Self>,
        head: ResponseHead,
        trailers: Option<HeaderMap>,
    ) -> OfWriter<'static, PutOutcome> {
        let writer = self.writer.take().expect("it is not committed");
        let saw = self.saw.clone();
        Box::pin(async move {
            let outcome = writer.commit(head, trailers).await?;
            saw.note(Saw::Commit(outcome));
            Ok(outcome)
        })
    }
}

impl Drop for NotingWriter {
    fn drop(&mut self) {
        if self.writer.is_some() {
            self.saw.note(Saw::Drop);
        }
    }
}
