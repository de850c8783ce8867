//! Content that is too large to come with each look-up: in slices, in the same slot of a Cluster as the record.
//!
//! ```text
//! NS.F:b{slot}ID:NUMBER    a slice; ID: 32 hexadecimal digits, the last eight of which are the size of all slices but the last
//! ```
//!
//! A slice lives a little longer than its response is of use. Where one is gone before, the content is.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use redis::{Value, cmd};

use super::error::LinkError;
use super::link::Link;
use super::scripts::Script;
use crate::entry::RemoteContent;
use crate::error::StoreError;
use crate::semantics::range::ByteRange;

/// How many slices are fetched ahead of the reader.
const AHEAD: usize = 2;
/// How much longer a slice lives than what it is of: whoever has just read the record still finds it, and reads it to its end.
pub(super) const LINGER: Duration = Duration::from_secs(60);
/// A slice of content that is still on its way lives so long, unless it is committed.
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
    /// The beginning of the names of all slices under the key.
    pub(super) prefix: String,
}

/// Another content than all others, in slices of this size.
pub(super) fn new_content(random: u128, slice: u32, length: u64) -> RemoteContent {
    RemoteContent::new((random << 32) | u128::from(slice), length)
}

/// The bytes of a slice; 0 where this is no content of this store.
fn slice_of(content: RemoteContent) -> u64 {
    u64::try_from(content.id & u128::from(u32::MAX)).unwrap_or_default()
}

impl Contents {
    fn name(&self, content: RemoteContent, number: u64) -> String {
        format!("{}{:032x}:{number}", self.prefix, content.id)
    }

    fn names(&self, content: RemoteContent) -> Vec<String> {
        match slice_of(content) {
            0 => Vec::new(),
            slice => (0..content.length.div_ceil(slice)).map(|number| self.name(content, number)).collect(),
        }
    }

    pub(super) async fn write(
        &self,
        content: RemoteContent,
        number: u64,
        data: &[u8],
        time: Duration,
    ) -> Result<(), LinkError> {
        let mut command = cmd("SET");
        command.arg(self.name(content, number)).arg(data).arg("PX").arg(milliseconds(time));
        self.link.send(&command, self.limit).await.map(drop)
    }

    /// Sets the time that is left to content. Whether all of it is there.
    pub(super) async fn expire(&self, content: RemoteContent, time: Duration) -> Result<bool, LinkError> {
        let names = self.names(content);
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
    ) -> Result<Option<Sliced>, LinkError> {
        let slice = slice_of(content);
        let Some(last) = content.length.checked_sub(1).filter(|_| slice > 0) else {
            return Ok(None);
        };
        let ByteRange { first, last } = range.unwrap_or(ByteRange { first: 0, last });
        if first > last || last >= content.length {
            return Ok(None);
        }
        let mut body = Sliced {
            content,
            contents: self,
            last,
            left: last - first + 1,
            next: first,
            slices: VecDeque::with_capacity(1 + AHEAD),
        };
        let Some(first) = body.next_piece() else { return Ok(None) };
        let fetched = first.fetch().await?;
        Ok(fetched.map(|data| {
            body.slices.push_back(Slice::Here(Ok(data)));
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

/// Bytes of one slice.
struct Piece {
    contents: Contents,
    length: u64,
    name: String,
    /// Where it begins in the slice.
    offset: u64,
}

impl Piece {
    /// `None` where the slice is gone, or is not what was written.
    async fn fetch(self) -> Result<Option<Bytes>, LinkError> {
        let mut command = cmd("GETRANGE");
        command.arg(&self.name).arg(self.offset).arg(self.offset + self.length - 1);
        match self.contents.link.send(&command, self.contents.limit).await? {
            Value::BulkString(data) => {
                Ok(Some(Bytes::from(data)).filter(|data| data.len() as u64 == self.length))
            }
            Value::Nil => Ok(None),
            other => Err(LinkError::bad(format!("{other:?} to GETRANGE"))),
        }
    }
}

type Fetched = Result<Bytes, StoreError>;

enum Slice {
    Coming(Pin<Box<dyn Future<Output = Fetched> + Send>>),
    Here(Fetched),
}

/// Content that is read slice by slice.
pub(super) struct Sliced {
    content: RemoteContent,
    contents: Contents,
    /// The last byte that is wanted.
    last: u64,
    /// How many bytes the reader still has to get.
    left: u64,
    /// The first byte of the next piece to fetch.
    next: u64,
    slices: VecDeque<Slice>,
}

impl Sliced {
    fn next_piece(&mut self) -> Option<Piece> {
        let slice = slice_of(self.content);
        if self.next > self.last || slice == 0 {
            return None;
        }
        let (number, offset) = (self.next / slice, self.next % slice);
        let length = (slice - offset).min(self.last - self.next + 1);
        self.next += length;
        let name = self.contents.name(self.content, number);
        Some(Piece { contents: self.contents.clone(), length, name, offset })
    }
}

async fn fetch(piece: Piece) -> Fetched {
    const ACTION: &str = "read content";
    let fetched = piece.fetch().await.map_err(|error| error.to(ACTION))?;
    fetched.ok_or_else(|| StoreError::new(ACTION, "a slice of it is gone"))
}

impl Body for Sliced {
    type Data = Bytes;
    type Error = StoreError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, StoreError>>> {
        while self.slices.len() <= AHEAD
            && let Some(piece) = self.next_piece()
        {
            self.slices.push_back(Slice::Coming(Box::pin(fetch(piece))));
        }
        for slice in &mut self.slices {
            if let Slice::Coming(coming) = slice
                && let Poll::Ready(fetched) = coming.as_mut().poll(cx)
            {
                *slice = Slice::Here(fetched);
            }
        }
        match self.slices.pop_front() {
            None => Poll::Ready(None),
            Some(coming @ Slice::Coming(_)) => {
                self.slices.push_front(coming);
                Poll::Pending
            }
            Some(Slice::Here(Ok(data))) => {
                self.left = self.left.saturating_sub(data.len() as u64);
                Poll::Ready(Some(Ok(Frame::data(data))))
            }
            Some(Slice::Here(Err(error))) => {
                // Nothing follows it.
                self.slices.clear();
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
