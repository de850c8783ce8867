//! What a request accepts (RFC 9110 12.5): codings, languages and media types with weights, and when two requests
//! accept the same.

mod written;

use http::HeaderValue;
use http::header::{self, HeaderMap, HeaderName};

use super::fields::{Members, is_longer_than, is_token, list, trim};

/// How `Accept-Encoding` matches. RFC 9111 4.1 lets a cache normalise a field whose meaning is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Codings {
    /// The same members in the same order, byte for byte, as RFC 9111 4.1 has it.
    #[default]
    AsSent,
    /// Requests match if they accept the same ones among these codings, and are forwarded with those only; see
    /// [`Codings::known`], [`Codings::one_of`], [`Codings::cloudfront`] and [`Codings::fastly`].
    Known(KnownCodings),
    /// The same codings with the same weights, in any order and any case; `x-gzip` is `gzip` and `x-compress` is
    /// `compress` (RFC 9110 8.4.1). A field of more than 512 bytes or 32 members, or one that is outside the grammar,
    /// matches only as sent.
    Negotiated,
}

/// The codings that a policy knows, in its order, and how a request is forwarded with them: made by [`Codings::known`],
/// [`Codings::one_of`], [`Codings::cloudfront`] and [`Codings::fastly`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownCodings {
    form: Form,
    names: Box<[Box<[u8]>]>,
}

/// The `Accept-Encoding` of a forwarded request, as known codings make it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// `br,gzip`, or `identity` if none is accepted; a request without the field stays without it.
    CloudFront,
    /// `br` or no field.
    Fastly,
    /// `br, gzip`, or `identity` if none is accepted or there is no field.
    List,
    /// `br`, or `identity` if none is accepted or there is no field.
    One,
}

/// How `Accept-Language` matches, which is always case-insensitive (RFC 4647 2).
///
/// A field of more than 512 bytes or 32 members, or one that is outside the grammar, matches only as sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Languages {
    /// The same ranges in the same order, as RFC 9111 4.1 has it.
    #[default]
    AsSent,
    /// The same ranges with the same weights in any order; and a response with a `Content-Language`
    /// matches every request that prefers exactly this language. Some origins give order a meaning.
    Negotiated,
}

/// The meaning of a field, however it is spelled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Meaning {
    /// The normal form; `None` if the request had no such field, or one without a normal form.
    accepted: Option<Accepted>,
    by: By,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum By {
    Codings(Codings),
    /// With the `Content-Language` in lower case, if there is a single one and negotiation is on.
    Languages(Languages, Option<Box<[u8]>>),
}

/// What a request accepts, in a normal form: two of them are equal if no origin may treat them differently.
type Accepted = Box<[Weighted]>;

/// A coding or a language range, in lower case, with its weight in thousandths.
type Weighted = (Box<[u8]>, u16);

impl Meaning {
    /// `None` for a field that matches only as it was sent.
    pub(super) fn of(
        name: &HeaderName,
        response: &HeaderMap,
        request: &HeaderMap,
        (codings, languages): (&Codings, Languages),
    ) -> Option<Self> {
        By::of(name, response, codings, languages).map(|by| Self { accepted: by.accepted(request, name), by })
    }

    /// Whether it can be compared with others without looking at how they were sent.
    pub(super) fn has_normal_form(&self) -> bool {
        self.accepted.is_some()
    }

    pub(super) fn matches(&self, request: &HeaderMap, name: &HeaderName) -> bool {
        let Some(presented) = self.by.accepted(request, name) else {
            return false;
        };
        self.accepted.as_ref() == Some(&presented)
            || matches!(&self.by, By::Languages(_, Some(content)) if prefers(&presented, content))
    }

    pub(super) fn weight(&self) -> usize {
        let accepted = self.accepted.iter().flatten();
        let by = match &self.by {
            By::Codings(Codings::Known(known)) => {
                known.names.iter().map(|coding| size_of::<Box<[u8]>>() + coding.len()).sum()
            }
            By::Languages(_, Some(content)) => content.len(),
            By::Codings(_) | By::Languages(..) => 0,
        };
        accepted.map(|(name, _)| size_of::<Weighted>() + name.len()).sum::<usize>() + by
    }
}

impl By {
    /// `None` for a field that matches only as it was sent.
    fn of(name: &HeaderName, response: &HeaderMap, codings: &Codings, languages: Languages) -> Option<Self> {
        match *name {
            header::ACCEPT_ENCODING if *codings == Codings::AsSent => None,
            header::ACCEPT_ENCODING => Some(Self::Codings(codings.clone())),
            header::ACCEPT_LANGUAGE => {
                let negotiated = languages == Languages::Negotiated;
                let content = negotiated.then(|| content_language(response)).flatten();
                Some(Self::Languages(languages, content))
            }
            _ => None,
        }
    }

