//! Parts of a representation: cut from stored responses, merged, and requested if they are missing (RFC 9110 14,
//! 15.3.7; RFC 9111 3.3, 3.4).
//!
//! Invariant: a stored part answers requests for ranges that it holds, and no others.

use std::collections::BTreeSet;
use std::hash::{BuildHasher, RandomState};

use http::header::{self, HeaderMap, HeaderName};
use http::request::Parts;
use http::{HeaderValue, Method, StatusCode, response};

use crate::entry::pieces::{Pieces, PiecesMut, Run};
use crate::entry::slice::Sliced;
use crate::entry::{Part, Payload, ResponseHead, StoredResponse};
use crate::semantics::answer::{self, content_range};
use crate::semantics::coding;
use crate::semantics::fields::{RequestFields, remove_content_digests};
use crate::semantics::parts::{Extent, strong_validator};
use crate::semantics::range::{self, Asked, ByteRange};
use crate::semantics::reuse::Coverage;
use crate::semantics::validation::{self, Validators};

/// The answer to a GET with `Range`, instead of the whole.
pub(crate) struct Cut {
    pub(crate) content: CutContent,
    pub(crate) headers: HeaderMap,
    pub(crate) status: StatusCode,
}

pub(crate) enum CutContent {
    AtHand(Run),
    /// This many bytes, which the store has to open.
    Remote(u64),
}

/// What an answer needs of the stored content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Needed {
    Nothing,
    /// One range, or several in one multipart. By their positions in what is stored.
    Ranges(Vec<ByteRange>),
    Whole,
}

/// What a GET with these fields, with or without `Range`, needs of the content of a stored response.
pub(crate) fn needed(stored: &StoredResponse, request: &HeaderMap) -> Needed {
    let head = stored.head();
    let length = match head.part() {
        None if head.status() == StatusCode::OK => stored.payload().len(),
        None | Some(Part::Replay) => return Needed::Whole,
        Some(Part::Bytes(extent)) => extent.length(),
    };
    match asked(head, request, length) {
        Asked::Everything => Needed::Whole,
        Asked::Unsatisfiable => Needed::Nothing,
        Asked::Ranges(ranges) => {
            let positions: Option<_> = ranges.iter().map(|range| position(stored, *range)).collect();
            positions.map_or(Needed::Whole, Needed::Ranges)
        }
    }
}

/// The part of a stored response that a request asks for; `None` if it gets the whole. If several ranges of remote
/// content are asked for, `read` has their content; without it, the answer is the whole.
pub(crate) fn cut(stored: &StoredResponse, request: &HeaderMap, read: &[Pieces]) -> Option<Cut> {
    let (head, payload) = (stored.head(), stored.payload());
    let length = match head.part() {
        None if head.status() == StatusCode::OK => payload.len(),
        None => return None,
        Some(Part::Bytes(extent)) => extent.length(),
        Some(Part::Replay) => {
            let (headers, status) = (head.headers(), head.status());
            let content = match payload.content() {
                Some(content) => CutContent::AtHand(Run::of(content)),
                None => CutContent::Remote(payload.len()),
            };
            return Some(Cut { content, headers, status });
        }
    };
    match asked(head, request, length) {
        Asked::Everything => None,
        Asked::Ranges(ranges) => match ranges.as_slice() {
            [range] => single(stored, *range, length),
            ranges => several(stored, ranges, length, read),
        },
        Asked::Unsatisfiable => {
            let mut headers = head.headers_of(answer::is_in_unsatisfiable, 4);
            answer::set_unsatisfiable(&mut headers, length);
            let content = CutContent::AtHand(Run::default());
            Some(Cut { content, headers, status: StatusCode::RANGE_NOT_SATISFIABLE })
        }
    }
}

/// What `Range` asks of a stored response, if `If-Range` allows it, and if what a client has of it can't be of another coding.
fn asked(head: &ResponseHead, request: &HeaderMap, length: u64) -> Asked {
    if head.may_share_validator() || !if_range_holds(head, request) {
        return Asked::Everything;
    }
    range::asked(request, length)
}

