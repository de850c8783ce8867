//! The content of a stored response.

use std::sync::Arc;

use bytes::Bytes;
use http::header::HeaderMap;

use crate::entry::compact_fields;
use crate::entry::pieces::{Pieces, PiecesMut};

/// The content of a stored response, with its trailers. It is in memory, or the store has it elsewhere and opens it when it
/// is asked for ([`Store::open`](crate::Store::open)). Cloning shares it.
#[derive(Clone, Debug, Default)]
pub struct Payload {
    /// Empty where the content is remote.
    content: Pieces,
    /// Most payloads have none, and are small without.
    extra: Option<Arc<Extra>>,
}

#[derive(Clone, Debug, Default)]
struct Extra {
    remote: Option<RemoteContent>,
    trailers: Option<HeaderMap>,
}

/// Content that a store keeps apart from its head.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct RemoteContent {
    /// Which content it is, in the store's own terms. A head that is freshened keeps its content.
    pub id: u128,
    /// Its length in bytes.
    pub length: u64,
}

impl RemoteContent {
    /// `length` bytes of content that the store knows by `id`.
    pub fn new(id: u128, length: u64) -> Self {
        Self { id, length }
    }
}

impl Payload {
    pub(crate) fn new(content: Pieces, trailers: Option<HeaderMap>) -> Self {
        Self { content, extra: None }.with_trailers(trailers)
    }

    /// Content in memory, a copy in blocks of up to 64 KiB: `content` may be a slice that keeps a larger buffer in memory,
    /// which no store would count.
    pub fn from_bytes(content: Bytes) -> Self {
        Self::from_pieces([content])
    }

    /// Content in memory, a copy of pieces of any length.
    pub fn from_pieces(pieces: impl IntoIterator<Item = Bytes>) -> Self {
        let mut content = PiecesMut::default();
        pieces.into_iter().for_each(|piece| content.extend(&piece));
        Self::new(content.freeze(), None)
    }

    /// Content in memory that is not copied: it keeps all of the buffer that it is a slice of.
    pub(crate) fn slice_of(content: &Bytes) -> Self {
        Self { content: Pieces::slices_of(content), extra: None }
    }

    /// Content in memory in blocks of its own.
    pub(crate) fn compacted(self) -> Self {
        match self.content.is_slices() {
            true => Self { content: self.content.copied(), ..self },
            false => self,
        }
    }

    /// Content that the store has elsewhere.
    pub fn remote(content: RemoteContent) -> Self {
        let extra = Extra { remote: Some(content), trailers: None };
        Self { content: Pieces::default(), extra: Some(Arc::new(extra)) }
    }

    /// The same with these trailer fields.
    #[must_use]
    pub fn with_trailers(mut self, trailers: Option<HeaderMap>) -> Self {
        let (remote, trailers) = (self.as_remote(), trailers.map(|trailers| compact_fields(&trailers, 0)));
        self.extra = (remote.is_some() || trailers.is_some()).then(|| Arc::new(Extra { remote, trailers }));
        self
    }

    /// The content where it is in memory.
    pub(crate) fn content(&self) -> Option<&Pieces> {
        (!self.is_remote()).then_some(&self.content)
    }

    /// Whether the content is not in memory.
    pub fn is_remote(&self) -> bool {
        self.as_remote().is_some()
    }

    /// Which content it is, where it is not in memory.
    pub fn as_remote(&self) -> Option<RemoteContent> {
        self.extra.as_ref().and_then(|extra| extra.remote)
    }

    /// The content where it is in memory, one piece after the other, each of up to 64 KiB.
    pub fn pieces(&self) -> Option<impl Iterator<Item = &Bytes>> {
        self.content().map(Pieces::iter)
    }

    /// The content in one block, where it is in memory: a copy, where it is of more than one piece.
    pub fn to_bytes(&self) -> Option<Bytes> {
        self.content().map(Pieces::to_bytes)
    }

    /// Bytes of content, wherever it is.
    pub fn len(&self) -> u64 {
        self.as_remote().map_or(self.content.len() as u64, |remote| remote.length)
    }

    /// Whether there is no content.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The trailer fields, if there were any.
    pub fn trailers(&self) -> Option<&HeaderMap> {
        self.extra.as_ref().and_then(|extra| extra.trailers.as_ref())
    }

    /// Bytes of memory that the content takes.
    pub(crate) fn weight(&self) -> usize {
        self.content.weight()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_in_memory_is_equal_whatever_pieces_it_was_made_of() {
        let bytes: Bytes = (0..200_000_u32).map(|at| (at % 251) as u8).collect();
        for piece in [1_000, 65_536, 200_000] {
            let pieces = bytes.chunks(piece).map(Bytes::copy_from_slice);
            let payload = Payload::from_pieces(pieces);
            assert_eq!((payload.len(), payload.is_remote()), (200_000, false));
            assert_eq!(payload.to_bytes().as_ref(), Some(&bytes), "{piece}");
        }
        assert_eq!(Payload::from_bytes(bytes.clone()).to_bytes(), Some(bytes));
    }

    #[test]
    fn remote_content_has_a_length_and_no_bytes() {
        let mut trailers = HeaderMap::new();
        trailers.insert("x-trailer", http::HeaderValue::from_static("1"));
        let remote = RemoteContent::new(7, 1 << 40);
        let payload = Payload::remote(remote).with_trailers(Some(trailers.clone()));
        assert_eq!((payload.len(), payload.is_empty(), payload.is_remote()), (1 << 40, false, true));
        assert_eq!((payload.to_bytes(), payload.as_remote()), (None, Some(remote)));
        assert!(payload.pieces().is_none());
        assert_eq!((payload.trailers(), payload.weight()), (Some(&trailers), 0));
    }
}