    /// `None` if the request has no such field, or one without a normal form.
    fn accepted(&self, request: &HeaderMap, name: &HeaderName) -> Option<Accepted> {
        match self {
            Self::Codings(Codings::Known(known)) => known.accepted(request),
            Self::Codings(_) => Some(in_any_order(codings(request)?)),
            Self::Languages(Languages::AsSent, _) => Some(weighted(request, name)?.into_boxed_slice()),
            Self::Languages(Languages::Negotiated, _) => Some(in_any_order(weighted(request, name)?)),
        }
    }
}

impl Codings {
    /// Requests match if they accept the same ones among these codings, whatever the weights: `gzip;q=0.5, br` and
    /// `br, gzip, zstd` are the same to a policy that knows `br` and `gzip`. Names that are not tokens are left out,
    /// and so is `identity`, which is always acceptable here, even to a request that refuses it. A field of more than
    /// 512 bytes or 32 members, or one that is outside the grammar, accepts none of them.
    ///
    /// The origin must not see what the cache does not compare: forwarded requests go through [`Codings::normalise`].
    /// [`StandardPolicy`](crate::StandardPolicy) does that.
    ///
    /// ```
    /// use larder::{CacheBuilder, StandardPolicy};
    /// use larder::semantics::accept::Codings;
    /// let policy = StandardPolicy::default().codings(Codings::known(["zstd", "br", "gzip"]));
    /// # let _ = CacheBuilder::default().policy(policy).build();
    /// ```
    pub fn known<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        Self::in_form(Form::List, names)
    }

    /// Requests match if the first of these codings that they accept is the same, and they are forwarded with that one
    /// alone: `br;q=0.1, gzip` and `gzip, br, zstd` both ask for `br` if that is listed before `gzip`. At most one variant
    /// is stored for each coding, and one without. In all else as [`Codings::known`].
    ///
    /// ```
    /// use http::HeaderMap;
    /// use larder::semantics::accept::Codings;
    /// let mut headers = HeaderMap::new();
    /// headers.insert("accept-encoding", "gzip, deflate, br, zstd".parse().unwrap());
    /// Codings::one_of(["zstd", "br", "gzip"]).normalise(&mut headers);
    /// assert_eq!(headers["accept-encoding"], "zstd");
    /// ```
    pub fn one_of<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        Self::in_form(Form::One, names)
    }

    /// As [`Codings::known`], but in the words of CloudFront, whose cache policies know `["br", "gzip"]`, or one of them:
    /// a request is forwarded with `br,gzip`, `br` or `gzip`, and with `identity` if it accepts none of them. A request
    /// without the field is forwarded without it, and does not match one that accepts none, because to an origin the
    /// two may differ.
    ///
    /// ```
    /// use http::HeaderMap;
    /// use larder::semantics::accept::Codings;
    /// let mut headers = HeaderMap::new();
    /// headers.insert("accept-encoding", "gzip, deflate, br".parse().unwrap());
    /// Codings::cloudfront(["br", "gzip"]).normalise(&mut headers);
    /// assert_eq!(headers["accept-encoding"], "br,gzip");
    /// ```
    pub fn cloudfront<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        Self::in_form(Form::CloudFront, names)
    }

    /// As [`Codings::one_of`], but in the words of Fastly, which knows `["gzip", "deflate"]`, or `["br", "gzip", "deflate"]`
    /// with Brotli switched on: a request that accepts none of them is forwarded without the field, like one that has none.
    /// An origin must not take that for a permission to code, as RFC 9110 12.5.3 gives it.
    ///
    /// ```
    /// use http::HeaderMap;
    /// use larder::semantics::accept::Codings;
    /// let mut headers = HeaderMap::new();
    /// headers.insert("accept-encoding", "gzip, deflate, br".parse().unwrap());
    /// Codings::fastly(["gzip", "deflate"]).normalise(&mut headers);
    /// assert_eq!(headers["accept-encoding"], "gzip");
    /// ```
    pub fn fastly<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        Self::in_form(Form::Fastly, names)
    }

    fn in_form<'a>(form: Form, names: impl IntoIterator<Item = &'a str>) -> Self {
        let mut known: Vec<Box<[u8]>> = Vec::new();
        for name in names {
            let name = unaliased(name.to_ascii_lowercase().into_bytes().into_boxed_slice());
            if is_token(&name) && !matches!(&*name, b"*" | b"identity") && !known.contains(&name) {
                known.push(name);
            }
        }
        Self::Known(KnownCodings { form, names: known.into_boxed_slice() })
    }

    /// Gives a request the `Accept-Encoding` with which it is forwarded: of the known codings, those that it accepts,
    /// in the policy's order, without weights, as [`Codings::known`], [`Codings::one_of`], [`Codings::cloudfront`] and
    /// [`Codings::fastly`] say. Does nothing unless the codings are [`Codings::Known`].
    ///
    /// With `known` and `one_of`, a request without the field asks for `identity`. By RFC 9110 12.5.3 it accepts every
    /// coding, but clients that do not send the field can't decode any, and would cause a separate copy to be stored.
    ///
    /// ```
    /// use http::HeaderMap;
    /// use larder::semantics::accept::Codings;
    /// let mut headers = HeaderMap::new();
    /// headers.insert("accept-encoding", "gzip;q=0.8, deflate, zstd, *;q=0".parse().unwrap());
    /// Codings::known(["zstd", "br", "gzip"]).normalise(&mut headers);
    /// assert_eq!(headers["accept-encoding"], "zstd, gzip");
    /// ```
    pub fn normalise(&self, headers: &mut HeaderMap) {
        let Self::Known(known) = self else {
            return;
        };
        match known.normalised(headers) {
            Some(value) => drop(headers.insert(header::ACCEPT_ENCODING, value)),
            None => drop(headers.remove(header::ACCEPT_ENCODING)),
        }
    }
}

