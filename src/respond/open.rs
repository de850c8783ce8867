//! Content that a store has elsewhere, opened before a head goes out: what is gone is a miss.
//!
//! A HEAD, a 304, a 412 and a 416 open nothing.

use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use http::Method;
use http_body_util::BodyExt;

use crate::body::resumed::{Rest, Resumed};
use crate::body::stored::OpenedBody;
use crate::entry::key::CacheKey;
use crate::entry::partial::{self, Missing, Needed};
use crate::entry::pieces::{Pieces, PiecesMut};
use crate::entry::{Payload, RemoteContent, ResponseHead, StoredResponse};
use crate::respond::request::CacheRequest;
use crate::runtime::{Mutex, lock};
use crate::semantics::preconditions::Outcome as Precondition;
use crate::semantics::range::ByteRange;
use crate::semantics::reuse::{Decision, Forward};
use crate::shared::{Core, Shared};
use crate::store::{Lookup, Store, StoredBody, StoredId};

/// The most bytes of several ranges that are taken into memory to make one answer of. A request for more gets the whole.
const MOST_RANGES: u64 = 8 * 1024 * 1024;

/// The content is not there any more, or the store can't say.
#[derive(Debug)]
pub(crate) struct Gone;

/// Content that was opened for one answer.
#[derive(Debug)]
pub(crate) struct Opened {
    content: OpenedContent,
    needed: Needed,
}

#[derive(Debug)]
pub(crate) enum OpenedContent {
    /// The whole, or one range.
    Body(StoredBody),
    /// Several ranges, one by one.
    Ranges(Vec<Pieces>),
}

impl Opened {
    /// The content, if it is what the answer needs.
    pub(crate) fn content(self, needed: &Needed) -> Option<OpenedContent> {
        (self.needed == *needed).then_some(self.content)
    }

    /// The same, of which the rest is asked for where it breaks off. `length` is that of what the client gets.
    #[must_use]
    pub(crate) fn with_rest(self, length: u64, rest: Rest) -> Self {
        let content = match self.content {
            OpenedContent::Body(body) => {
                OpenedContent::Body(StoredBody::new(Resumed::new(body, length, rest)))
            }
            ranges @ OpenedContent::Ranges(_) => ranges,
        };
        Self { content, ..self }
    }

    pub(crate) fn is_for(&self, needed: &Needed) -> bool {
        self.needed == *needed
    }
}

/// Opened content for the first answer that takes it.
#[derive(Clone, Debug, Default)]
pub(crate) struct OpenedOnce(Option<Arc<Mutex<Option<Opened>>>>);

impl OpenedOnce {
    pub(crate) fn new(opened: Option<Opened>) -> Self {
        Self(opened.map(|opened| Arc::new(Mutex::new(Some(opened)))))
    }

    pub(crate) fn take(&self) -> Option<Opened> {
        lock(self.0.as_deref()?).take()
    }
}

/// Whether one answer can be made of these ranges of remote content: one is sent as it is, several are put together.
fn are_small(ranges: &[ByteRange]) -> bool {
    ranges.len() == 1 || ranges.iter().map(ByteRange::len).sum::<u64>() <= MOST_RANGES
}

/// What was decided without something that was there, or may have been.
pub(crate) fn as_a_miss(decision: Decision) -> Decision {
    match decision {
        Decision::Forward(_) => Decision::Forward(Forward::Miss),
        decision => decision,
    }
}

impl CacheRequest {
    /// Decides by what a store that had to be waited for has found; `None` where it failed. Reads fail open: it is a miss, whose
    /// result may be stored or not.
    pub(crate) fn decide_on(&mut self, core: &Core, looked_up: Option<Lookup>) -> (Lookup, Decision) {
        let (is_lost, lookup) = (looked_up.is_none(), looked_up.unwrap_or_default());
        self.keep_to_one_coding(&lookup);
        let decision = self.decide(core, &lookup);
        let decision = if is_lost { as_a_miss(decision) } else { decision };
        (lookup, decision)
    }

    /// Decides anew without a response whose content is gone.
    pub(crate) fn decide_without(&self, core: &Core, lookup: Lookup, id: StoredId) -> (Lookup, Decision) {
        let lookup = lookup.without(id);
        let decision = as_a_miss(self.decide(core, &lookup));
        (lookup, decision)
    }

