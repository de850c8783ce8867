//! Content that goes to clients as it comes in, and to the store: when it has all come in, or piece by piece where the store
//! takes it so.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use http::StatusCode;
use http::header::HeaderMap;

use super::Fetch;
use super::assess::{Assessment, Tag};
use super::receive::{NewResponse, head_to_store};
use super::write::{self, EntryWrite, ReportedStored, WrittenResponse};
use crate::body::CacheBody;
use crate::body::flight::StoreSeat;
use crate::body::incoming::Incoming;
use crate::body::pump::{Bounds, Pump, Received, Sink, Unwritten};
use crate::collapse::{CallResult, LazyHead};
use crate::entry::pieces::{PIECE, Pieces};
use crate::entry::{Levels, Part, Payload, StoredResponse};
use crate::error::StoreError;
use crate::observe::{Answer, Event};
use crate::policy::Terms;
use crate::runtime::{Runtime, from_now_on, polled_once};
use crate::semantics::etag::TagKind;
use crate::semantics::storing::NotStored;
use crate::shared::{Shared, StreamWriter};
use crate::store::{PutOutcome, Store};

/// What comes of giving a store content while it comes.
type Written<S> = Result<StreamWriter<S>, Unwritten>;
type Writing<S> = Pin<Box<dyn Future<Output = Written<S>> + Send>>;

/// How a response goes to the store.
enum Way<S> {
    /// Piece by piece, to what this gives.
    Streamed(Writing<S>),
    /// Whole, if it is no larger than this.
    Whole(u64),
}

impl<S: Store> Fetch<S> {
    /// Passes content to the client as it comes in, and stores it.
    pub(super) async fn store_while_streaming(
        mut self,
        received: NewResponse,
        runtime: &Runtime,
        body: Incoming,
        length: Option<u64>,
        tag: Option<TagKind>,
    ) -> Answer {
        let way = match self.way(&received.assessment, length).await {
            Ok(way) => way,
            Err(reason) => return self.receive_unstorable(received, body, length, tag, reason).await,
        };
        let NewResponse { assessment, is_capped, parts } = received;
        let (received_at, sent_at) = (assessment.received_at, self.exchange.request.now);
        let outcome = self.stored(assessment.ttl(sent_at));
        let (shared, gauges) = (Arc::clone(&self.exchange.shared), Arc::clone(&self.core().gauges));
        let (is_streamed, most) = match &way {
            Way::Streamed(_) => (true, assessment.terms.max_body),
            Way::Whole(most) => (false, *most),
        };
        let bounds = Bounds { is_streamed, kept: gauges.kept(), most };
        let (pump, reader) = Pump::new(length, bounds, tag, &gauges);
        let writing = match way {
            Way::Streamed(begin) => {
                let seat = StoreSeat::new(Arc::clone(pump.flight()));
                Some(Box::pin(written(begin, seat, length.is_none())) as Writing<S>)
            }
            Way::Whole(_) => None,
        };
        let (status, headers) = (parts.status, parts.headers.clone());
        let received = Arc::new(ReceivedHead { assessment, headers, sent_at, status });
        let write = EntryWrite::of(&mut self.exchange);
        if let Some(leader) = &write.leader {
            let head = lazy_head(Arc::clone(&received));
            leader.publish(CallResult::Streaming(Arc::new(head), Arc::clone(pump.flight()), tag.is_some()));
        }
        // Where it is a 304, the content goes to the store all the same, as that of a fill that nobody waits for.
        let answer = self.respond_received(parts, CacheBody::flight(reader), outcome, received_at);
        let reported = ReportedStored::new(&gauges);
        let sink = EntrySink { is_capped, received, reported, shared, unwritten: None, writing, write };
        pump.launch(runtime, body, Box::new(sink));
        answer
    }

    /// How a response goes to the store. Content of known length is announced to it before anything is answered; where the
    /// store refuses that without waiting, this is why it is not stored.
    async fn way(&self, assessment: &Assessment, length: Option<u64>) -> Result<Way<S>, NotStored> {
        let most = assessment.terms.max_body;
        if !self.is_streamed(assessment, length) {
            return Ok(Way::Whole(most));
        }
        let (shared, key) = (Arc::clone(&self.exchange.shared), self.exchange.request.key.clone());
        let kept = shared.core.gauges.kept();
        let mut begin: Writing<S> = Box::pin(shared.begin(key, length, self.exchange.fence()));
        let begun = if length.is_some() { polled_once(begin.as_mut()).await } else { None };
        match begun {
            None => Ok(Way::Streamed(begin)),
            Some(Ok(writer)) => Ok(Way::Streamed(Box::pin(std::future::ready(Ok(writer))))),
            // It is shared all the same, as far as it is kept.
            Some(Err(Unwritten::Failed)) => Ok(Way::Whole(most.min(kept))),
            Some(Err(Unwritten::Superseded)) => Err(NotStored::Store),
            Some(Err(Unwritten::TooLarge)) => Err(NotStored::TooLarge),
            Some(Err(Unwritten::Whole)) => Ok(Way::Whole(most)),
        }
    }

    /// Whether the store gets a response whole, whatever its length: a near level keeps content in memory.
    pub(super) fn comes_whole(&self, terms: &Terms) -> bool {
        terms.levels == Levels::Near && self.exchange.shared.store.limits().is_tiered
    }