/// Whether a range for this request may be one of another coding than the bytes that its client has, as far as the responses
/// under the key say: two of them have one validator and different codings, or `If-Range` has the tag of a coding that the
/// request does not accept.
pub(crate) fn may_mix_codings<'a>(
    stored: impl Iterator<Item = &'a ResponseHead>,
    request: &HeaderMap,
) -> bool {
    // Looked up once: there may be many responses, and each is compared with each.
    let stored: Vec<_> = stored.map(|head| (head.validators(), head.coding())).collect();
    let is_left = |(own, coding): &(Validators<'_>, Option<&[u8]>)| {
        let if_range = request.get(header::IF_RANGE).map(HeaderValue::as_bytes);
        let is_of_it = own.strong().etag.is_some() && own.etag == if_range;
        is_of_it && !coding::is_accepted(*coding, request)
    };
    let is_shared = |(at, (own, coding)): (usize, &(Validators<'_>, Option<&[u8]>))| {
        let others = stored[at + 1..].iter();
        others
            .filter(|(other, _)| own.is_shared_with(*other))
            .any(|(_, other)| !coding::is_same(*coding, *other))
    };
    stored.iter().any(is_left) || stored.iter().enumerate().any(is_shared)
}

fn if_range_holds(head: &ResponseHead, request: &HeaderMap) -> bool {
    let etag = head.fields().get(&header::ETAG);
    range::if_range_holds(request, etag, head.date_of_parts(), head.reuse().date)
}

fn single(stored: &StoredResponse, range: ByteRange, length: u64) -> Option<Cut> {
    let content = if stored.payload().is_remote() {
        CutContent::Remote(position(stored, range)?.len())
    } else {
        CutContent::AtHand(slice(stored, range)?)
    };
    let mut headers = stored.head().headers();
    answer::set_single_range(&mut headers, range, length);
    Some(Cut { content, headers, status: StatusCode::PARTIAL_CONTENT })
}

/// `multipart/byteranges` (RFC 9110 14.6).
fn several(stored: &StoredResponse, ranges: &[ByteRange], length: u64, read: &[Pieces]) -> Option<Cut> {
    let is_remote = stored.payload().is_remote();
    if is_remote && read.len() != ranges.len() {
        return None;
    }
    // Random, so that nobody can write content that has it.
    let random = RandomState::new();
    let boundary = format!("{:016x}{:016x}", random.hash_one(0), random.hash_one(1));
    let head = stored.head();
    let kind = head.fields().get(&header::CONTENT_TYPE);
    let mut body = PiecesMut::default();
    for (at, range) in ranges.iter().enumerate() {
        body.extend(format!("--{boundary}\r\n").as_bytes());
        if let Some(kind) = kind {
            body.extend(b"Content-Type: ");
            body.extend(kind);
            body.extend(b"\r\n");
        }
        body.extend(b"Content-Range: ");
        body.extend(content_range(*range, length).as_bytes());
        body.extend(b"\r\n\r\n");
        let content = if is_remote { Run::of(&read[at]) } else { slice(stored, *range)? };
        content.for_each(|piece| body.extend(&piece));
        body.extend(b"\r\n");
    }
    body.extend(format!("--{boundary}--\r\n").as_bytes());
    let mut headers = head.headers();
    answer::set_several_ranges(&mut headers, &boundary, body.len() as u64);
    let content = CutContent::AtHand(Run::of(&body.freeze_for_one()));
    Some(Cut { content, headers, status: StatusCode::PARTIAL_CONTENT })
}

/// Where a range of the representation is in the stored content; `None` if the stored response does not have all of it.
fn position(stored: &StoredResponse, range: ByteRange) -> Option<ByteRange> {
    let first = match stored.head().part() {
        None => range.first,
        Some(Part::Bytes(extent)) => extent.position(range)?,
        Some(Part::Replay) => return None,
    };
    let last = first.checked_add(range.len() - 1)?;
    (last < stored.payload().len()).then_some(ByteRange { first, last })
}

/// A range of the representation, if its content is in memory.
fn slice(stored: &StoredResponse, range: ByteRange) -> Option<Run> {
    let ByteRange { first, last } = position(stored, range)?;
    let (first, last) = (usize::try_from(first).ok()?, usize::try_from(last).ok()?);
    Some(stored.payload().content()?.run(first..last + 1))
}

fn value(text: String) -> HeaderValue {
    HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static(""))
}