impl KnownCodings {
    /// Those that a request accepts (RFC 9110 12.5.3), in this order and with one weight. `None` for a request without
    /// the field, if it is forwarded without it and one that accepts none is not.
    fn accepted(&self, request: &HeaderMap) -> Option<Accepted> {
        if self.form == Form::CloudFront && !request.contains_key(header::ACCEPT_ENCODING) {
            return None;
        }
        let members = codings(request).unwrap_or_default();
        let accepted = self.names.iter().filter(|name| is_accepted(&members, name));
        let most = if self.takes_one() { 1 } else { self.names.len() };
        Some(accepted.take(most).map(|name| (name.clone(), ALL)).collect())
    }

    fn takes_one(&self) -> bool {
        matches!(self.form, Form::Fastly | Form::One)
    }

    /// The field of a forwarded request; `None` for no field.
    fn normalised(&self, request: &HeaderMap) -> Option<HeaderValue> {
        let accepted = self.accepted(request)?;
        let names: Vec<_> = accepted.iter().map(|(name, _)| &**name).collect();
        let separator = if self.form == Form::CloudFront { &b","[..] } else { b", " };
        let value = HeaderValue::from_bytes(&names.join(separator)).ok().filter(|value| !value.is_empty());
        match self.form {
            Form::Fastly => value,
            Form::CloudFront | Form::List | Form::One => {
                Some(value.unwrap_or_else(|| HeaderValue::from_static("identity")))
            }
        }
    }
}

/// The weight of a member without one, in thousandths.
const ALL: u16 = 1000;

/// A longer field has no normal form: no client needs such a field, and each variant of a key would be compared with
/// it.
const LONGEST: usize = 512;
/// A longer `Accept` accepts nothing.
const LONGEST_ACCEPT: usize = 1024;

/// A field with more members has no normal form, either.
const MOST_MEMBERS: usize = 32;

/// `Accept-Encoding`, each coding by one of its names.
fn codings(request: &HeaderMap) -> Option<Vec<Weighted>> {
    let mut codings = weighted(request, &header::ACCEPT_ENCODING)?;
    for (name, _) in &mut codings {
        *name = unaliased(std::mem::take(name));
    }
    Some(codings)
}

/// Whether a request accepts a coding (RFC 9110 12.5.3), given in lower case and by its first name. A request without
/// the field accepts none, because most clients that do not send it can't decode anything; nor does a request whose
/// field is too long or outside the grammar. This does not allocate, because hits call it.
pub(crate) fn accepts_coding(request: &HeaderMap, coding: &[u8]) -> bool {
    if is_longer_than(request, &header::ACCEPT_ENCODING, LONGEST) {
        return false;
    }
    let (mut own, mut others) = (None, None);
    for member in list(request, &header::ACCEPT_ENCODING) {
        let Some((name, weight)) = weighted_member(member) else {
            return false;
        };
        let least = |known: Option<u16>| Some(known.map_or(weight, |known| known.min(weight)));
        let name = if has_prefix(name) { &name[2..] } else { name };
        if name.eq_ignore_ascii_case(coding) {
            own = least(own);
        } else if name == b"*" {
            others = least(others);
        }
    }
    own.or(others).unwrap_or_default() > 0
}

/// Whether it is `x-compress` or `x-gzip`.
fn has_prefix(coding: &[u8]) -> bool {
    coding.eq_ignore_ascii_case(b"x-compress") || coding.eq_ignore_ascii_case(b"x-gzip")
}

/// If a coding is named twice, the smaller weight counts.
fn is_accepted(members: &[Weighted], coding: &[u8]) -> bool {
    let weight =
        |name: &[u8]| members.iter().filter(|(member, _)| **member == *name).map(|(_, weight)| *weight).min();
    weight(coding).or_else(|| weight(b"*")).unwrap_or_default() > 0
}