    /// Whether content goes to the store piece by piece. What is small is put whole, and so is a part that can be joined with
    /// another one in memory.
    fn is_streamed(&self, assessment: &Assessment, length: Option<u64>) -> bool {
        let shared = &self.exchange.shared;
        let whole = match self.sent.part {
            Some(Part::Bytes(_)) => shared.core.most_in_memory,
            Some(Part::Replay) | None => PIECE as u64,
        };
        shared.store.limits().takes_streams
            && !self.comes_whole(&assessment.terms)
            && assessment.terms.max_body > PIECE as u64
            && length.is_none_or(|length| length > whole)
    }
}

/// Gives a store what comes in. `may_be_small`: it is not known whether it is worth while to begin.
async fn written<S: Store>(begin: Writing<S>, mut seat: StoreSeat, may_be_small: bool) -> Written<S> {
    if may_be_small {
        seat.large().await;
    }
    let mut writer = begin.await?;
    while let Some(piece) = seat.next().await {
        writer.write(piece).await?;
    }
    Ok(writer)
}

/// The head of a response that is to be stored, as it came.
struct ReceivedHead {
    assessment: Box<Assessment>,
    headers: HeaderMap,
    sent_at: SystemTime,
    status: StatusCode,
}

/// The head for those that wait, of content that is on its way.
fn lazy_head(received: Arc<ReceivedHead>) -> LazyHead {
    LazyHead::new(Box::new(move || {
        let ReceivedHead { assessment, headers, sent_at, status } = &*received;
        let mut assessment = Assessment::clone(assessment);
        assessment.head(*status, headers, *sent_at, None, Tag::Theirs).0
    }))
}

/// Where content goes that comes in as a stream.
struct EntrySink<S> {
    is_capped: bool,
    received: Arc<ReceivedHead>,
    reported: ReportedStored,
    shared: Arc<Shared<S>>,
    /// Why the store takes no more of it.
    unwritten: Option<Unwritten>,
    /// What gives it to the store piece by piece. Dropped before the right to store it.
    writing: Option<Writing<S>>,
    write: EntryWrite<S>,
}

impl<S: Store> Sink for EntrySink<S> {
    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<Unwritten> {
        let Some(writing) = &mut self.writing else {
            return Poll::Pending;
        };
        let Poll::Ready(written) = writing.as_mut().poll(cx) else {
            return Poll::Pending;
        };
        self.writing = None;
        // It has not all come in yet.
        let unwritten = written.err().unwrap_or(Unwritten::Failed);
        self.unwritten = Some(unwritten);
        Poll::Ready(unwritten)
    }

    async fn commit(self: Box<Self>, content: Received) -> Option<Pieces> {
        let Self { received, reported, shared, unwritten, writing, mut write, .. } = *self;
        let ReceivedHead { assessment, headers, sent_at, status } = &*received;
        let Received { content, tag, trailers } = content;
        // Nobody could know before it had ended.
        let is_too_small = content.length < assessment.terms.min_body;
        let unwritten = if is_too_small { Some(Unwritten::Superseded) } else { unwritten };
        // Small content is put whole. Dropped at once: it holds the content.
        let writing = if content.length > PIECE as u64 && !is_too_small { writing } else { None };
        let mut assessment = Assessment::clone(assessment);
        let length = usize::try_from(content.length).ok();
        let (head, _) =
            head_to_store(&mut assessment, *status, headers, *sent_at, length, tag, trailers.as_ref());
        let streamed_head = writing.is_some().then(|| head.clone());
        let response = content
            .pieces
            .map(|pieces| StoredResponse::new(head, Payload::new(pieces.compacted(), trailers.clone())));
        let whole = response.as_ref().and_then(|response| response.payload().content().cloned());
        if let (Some(leader), Some(response)) = (&write.leader, &response) {
            // What comes in until the store has it is answered from this, as from a stored response.
            leader.publish(CallResult::Whole(response.clone()));
        }
        let bytes = response.as_ref().map_or(content.weight, StoredResponse::weight);
        let put = async move {
            let unwritten = match (writing, streamed_head) {
                (Some(writing), Some(head)) => match writing.await {
                    Ok(writer) => return write.commit(WrittenResponse { head, trailers, writer }).await,
                    Err(unwritten) => Some(unwritten),
                },
                _ => unwritten,
            };
            let outcome = match (unwritten, response) {
                (Some(Unwritten::TooLarge), _) => PutOutcome::TooLarge,
                (Some(Unwritten::Superseded), _) | (_, None) => PutOutcome::Superseded,
                (_, Some(response)) => return write.put(response).await,
            };
            write.refuse().await;
            outcome
        };
        // Where it can't be stored, the next request is a miss.
        write::soon(&shared.core.gauges, bytes, Some(reported), Box::pin(put)).await;
        whole
    }

    async fn refuse(self: Box<Self>) {
        // For a while, nobody is to wait for what this key gives.
        if let Some(leader) = self.write.leader.as_ref().filter(|_| !self.is_capped) {
            leader.remember(self.shared.core.clock.now(), self.received.assessment.terms.pass_for);
        }
        // The content goes on meanwhile.
        from_now_on(self.write.refuse());
    }

    fn give_up(self: Box<Self>, limit: Duration) {
        let error = StoreError::timed_out("take content", limit);
        self.shared.core.reporter.event(&Event::StoreFailed { error: &error });
    }
}