/// How much of the requested bytes a stored response has.
pub(crate) fn coverage(stored: &StoredResponse, request: &Parts, fields: RequestFields) -> Coverage {
    let head = stored.head();
    let Some(part) = head.part() else {
        return Coverage::Full;
    };
    let may_join = || request.extensions.get::<Sliced>().is_none_or(|sliced| sliced.may_join(head));
    if request.method != Method::GET || !may_join() {
        return Coverage::Insufficient;
    }
    match part {
        Part::Bytes(extent) => match ask(head, extent, &request.headers, fields) {
            Asked::Unsatisfiable => Coverage::Full,
            Asked::Ranges(ranges) if ranges.iter().all(|range| extent.position(*range).is_some()) => {
                Coverage::Full
            }
            _ if Completion::of(stored, &request.headers, fields).is_some() => Coverage::Partial,
            _ => Coverage::Insufficient,
        },
        Part::Replay if fields.range && if_range_holds(head, &request.headers) => Coverage::Full,
        Part::Replay => Coverage::Insufficient,
    }
}

fn ask(head: &ResponseHead, extent: &Extent, request: &HeaderMap, fields: RequestFields) -> Asked {
    if fields.range { asked(head, request, extent.length()) } else { Asked::Everything }
}

/// Bytes of a representation that are asked for under its strong validator (RFC 9110 13.1.5).
pub(crate) struct Missing {
    /// Of the whole.
    length: u64,
    range: ByteRange,
    validator: HeaderValue,
}

impl Missing {
    /// What an answer gets of a stored response, to be asked for where the store can't give it to its end; `None` where nothing says
    /// which bytes of which representation these are. `others` are stored under the same key.
    pub(crate) fn of<'a>(
        stored: &StoredResponse,
        needed: &Needed,
        mut others: impl Iterator<Item = &'a ResponseHead>,
    ) -> Option<Self> {
        let head = stored.head();
        let (length, range) = match (head.part(), needed) {
            (None, Needed::Whole) => (stored.payload().len(), None),
            (None, Needed::Ranges(ranges)) => (stored.payload().len(), Some(ranges)),
            (Some(Part::Bytes(extent)), Needed::Ranges(ranges)) => (extent.length(), Some(ranges)),
            _ => return None,
        };
        let range = match (range.map(Vec::as_slice), head.part()) {
            (None, _) => ByteRange { first: 0, last: length.checked_sub(1)? },
            (Some([range]), Some(Part::Bytes(extent))) => extent.range_at(*range)?,
            (Some([range]), _) => *range,
            (Some(_), _) => return None,
        };
        let own = head.validators();
        let validator = strong_validator(own.etag, own.last_modified, head.reuse().date)?;
        // Of a coding, a date is that of the plain content.
        let is_of_it = own.etag.is_some() || head.date_of_parts().is_some();
        let is_of_others = |other: &ResponseHead| {
            own.is_shared_with(other.validators()) && !coding::is_same(head.coding(), other.coding())
        };
        let is_whole = head.part().is_none();
        let identifies = is_of_it && !head.may_share_validator() && !others.any(is_of_others);
        let is_sent = !is_whole || head.status() == StatusCode::OK;
        let validator = HeaderValue::from_bytes(validator).ok().filter(|_| identifies && is_sent)?;
        Some(Self { length, range, validator })
    }

    /// What is missing when the first bytes are there.
    #[must_use]
    pub(crate) fn after(mut self, bytes: u64) -> Self {
        self.range.first = self.range.first.saturating_add(bytes);
        self
    }

    /// How many bytes are missing.
    pub(crate) fn len(&self) -> u64 {
        self.range.len()
    }

    /// Makes a request ask for what is missing, of this representation only.
    pub(crate) fn ask(&self, headers: &mut HeaderMap) {
        validation::remove_conditions(headers);
        let ByteRange { first, last } = self.range;
        let range =
            if last + 1 == self.length { format!("bytes={first}-") } else { format!("bytes={first}-{last}") };
        headers.insert(header::RANGE, value(range));
        headers.insert(header::IF_RANGE, self.validator.clone());
    }

    /// Whether a 206 has exactly these bytes, of a representation with this coding.
    pub(crate) fn is_in(&self, response: &HeaderMap, coding: Option<&[u8]>) -> bool {
        let is_range = Extent::of(response)
            .is_some_and(|extent| extent.length() == self.length && extent.parts() == [self.range]);
        // It may leave out what its recipient has (15.3.7.1).
        let told_coding = response.get(header::CONTENT_ENCODING).map(HeaderValue::as_bytes);
        let is_in_coding = told_coding.is_none() || coding::is_same(told_coding, coding);
        let told = response.get(self.field());
        // RFC 9110 15.3.7: a 206 always has the tag, and may omit a date that `If-Range` carried.
        let is_same = told.map_or(self.is_by_date(), |told| *told == self.validator);
        is_range && is_in_coding && is_same
    }

    /// Whether a 206 says itself of which representation it is.
    pub(crate) fn is_named_in(&self, response: &HeaderMap) -> bool {
        response.contains_key(self.field())
    }

    fn is_by_date(&self) -> bool {
        !self.validator.as_bytes().starts_with(b"\"")
    }

    fn field(&self) -> HeaderName {
        if self.is_by_date() { header::LAST_MODIFIED } else { header::ETAG }
    }
}

