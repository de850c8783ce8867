//! Content that is too large to come with each look-up: in chunks, in the same slot of a Cluster as the record.
//!
//! ```text
//! NS.F:b{slot}ID:NUMBER    a chunk; ID: 32 hexadecimal digits, the last eight of which are the size of all chunks but the last:
//!                            blocks of 16 KiB of content, the last one shorter, each followed by its XXH3 (64 bits, little-endian)
//! ```
//!
//! The seed of a block's checksum says where it belongs, so a block that has changed, or is in the place of another one, is found, also
//! where only a range is read. What is not as it was written is gone.
//!
//! A chunk lives a little longer than its response is of use. Where one is gone before, the content is.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use redis::{Value, cmd};
use tokio::sync::oneshot;
use twox_hash::XxHash3_64;

use super::config::CHUNKS;
use super::error::{LinkError, no_runtime};
use super::link::Link;
use super::scripts::Script;
use crate::entry::RemoteContent;
use crate::error::StoreError;
use crate::runtime::Runtime;
use crate::semantics::range::ByteRange;

/// How many chunks are fetched ahead of the reader.
const AHEAD: usize = 2;
/// How much longer a chunk lives than what it is of: whoever has just read the record still finds it, and reads it to its end.
pub(super) const LINGER: Duration = Duration::from_secs(60);
/// A chunk of content that is still on its way lives so long, unless it is committed.
pub(super) const ON_ITS_WAY: Duration = Duration::from_secs(60 * 60);

/// Sets the time that is left to all of some keys, and says how many there are.
const EXPIRE: &str = "local found = 0 \
    for _, key in ipairs(KEYS) do found = found + redis.call('PEXPIRE', key, ARGV[1]) end \
    return found";

/// The contents under one key.
#[derive(Clone)]
pub(super) struct Contents {
    pub(super) limit: Duration,
    pub(super) link: Link,
    /// The most bytes that content has.
    pub(super) most: u64,
    /// The beginning of the names of all chunks under the key.
    pub(super) prefix: String,
}

/// Another content than all others, in chunks of this size.
pub(super) fn new_content(random: u128, chunk: u32, length: u64) -> RemoteContent {
    RemoteContent::new((random << 32) | u128::from(chunk), length)
}

/// The bytes of a chunk; 0 where this is no content of this store.
fn chunk_of(content: RemoteContent) -> u64 {
    let chunk = u32::try_from(content.id & u128::from(u32::MAX)).unwrap_or_default();
    if CHUNKS.contains(&chunk) { chunk.into() } else { 0 }
}

impl Contents {
    fn name(&self, content: RemoteContent, number: u64) -> String {
        format!("{}{:032x}:{number}", self.prefix, content.id)
    }

    /// Nothing where this store has written no such content: a record that somebody else wrote may say that it is of any length, and
    /// so have any number of names.
    fn names(&self, content: RemoteContent) -> Vec<String> {
        let chunk = chunk_of(content);
        if chunk == 0 || content.length.div_ceil(chunk) > self.most.div_ceil(chunk) {
            return Vec::new();
        }
        (0..content.length.div_ceil(chunk)).map(|number| self.name(content, number)).collect()
    }

    pub(super) async fn write(
        &self,
        content: RemoteContent,
        number: u64,
        data: &[u8],
        time: Duration,
    ) -> Result<(), LinkError> {
        let mut command = cmd("SET");
        let sealed = sealed(content, number, data);
        command.arg(self.name(content, number)).arg(sealed).arg("PX").arg(milliseconds(time));
        self.link.send(&command, self.limit).await.map(drop)
    }

    /// Sets the time that is left to content. Whether all of it is there.
    pub(super) async fn expire(&self, content: RemoteContent, time: Duration) -> Result<bool, LinkError> {
        let names = self.names(content);
        if names.is_empty() {
            return Ok(false);
        }
        let keys: Vec<_> = names.iter().map(String::as_bytes).collect();
        let time = milliseconds(time).to_string();
        match self.link.run(&Script::new(EXPIRE), &keys, &[time.as_bytes()], self.limit).await? {
            Value::Int(found) => Ok(usize::try_from(found) == Ok(names.len())),
            other => Err(LinkError::bad(format!("{other:?} to PEXPIRE"))),
        }
    }

