//! Content in memory, in pieces that are allocated separately: a reader that holds one of them does not keep the
//! others.

use std::ops::Range;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

/// The length of a piece. Content up to this length is one block.
pub(crate) const PIECE: usize = if cfg!(shuttle) { 8 } else { 64 * 1024 };

/// A range of at most this many pieces does not keep the others.
const FEW: usize = 4;

/// Complete, immutable content. Cloning shares it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pieces(Kind);

#[derive(Clone, Debug)]
enum Kind {
    Large(Arc<Large>),
    Small(Bytes),
}

impl Default for Kind {
    fn default() -> Self {
        Self::Small(Bytes::new())
    }
}

/// Content of more than one piece, or content that was made for one reader. All pieces but the last are [`PIECE`] bytes
/// long.
#[derive(Debug)]
pub(crate) struct Large {
    /// The pieces are slices of one buffer, which each of them keeps.
    are_slices: bool,
    length: usize,
    pieces: Box<[Bytes]>,
}

impl Large {
    /// The content from a position on, as far as it is in one piece.
    fn from(&self, position: usize) -> Bytes {
        self.pieces.get(position / PIECE).map(|piece| piece.slice(position % PIECE..)).unwrap_or_default()
    }

    pub(crate) fn len(&self) -> usize {
        self.length
    }
}

impl Pieces {
    /// Small content without copying it, and a copy of any other.
    pub(crate) fn of(content: Bytes) -> Self {
        if content.len() <= PIECE {
            return Self(Kind::Small(content));
        }
        let mut builder = PiecesMut::default();
        builder.extend(&content);
        builder.freeze()
    }

    /// Content of these pieces, all of which except the last have to be [`PIECE`] bytes long.
    pub(crate) fn whole(pieces: Vec<Bytes>) -> Self {
        let mut pieces = pieces;
        match pieces.len() {
            0 => Self::default(),
            1 => Self(Kind::Small(pieces.remove(0))),
            _ => {
                let length = pieces.iter().map(Bytes::len).sum();
                Self(Kind::Large(Arc::new(Large {
                    are_slices: false,
                    length,
                    pieces: pieces.into_boxed_slice(),
                })))
            }
        }
    }

    /// Content that is not copied, and counts as large whatever its length: it is held for those who read it, not by a store.
    pub(crate) fn slices_of(content: &Bytes) -> Self {
        if content.is_empty() {
            return Self::default(); // nothing to keep a buffer for
        }
        let ends = (0..content.len()).step_by(PIECE).map(|start| start..content.len().min(start + PIECE));
        let pieces = ends.map(|range| content.slice(range)).collect();
        Self(Kind::Large(Arc::new(Large { are_slices: true, length: content.len(), pieces })))
    }

    pub(crate) fn is_slices(&self) -> bool {
        matches!(&self.0, Kind::Large(large) if large.are_slices)
    }

    /// A copy in blocks of its own.
    pub(crate) fn copied(&self) -> Self {
        let mut copy = PiecesMut::default();
        self.iter().for_each(|piece| copy.extend(piece));
        copy.freeze()
    }

    /// The content in blocks of its own: small content is copied unless it is the only owner of one that fits.
    pub(crate) fn compacted(self) -> Self {
        match self.0 {
            Kind::Large(_) => self,
            Kind::Small(content) => Self(Kind::Small(compact(content))),
        }
    }

    pub(crate) fn len(&self) -> usize {
        match &self.0 {
            Kind::Large(large) => large.length,
            Kind::Small(content) => content.len(),
        }
    }

    /// The content if it has more than one piece.
    pub(crate) fn large(&self) -> Option<&Arc<Large>> {
        match &self.0 {
            Kind::Large(large) => Some(large),
            Kind::Small(_) => None,
        }
    }

    /// The content if it is one piece.
    pub(crate) fn small(&self) -> Option<&Bytes> {
        match &self.0 {
            Kind::Large(_) => None,
            Kind::Small(content) => Some(content),
        }
    }