/// A stored part that is to be completed: what is asked for, and what of it is missing.
pub(crate) struct Completion {
    /// The client asked for a range, and gets a 206.
    is_range: bool,
    missing: Missing,
    wanted: ByteRange,
}

impl Completion {
    /// `None` if nothing is missing, more than one range is asked for, or there is no strong validator.
    pub(crate) fn of(stored: &StoredResponse, request: &HeaderMap, fields: RequestFields) -> Option<Self> {
        let head = stored.head();
        let Some(Part::Bytes(extent)) = head.part() else {
            return None;
        };
        let length = extent.length();
        let (is_range, wanted) = match ask(head, extent, request, fields) {
            Asked::Everything => (false, ByteRange { first: 0, last: length - 1 }),
            Asked::Ranges(ranges) => match ranges.as_slice() {
                [range] => (true, *range),
                _ => return None,
            },
            Asked::Unsatisfiable => return None,
        };
        let range = extent.missing(wanted)?;
        let validator = HeaderValue::from_bytes(head.strong_validator()?).ok()?;
        Some(Self { is_range, missing: Missing { length, range, validator }, wanted })
    }

    /// Whether the client asked for a range, so that any 206 is an answer to it.
    pub(crate) fn is_range(&self) -> bool {
        self.is_range
    }

    /// What is missing.
    pub(crate) fn missing(&self) -> &Missing {
        &self.missing
    }

    /// Turns the fields and the status of a 206 with the missing bytes into those that the inner service would have
    /// given to the client (RFC 9111 3.4).
    pub(crate) fn complete(&self, stored: &StoredResponse, parts: &mut response::Parts) {
        // New fields replace stored ones; a 206 may leave out what its recipient has.
        parts.headers = validation::freshen(&stored.head().own_fields(), &parts.headers);
        remove_content_digests(&mut parts.headers);
        parts.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(self.wanted.len()));
        if self.is_range {
            parts.headers.insert(header::CONTENT_RANGE, content_range(self.wanted, self.missing.length));
        } else {
            parts.status = StatusCode::OK;
        }
    }

    /// The stored bytes before and after the missing ones, if the 206 has exactly the missing bytes of the same
    /// representation.
    pub(crate) fn fits(&self, stored: &StoredResponse, response: &HeaderMap) -> Option<(Run, Run)> {
        if !self.missing.is_in(response, stored.head().coding()) {
            return None;
        }
        let piece = |first, last| {
            if first > last { Some(Run::default()) } else { slice(stored, ByteRange { first, last }) }
        };
        let ByteRange { first, last } = self.missing.range;
        // A gap within them was requested as missing.
        let before = match first.checked_sub(1) {
            None => Run::default(),
            Some(last) => piece(self.wanted.first, last)?,
        };
        Some((before, piece(last + 1, self.wanted.last)?))
    }
}

