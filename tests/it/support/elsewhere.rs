//! A store that keeps heads and contents apart: what it gives has remote content, which it opens on demand.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt, stream};
use http::HeaderMap;
use http_body::Frame;
use http_body_util::StreamBody;
use larder::semantics::range::ByteRange;
use larder::store::{
    BeginOutcome, ContentWriter, Fence, Lookup, PutOutcome, RemoteContent, Store, StoreLimits, StoredBody,
};
use larder::{CacheKey, MemoryStore, Payload, ResponseHead, StoreError, StoredResponse};

use super::forward::forward;

/// How content ends before its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    Clean,
    Error,
    /// Nothing comes any more.
    Hang,
    /// In place of what follows, more than that comes in one frame.
    Overrun,
    /// The store can't be reached.
    Unreachable,
}

/// What becomes of content that is opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fault {
    /// After so many bytes of what was opened.
    At(usize, Ending),
    /// It breaks off with an error half-way.
    Breaks,
    /// It can't be opened.
    Fails,
    /// It is not there any more.
    Gone,
    #[default]
    None,
    /// It ends cleanly half-way.
    Short,
}

#[derive(Clone, Default)]
pub struct Elsewhere {
    heads: Arc<MemoryStore>,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    contents: Mutex<HashMap<u128, Bytes>>,
    fault: Mutex<Fault>,
    next: AtomicU64,
    opened: Mutex<Vec<Option<(u64, u64)>>>,
    waits: AtomicBool,
}

impl State {
    /// Keeps content, of which a head is to be stored.
    fn keep(&self, content: Bytes) -> RemoteContent {
        let id = self.next.fetch_add(1, Ordering::SeqCst).into();
        let remote = RemoteContent::new(id, content.len() as u64);
        self.contents.lock().unwrap().insert(id, content);
        remote
    }
}

impl Elsewhere {
    /// One that keeps its heads here.
    pub fn of(heads: MemoryStore) -> Self {
        Self { heads: Arc::new(heads), state: Arc::default() }
    }

    /// One that has to be waited for.
    pub fn waiting() -> Self {
        let store = Self::default();
        store.state.waits.store(true, Ordering::SeqCst);
        store
    }

    pub fn set_fault(&self, fault: Fault) {
        *self.state.fault.lock().unwrap() = fault;
    }

    /// What was opened since the last call of this: whole contents, and ranges by their first and last byte.
    pub fn opened(&self) -> Vec<Option<(u64, u64)>> {
        std::mem::take(&mut *self.state.opened.lock().unwrap())
    }
}

impl Store for Elsewhere {
    forward!(heads: expect, freshen, purged_since, invalidate, statistics);

    fn try_get(&self, key: &CacheKey) -> Option<Lookup> {
        self.heads.try_get(key).filter(|_| !self.state.waits.load(Ordering::SeqCst))
    }

    async fn get(&self, key: &CacheKey) -> Result<Lookup, StoreError> {
        if self.state.waits.load(Ordering::SeqCst) {
            tokio::task::yield_now().await;
        }
        self.heads.get(key).await
    }

    async fn open(
        &self,
        _: &CacheKey,
        content: RemoteContent,
        range: Option<ByteRange>,
    ) -> Result<Option<StoredBody>, StoreError> {
        if self.state.waits.load(Ordering::SeqCst) {
            tokio::task::yield_now().await;
        }
        self.state.opened.lock().unwrap().push(range.map(|range| (range.first, range.last)));
        let fault = *self.state.fault.lock().unwrap();
        let kept = self.state.contents.lock().unwrap().get(&content.id).cloned();
        let Some(kept) = kept.filter(|_| fault != Fault::Gone) else {
            return Ok(None);
        };
        if fault == Fault::Fails {
            return Err(StoreError::new("open", "scripted"));
        }
        let mut content = range.map_or(kept.clone(), |range| {
            kept.slice(usize::try_from(range.first).unwrap()..usize::try_from(range.last).unwrap() + 1)
        });
        let ending = match fault {
            Fault::At(at, ending) => Some((at, ending)),
            Fault::Breaks => Some((content.len() / 2, Ending::Error)),
            Fault::Short => Some((content.len() / 2, Ending::Clean)),
            _ => None,
        };
        let length = content.len();
        if let Some((at, _)) = ending {
            content.truncate(at);
        }
        const FRAME: usize = 1_000;
        let mut frames: Vec<_> =
            content.chunks(FRAME).map(|frame| Ok(Frame::data(content.slice_ref(frame)))).collect();
        match ending.map(|(_, ending)| ending) {
            Some(Ending::Error) => frames.push(Err("scripted".into())),
            Some(Ending::Unreachable) => {
                frames.push(Err(StoreError::unreachable("read content", "scripted").into()));
            }
            Some(Ending::Overrun) => frames.push(Ok(Frame::data(vec![b'?'; length + 1].into()))),
            None | Some(Ending::Clean | Ending::Hang) => {}
        }
        let frames = stream::iter::<Vec<Result<_, Box<dyn std::error::Error + Send + Sync>>>>(frames);
        Ok(Some(match ending {
            Some((_, Ending::Hang)) => StoredBody::new(StreamBody::new(frames.chain(stream::pending()))),
            _ => StoredBody::new(StreamBody::new(frames)),
        }))
    }

    async fn put(
        &self,
        key: &CacheKey,
        response: StoredResponse,
        fence: Fence,
    ) -> Result<PutOutcome, StoreError> {
        let payload = response.payload();
        let content = self.state.keep(payload.to_bytes().expect("content comes in memory"));
        let remote = Payload::remote(content).with_trailers(payload.trailers().cloned());
        self.heads.put(key, StoredResponse::new(response.head().clone(), remote), fence).await
    }

    async fn begin(
        &self,
        key: &CacheKey,
        expected_length: Option<u64>,
        fence: Fence,
    ) -> Result<BeginOutcome, StoreError> {
        if expected_length.is_some_and(|length| length > self.limits().max_object) {
            return Ok(BeginOutcome::Refused(PutOutcome::TooLarge));
        }
        Ok(BeginOutcome::Writer(Box::new(Writer {
            content: BytesMut::new(),
            fence,
            key: key.clone(),
            store: self.clone(),
        })))
    }

    fn limits(&self) -> StoreLimits {
        self.heads.limits().takes_streams(true).waits(self.state.waits.load(Ordering::SeqCst))
    }
}

struct Writer {
    content: BytesMut,
    fence: Fence,
    key: CacheKey,
    store: Elsewhere,
}

type Written<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

impl ContentWriter for Writer {
    fn write(&mut self, data: Bytes) -> Written<'_, ControlFlow<PutOutcome>> {
        self.content.extend_from_slice(&data);
        let is_too_large = self.content.len() as u64 > self.store.limits().max_object;
        Box::pin(async move {
            Ok(match is_too_large {
                true => ControlFlow::Break(PutOutcome::TooLarge),
                false => ControlFlow::Continue(()),
            })
        })
    }

    fn commit(
        self: Box<Self>,
        head: ResponseHead,
        trailers: Option<HeaderMap>,
    ) -> Written<'static, PutOutcome> {
        let Self { content, fence, key, store } = *self;
        let payload = Payload::from_bytes(content.freeze()).with_trailers(trailers);
        Box::pin(async move { store.put(&key, StoredResponse::new(head, payload), fence).await })
    }
}
