//! Content that is too large for a record: a file of blocks, each with its checksum.
//!
//! ```text
//! block  64 KiB of content, the last one less | u64 XXH3 of it, with a seed: 64 bits of the content's id, and the block's number
//! ```
//!
//! By the seed, a block of other content, or of another place, is found out. What is read is checked before anybody gets it, so a
//! file that has changed ends a body with an error, or is a miss where the first blocks have.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use twox_hash::XxHash3_64;

use super::jobs::{Begun, Jobs, begin};
use crate::entry::RemoteContent;
use crate::error::StoreError;
use crate::semantics::range::ByteRange;

pub(super) const BLOCK: usize = 64 * 1024;
const CHECKSUM: usize = 8;
/// How many blocks are read at one time. The next ones are read while the last two of these are sent.
const TOGETHER: u64 = 4;

/// Bytes of a file.
pub(super) fn bytes_of(length: u64) -> u64 {
    length.saturating_add(length.div_ceil(BLOCK as u64).saturating_mul(CHECKSUM as u64))
}

/// What follows a block.
pub(super) fn checksum(id: u128, number: u64, data: &[u8]) -> [u8; CHECKSUM] {
    let seed = u64::try_from((id >> 32) & u128::from(u64::MAX)).unwrap_or_default();
    XxHash3_64::oneshot_with_seed(seed.wrapping_add(number), data).to_le_bytes()
}

/// Is called where content is not what was written.
type OnDamage = Arc<dyn Fn() + Send + Sync>;

/// A file that is read. It may have been removed, and then closing it gives its blocks back, which takes long where it is large: that
/// is done where it stops nobody.
struct Opened(Option<File>);

impl Drop for Opened {
    fn drop(&mut self) {
        if let Some(file) = self.0.take() {
            begin(move || drop(file));
        }
    }
}

/// A file from which some bytes are to be read, block by block.
pub(super) struct Reading {
    content: RemoteContent,
    file: Opened,
    /// Bytes of the first block that are not wanted.
    before: usize,
    /// Bytes that are still wanted.
    left: u64,
    /// The next block.
    next: u64,
    on_damage: OnDamage,
}

impl Reading {
    /// `None` where there are no such bytes, or the file is not as long as it has to be.
    pub(super) fn new(
        mut file: File,
        content: RemoteContent,
        range: Option<ByteRange>,
        on_damage: OnDamage,
    ) -> io::Result<Option<Self>> {
        let Some(end) = content.length.checked_sub(1) else { return Ok(None) };
        let ByteRange { first, last } = range.unwrap_or(ByteRange { first: 0, last: end });
        if first > last || last > end {
            return Ok(None);
        }
        if file.metadata()?.len() != bytes_of(content.length) {
            on_damage();
            return Ok(None);
        }
        let next = first / BLOCK as u64;
        let before = usize::try_from(first % BLOCK as u64).unwrap_or_default();
        file.seek(SeekFrom::Start(next * (BLOCK + CHECKSUM) as u64))?;
        let file = Opened(Some(file));
        Ok(Some(Self { content, file, before, left: last - first + 1, next, on_damage }))
    }

    /// The next blocks that are wanted, as far as they are.
    pub(super) fn read(&mut self) -> io::Result<Vec<Bytes>> {
        let read = self.read_blocks();
        if read.as_ref().is_err_and(is_damage) {
            (self.on_damage)();
        }
        if self.left == 0 || read.is_err() {
            // Here, it may take as long as it does.
            drop(self.file.0.take());
        }
        read
    }

    fn read_blocks(&mut self) -> io::Result<Vec<Bytes>> {
        let blocks = (self.before as u64 + self.left).div_ceil(BLOCK as u64).min(TOGETHER);
        let start = self.next * BLOCK as u64;
        let length = (blocks * BLOCK as u64).min(self.content.length - start);
        let wanted = bytes_of(length);
        let mut bytes = Vec::with_capacity(usize::try_from(wanted).unwrap_or_default());
        if let Some(file) = &self.file.0 {
            file.take(wanted).read_to_end(&mut bytes)?;
        }
        if bytes.len() as u64 != wanted {
            return Err(damage("it is cut off"));
        }
        let bytes = Bytes::from(bytes);
        let mut read = Vec::new();
        for at in (0..bytes.len()).step_by(BLOCK + CHECKSUM) {
            let block = bytes.slice(at..bytes.len().min(at + BLOCK + CHECKSUM));
            let (data, sum) = block.split_at(block.len().saturating_sub(CHECKSUM));
            if checksum(self.content.id, self.next, data) != sum {
                return Err(damage("it has changed"));
            }
            self.next += 1;
            let start = std::mem::take(&mut self.before);
            let end = data.len().min(start + usize::try_from(self.left).unwrap_or(BLOCK));
            self.left -= (end - start) as u64;
            read.push(block.slice(start..end));
        }
        Ok(read)
    }
}

fn damage(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

/// Whether it is the file that is wrong, and not the reading of it.
pub(super) fn is_damage(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::InvalidData
}

/// Blocks that are being read, and what they are read from.
type Coming = Begun<(Reading, io::Result<Vec<Bytes>>)>;

/// Content that is read while it is sent.
pub(super) struct Blocks {
    coming: Option<Coming>,
    /// What comes after what is here.
    error: Option<StoreError>,
    here: VecDeque<Bytes>,
    jobs: Arc<Jobs>,
    left: u64,
    /// `None` while blocks are being read, and after an error.
    reading: Option<Reading>,
}

impl Blocks {
    /// The first blocks have been read.
    pub(super) fn new(jobs: &Arc<Jobs>, reading: Reading, first: Vec<Bytes>) -> Self {
        let left = reading.left + first.iter().map(|block| block.len() as u64).sum::<u64>();
        let (here, jobs) = (first.into(), Arc::clone(jobs));
        Self { coming: None, error: None, here, jobs, left, reading: Some(reading) }
    }

    /// Has the next blocks read, unless that is being done.
    fn read_on(&mut self) {
        if let Some(mut reading) = self.reading.take_if(|reading| reading.left > 0) {
            // Begins now, whoever asks for it.
            self.coming = Some(self.jobs.read_on("read content", move || {
                let read = reading.read();
                Ok((reading, read))
            }));
        }
    }

    fn take(
        &mut self,
        ended: Result<(Reading, io::Result<Vec<Bytes>>), StoreError>,
    ) -> Result<(), StoreError> {
        let (reading, read) = ended?;
        self.here.extend(read.map_err(|error| StoreError::new("read content", error))?);
        self.reading = Some(reading);
        Ok(())
    }
}

impl Body for Blocks {
    type Data = Bytes;
    type Error = StoreError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, StoreError>>> {
        if self.here.len() as u64 <= TOGETHER / 2 {
            self.read_on();
        }
        if let Some(coming) = &mut self.coming
            && let Poll::Ready(ended) = coming.as_mut().poll(cx)
        {
            self.coming = None;
            self.error = self.take(ended).err();
        }
        match self.here.pop_front() {
            Some(data) => {
                self.left -= data.len() as u64;
                Poll::Ready(Some(Ok(Frame::data(data))))
            }
            None if self.coming.is_some() => Poll::Pending,
            None => Poll::Ready(self.error.take().map(Err)),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