    /// The bytes of content that is in one piece.
    ///
    /// # Errors
    ///
    /// Content in several.
    pub(crate) fn into_small(self) -> Result<Bytes, Self> {
        match self.0 {
            Kind::Large(_) => Err(self),
            Kind::Small(content) => Ok(content),
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Bytes> {
        let pieces = match &self.0 {
            Kind::Large(large) => &large.pieces[..],
            Kind::Small(content) => std::slice::from_ref(content),
        };
        pieces.iter()
    }

    /// From a position on, as far as it is in one piece.
    pub(crate) fn from(&self, position: usize) -> Bytes {
        match &self.0 {
            Kind::Large(large) => large.from(position),
            Kind::Small(content) => content.slice(position.min(content.len())..),
        }
    }

    /// A range of the content. A range of a few pieces keeps no others; a longer one shares the content.
    pub(crate) fn run(&self, range: Range<usize>) -> Run {
        let end = range.end.min(self.len());
        let start = range.start.min(end);
        let first = self.from(start);
        if first.len() >= end - start {
            let content = Self(Kind::Small(first.slice(..end - start)));
            return Run { content, start: 0, next: 0, end: end - start };
        }
        let (begin, touched) = (start / PIECE, start / PIECE..end.div_ceil(PIECE));
        match &self.0 {
            Kind::Large(large) if touched.len() <= FEW && touched.len() < large.pieces.len() => {
                let content = Self::whole(large.pieces[touched].to_vec());
                let start = start - begin * PIECE;
                Run { content, start, next: start, end: end - begin * PIECE }
            }
            _ => Run { content: self.clone(), start, next: start, end },
        }
    }

    /// The content in one block: a copy if it has more than one piece.
    pub(crate) fn to_bytes(&self) -> Bytes {
        match &self.0 {
            Kind::Large(large) => match &large.pieces[..] {
                [only] => only.clone(),
                pieces => pieces.concat().into(),
            },
            Kind::Small(content) => content.clone(),
        }
    }

    /// Bytes of memory that it takes.
    pub(crate) fn weight(&self) -> usize {
        /// A handle, the allocator's header, and the count that clones share.
        const EACH: usize = size_of::<Bytes>() + 16 + 32;
        match &self.0 {
            Kind::Large(large) => large.length + large.pieces.len() * EACH,
            Kind::Small(content) => content.len(),
        }
    }
}

impl PartialEq for Pieces {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len() && self.iter().eq(other.iter())
    }
}

/// Small content in a block of its own.
fn compact(content: Bytes) -> Bytes {
    if content.is_empty() {
        return Bytes::new();
    }
    match content.try_into_mut() {
        Ok(owned) if owned.capacity() <= owned.len() + owned.len() / 16 + 64 => owned.freeze(),
        Ok(owned) => Bytes::copy_from_slice(&owned),
        Err(shared) => Bytes::copy_from_slice(&shared),
    }
}

/// A range of content that is taken piece by piece.
#[derive(Debug, Default)]
pub(crate) struct Run {
    content: Pieces,
    start: usize,
    next: usize,
    end: usize,
}

impl Run {
    pub(crate) fn of(content: &Pieces) -> Self {
        Self { content: content.clone(), start: 0, next: 0, end: content.len() }
    }

    pub(crate) fn len(&self) -> usize {
        self.end - self.next
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.end == self.next
    }

    /// Whether nothing was taken from it.
    pub(crate) fn is_untouched(&self) -> bool {
        self.next == self.start
    }

    pub(crate) fn content(&self) -> &Pieces {
        &self.content
    }
}

impl Iterator for Run {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        if self.is_empty() {
            return None;
        }
        let mut piece = self.content.from(self.next);
        piece.truncate(self.len());
        self.next += piece.len();
        Some(piece)
    }
}

/// Content that is being assembled.
#[derive(Default)]
pub(crate) struct PiecesMut {
    last: BytesMut,
    pieces: Vec<Bytes>,
}

impl PiecesMut {
    pub(crate) fn extend(&mut self, mut data: &[u8]) {
        while !data.is_empty() {
            if self.last.len() == PIECE {
                let full = std::mem::take(&mut self.last);
                self.pieces.push(compact(full.freeze()));
            }
            let (taken, rest) = data.split_at(data.len().min(PIECE - self.last.len()));
            if self.pieces.is_empty() {
                self.last.extend_from_slice(taken); // it grows, because it may stay small
            } else {
                self.last.reserve(PIECE - self.last.len());
                self.last.extend_from_slice(taken);
            }
            data = rest;
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.pieces.len() * PIECE + self.last.len()
    }

    pub(crate) fn freeze(self) -> Pieces {
        Pieces::whole(self.into_pieces())
    }

    /// Content that counts as large whatever its length: it was made for one reader, and is not shared with the store.
    pub(crate) fn freeze_for_one(self) -> Pieces {
        let length = self.len();
        let pieces = self.into_pieces().into_boxed_slice();
        Pieces(Kind::Large(Arc::new(Large { are_slices: false, length, pieces })))
    }

    fn into_pieces(mut self) -> Vec<Bytes> {
        if !self.last.is_empty() {
            self.pieces.push(compact(self.last.freeze()));
        }
        self.pieces
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbered(length: usize) -> Vec<u8> {
        (0..length).map(|at| (at % 251) as u8).collect()
    }

    #[test]
    fn content_of_any_length_is_read_back_whole_and_in_ranges() {
        for length in [0, 1, PIECE - 1, PIECE, PIECE + 1, 2 * PIECE, 3 * PIECE + 7] {
            let bytes = numbered(length);
            let content = Pieces::of(bytes.clone().into());
            assert_eq!(content.len(), length);
            assert_eq!(content.to_bytes(), bytes, "{length}");
            assert_eq!(content.large().is_some(), length > PIECE, "{length}");
            assert!(content.iter().all(|piece| piece.len() <= PIECE));
            for range in [0..length, 1.min(length)..length, length / 2..length, 0..length.min(PIECE + 1)] {
                let taken: Vec<Bytes> = content.run(range.clone()).collect();
                assert_eq!(taken.concat(), bytes[range.clone()], "{length} {range:?}");
            }
        }
    }

    #[test]
    fn a_piece_keeps_no_other_piece_in_memory() {
        let content = Pieces::of(numbered(3 * PIECE).into());
        let piece = content.iter().nth(1).cloned().expect("three pieces");
        drop(content);
        assert!(piece.is_unique());
    }

    #[test]
    fn content_built_in_steps_equals_content_given_at_once() {
        let bytes = numbered(2 * PIECE + 100);
        for step in [1, 1000, PIECE, PIECE + 1] {
            let mut builder = PiecesMut::default();
            for part in bytes.chunks(step) {
                builder.extend(part);
            }
            assert_eq!(builder.len(), bytes.len());
            assert!(builder.freeze() == Pieces::of(bytes.clone().into()), "{step}");
        }
    }
}