    /// What its answer needs of the content of a stored response.
    pub(crate) fn needed(&self, response: &StoredResponse, now: SystemTime) -> Needed {
        let (head, request) = (response.head(), &self.parts);
        if !self.needs_content(head, now) {
            Needed::Nothing
        } else if (self.fields.range && request.method == Method::GET) || head.part.is_some() {
            match partial::needed(response, &request.headers) {
                // What can be sent without being taken into memory.
                Needed::Ranges(ranges) if head.part.is_none() && !are_small(&ranges) => Needed::Whole,
                needed => needed,
            }
        } else {
            Needed::Whole
        }
    }

    /// Whether its answer needs any content.
    pub(crate) fn needs_content(&self, head: &ResponseHead, now: SystemTime) -> bool {
        let precondition = || self.precondition(head.status, || head.representation(), now);
        self.parts.method != Method::HEAD && precondition() == Precondition::Proceed
    }

    /// Whether its answer needs content that the store has elsewhere.
    pub(crate) fn has_to_open(&self, response: &StoredResponse) -> bool {
        response.payload().is_remote() && self.needed(response, self.now) != Needed::Nothing
    }

    /// What the inner service may be asked for where opened content breaks off: all of it. `None` where that would say nothing of the
    /// same representation, or the client wants nothing from there. Several ranges are in memory already.
    pub(crate) fn can_resume(&self, opened: &Opened, lookup: &Lookup, index: usize) -> Option<Missing> {
        if self.parts.method != Method::GET || self.directives.only_if_cached {
            return None;
        }
        let others = lookup.variants.iter().map(|stored| stored.response.head());
        Missing::of(&lookup.variants.get(index)?.response, &opened.needed, others)
    }

    /// Opens what its answer needs of a stored response; `None` where that is at hand, or nothing.
    pub(crate) async fn open<S: Store>(
        &self,
        shared: &Shared<S>,
        response: &StoredResponse,
    ) -> Result<Option<Opened>, Gone> {
        self.open_under(shared, &self.key, response).await
    }

    /// [`CacheRequest::open`] for what is stored under another key.
    pub(crate) async fn open_under<S: Store>(
        &self,
        shared: &Shared<S>,
        key: &CacheKey,
        response: &StoredResponse,
    ) -> Result<Option<Opened>, Gone> {
        let Some(content) = response.payload().as_remote() else {
            return Ok(None);
        };
        let needed = self.needed(response, self.now);
        let body = |range| async move { opened(shared, key, content, range).await.map(OpenedContent::Body) };
        let content = match &needed {
            Needed::Nothing => return Ok(None),
            Needed::Whole => body(None).await?,
            Needed::Ranges(ranges) => match ranges.as_slice() {
                [range] => body(Some(*range)).await?,
                // Of a part that is asked for in such large pieces there is no whole to send.
                ranges if !are_small(ranges) => return Err(Gone),
                ranges => {
                    let mut read = Vec::with_capacity(ranges.len());
                    for range in ranges {
                        let body = opened(shared, key, content, Some(*range)).await?;
                        read.push(collected(body, range.len()).await?);
                    }
                    OpenedContent::Ranges(read)
                }
            },
        };
        Ok(Some(Opened { content, needed }))
    }
}

/// The content of a stored response in memory, `most` bytes of it.
pub(crate) async fn load<S: Store>(
    shared: &Shared<S>,
    key: &CacheKey,
    response: &StoredResponse,
    most: u64,
) -> Result<StoredResponse, Gone> {
    let payload = response.payload();
    let Some(content) = payload.as_remote() else {
        return Ok(response.clone());
    };
    if content.length > most {
        return Err(Gone);
    }
    let pieces = collected(opened(shared, key, content, None).await?, content.length).await?;
    let payload = Payload::new(pieces, payload.trailers().cloned());
    Ok(StoredResponse { head: Arc::clone(&response.head), payload })
}

async fn opened<S: Store>(
    shared: &Shared<S>,
    key: &CacheKey,
    content: RemoteContent,
    range: Option<ByteRange>,
) -> Result<StoredBody, Gone> {
    shared.open(key, content, range).await.ok_or(Gone)
}

/// All of an opened body, which has to have this length.
async fn collected(body: StoredBody, length: u64) -> Result<Pieces, Gone> {
    let mut body = OpenedBody::new(body, length, None);
    let mut content = PiecesMut::default();
    while let Some(frame) = body.frame().await {
        let data: Bytes = frame.ok().and_then(|frame| frame.into_data().ok()).ok_or(Gone)?;
        content.extend(&data);
    }
    Ok(content.freeze())
}