    /// Removes content that nobody can have seen.
    pub(super) async fn remove(&self, content: RemoteContent) {
        let names = self.names(content);
        if !names.is_empty() {
            // Where that fails it goes when its time is over.
            let _ = self.link.send(cmd("UNLINK").arg(names), self.limit).await;
        }
    }

    /// Content from its first to its last byte. `None` where it is gone.
    pub(super) async fn open(
        self,
        content: RemoteContent,
        range: Option<ByteRange>,
    ) -> Result<Option<Chunked>, LinkError> {
        let chunk = chunk_of(content);
        let Some(last) = content.length.checked_sub(1).filter(|_| chunk > 0) else {
            return Ok(None);
        };
        let ByteRange { first, last } = range.unwrap_or(ByteRange { first: 0, last });
        if first > last || last >= content.length {
            return Ok(None);
        }
        let mut body = Chunked {
            content,
            contents: self,
            last,
            left: last - first + 1,
            next: first,
            chunks: VecDeque::with_capacity(1 + AHEAD),
        };
        let Some(first) = body.next_piece() else { return Ok(None) };
        let fetched = first.fetch().await?;
        Ok(fetched.map(|data| {
            body.chunks.push_back(Chunk::Here(Ok(data)));
            body
        }))
    }
}

/// As servers take it.
pub(super) fn milliseconds(time: Duration) -> u64 {
    /// A thousand years: what is added to the time of the server is still a time.
    const MOST: u64 = 1_000 * 366 * 24 * 60 * 60 * 1_000;
    u64::try_from(time.as_millis()).unwrap_or(MOST).clamp(1, MOST)
}

/// How many bytes have one checksum.
const BLOCK: usize = 16 << 10;
const CHECKSUM: usize = 8;

fn checksum(content: RemoteContent, number: u64, block: usize, data: &[u8]) -> [u8; CHECKSUM] {
    let id = u64::try_from((content.id >> 32) & u128::from(u64::MAX)).unwrap_or_default();
    // Another one for each block of a content: a chunk has less than 2^13 of them.
    let seed = id ^ (number << 13) ^ block as u64;
    XxHash3_64::oneshot_with_seed(seed, data).to_le_bytes()
}

/// A chunk as it is stored.
fn sealed(content: RemoteContent, number: u64, data: &[u8]) -> Vec<u8> {
    let mut sealed = Vec::with_capacity(data.len() + data.len().div_ceil(BLOCK) * CHECKSUM);
    for (block, data) in data.chunks(BLOCK).enumerate() {
        sealed.extend_from_slice(data);
        sealed.extend_from_slice(&checksum(content, number, block, data));
    }
    sealed
}

/// The content of blocks of a chunk, the first of which has this number; `None` where one is not as it was written.
fn opened(content: RemoteContent, number: u64, first: usize, mut blocks: Vec<u8>) -> Option<Vec<u8>> {
    let (mut from, mut to) = (0, 0);
    for block in first.. {
        let rest = blocks.get(from..).filter(|rest| !rest.is_empty());
        let Some(rest) = rest else { break };
        let sealed = rest.get(..BLOCK + CHECKSUM).unwrap_or(rest);
        let (data, stored) = sealed.split_last_chunk()?;
        if checksum(content, number, block, data) != *stored {
            return None;
        }
        let length = data.len();
        blocks.copy_within(from..from + length, to);
        (from, to) = (from + length + CHECKSUM, to + length);
    }
    blocks.truncate(to);
    Some(blocks)
}

/// Bytes of one chunk.
struct Piece {
    content: RemoteContent,
    contents: Contents,
    length: u64,
    /// Of the chunk.
    number: u64,
    /// Where it begins in the chunk.
    offset: u64,
}

