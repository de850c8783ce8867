//! The body of an answer that is made of slices: one after the other, and the next one asked for in advance.
//!
//! Invariant: at any time no more is held than what one slice's body gives at once, and the head of the next one.

use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use http::Response;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use super::transfer::{Current, Purging, Refused, Transfer};
use crate::body::length::into_bytes;
use crate::entry::slice::SliceRequest;
use crate::error::{BodyError, BoxError};
use crate::semantics::range::ByteRange;

pin_project! {
    /// The response body of [`SliceService`](crate::SliceService): the one that it received, or several, joined.
    pub struct JoinedBody<B>
    where
        B: Body,
    {
        #[pin]
        kind: Kind<B>,
    }
}

pin_project! {
    #[project = KindProjection]
    enum Kind<B>
    where
        B: Body,
    {
        Direct { #[pin] body: B },
        Empty,
        Joined { joined: Box<Joined<B>> },
    }
}

/// A call for a slice; `None` where the inner service failed.
pub(super) type Asking<B> = Pin<Box<dyn Future<Output = Option<Response<B>>> + Send>>;
/// Asks for slices.
pub(super) type Ask<B> = Box<dyn FnMut(SliceRequest) -> Asking<B> + Send>;

/// A piece of the content that a client gets.
pub(super) enum Piece {
    Range(ByteRange),
    Text(Bytes),
}

impl Piece {
    pub(super) fn len(&self) -> u64 {
        match self {
            Self::Range(range) => range.len(),
            Self::Text(text) => text.len() as u64,
        }
    }
}

/// How many bytes pieces have.
pub(super) fn length_of(pieces: &VecDeque<Piece>) -> u64 {
    pieces.iter().map(Piece::len).fold(0, u64::saturating_add)
}

/// A slice that was asked for before it is needed.
struct Ahead<B> {
    index: u64,
    state: AheadState<B>,
}

enum AheadState<B> {
    Asking(Asking<B>),
    Here(Option<Response<B>>),
}

/// The slices of an answer.
pub(super) struct Joined<B> {
    ahead: Option<Ahead<B>>,
    ask: Ask<B>,
    current: Option<Current<B>>,
    /// The slices are purged, and then it ends with this.
    ending: Option<(Purging, Refused)>,
    /// Bytes that are still to be sent.
    left: u64,
    pieces: VecDeque<Piece>,
    /// How often a slice was asked for again, because its body broke off.
    retried: (u64, u8),
    transfer: Transfer,
}

/// How often a slice is asked for again: its origin may break off, and a reader that took nothing for long is cut off.
const MOST_RETRIES: u8 = 2;

impl<B: Body> Joined<B> {
    pub(super) fn new(ask: Ask<B>, current: Current<B>, pieces: VecDeque<Piece>, transfer: Transfer) -> Self {
        let left = length_of(&pieces);
        let retried = (current.index, 0);
        Self { ahead: None, ask, current: Some(current), ending: None, left, pieces, retried, transfer }
    }

    /// The slice that is needed after the current one.
    fn next_index(&self) -> Option<u64> {
        let (current, size) = (self.current.as_ref()?.index, self.transfer.size());
        let mut ranges = self.pieces.iter().filter_map(|piece| match piece {
            Piece::Range(range) => Some(*range),
            Piece::Text(_) => None,
        });
        if ranges.next()?.last / size > current {
            return Some(current + 1);
        }
        ranges.map(|range| range.first / size).find(|index| *index != current)
    }

    /// Whether the client has had half of what it gets of the current slice.
    fn is_near_end(&self) -> bool {
        let (Some(current), Some(Piece::Range(range))) = (&self.current, self.pieces.front()) else {
            return false;
        };
        let end = current.end.min(range.last.saturating_add(1));
        end.saturating_sub(current.at.max(range.first)) <= self.transfer.size() / 2
    }

    fn ask(&mut self, index: u64) {
        self.ahead = match self.transfer.slice(index) {
            Some(asked) => Some(Ahead { index, state: AheadState::Asking((self.ask)(asked)) }),
            None => Some(Ahead { index, state: AheadState::Here(None) }),
        };
    }

    /// Asks for the next slice when the client gets near it, and takes its answer when that comes.
    fn read_ahead(&mut self, cx: &mut Context<'_>) {
        if self.ahead.is_none()
            && self.is_near_end()
            && let Some(index) = self.next_index()
        {
            self.ask(index);
        }
        if let Some(Ahead { state, .. }) = &mut self.ahead
            && let AheadState::Asking(asking) = state
            && let Poll::Ready(response) = asking.as_mut().poll(cx)
        {
            *state = AheadState::Here(response);
        }
    }

    fn poll_slice(&mut self, index: u64, cx: &mut Context<'_>) -> Poll<Option<Response<B>>> {
        if self.ahead.as_ref().is_none_or(|ahead| ahead.index != index) {
            self.ask(index);
        }
        let response = match self.ahead.as_mut().map(|ahead| &mut ahead.state) {
            Some(AheadState::Asking(asking)) => ready!(asking.as_mut().poll(cx)),
            Some(AheadState::Here(response)) => response.take(),
            None => None,
        };
        self.ahead = None;
        Poll::Ready(response)
    }

    /// Whether the rest of a slice that broke off is asked for: what was sent of it has the validator of what comes.
    fn retries(&mut self, index: u64) -> bool {
        let (retried, count) = self.retried;
        let count = if retried == index { count } else { 0 };
        self.retried = (index, count + 1);
        count < MOST_RETRIES && self.transfer.slice(index).is_some()
    }

    /// Nothing more comes.
    fn end(&mut self) {
        (self.ahead, self.current, self.ending) = (None, None, None);
        self.pieces.clear();
        self.left = 0;
    }

    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>>
    where
        B::Error: Into<BoxError>,
    {
        loop {
            if let Some((purge, refused)) = &mut self.ending {
                ready!(purge.as_mut().poll(cx));
                let refused = *refused;
                self.end();
                return Poll::Ready(Some(Err(refused.into())));
            }
            let range = match self.pieces.front_mut() {
                None => return Poll::Ready(None),
                Some(Piece::Range(range)) => *range,
                Some(Piece::Text(text)) => {
                    let text = std::mem::take(text);
                    self.pieces.pop_front();
                    self.left = self.left.saturating_sub(text.len() as u64);
                    return Poll::Ready(Some(Ok(text)));
                }
            };
            let index = range.first / self.transfer.size();
            let is_current = |current: &Current<B>| current.index == index && current.at <= range.first;
            if !self.current.as_ref().is_some_and(is_current) {
                let response = ready!(self.poll_slice(index, cx));
                self.current = None;
                match self.transfer.open(index, response) {
                    Ok(current) => self.current = Some(current),
                    Err(Refused::Changed) => self.ending = Some((self.transfer.changed(), Refused::Changed)),
                    Err(refused) => {
                        self.end();
                        return Poll::Ready(Some(Err(refused.into())));
                    }
                }
                continue;
            }
            self.read_ahead(cx);
            match ready!(self.poll_range(range, cx)) {
                Ok(data) if data.is_empty() => {}
                Ok(data) => return Poll::Ready(Some(Ok(data))),
                Err(_) if self.retries(index) => self.current = None,
                Err(error) => {
                    self.end();
                    return Poll::Ready(Some(Err(error)));
                }
            }
        }
    }

    /// The next bytes of a range from the current slice; none where what came lies before the range.
    fn poll_range(&mut self, range: ByteRange, cx: &mut Context<'_>) -> Poll<Result<Bytes, BodyError>>
    where
        B::Error: Into<BoxError>,
    {
        let Some(current) = &mut self.current else {
            return Poll::Ready(Err(Refused::Failed.into()));
        };
        if current.held.is_empty() {
            match ready!(current.body.as_mut().poll_frame(cx)) {
                Some(Ok(frame)) => match into_bytes(frame).into_data() {
                    Ok(data) => current.held = data,
                    Err(_trailers) => return Poll::Ready(Ok(Bytes::new())), // of a slice, not of the whole
                },
                Some(Err(error)) => return Poll::Ready(Err(BodyError::inner(error))),
                None => return Poll::Ready(Err(Refused::Failed.into())),
            }
        }
        let before = (range.first - current.at).min(current.held.len() as u64);
        current.held.advance(usize::try_from(before).unwrap_or(usize::MAX));
        current.at += before;
        // Nothing lies beyond the end of the slice.
        let most = (range.last - range.first + 1).min(current.end.saturating_sub(current.at));
        let length = current.held.len().min(usize::try_from(most).unwrap_or(usize::MAX));
        let data = current.held.split_to(length);
        current.at += length as u64;
        if current.at >= current.end && current.held.is_empty() {
            // It has ended if its body says so at once: whoever counts bodies sees a whole one.
            let _ = current.body.as_mut().poll_frame(cx);
        }
        self.left = self.left.saturating_sub(length as u64);
        match self.pieces.front_mut() {
            Some(Piece::Range(rest)) if range.len() > length as u64 => rest.first += length as u64,
            _ => drop(self.pieces.pop_front()),
        }
        Poll::Ready(Ok(data))
    }
}

impl<B: Body> JoinedBody<B> {
    pub(super) fn direct(body: B) -> Self {
        Self { kind: Kind::Direct { body } }
    }

    pub(super) fn empty() -> Self {
        Self { kind: Kind::Empty }
    }

    pub(super) fn joined(joined: Joined<B>) -> Self {
        Self { kind: Kind::Joined { joined: Box::new(joined) } }
    }
}

impl<B> Body for JoinedBody<B>
where
    B: Body<Error: Into<BoxError>>,
{
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.project().kind.project() {
            KindProjection::Direct { body } => {
                body.poll_frame(cx).map(|frame| Some(frame?.map(into_bytes).map_err(BodyError::inner)))
            }
            KindProjection::Empty => Poll::Ready(None),
            KindProjection::Joined { joined } => {
                joined.poll_data(cx).map(|data| data.map(|data| data.map(Frame::data)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Direct { body } => body.is_end_stream(),
            Kind::Empty => true,
            Kind::Joined { joined } => joined.pieces.is_empty() && joined.ending.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Direct { body } => body.size_hint(),
            Kind::Empty => SizeHint::with_exact(0),
            Kind::Joined { joined } => SizeHint::with_exact(joined.left),
        }
    }
}

impl<B: Body> fmt::Debug for JoinedBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinedBody").finish_non_exhaustive()
    }
}