/// Whether a request accepts content of this type (RFC 9110 12.5.1): by the most specific range that it names. A
/// request without the field accepts everything; one whose field is longer than 1,024 bytes counts as accepting
/// nothing.
pub(crate) fn accepts_media_type(request: &HeaderMap, content_type: &[u8]) -> bool {
    if is_longer_than(request, &header::ACCEPT, LONGEST_ACCEPT) {
        return false;
    }
    if request.get_all(header::ACCEPT).into_iter().all(HeaderValue::is_empty) {
        return true;
    }
    let own = essence(content_type).to_ascii_lowercase();
    let family = own.split(|&byte| byte == b'/').next().unwrap_or_default();
    let whole_family = [family, b"/*"].concat();
    let weight = |range: &[u8]| weight_of(request, range);
    let found = weight(&own).or_else(|| weight(&whole_family)).or_else(|| weight(b"*/*"));
    found.is_some_and(|weight| weight > 0)
}

/// Whether a request asks for a media type by its name, given in lower case, with a weight above 0. Ranges such as `*/*` do not count: browsers
/// send them that cannot show every type.
///
/// `None` where services may differ: some look for the name anywhere in the field, or in its first line, others drop a field
/// that is outside the grammar. So it is `None` for more than 1,024 bytes, for lines that say different things, and for a
/// line that has the name in another way than in lower case, in a well-formed list, and with weights above 0.
pub(crate) fn names_media_type(request: &HeaderMap, media_type: &[u8]) -> Option<bool> {
    if is_longer_than(request, &header::ACCEPT, LONGEST_ACCEPT) {
        return None;
    }
    agreed(request.get_all(header::ACCEPT).into_iter().map(|line| line_names(line.as_bytes(), media_type)))
}

/// What all lines of a field say, if they say the same; a field without a line says no.
pub(crate) fn agreed(mut lines: impl Iterator<Item = Option<bool>>) -> Option<bool> {
    let first = lines.next().unwrap_or(Some(false));
    first.filter(|first| lines.all(|line| line == Some(*first)))
}

/// [`names_media_type`] of one line.
fn line_names(line: &[u8], media_type: &[u8]) -> Option<bool> {
    if !has_word(line, media_type) {
        return Some(false);
    }
    let mut is_named = false;
    for member in Members::new(line) {
        let (name, weight) = weighted_range(member)?;
        if name == media_type {
            is_named = true;
            weight.checked_sub(1)?;
        }
    }
    is_named.then_some(true)
}

/// Whether a line contains a word, in whatever case.
pub(crate) fn has_word(line: &[u8], word: &[u8]) -> bool {
    let Some((first, rest)) = word.split_first() else {
        return true;
    };
    // Most bytes are no beginning.
    let begins = |byte: &u8| byte.eq_ignore_ascii_case(first);
    let mut after = line;
    while let Some(at) = after.iter().position(begins) {
        after = &after[at + 1..];
        if after.get(..rest.len()).is_some_and(|next| next.eq_ignore_ascii_case(rest)) {
            return true;
        }
    }
    false
}

/// A media range and its weight; `None` for a member outside the grammar (RFC 9110 12.5.1).
fn weighted_range(member: &[u8]) -> Option<(&[u8], u16)> {
    let mut parts = member.split(|&byte| byte == b';').map(trim);
    let name = parts.next()?;
    let (family, kind) = name.split_at_checked(name.iter().position(|&byte| byte == b'/')?)?;
    if !is_token(family) || !is_token(&kind[1..]) {
        return None;
    }
    let mut weight = ALL;
    for parameter in parts {
        let (key, value) = parameter.split_at_checked(parameter.iter().position(|&byte| byte == b'=')?)?;
        let value = &value[1..];
        let is_quoted = matches!(value, [b'"', inner @ .., b'"'] if !inner.contains(&b'"'));
        if !is_token(key) || !(is_quoted || is_token(value)) {
            return None;
        }
        if key.eq_ignore_ascii_case(b"q") {
            weight = weight.min(thousandths(value)?);
        }
    }
    Some((name, weight))
}

/// The weight of a media range in `Accept`, if it is there. Among equal ranges, which differ in parameters, the best counts.
fn weight_of(request: &HeaderMap, range: &[u8]) -> Option<u16> {
    let weight = |member: &[u8]| {
        let parameters = member.split(|&byte| byte == b';').skip(1).map(trim);
        let weight = parameters.filter_map(|parameter| match parameter {
            [b'q' | b'Q', b'=', weight @ ..] => Some(thousandths(weight).unwrap_or_default()),
            _ => None,
        });
        weight.last().unwrap_or(ALL)
    };
    let members = list(request, &header::ACCEPT);
    members.filter(|member| essence(member).eq_ignore_ascii_case(range)).map(weight).max()
}

/// A media type or range without its parameters.
fn essence(value: &[u8]) -> &[u8] {
    value.split(|&byte| byte == b';').next().map(trim).unwrap_or_default()
}

/// RFC 9110 8.4.1.1, 8.4.1.3.
pub(super) fn unaliased(coding: Box<[u8]>) -> Box<[u8]> {
    match &*coding {
        b"x-compress" => Box::from(&b"compress"[..]),
        b"x-gzip" => Box::from(&b"gzip"[..]),
        _ => coding,
    }
}