impl Piece {
    /// `None` where the chunk is gone, or is not what was written.
    async fn fetch(self) -> Result<Option<Bytes>, LinkError> {
        let Self { content, contents, length, number, offset } = self;
        // Whole blocks, which have checksums.
        let (block, stored) = (BLOCK as u64, (BLOCK + CHECKSUM) as u64);
        let (first, last) = (offset / block, (offset + length - 1) / block);
        let mut command = cmd("GETRANGE");
        command.arg(contents.name(content, number)).arg(first * stored).arg((last + 1) * stored - 1);
        let blocks = match contents.link.send(&command, contents.limit).await? {
            Value::BulkString(blocks) => blocks,
            Value::Nil => return Ok(None),
            other => return Err(LinkError::bad(format!("{other:?} to GETRANGE"))),
        };
        let first_block = usize::try_from(first).unwrap_or(usize::MAX);
        let data = opened(content, number, first_block, blocks).map(Bytes::from);
        Ok(data.and_then(|data| {
            let start = usize::try_from(offset - first * block).ok()?;
            let end = start.checked_add(usize::try_from(length).ok()?)?;
            (end <= data.len()).then(|| data.slice(start..end))
        }))
    }
}

type Fetched = Result<Bytes, StoreError>;

enum Chunk {
    Coming(oneshot::Receiver<Fetched>),
    Here(Fetched),
}

impl Chunk {
    /// Begins to fetch a piece, in a task: that comes to its end, and no longer counts as a command on its way, also where the client
    /// has stopped reading. Dropped, the task ends.
    fn begin(piece: Piece) -> Self {
        let Some(runtime) = Runtime::current() else {
            return Self::Here(Err(no_runtime().to(ACTION)));
        };
        let (mut to, coming) = oneshot::channel();
        drop(runtime.spawn(async move {
            let fetched = {
                let mut fetching = pin!(fetch(piece));
                poll_fn(|cx| match to.poll_closed(cx) {
                    Poll::Ready(()) => Poll::Ready(None),
                    Poll::Pending => fetching.as_mut().poll(cx).map(Some),
                })
                .await
            };
            if let Some(fetched) = fetched {
                let _ = to.send(fetched);
            }
        }));
        Self::Coming(coming)
    }
}

/// Content that is read chunk by chunk.
pub(super) struct Chunked {
    content: RemoteContent,
    contents: Contents,
    /// The last byte that is wanted.
    last: u64,
    /// How many bytes the reader still has to get.
    left: u64,
    /// The first byte of the next piece to fetch.
    next: u64,
    chunks: VecDeque<Chunk>,
}

impl Chunked {
    fn next_piece(&mut self) -> Option<Piece> {
        let chunk = chunk_of(self.content);
        if self.next > self.last || chunk == 0 {
            return None;
        }
        let (number, offset) = (self.next / chunk, self.next % chunk);
        let length = (chunk - offset).min(self.last - self.next + 1);
        self.next += length;
        Some(Piece { content: self.content, contents: self.contents.clone(), length, number, offset })
    }
}

const ACTION: &str = "read content";

async fn fetch(piece: Piece) -> Fetched {
    let fetched = piece.fetch().await.map_err(|error| error.to(ACTION))?;
    fetched.ok_or_else(|| StoreError::new(ACTION, "a chunk of it is gone"))
}

