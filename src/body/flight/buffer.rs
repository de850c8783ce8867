//! Received content, in memory of its own: a frame may be a slice of something much larger.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

use crate::entry::pieces::PIECE;

/// A reader gets a copy of less content than this, so that a block is not split into many small chunks.
const CRUMB: usize = 4096;

/// Received content, from some position on.
#[derive(Default)]
pub(crate) struct Buffer {
    /// Bytes of memory that the buffer takes.
    charge: usize,
    chunks: VecDeque<Chunk>,
    open: Option<Open>,
    received: u64,
}

/// A block of content, or a part of one.
struct Chunk {
    /// The memory of its block, counted at the block's last chunk.
    charge: usize,
    data: Bytes,
    start: u64,
}

/// The block that is being filled, as far as no reader has taken it.
struct Open {
    charge: usize,
    data: BytesMut,
    /// The free space in the block.
    room: usize,
    start: u64,
}

impl Buffer {
    /// How much has been received, whether or not it is still kept.
    pub(crate) fn received(&self) -> u64 {
        self.received
    }

    /// Bytes of memory that the buffer takes.
    pub(crate) fn charge(&self) -> usize {
        self.charge
    }

    /// Copies content in. Blocks never cross the end of a piece, and are as long as the content that is `left`, if that
    /// is known. Returns the content for which there was no room: `take` says whether there is room for a new block.
    pub(crate) fn copy(
        &mut self,
        mut data: Bytes,
        left: Option<u64>,
        mut take: impl FnMut(usize) -> bool,
    ) -> Option<Bytes> {
        let end = left.map(|left| self.received.saturating_add(left));
        while !data.is_empty() {
            let open = match &mut self.open {
                Some(open) => open,
                None => {
                    let within = usize::try_from(self.received % PIECE as u64).unwrap_or_default();
                    // If the length is unknown, each block is as long as all before it, so that small content takes
                    // little memory.
                    let so_far = usize::try_from(self.received).unwrap_or(PIECE);
                    let left =
                        end.map(|end| usize::try_from(end.saturating_sub(self.received)).unwrap_or(PIECE));
                    let wanted = left.unwrap_or(so_far.max(CRUMB)).max(data.len());
                    let length = wanted.min(PIECE - within);
                    if !take(length) {
                        return Some(data);
                    }
                    self.charge += length;
                    let data = BytesMut::with_capacity(length);
                    self.open.insert(Open { charge: length, data, room: length, start: self.received })
                }
            };
            let copied = data.split_to(open.room.min(data.len()));
            open.data.extend_from_slice(&copied);
            open.room -= copied.len();
            self.received += copied.len() as u64;
            if open.room == 0 {
                self.close();
            }
        }
        None
    }

    /// Adds content without copying it.
    pub(crate) fn push(&mut self, data: Bytes) {
        self.close();
        self.charge += data.len();
        let (charge, start) = (data.len(), self.received);
        self.received += data.len() as u64;
        self.chunks.push_back(Chunk { charge, data, start });
    }

    /// Counts content that no reader will take.
    pub(crate) fn skip(&mut self, length: usize) {
        self.received += length as u64;
    }

    /// Closes the open block.
    pub(crate) fn close(&mut self) {
        if let Some(open) = self.open.take() {
            let Open { charge, data, start, .. } = open;
            self.chunks.push_back(Chunk { charge, data: data.freeze(), start });
        }
    }

    /// The content from a position on, as far as it is in one block.
    pub(crate) fn from(&mut self, position: u64) -> Option<Bytes> {
        if let Some(open) = &mut self.open
            && position >= open.start
        {
            let skipped = usize::try_from(position - open.start).ok()?;
            let unread = open.data.get(skipped..).filter(|unread| !unread.is_empty())?;
            if unread.len() < CRUMB {
                return Some(Bytes::copy_from_slice(unread));
            }
            let data = open.data.split().freeze();
            let start = std::mem::replace(&mut open.start, self.received);
            self.chunks.push_back(Chunk { charge: 0, data, start });
        }
        let after = self.chunks.partition_point(|chunk| chunk.start <= position);
        let chunk = self.chunks.get(after.checked_sub(1)?)?;
        let skipped = usize::try_from(position - chunk.start).ok()?;
        (skipped < chunk.data.len()).then(|| chunk.data.slice(skipped..))
    }

    /// Drops the content before a position. Returns the bytes of memory that this frees.
    pub(crate) fn drop_before(&mut self, position: u64) -> usize {
        let before = self.charge;
        while let Some(chunk) = self.chunks.front()
            && chunk.start + chunk.data.len() as u64 <= position
        {
            self.charge -= chunk.charge;
            self.chunks.pop_front();
        }
        before - self.charge
    }

    /// Drops everything. Returns the bytes of memory that this frees.
    pub(crate) fn clear(&mut self) -> usize {
        self.chunks.clear();
        self.open = None;
        std::mem::take(&mut self.charge)
    }

    /// Bytes of memory that the blocks take of which something lies between two positions.
    pub(crate) fn charge_between(&self, start: u64, end: u64) -> usize {
        let is_between = |chunk: &&Chunk| chunk.start < end && chunk.start + chunk.data.len() as u64 > start;
        let closed: usize = self.chunks.iter().filter(is_between).map(|chunk| chunk.charge).sum();
        let open = self.open.as_ref().filter(|open| open.start < end);
        closed + open.map_or(0, |open| open.charge)
    }