/// The members of a field that lists alternatives with weights (RFC 9110 12.4.2), in lower case. `None` if the field is
/// absent, too long, has too many members or one that is outside the grammar, because nobody knows how the origin reads
/// that.
fn weighted(request: &HeaderMap, name: &HeaderName) -> Option<Vec<Weighted>> {
    if !request.contains_key(name) || is_longer_than(request, name, LONGEST) {
        return None;
    }
    let member = |member| {
        weighted_member(member).map(|(name, weight)| (name.to_ascii_lowercase().into_boxed_slice(), weight))
    };
    let mut members = list(request, name).map(member);
    let few = members.by_ref().take(MOST_MEMBERS).collect();
    if members.next().is_some() { None } else { few }
}

/// A name and its weight; `None` for a member outside the grammar.
fn weighted_member(member: &[u8]) -> Option<(&[u8], u16)> {
    let mut parts = member.split(|&byte| byte == b';').map(trim);
    let name = parts.next().filter(|name| is_token(name))?;
    let weight = match (parts.next(), parts.next()) {
        (None, _) => ALL,
        (Some([b'q' | b'Q', b'=', weight @ ..]), None) => thousandths(weight)?,
        _ => return None,
    };
    Some((name, weight))
}

/// `0` or `1` with at most three decimals, not more than 1, in thousandths.
fn thousandths(weight: &[u8]) -> Option<u16> {
    let (whole, decimals) = match weight {
        [whole @ (b'0' | b'1')] => (*whole, &[][..]),
        [whole @ (b'0' | b'1'), b'.', decimals @ ..] => (*whole, decimals),
        _ => return None,
    };
    if decimals.len() > 3 || !decimals.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let digits = decimals.iter().chain(std::iter::repeat(&b'0')).take(3);
    let thousandths = digits.fold(u16::from(whole - b'0'), |sum, digit| sum * 10 + u16::from(digit - b'0'));
    (thousandths <= ALL).then_some(thousandths)
}

fn in_any_order(mut members: Vec<Weighted>) -> Accepted {
    members.sort_unstable_by(|(a, one), (b, other)| other.cmp(one).then_with(|| a.cmp(b)));
    members.dedup();
    members.into_boxed_slice()
}

/// Whether exactly this language is the one that is wanted most.
fn prefers(ranges: &[Weighted], language: &[u8]) -> bool {
    let most = ranges.iter().map(|(_, weight)| *weight).max().unwrap_or_default();
    let mut wanted = ranges.iter().filter(|(_, weight)| *weight == most);
    most > 0 && wanted.next().is_some_and(|(range, _)| **range == *language) && wanted.next().is_none()
}