impl Body for Chunked {
    type Data = Bytes;
    type Error = StoreError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, StoreError>>> {
        while self.chunks.len() <= AHEAD
            && let Some(piece) = self.next_piece()
        {
            self.chunks.push_back(Chunk::begin(piece));
        }
        for chunk in &mut self.chunks {
            if let Chunk::Coming(coming) = chunk
                && let Poll::Ready(fetched) = Pin::new(coming).poll(cx)
            {
                *chunk = Chunk::Here(fetched.unwrap_or_else(|_| Err(no_runtime().to(ACTION))));
            }
        }
        match self.chunks.pop_front() {
            None => Poll::Ready(None),
            Some(coming @ Chunk::Coming(_)) => {
                self.chunks.push_front(coming);
                Poll::Pending
            }
            Some(Chunk::Here(Ok(data))) => {
                self.left = self.left.saturating_sub(data.len() as u64);
                Poll::Ready(Some(Ok(Frame::data(data))))
            }
            Some(Chunk::Here(Err(error))) => {
                // Nothing follows it.
                self.chunks.clear();
                self.next = u64::MAX;
                Poll::Ready(Some(Err(error)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

#[cfg(test)]
mod tests {
    use super::super::config::RedisConfig;
    use super::super::connect::Target;
    use super::*;

    const CONTENT: RemoteContent = RemoteContent { id: 7 << 40 | 65_536, length: 100_000 };

    fn contents() -> Contents {
        let config: RedisConfig = "redis://localhost:1".parse().expect("a URL");
        let limit = Duration::from_secs(1);
        let link = Link::new(Target::of(&config).expect("a target"), 1, cmd("PING"), limit, limit);
        Contents { limit, link, most: 1 << 20, prefix: "x".to_owned() }
    }

    #[tokio::test]
    async fn a23_content_of_any_length_that_this_store_can_not_have_written_has_no_names_and_is_not_there() {
        let contents = contents();
        assert_eq!(contents.names(CONTENT).len(), 2);
        // Content is given up in the middle of its last chunk.
        assert_eq!(contents.names(RemoteContent::new(7 << 40 | 40_000, (1 << 20) + 20_000)).len(), 27);
        for (chunk, length) in
            [(65_536, (1 << 20) + 65_537), (65_536, 1 << 40), (1, 1 << 40), (1, 10), (0, 10), (u32::MAX, 10)]
        {
            let forged = RemoteContent::new(7 << 40 | u128::from(chunk), length);
            assert_eq!(contents.names(forged), [""; 0], "{chunk} {length}");
            assert!(!contents.expire(forged, LINGER).await.expect("nothing is sent"), "{chunk} {length}");
            contents.remove(forged).await;
        }
        assert_eq!(contents.link.sent(), 0);
    }

    #[test]
    fn a_chunk_is_opened_as_it_was_sealed_from_any_block_on() {
        for length in [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK + 5] {
            let data: Vec<u8> = (0..length).map(|at| u8::try_from(at % 251).unwrap_or_default()).collect();
            let sealed = sealed(CONTENT, 3, &data);
            for first in 0..=length / BLOCK {
                let blocks = sealed.get(first * (BLOCK + CHECKSUM)..).unwrap_or_default().to_vec();
                assert_eq!(
                    opened(CONTENT, 3, first, blocks).as_deref(),
                    data.get(first * BLOCK..),
                    "{length}"
                );
            }
        }
    }

    #[test]
    fn a23_a_chunk_that_is_changed_or_cut_or_in_another_place_is_gone() {
        let data = vec![1; 2 * BLOCK + 100];
        let whole = sealed(CONTENT, 3, &data);
        for at in [0, 1, BLOCK - 1, BLOCK, BLOCK + CHECKSUM, whole.len() - CHECKSUM - 1, whole.len() - 1] {
            let mut changed = whole.clone();
            changed[at] ^= 1;
            assert_eq!(opened(CONTENT, 3, 0, changed), None, "changed at {at}");
        }
        for cut in [1, 7, 8, 9, BLOCK, whole.len() - 1] {
            assert_eq!(opened(CONTENT, 3, 0, whole[..cut].to_vec()), None, "cut at {cut}");
        }
        let other = RemoteContent { id: 8 << 40 | 65_536, ..CONTENT };
        assert_eq!(opened(other, 3, 0, whole.clone()), None, "of another content");
        assert_eq!(opened(CONTENT, 4, 0, whole.clone()), None, "another chunk");
        assert_eq!(opened(CONTENT, 3, 1, whole), None, "another block");
    }
}