    /// The chunks from the beginning of a piece to its end, as far as they are closed, and whether they are one block without
    /// anything beside it. Nothing was dropped of it or taken as it is.
    pub(crate) fn piece(&self, position: u64) -> (Vec<Bytes>, bool) {
        let chunks: Vec<_> = self.chunks.range(self.within(position)).collect();
        let is_block = matches!(chunks[..], [chunk] if chunk.charge == chunk.data.len());
        (chunks.into_iter().map(|chunk| chunk.data.clone()).collect(), is_block)
    }

    /// Replaces the chunks of a piece with one block. Returns the bytes of memory that this frees.
    pub(crate) fn replace(&mut self, position: u64, data: Bytes) -> usize {
        let before = self.charge;
        let range = self.within(position);
        let start = range.start;
        self.charge -= self.chunks.drain(range).map(|chunk| chunk.charge).sum::<usize>();
        self.charge += data.len();
        self.chunks.insert(start, Chunk { charge: data.len(), data, start: position });
        before.saturating_sub(self.charge)
    }

    fn within(&self, position: u64) -> std::ops::Range<usize> {
        let first = self.chunks.partition_point(|chunk| chunk.start < position);
        let end = self.chunks.partition_point(|chunk| chunk.start < position + PIECE as u64);
        first..end
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbered(length: usize) -> Bytes {
        (0..length).map(|at| (at % 251) as u8).collect::<Vec<_>>().into()
    }

    /// All content from a position on, as a reader takes it.
    fn read(buffer: &mut Buffer, mut position: u64) -> Vec<u8> {
        let mut read = Vec::new();
        while let Some(data) = buffer.from(position) {
            position += data.len() as u64;
            read.extend_from_slice(&data);
        }
        read
    }

    #[test]
    fn the_buffer_returns_the_bytes_it_received_whatever_their_frames() {
        let content = numbered(3 * PIECE + 100);
        for step in [1, 100, CRUMB, 16_384, PIECE + 1, content.len()] {
            for left in [None, Some(content.len() as u64)] {
                let mut buffer = Buffer::default();
                let mut followed = Vec::new();
                for part in content.chunks(step) {
                    let left = left.map(|left| left - buffer.received());
                    assert_eq!(buffer.copy(Bytes::copy_from_slice(part), left, |_| true), None);
                    followed.extend(read(&mut buffer, followed.len() as u64));
                }
                assert_eq!(followed, content, "{step}");
                assert_eq!(read(&mut buffer, 0), content, "{step}");
                assert!(buffer.chunks.iter().all(|chunk| chunk.data.len() <= PIECE));
                if left.is_some() {
                    assert_eq!(buffer.charge(), content.len(), "{step}: no more than the content");
                }
                buffer.close();
                let held = buffer.charge();
                assert_eq!(buffer.drop_before(content.len() as u64), held, "{step}");
                assert_eq!(buffer.charge(), 0);
            }
        }
    }

    #[test]
    fn small_content_of_unknown_length_takes_little_memory() {
        let mut buffer = Buffer::default();
        let mut taken = Vec::new();
        for _ in 0..20 {
            let rest = buffer.copy(numbered(1000), None, |bytes| {
                taken.push(bytes);
                true
            });
            assert_eq!(rest, None);
        }
        assert_eq!(taken, [4096, 4096, 8192, 16_384]);
        assert_eq!(buffer.charge(), 32_768);
    }

    #[test]
    fn bytes_without_room_are_handed_back() {
        let mut buffer = Buffer::default();
        let mut room = PIECE + 10;
        let rest = buffer.copy(numbered(2 * PIECE), Some(2 * PIECE as u64), |bytes| {
            let has_room = bytes <= room;
            room -= bytes.min(room);
            has_room
        });
        assert_eq!(rest, Some(numbered(2 * PIECE).slice(PIECE..)));
        assert_eq!((buffer.received(), buffer.charge()), (PIECE as u64, PIECE));
    }

    #[test]
    fn each_block_counts_on_one_side_of_a_piece() {
        let piece = PIECE as u64;
        let mut buffer = Buffer::default();
        assert_eq!(buffer.copy(numbered(2 * PIECE + 100), None, |_| true), None);
        buffer.from(0); // somebody reads a part of what is still open
        assert_eq!(buffer.charge_between(0, u64::MAX), buffer.charge());
        for (position, before) in [(0, 0), (piece, PIECE), (2 * piece, 2 * PIECE)] {
            assert_eq!(buffer.charge_between(0, position), before, "{position}");
            let after = buffer.charge_between(position, u64::MAX);
            assert_eq!(before + after, buffer.charge(), "{position}");
        }
    }

    #[test]
    fn replacing_crumbs_by_a_block_frees_the_excess_memory() {
        let mut buffer = Buffer::default();
        for _ in 0..3 {
            buffer.copy(numbered(5000), None, |_| true);
            buffer.from(buffer.received() - 5000); // somebody holds it
        }
        buffer.close();
        let (crumbs, is_block) = buffer.piece(0);
        assert!(crumbs.len() > 1 && !is_block);
        let held = buffer.charge();
        assert_eq!(buffer.replace(0, crumbs.concat().into()), held - 15_000);
        assert_eq!(buffer.charge(), 15_000);
        let (pieces, is_block) = buffer.piece(0);
        assert!(pieces.len() == 1 && is_block);
    }
}