fn content_language(response: &HeaderMap) -> Option<Box<[u8]>> {
    let mut members = list(response, &header::CONTENT_LANGUAGE);
    let (language, None) = (members.next()?, members.next()) else {
        return None;
    };
    Some(language.to_ascii_lowercase().into_boxed_slice())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::semantics::Rules;
    use crate::semantics::vary::Selecting;
    use proptest::prelude::*;

    #[track_caller]
    fn check_codings(codings: &Codings, stored: Option<&str>, presented: Option<&str>, expected: bool) {
        let rules = Rules { codings: codings.clone(), ..Rules::default() };
        let request = |field: Option<&str>| {
            let value = |value| HeaderValue::from_str(value).expect("a value");
            field.map(|field| (header::ACCEPT_ENCODING, value(field))).into_iter().collect::<HeaderMap>()
        };
        let of = |request| {
            let mut response = HeaderMap::new();
            response.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
            Selecting::of(&response, request, &rules).expect("a Vary that can match")
        };
        let (stored, presented) = (request(stored), request(presented));
        assert_eq!(of(&stored).matches(&presented), expected, "{codings:?} {stored:?} {presented:?}");
        assert_eq!(of(&presented).matches(&stored), expected, "{codings:?} {presented:?} {stored:?}");
        assert_eq!(of(&stored) == of(&presented), expected, "{codings:?} {presented:?} {stored:?} replace");
    }

    #[test]
    fn va3_accept_encoding_fields_match_by_what_they_negotiate() {
        for (stored, presented, expected) in [
            // RFC 9110 12.5.3: order has no meaning. 8.4.1: neither has case. 5.6.3: nor white space.
            ("gzip, br", "br, gzip", true),
            ("gzip, br", "GZip,bR", true),
            ("gzip, br", "br ,\tgzip", true),
            ("gzip, deflate, br, zstd", "zstd, br, gzip, deflate", true),
            ("gzip, br", "gzip", false),
            ("gzip", "br", false),
            ("gzip", "gzip, gzip", true),
            ("gzip", "gzip,", true),
            // RFC 9110 12.4.2: weights.
            ("gzip;q=1", "gzip", true),
            ("gzip;q=1.000", "gzip;Q=1.", true),
            ("gzip;q=0.5, br", "br;q=1.0 , gzip ; q=0.50", true),
            ("gzip;q=0.5, br", "gzip, br", false),
            ("gzip;q=0.5, br;q=0.4", "gzip;q=0.4, br;q=0.5", false),
            ("gzip;q=0.001", "gzip;q=0", false),
            ("gzip;q=0", "gzip;q=0.000", true),
            // RFC 9110 8.4.1.1, 8.4.1.3: two names of one coding.
            ("x-gzip", "gzip", true),
            ("X-Compress, gzip", "x-gzip, compress", true),
            ("x-br", "br", false),
            // RFC 9110 12.5.3: `*`, `identity` and nothing are members, and an empty field is none.
            ("*", "gzip", false),
            ("*;q=0.1, gzip", "gzip, *;q=0.1", true),
            ("identity;q=0, gzip", "gzip", false),
            ("identity, gzip", "gzip, identity", true),
            ("identity", "", false),
            ("", " , ", true),
            // Outside the grammar: as sent.
            ("gzip;q=0.3333", "gzip;q=0.3333", true),
            ("gzip;q=0.3333", "GZIP;q=0.3333", false),
            ("gzip;q=2", "GZIP;q=2", false),
            ("gzip;q=nan", "GZIP;q=nan", false),
            ("gzip;q=inf", "GZIP", false),
            ("gzip;q=1.001", "GZIP;q=1.001", false),
            ("gzip;q", "GZIP;q", false),
            ("gzip;level=9", "GZIP;level=9", false),
            ("gzip;q=1;q=1", "GZIP;q=1;q=1", false),
            ("g zip", "G ZIP", false),
            ("\"gzip\"", "\"GZIP\"", false),
        ] {
            check_codings(&Codings::Negotiated, Some(stored), Some(presented), expected);
        }
        let negotiated = Codings::Negotiated;
        check_codings(&negotiated, None, None, true);
        check_codings(&negotiated, None, Some(""), false);
        check_codings(&negotiated, None, Some("*"), false);
        // Beyond a number of bytes, or of members, only as sent.
        for (member, members, expected) in [
            ("a,", MOST_MEMBERS, true),
            ("a,", MOST_MEMBERS + 1, false),
            ("a-coding-of-16-b", LONGEST / 16, true),
            ("a-coding-of-16-b", LONGEST / 16 + 1, false),
        ] {
            let (long, loud) = (member.repeat(members), member.to_uppercase().repeat(members));
            check_codings(&negotiated, Some(&long), Some(&long), true);
            check_codings(&negotiated, Some(&long), Some(&loud), expected);
        }
    }

    #[track_caller]
    fn check_media_type(accept: Option<&'static str>, content_type: &'static str, expected: bool) {
        let mut request = HeaderMap::new();
        request.extend(accept.map(|accept| (header::ACCEPT, HeaderValue::from_static(accept))));
        let accepted = accepts_media_type(&request, content_type.as_bytes());
        assert_eq!(accepted, expected, "{content_type} for {accept:?}");
    }

    #[test]
    fn an_accept_field_says_which_media_types_are_accepted() {
        // RFC 9110 12.5.1.
        check_media_type(None, "text/html", true);
        check_media_type(Some(""), "text/html", true);
        check_media_type(Some("*/*"), "text/html", true);
        check_media_type(Some("text/*"), "Text/HTML; charset=utf-8", true);
        check_media_type(Some("application/json, text/html;q=0.5"), "text/html", true);
        check_media_type(Some("application/json"), "text/html", false);
        check_media_type(Some("text/html;q=0, */*"), "text/html", false);
        check_media_type(Some("text/*;q=0, text/html"), "text/html", true);
        check_media_type(Some("text/html;level=1;q=0.4"), "text/html", true);
        check_media_type(Some("text/html;q=x"), "text/html", false);
        check_media_type(Some("texts/*"), "text/html", false);
    }

    #[test]
    fn kx4_a_media_type_is_asked_for_by_its_name_and_a_weight_above_0() {
        for (accept, expected) in [
            ("image/avif", Some(true)),
            ("text/html, image/avif;q=0.001, */*;q=0.8", Some(true)),
            ("image/avif;a=1", Some(true)),
            ("a/b;profile=\"https://x/y\", image/avif", Some(true)),
            ("image/*, */*", Some(false)),
            ("image/webp;q=x, */*;q=1.0000", Some(false)),
            ("", Some(false)),
            ("image/webp|*/*", Some(false)),
            ("image/avif|image/avif;q=0.5", Some(true)),
            // Some services look for the name alone.
            ("image/avif;q=0, */*", None),
            ("image/avif;q=0, image/avif;q=0.5", None),
            ("image/avif;q=0.5;q=0", None),
            ("image/avifs", None),
            ("x-image/avif", None),
            ("a/b;c=\"image/avif\"", None),
            ("a/b;c=\"d, image/avif\"", None),
            // Some compare byte for byte.
            ("Image/AVIF", None),
            // Some drop what is outside the grammar.
            ("image/avif;q=x", None),
            ("image/avif;q=1.0000", None),
            ("image/avif, */*;q=0.99999", None),
            ("image/avif;", None),
            ("image/avif, text", None),
            ("image/avif, te xt/html", None),
            ("image/avif, a/b;c=\"", None),
            // Some read the first line.
            ("text/html|image/avif", None),
            ("image/avif|text/html", None),
        ] {
            assert_eq!(names_media_type(&accepting(accept), b"image/avif"), expected, "{accept}");
        }
        assert_eq!(names_media_type(&HeaderMap::new(), b"image/avif"), Some(false));
        for begin in ["image/avif", "image/webp"] {
            let long = |length: usize| format!("{begin}, a/{}", "b".repeat(length - 14));
            let found = |length| names_media_type(&accepting(&long(length)), b"image/avif");
            assert_eq!(found(LONGEST_ACCEPT), Some(begin == "image/avif"));
            assert_eq!(found(LONGEST_ACCEPT + 1), None);
        }
    }

    /// A request with these lines of `Accept`.
    fn accepting(lines: &str) -> HeaderMap {
        let lines = lines.split('|').map(|line| HeaderValue::from_str(line).expect("a value"));
        let mut request = HeaderMap::new();
        lines.for_each(|line| _ = request.append(header::ACCEPT, line));
        request
    }

    #[test]
    fn va3_known_codings_normalise_accept_encoding() {
        let known = Codings::known(["zstd", "BR", "x-gzip", "gzip", "identity", "*", "no token", ""]);
        assert_eq!(known, Codings::known(["zstd", "br", "gzip"]));
        assert_ne!(known, Codings::known(["gzip", "br", "zstd"]), "the order is the policy's");
        let normalised = |field: &str| {
            let mut headers = HeaderMap::new();
            for line in field.split('|') {
                headers.append(header::ACCEPT_ENCODING, HeaderValue::from_str(line).expect("a value"));
            }
            known.normalise(&mut headers);
            let lines: Vec<_> = headers.get_all(header::ACCEPT_ENCODING).into_iter().collect();
            assert_eq!(lines.len(), 1, "{field}");
            lines[0].to_str().expect("ASCII").to_owned()
        };
        // RFC 9110 12.5.3.
        for (field, expected) in [
            ("gzip", "gzip"),
            ("gzip, br, zstd", "zstd, br, gzip"),
            ("br;q=0.1, GZIP;q=0.9", "br, gzip"),
            ("gzip, deflate, br", "br, gzip"),
            ("x-gzip", "gzip"),
            ("gzip|br", "br, gzip"),
            ("gzip;q=0.001", "gzip"),
            ("gzip;q=0", "identity"),
            ("gzip;q=0, br", "br"),
            ("gzip, gzip;q=0, br", "br"),
            ("x-gzip;q=0, gzip", "identity"),
            ("*", "zstd, br, gzip"),
            ("*;q=0.5", "zstd, br, gzip"),
            ("*, br;q=0", "zstd, gzip"),
            ("gzip, *;q=0", "gzip"),
            ("gzip;q=0.5, *;q=0.1", "zstd, br, gzip"),
            ("*;q=0", "identity"),
            ("deflate", "identity"),
            ("identity", "identity"),
            ("identity;q=0", "identity"),
            ("identity;q=0, gzip", "gzip"),
            ("", "identity"),
            (",", "identity"),
            // Outside the grammar.
            ("gzip;q=0.3333", "identity"),
            ("gzip;q=2, br", "identity"),
            ("gzip;level=9", "identity"),
            ("gzip br", "identity"),
        ] {
            assert_eq!(normalised(field), expected, "{field}");
            assert_eq!(normalised(expected), expected, "{field}: once is enough");
            if !field.contains('|') {
                check_codings(&known, Some(field), Some(expected), true);
            }
            check_codings(&known, None, Some(expected), expected == "identity");
        }
        for (stored, presented, expected) in [
            ("gzip, br", "br;q=0.2, gzip, deflate, sdch", true),
            ("gzip, br", "gzip", false),
            ("gzip", "deflate", false),
            ("deflate", "exi", true),
            ("zstd, br, gzip", "*", true),
        ] {
            check_codings(&known, Some(stored), Some(presented), expected);
        }
        check_codings(&known, None, None, true);
        check_codings(&known, Some("identity"), Some(&"gzip, ".repeat(LONGEST)), true);

        let mut as_it_came = HeaderMap::new();
        for line in ["GZIP;q=0.5", "br"] {
            as_it_came.append(header::ACCEPT_ENCODING, HeaderValue::from_static(line));
        }
        for codings in [Codings::AsSent, Codings::Negotiated] {
            let mut headers = as_it_came.clone();
            codings.normalise(&mut headers);
            assert_eq!(headers, as_it_came);
        }
        let mut absent = HeaderMap::new();
        known.normalise(&mut absent);
        assert_eq!(absent[header::ACCEPT_ENCODING], "identity");
        let mut headers = as_it_came;
        Codings::known([]).normalise(&mut headers);
        assert_eq!(headers[header::ACCEPT_ENCODING], "identity");
    }

    /// What a request is forwarded with, if it has this field or none.
    #[track_caller]
    fn check_forwarded(codings: &Codings, field: Option<&str>, expected: Option<&str>) {
        let value = |field| HeaderValue::from_str(field).expect("a value");
        let mut headers: HeaderMap =
            field.map(|field| (header::ACCEPT_ENCODING, value(field))).into_iter().collect();
        for times in ["once", "twice"] {
            codings.normalise(&mut headers);
            let forwarded = headers.get(header::ACCEPT_ENCODING).map(|value| value.to_str().expect("ASCII"));
            assert_eq!(forwarded, expected, "{codings:?}, {field:?}, {times}");
        }
        check_codings(codings, field, expected, true);
    }

    #[test]
    fn va3_known_codings_are_forwarded_in_the_words_of_cloudfront() {
        let (both, gzip, br) =
            (Codings::cloudfront(["br", "gzip"]), Codings::cloudfront(["gzip"]), Codings::cloudfront(["br"]));
        for (field, expected) in [
            (Some("gzip, br"), [Some("br,gzip"), Some("gzip"), Some("br")]),
            (Some("br;q=1, gzip"), [Some("br,gzip"), Some("gzip"), Some("br")]),
            (Some("zstd, br, gzip"), [Some("br,gzip"), Some("gzip"), Some("br")]),
            (Some("gzip"), [Some("gzip"), Some("gzip"), Some("identity")]),
            (Some("br"), [Some("br"), Some("identity"), Some("br")]),
            (Some("br, gzip;q=0"), [Some("br"), Some("identity"), Some("br")]),
            (Some("deflate"), [Some("identity"); 3]),
            (Some(""), [Some("identity"); 3]),
            (Some("*;q=0"), [Some("identity"); 3]),
            (None, [None; 3]),
        ] {
            for (codings, expected) in [&both, &gzip, &br].into_iter().zip(expected) {
                check_forwarded(codings, field, expected);
            }
        }
        // To an origin, no field may be more than one that accepts nothing.
        check_codings(&both, None, Some("identity"), false);
        check_codings(&both, None, None, true);
        check_codings(&both, Some("deflate"), Some("identity;q=0"), true);
        check_codings(&both, Some("br"), Some("br, gzip"), false);
        check_forwarded(&Codings::cloudfront(["zstd", "br", "gzip"]), Some("*"), Some("zstd,br,gzip"));
    }

    #[test]
    fn va3_one_of_the_known_codings_is_forwarded() {
        let one = Codings::one_of(["zstd", "br", "gzip"]);
        let (fastly, brotli) =
            (Codings::fastly(["gzip", "deflate"]), Codings::fastly(["br", "gzip", "deflate"]));
        for (field, expected) in [
            (Some("gzip, deflate, br, zstd"), [Some("zstd"), Some("gzip"), Some("br")]),
            (Some("gzip, deflate, br"), [Some("br"), Some("gzip"), Some("br")]),
            (Some("br;q=0.1, gzip"), [Some("br"), Some("gzip"), Some("br")]),
            (Some("br;q=0, gzip"), [Some("gzip"); 3]),
            (Some("x-gzip"), [Some("gzip"); 3]),
            (Some("deflate"), [Some("identity"), Some("deflate"), Some("deflate")]),
            (Some("exi"), [Some("identity"), None, None]),
            (Some("identity;q=0"), [Some("identity"), None, None]),
            (None, [Some("identity"), None, None]),
        ] {
            for (codings, expected) in [&one, &fastly, &brotli].into_iter().zip(expected) {
                check_forwarded(codings, field, expected);
            }
        }
        check_codings(&one, Some("gzip, br"), Some("br, deflate"), true);
        check_codings(&one, Some("gzip, br"), Some("gzip"), false);
        check_codings(&fastly, None, Some("identity"), true);
        check_codings(&one, None, Some("exi"), true);
    }

    proptest! {
        #[test]
        fn weights_are_read_as_written(weight in 0u16..=1000) {
            let text = format!("{}.{:03}", weight / 1000, weight % 1000);
            prop_assert_eq!(thousandths(text.as_bytes()), Some(weight));
            prop_assert_eq!(thousandths(text.trim_end_matches('0').as_bytes()), Some(weight));
        }

        #[test]
        fn malformed_weights_are_refused(text in "[0-9.+e-]{0,6}") {
            let (whole, decimals) = text.split_once('.').unwrap_or((&text, ""));
            let is_weight = matches!(whole, "0" | "1")
                && decimals.len() <= 3
                && decimals.bytes().all(|byte| byte.is_ascii_digit() && (whole == "0" || byte == b'0'));
            prop_assert_eq!(thousandths(text.as_bytes()).is_some(), is_weight, "{}", text);
        }
    }
}