/// What to store if there is a stored response with the same selecting fields.
pub(crate) enum Joined {
    /// The two, merged.
    Both(StoredResponse),
    /// The new response unchanged.
    New,
    /// Nothing: the stored response has more.
    Old,
}

/// Merges a new response with the stored one of the same selecting fields, if both are of one representation.
pub(crate) fn joined(old: &StoredResponse, new: &StoredResponse) -> Joined {
    let both = match (old.head().part.is_some(), new.head().part.is_some()) {
        (false, true) if has_more(old.head(), new.head()) => return Joined::Old,
        (true, false) => {
            outlasting(new.head(), old.head()).map(|head| StoredResponse::new(head, new.payload().clone()))
        }
        // Parts that are requested concurrently arrive in any order.
        (true, true) if new.is_older_than(old) => join(new, old),
        (true, true) => join(old, new),
        (false, _) => None,
    };
    both.map_or(Joined::New, Joined::Both)
}

/// The head of a new response of `length` bytes beside the stored one of the same selecting fields, where their contents are
/// not put together. `None` where the stored one has more to give.
pub(crate) fn beside(old: &StoredResponse, new: &ResponseHead, length: u64) -> Option<ResponseHead> {
    match (old.head().part.is_some(), new.part.is_some()) {
        (false, true) if has_more(old.head(), new) => None,
        (true, false) => Some(outlasting(new, old.head()).unwrap_or_else(|| new.clone())),
        // Of one representation, the larger part.
        (true, true) if validator(old.head()).is_some_and(|own| validator(new) == Some(own)) => {
            (length >= old.payload().len()).then(|| new.clone())
        }
        _ => Some(new.clone()),
    }
}

/// Whether a whole response has more to give than a part that comes to it: unless the part is of a newer representation for
/// sure.
fn has_more(whole: &ResponseHead, part: &ResponseHead) -> bool {
    let is_newer = part.reuse().generated > whole.reuse().generated;
    let (had, came) = (validator(whole), validator(part));
    !(is_newer && had.is_some() && came.is_some() && had != came)
}

/// The head of a whole response as new as a part of the same representation, which was asked for after it and landed before
/// it.
fn outlasting(whole: &ResponseHead, part: &ResponseHead) -> Option<ResponseHead> {
    let own = validator(whole)?;
    if validator(part) != Some(own) || !whole.reuse().is_older_than(part.reuse()) {
        return None;
    }
    let mut head = whole.clone();
    let newer = part.reuse();
    (head.reuse.generated, head.reuse.request_time) = (newer.generated, newer.request_time);
    Some(head)
}

/// The validator that identifies parts of one representation (RFC 9111 3.4).
fn validator(head: &ResponseHead) -> Option<&[u8]> {
    head.strong_validator().filter(|_| !head.tag_is_ours)
}

/// Combines an older part with a newer one of the same representation.
fn join(old: &StoredResponse, new: &StoredResponse) -> Option<StoredResponse> {
    let (Some(Part::Bytes(had)), Some(Part::Bytes(came))) = (old.head().part(), new.head().part()) else {
        return None;
    };
    let own = validator(new.head())?;
    if validator(old.head()) != Some(own) || !coding::is_same(old.head().coding(), new.head().coding()) {
        return None;
    }
    let extent = had.join(came)?;
    let mut content = PiecesMut::default();
    for part in extent.parts() {
        let mut next = part.first;
        while next <= part.last {
            // Each byte of the merged parts is in one of the two; the newer one wins.
            let (source, within) = match came.around(next) {
                Some(within) => (new, within),
                None => (old, had.around(next)?),
            };
            let nearest = came.parts().iter().map(|part| part.first).find(|&first| first > next);
            let last = match nearest {
                Some(first) if std::ptr::eq(source, old) => within.last.min(first - 1),
                _ => within.last,
            };
            slice(source, ByteRange { first: next, last })?.for_each(|piece| content.extend(&piece));
            next = last + 1;
        }
    }
    let mut head = new.head().clone();
    // A purge of a group of either reaches the result.
    let groups = head.groups.iter().chain(&old.head().groups).cloned();
    head.groups = groups.collect::<BTreeSet<_>>().into_iter().collect();
    Some(StoredResponse::new(head.having(extent), Payload::new(content.freeze(), None)))
}
