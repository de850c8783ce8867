//! Selecting fields (RFC 9111 4.1).

use http::HeaderValue;
use http::header::{self, HeaderMap, HeaderName};

use super::Rules;
use super::fields::{is_token, list, trim};

/// The request fields that selected a stored response, with the values they had. Made from the response's
/// `Vary` when it is stored; matched against each later request without parsing `Vary` again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selecting {
    fields: Box<[Field]>,
}

/// How `Accept-Encoding` matches. RFC 9111 4.1 lets a cache normalise by what is known of a field.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Codings {
    /// The same members in the same order, byte for byte, as RFC 9111 4.1 has it.
    #[default]
    AsSent,
    /// By which of these codings the request accepts; see [`Codings::known`].
    Known(KnownCodings),
    /// The same codings with the same weights, in any order and any case; `x-gzip` is `gzip` and `x-compress`
    /// is `compress` (RFC 9110 8.4.1). A field of more than 512 bytes, or one that is not of the grammar,
    /// matches only as sent.
    Negotiated,
}

/// The codings that a policy knows, in its order: made by [`Codings::known`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownCodings(Box<[Box<[u8]>]>);

/// How `Accept-Language` matches, which is case-insensitive always (RFC 4647 2).
///
/// A field of more than 512 bytes, or one that is not of the grammar, matches only as sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Languages {
    /// The same ranges in the same order, as RFC 9111 4.1 has it.
    #[default]
    AsSent,
    /// The same ranges with the same weights in any order; and a response with a `Content-Language`
    /// matches every request that prefers exactly this language. Some origins give order a meaning.
    Negotiated,
}

#[derive(Clone, Debug, Eq)]
struct Field {
    name: HeaderName,
    /// The members joined by `, `; `None` where the request had no such field.
    value: Option<Box<[u8]>>,
    /// By which it matches a request that sent something else.
    meaning: Option<Box<Meaning>>,
}

/// What a field says, however it is spelled.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Meaning {
    /// In the normal form; `None` where the request had no such field or one that has none.
    accepted: Option<Accepted>,
    by: By,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum By {
    Codings(Codings),
    /// With the `Content-Language` in lower case, where it is a single one and negotiation is on.
    Languages(Languages, Option<Box<[u8]>>),
}

/// What a request accepts, in a normal form: equal where no origin may tell the difference.
type Accepted = Box<[Weighted]>;

/// A coding or a language range, in lower case, with its weight in thousandths.
type Weighted = (Box<[u8]>, u16);

/// `Vary` has a member `*` or one that is no field name: no request can be shown to match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NeverMatches;

impl Selecting {
    /// Reads `Vary` of a response and the fields it names of the request that led to it. Of the rules, those
    /// for codings and languages count.
    ///
    /// # Errors
    ///
    /// [`NeverMatches`] where `Vary` holds `*` (RFC 9111 4.1) or something that is no field name.
    pub fn of(response: &HeaderMap, request: &HeaderMap, rules: &Rules) -> Result<Self, NeverMatches> {
        if !response.contains_key(header::VARY) {
            return Ok(Self::default());
        }
        let mut names = Vec::new();
        for member in list(response, &header::VARY) {
            match HeaderName::from_bytes(member) {
                Ok(name) if name == "*" => return Err(NeverMatches), // `*` is a token, so a name
                Ok(name) => names.push(name),
                Err(_) => return Err(NeverMatches),
            }
        }
        names.sort_unstable_by(|a, b| a.as_str().cmp(b.as_str()));
        names.dedup();
        let fields = names.into_iter().map(|name| Field {
            value: joined(request, &name),
            meaning: By::of(&name, response, rules)
                .map(|by| Box::new(Meaning { accepted: by.accepted(request, &name), by })),
            name,
        });
        Ok(Self { fields: fields.collect() })
    }

    /// The same, and one more field of the request.
    #[must_use]
    pub(crate) fn with_field(self, request: &HeaderMap, name: HeaderName) -> Self {
        let mut fields = self.fields.into_vec();
        if fields.iter().all(|field| field.name != name) {
            fields.push(Field { value: joined(request, &name), meaning: None, name });
        }
        Self { fields: fields.into_boxed_slice() }
    }

    /// Whether a request has the same selecting fields: lines combined, white space round members
    /// dropped, otherwise byte for byte (codings and languages as the rules have it); absent matches
    /// absent only.
    pub fn matches(&self, request: &HeaderMap) -> bool {
        self.fields.iter().all(|field| field.matches(request))
    }

    /// The values that a request has of these fields: equal for requests that are selected alike. `None` where
    /// nothing selects.
    pub(crate) fn signature(&self, request: &HeaderMap) -> Option<Box<[u8]>> {
        if self.fields.is_empty() {
            return None;
        }
        let mut signature = Vec::new();
        for field in &self.fields {
            let value = joined(request, &field.name);
            for part in [Some(field.name.as_str().as_bytes()), value.as_deref()] {
                // Lengths come first, so that no two lists of values have one signature.
                let length = part.map_or(u64::MAX, |part| part.len() as u64);
                signature.extend_from_slice(&length.to_le_bytes());
                signature.extend_from_slice(part.unwrap_or_default());
            }
        }
        Some(signature.into_boxed_slice())
    }

    /// Bytes of heap memory held.
    pub(crate) fn weight(&self) -> usize {
        self.fields.iter().map(|field| size_of::<Field>() + field.weight()).sum()
    }
}

impl Field {
    fn matches(&self, request: &HeaderMap) -> bool {
        self.is_as_sent(request)
            || self.meaning.as_ref().is_some_and(|meaning| meaning.matches(request, &self.name))
    }

    fn is_as_sent(&self, request: &HeaderMap) -> bool {
        let mut lines = request.get_all(&self.name).into_iter();
        match (&self.value, lines.next()) {
            (None, None) => true,
            (None, Some(_)) | (Some(_), None) => false,
            // Most requests that match do so byte for byte.
            (Some(value), Some(line)) if **value == *line.as_bytes() && lines.next().is_none() => true,
            (Some(value), Some(_)) => is_joined(request, &self.name, value),
        }
    }

    fn weight(&self) -> usize {
        self.name.as_str().len()
            + self.value.as_ref().map_or(0, |value| value.len())
            + self.meaning.as_ref().map_or(0, |meaning| size_of::<Meaning>() + meaning.weight())
    }
}

/// By meaning, where there is one: what was stored for one spelling is replaced by what is for another.
impl PartialEq for Field {
    fn eq(&self, other: &Self) -> bool {
        let has_normal_form = self.meaning.as_ref().is_some_and(|meaning| meaning.accepted.is_some());
        self.name == other.name
            && self.meaning == other.meaning
            && (has_normal_form || self.value == other.value)
    }
}

impl Meaning {
    fn matches(&self, request: &HeaderMap, name: &HeaderName) -> bool {
        let Some(presented) = self.by.accepted(request, name) else {
            return false;
        };
        self.accepted.as_ref() == Some(&presented)
            || matches!(&self.by, By::Languages(_, Some(content)) if prefers(&presented, content))
    }

    fn weight(&self) -> usize {
        let accepted = self.accepted.iter().flatten();
        let by = match &self.by {
            By::Codings(Codings::Known(KnownCodings(known))) => {
                known.iter().map(|coding| size_of::<Box<[u8]>>() + coding.len()).sum()
            }
            By::Languages(_, Some(content)) => content.len(),
            By::Codings(_) | By::Languages(..) => 0,
        };
        accepted.map(|(name, _)| size_of::<Weighted>() + name.len()).sum::<usize>() + by
    }
}

impl By {
    /// `None` for a field that matches as it was sent and not otherwise.
    fn of(name: &HeaderName, response: &HeaderMap, rules: &Rules) -> Option<Self> {
        match *name {
            header::ACCEPT_ENCODING if rules.codings == Codings::AsSent => None,
            header::ACCEPT_ENCODING => Some(Self::Codings(rules.codings.clone())),
            header::ACCEPT_LANGUAGE => {
                let negotiated = rules.languages == Languages::Negotiated;
                let content = negotiated.then(|| content_language(response)).flatten();
                Some(Self::Languages(rules.languages, content))
            }
            _ => None,
        }
    }

    /// `None` where the request has no such field, or one without a normal form.
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
    /// By which of these codings a request accepts, whatever their weights: `gzip;q=0.5, br` and
    /// `br, gzip, zstd` are the same to a policy that knows `br` and `gzip`. Names that are no token are left
    /// out, and so is `identity`, which is always acceptable here, even to a request that refuses it. A
    /// field of more than 512 bytes, or one that is not of the grammar, accepts none of them.
    ///
    /// The origin must not see what the cache does not compare: what is forwarded goes through
    /// [`Codings::normalise`]. [`StandardPolicy`](crate::StandardPolicy) does that.
    ///
    /// ```
    /// use larder::{CacheLayer, StandardPolicy};
    /// use larder::semantics::vary::Codings;
    /// let policy = StandardPolicy::default().codings(Codings::known(["zstd", "br", "gzip"]));
    /// # let _ = CacheLayer::default().policy(policy);
    /// ```
    pub fn known<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        let mut known: Vec<Box<[u8]>> = Vec::new();
        for name in names {
            let name = unaliased(name.to_ascii_lowercase().into_bytes().into_boxed_slice());
            if is_token(&name) && !matches!(&*name, b"*" | b"identity") && !known.contains(&name) {
                known.push(name);
            }
        }
        Self::Known(KnownCodings(known.into_boxed_slice()))
    }

    /// Reduces `Accept-Encoding` to those of the [known](Codings::known) codings that it accepts, in the
    /// policy's order, without weights; `identity` where it accepts none of them. Does nothing where the
    /// codings are other than known.
    ///
    /// An absent field stays absent, and is not the same as any that is there: it accepts every coding,
    /// known or not (RFC 9110 12.5.3), while an empty one asks for no coding at all, as `identity` does.
    ///
    /// ```
    /// use http::HeaderMap;
    /// use larder::semantics::vary::Codings;
    /// let mut headers = HeaderMap::new();
    /// headers.insert("accept-encoding", "gzip;q=0.8, deflate, zstd, *;q=0".parse().unwrap());
    /// Codings::known(["zstd", "br", "gzip"]).normalise(&mut headers);
    /// assert_eq!(headers["accept-encoding"], "zstd, gzip");
    /// ```
    pub fn normalise(&self, headers: &mut HeaderMap) {
        let Self::Known(known) = self else {
            return;
        };
        let Some(accepted) = known.accepted(headers) else {
            return;
        };
        let names: Vec<_> = accepted.iter().map(|(name, _)| &**name).collect();
        let value = HeaderValue::from_bytes(&names.join(&b", "[..])).ok().filter(|value| !value.is_empty());
        headers
            .insert(header::ACCEPT_ENCODING, value.unwrap_or_else(|| HeaderValue::from_static("identity")));
    }
}

impl KnownCodings {
    /// Those that a request accepts (RFC 9110 12.5.3), in this order and with one weight; `None` where it
    /// does not say.
    fn accepted(&self, request: &HeaderMap) -> Option<Accepted> {
        if !request.contains_key(header::ACCEPT_ENCODING) {
            return None;
        }
        let members = codings(request).unwrap_or_default();
        // Of a coding that is named twice the smaller weight counts.
        let weight = |name: &[u8]| {
            members.iter().filter(|(member, _)| **member == *name).map(|(_, weight)| *weight).min()
        };
        let others = weight(b"*").unwrap_or_default();
        let accepted = self.0.iter().filter(|name| weight(name).unwrap_or(others) > 0);
        Some(accepted.map(|name| (name.clone(), ALL)).collect())
    }
}

/// The weight of what has none, in thousandths.
const ALL: u16 = 1000;

/// A longer field has no normal form: nobody needs one, and each variant of a key would be compared with it.
const LONGEST: usize = 512;

/// `Accept-Encoding`, each coding by one of its names.
fn codings(request: &HeaderMap) -> Option<Vec<Weighted>> {
    let mut codings = weighted(request, &header::ACCEPT_ENCODING)?;
    for (name, _) in &mut codings {
        *name = unaliased(std::mem::take(name));
    }
    Some(codings)
}

/// RFC 9110 8.4.1.1, 8.4.1.3.
fn unaliased(coding: Box<[u8]>) -> Box<[u8]> {
    match &*coding {
        b"x-compress" => Box::from(&b"compress"[..]),
        b"x-gzip" => Box::from(&b"gzip"[..]),
        _ => coding,
    }
}

/// The members of a field that lists alternatives with weights (RFC 9110 12.4.2), in lower case. `None` where
/// the field is absent, too long, or has a member that is not of the grammar, since nobody knows how the
/// origin reads that.
fn weighted(request: &HeaderMap, name: &HeaderName) -> Option<Vec<Weighted>> {
    let length: usize = request.get_all(name).into_iter().map(|line| line.len()).sum();
    if length > LONGEST || !request.contains_key(name) {
        return None;
    }
    let member = |member: &[u8]| {
        let mut parts = member.split(|&byte| byte == b';').map(trim);
        let name = parts.next().filter(|name| is_token(name))?;
        let weight = match (parts.next(), parts.next()) {
            (None, _) => ALL,
            (Some([b'q' | b'Q', b'=', weight @ ..]), None) => thousandths(weight)?,
            _ => return None,
        };
        Some((name.to_ascii_lowercase().into_boxed_slice(), weight))
    };
    list(request, name).map(member).collect()
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

const SEPARATOR: &[u8] = b", ";

/// The members of a field, joined; `None` where it is absent.
fn joined(request: &HeaderMap, name: &HeaderName) -> Option<Box<[u8]>> {
    request.contains_key(name).then(|| {
        let members: Vec<_> = list(request, name).collect();
        members.join(SEPARATOR).into_boxed_slice()
    })
}

/// Whether the members of a field, joined, are `value`; without joining them.
fn is_joined(request: &HeaderMap, name: &HeaderName, value: &[u8]) -> bool {
    let mut rest = Some(value);
    for (index, member) in list(request, name).enumerate() {
        if index > 0 {
            rest = rest.and_then(|rest| rest.strip_prefix(SEPARATOR));
        }
        rest = rest.and_then(|rest| rest.strip_prefix(member));
    }
    rest.is_some_and(<[u8]>::is_empty)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::semantics::tests::any_value;
    use proptest::prelude::*;

    fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    type Fields = [(&'static str, &'static str)];

    #[track_caller]
    fn check(vary: &'static str, stored: &Fields, presented: &Fields, expected: bool) {
        let selecting = Selecting::of(&headers(&[("vary", vary)]), &headers(stored), &Rules::default())
            .expect("a Vary that can match");
        assert_eq!(selecting.matches(&headers(presented)), expected, "{vary} {stored:?} {presented:?}");
    }

    #[test]
    fn matching() {
        // RFC 9111 4.1.
        check("foo", &[("foo", "1")], &[("foo", "1")], true);
        check("Foo", &[("foo", "1")], &[("FOO", "1")], true);
        check("foo", &[("foo", "1")], &[("foo", "2")], false);
        check("foo", &[("foo", "1")], &[], false);
        check("foo", &[], &[("foo", "1")], false);
        check("foo", &[], &[], true);
        check("foo", &[], &[("foo", "")], false);
        check("foo", &[("foo", "")], &[("foo", "")], true);
        check("foo", &[("foo", "1")], &[("foo", "1"), ("bar", "2")], true);
        check("foo, bar", &[("foo", "1"), ("bar", "2")], &[("foo", "1"), ("bar", "2")], true);
        check("foo, bar", &[("foo", "1"), ("bar", "2")], &[("foo", "1"), ("bar", "3")], false);
        check("foo, bar", &[("foo", "1")], &[("foo", "1")], true);
        check("foo, foo", &[("foo", "1")], &[("foo", "1")], true);
        check("", &[("foo", "1")], &[("foo", "2")], true);
        check(" , ", &[("foo", "1")], &[("foo", "2")], true);
        // Lines are combined, white space round members goes, order and case stay.
        check("foo", &[("foo", "1, 2")], &[("foo", "1"), ("foo", "2")], true);
        check("foo", &[("foo", "1,2")], &[("foo", " 1 ,\t2")], true);
        check("foo", &[("foo", "1, 2")], &[("foo", "2, 1")], false);
        check("foo", &[("foo", "a")], &[("foo", "A")], false);
        check("foo", &[("foo", "1 2")], &[("foo", "12")], false);
        check("foo", &[("foo", "\"a, b\"")], &[("foo", "\"a,b\"")], false);
        check("foo", &[("foo", "1, 2, 3")], &[("foo", "1"), ("foo", "2, 3")], true);
        check("foo", &[("foo", "1, 2, 3")], &[("foo", "1, 2"), ("foo", "3")], true);
        check("foo", &[("foo", "1"), ("foo", "2")], &[("foo", "2"), ("foo", "1")], false);
        check("foo", &[("foo", "1"), ("foo", "2")], &[("foo", "1,2")], true);
        check("foo", &[("foo", "1, , 2")], &[("foo", "1,2")], true);
        check("foo", &[("foo", ",1")], &[("foo", "1,")], true);
        check("foo", &[("foo", "1")], &[("foo", "1, 1")], false);
        check("foo", &[("foo", "1, 1")], &[("foo", "1")], false);
        check("foo", &[("foo", "")], &[], false);
        check("foo", &[("foo", ",")], &[("foo", "")], true);
        check("foo", &[("foo", "a b")], &[("foo", "a  b")], false);
        check("foo", &[("foo", "a;q=1")], &[("foo", "a; q=1")], false);
        check("foo", &[("foo", "\"a\"")], &[("foo", "a")], false);
        check("foo", &[("foo", "\"a, b")], &[("foo", "\"a, b")], true);
        check("foo, bar", &[], &[], true);
        check("foo, bar", &[], &[("bar", "1")], false);
        check("foo, bar", &[("foo", "1")], &[("bar", "1")], false);
        check("foo, bar", &[("foo", "1"), ("bar", "2")], &[("bar", "2"), ("foo", "1")], true);
        check("bar, foo", &[("foo", "1"), ("bar", "2")], &[("foo", "1"), ("bar", "2")], true);
        check("foo,bar", &[("foo", "1"), ("bar", "2")], &[("foo", "2"), ("bar", "1")], false);
        check("FOO, foo", &[("foo", "1")], &[("foo", "1")], true);
        check(",foo,,bar,", &[("foo", "1")], &[("foo", "1")], true);
        check(" foo\t,\tbar ", &[("bar", "1")], &[("bar", "1")], true);
        check("foo, bar, baz", &[("foo", "1"), ("baz", "3")], &[("foo", "1"), ("baz", "3")], true);
        check(
            "foo, bar, baz",
            &[("foo", "1"), ("baz", "3")],
            &[("foo", "1"), ("bar", ""), ("baz", "3")],
            false,
        );
        check("cookie", &[("cookie", "a=b")], &[("cookie", "a=b")], true);
        check("cookie", &[("cookie", "a=b")], &[("cookie", "a=c")], false);
        check("user-agent", &[("user-agent", "x/1 (a, b)")], &[("user-agent", "x/1 (a, b)")], true);
        check("accept-encoding", &[("accept-encoding", "gzip, br")], &[("accept-encoding", "gzip,br")], true);
        check(
            "accept-encoding",
            &[("accept-encoding", "gzip, br")],
            &[("accept-encoding", "br, gzip")],
            false,
        );
        check("accept-encoding", &[("accept-encoding", "gzip")], &[("accept-encoding", "GZIP")], false);
        check("accept-encoding", &[], &[("accept-encoding", "identity")], false);
        check("accept-encoding", &[("accept-encoding", "gzip;q=1")], &[("accept-encoding", "gzip")], false);
        // RFC 9110 5.3: lines are one list, also where a quote is open at the end of one.
        check("foo", &[("foo", "\"a"), ("foo", "b")], &[("foo", "\"a"), ("foo", "b")], true);
        check("foo", &[("foo", "\"a"), ("foo", "b\"")], &[("foo", "\"a, b\"")], true);
        check("foo", &[("foo", "1"), ("foo", "")], &[("foo", "1")], true);
        check("foo", &[("foo", "1")], &[("foo", "1"), ("foo", "2")], false);
        check("foo", &[("foo", "1"), ("foo", "2")], &[("foo", "1")], false);
        check("foo", &[("foo", "12")], &[("foo", "1"), ("foo", "2")], false);
        // RFC 9110 5.6.3: white space is space and tab.
        check("foo", &[("foo", "\ta \t")], &[("foo", "a")], true);
        check("foo", &[("foo", "a b")], &[("foo", "a\tb")], false);
        // RFC 9110 12.5.5: names are compared in any case, members of one list wherever they stand.
        check("Bar, FOO", &[("foo", "1"), ("bar", "2")], &[("foo", "1"), ("bar", "2")], true);
    }

    #[test]
    fn va3_languages() {
        let matches = |languages, content: &'static str, stored: &'static str, presented: &'static str| {
            let response = headers(&[("vary", "accept-language"), ("content-language", content)]);
            let request = headers(&[("accept-language", stored)]);
            let rules = Rules { languages, ..Rules::default() };
            let selecting = Selecting::of(&response, &request, &rules).expect("a Vary that can match");
            selecting.matches(&headers(&[("accept-language", presented)]))
        };
        use Languages::{AsSent, Negotiated};
        // RFC 4647 2: case. RFC 9110 5.6.1: white space.
        for languages in [AsSent, Negotiated] {
            assert!(matches(languages, "", "en, de", "eN, De"));
            assert!(matches(languages, "", "en, de", "en,de"));
            assert!(matches(languages, "", "en;q=0.5, de", "EN ; Q=0.500 ,de"));
            assert!(!matches(languages, "", "en, de", "en"));
            assert!(!matches(languages, "", "en, de;q=0.5", "en, de"));
            assert!(!matches(languages, "", "en", "de"));
            assert!(!matches(languages, "en", "en", ""));
        }
        // RFC 9110 12.5.4: order has no meaning, but to some.
        assert!(!matches(AsSent, "", "en, de", "de, en"));
        assert!(matches(Negotiated, "", "en, de", "de, en"));
        assert!(matches(Negotiated, "", "en;q=0.1, de", "de, en;q=0.1"));
        // The stored language is the one that is wanted most.
        assert!(matches(Negotiated, "de", "en, de", "fr;q=0.5, de;q=1.0"));
        assert!(matches(Negotiated, "DE", "en", "De"));
        assert!(!matches(Negotiated, "de", "en, de", "fr, de;q=0.5"));
        assert!(!matches(Negotiated, "de", "en, de", "fr, de, es"));
        assert!(!matches(Negotiated, "de", "en", "de;q=0"));
        assert!(!matches(Negotiated, "de, fr", "en", "de"));
        assert!(!matches(AsSent, "de", "en, de", "fr;q=0.5, de;q=1.0"));
        // What is not of the grammar (RFC 9110 12.4.2, 12.5.4) matches as sent only.
        for languages in [AsSent, Negotiated] {
            for odd in
                ["en;q=0.3333", "en;q=2", "en;q=1.001", "en;q=-1", "en;q=.5", "en;q=", "en;level=1", "e n"]
            {
                assert!(matches(languages, "en", odd, odd), "{odd}");
                assert!(!matches(languages, "en", odd, odd.to_uppercase().leak()), "{odd}");
            }
        }
    }

    /// Whether the stored request's `Accept-Encoding` (`None`: it has none) and the presented one are the same.
    #[track_caller]
    fn check_codings(codings: &Codings, stored: Option<&str>, presented: Option<&str>, expected: bool) {
        let rules = Rules { codings: codings.clone(), ..Rules::default() };
        let request = |field: Option<&str>| {
            let value = |value| HeaderValue::from_str(value).expect("a value");
            field.map(|field| (header::ACCEPT_ENCODING, value(field))).into_iter().collect::<HeaderMap>()
        };
        let of = |request| {
            let response = headers(&[("vary", "accept-encoding")]);
            Selecting::of(&response, request, &rules).expect("a Vary that can match")
        };
        let (stored, presented) = (request(stored), request(presented));
        assert_eq!(of(&stored).matches(&presented), expected, "{codings:?} {stored:?} {presented:?}");
        assert_eq!(of(&presented).matches(&stored), expected, "{codings:?} {presented:?} {stored:?}");
        assert_eq!(of(&stored) == of(&presented), expected, "{codings:?} {presented:?} {stored:?} replace");
    }

    #[test]
    fn va3_negotiated_codings() {
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
        let (long, loud) = ("a, ".repeat(LONGEST / 3), "A, ".repeat(LONGEST / 3));
        check_codings(&negotiated, Some(&long), Some(&loud), true);
        let (long, loud) = (long + "a, b", loud + "a, b");
        check_codings(&negotiated, Some(&long), Some(&long), true);
        check_codings(&negotiated, Some(&long), Some(&loud), false);
    }

    #[test]
    fn va3_known_codings() {
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
            check_codings(&known, None, Some(expected), false);
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

        let as_it_came = headers(&[("accept-encoding", "GZIP;q=0.5"), ("accept-encoding", "br")]);
        for codings in [Codings::AsSent, Codings::Negotiated] {
            let mut headers = as_it_came.clone();
            codings.normalise(&mut headers);
            assert_eq!(headers, as_it_came);
        }
        let mut absent = HeaderMap::new();
        known.normalise(&mut absent);
        assert!(absent.is_empty());
        let mut headers = as_it_came;
        Codings::known([]).normalise(&mut headers);
        assert_eq!(headers[header::ACCEPT_ENCODING], "identity");
    }

    #[test]
    fn va3_a_spelling_replaces_another() {
        let of = |rules: &Rules, language: &'static str| {
            let vary = headers(&[("vary", "accept-language"), ("content-language", "en")]);
            let request = headers(&[("accept-language", language)]);
            Selecting::of(&vary, &request, rules).expect("a Vary that can match")
        };
        let (sent, negotiated) =
            (Rules::default(), Rules { languages: Languages::Negotiated, ..Rules::default() });
        assert_eq!(of(&sent, "en,de"), of(&sent, "EN, de;q=1"));
        assert_ne!(of(&sent, "en,de"), of(&sent, "de, en"));
        assert_eq!(of(&negotiated, "en,de"), of(&negotiated, "de, en"));
        assert_ne!(of(&negotiated, "en,de"), of(&sent, "en,de"));
        assert_ne!(of(&negotiated, "en;x"), of(&negotiated, "de;x"));
    }

    #[test]
    fn never() {
        for vary in ["*", "*, *", ", *", "*, foo", "foo, *", "foo bar", "foo:", "\"foo\""] {
            let selecting = Selecting::of(&headers(&[("vary", vary)]), &HeaderMap::new(), &Rules::default());
            assert_eq!(selecting, Err(NeverMatches), "{vary}");
        }
        let two_lines = headers(&[("vary", "foo"), ("vary", "*")]);
        assert_eq!(Selecting::of(&two_lines, &HeaderMap::new(), &Rules::default()), Err(NeverMatches));
    }

    fn any_rules() -> impl Strategy<Value = Rules> {
        let codings = [Codings::AsSent, Codings::Negotiated, Codings::known(["br", "gzip"])];
        let languages = [Languages::AsSent, Languages::Negotiated];
        (prop::sample::select(codings.to_vec()), prop::sample::select(languages.to_vec()))
            .prop_map(|(codings, languages)| Rules { codings, languages, ..Rules::default() })
    }

    /// Lines of a list with weights, most of them of the grammar.
    fn any_lines() -> impl Strategy<Value = Vec<HeaderValue>> {
        let member =
            "(gzip|GZIP|x-gzip|br|en|En-us|de|identity|\\*|)( ?; ?[qQ]=(0|1|0\\.[0-9]{1,4}|1\\.0|x))?";
        let line = prop::collection::vec(member, 0..4)
            .prop_map(|members| HeaderValue::from_str(&members.join(",")).expect("a value"));
        prop::collection::vec(prop_oneof![4 => line, 1 => any_value()], 0..3)
    }

    fn with(name: HeaderName, lines: &[HeaderValue], request: &mut HeaderMap) {
        for line in lines {
            request.append(&name, line.clone());
        }
    }

    fn selecting(rules: &Rules, content: Option<&HeaderValue>, request: &HeaderMap) -> Selecting {
        let mut response = headers(&[("vary", "accept-encoding, accept-language, x-other")]);
        response.extend(content.map(|content| (header::CONTENT_LANGUAGE, content.clone())));
        Selecting::of(&response, request, rules).expect("a Vary that can match")
    }

    fn request(codings: &[HeaderValue], languages: &[HeaderValue], other: &[HeaderValue]) -> HeaderMap {
        let mut request = HeaderMap::new();
        with(header::ACCEPT_ENCODING, codings, &mut request);
        with(header::ACCEPT_LANGUAGE, languages, &mut request);
        with(HeaderName::from_static("x-other"), other, &mut request);
        request
    }

    fn combine(lines: &[HeaderValue]) -> Vec<HeaderValue> {
        let lines: Vec<_> = lines.iter().map(HeaderValue::as_bytes).collect();
        if lines.is_empty() {
            return Vec::new();
        }
        vec![HeaderValue::from_bytes(&lines.join(&b","[..])).expect("a value")]
    }

    proptest! {
        #[test]
        fn vary_never_panics(
            vary in prop::collection::vec(any_value(), 0..3),
            rules in any_rules(),
            stored in any_lines(),
            presented in any_lines(),
        ) {
            let mut response = HeaderMap::new();
            with(header::VARY, &vary, &mut response);
            let stored = request(&stored, &stored, &stored);
            let star = vary.iter().any(|line| line.as_bytes() == b"*");
            match Selecting::of(&response, &stored, &rules) {
                Err(NeverMatches) => {}
                Ok(selecting) => {
                    prop_assert!(!star && selecting.matches(&stored));
                    let _ = selecting.matches(&request(&presented, &presented, &presented));
                }
            }
        }

        #[test]
        fn a_request_matches_what_was_made_from_it(
            rules in any_rules(),
            content in prop::option::of(any_value()),
            codings in any_lines(),
            languages in any_lines(),
            other in any_lines(),
        ) {
            let request = request(&codings, &languages, &other);
            let selecting = selecting(&rules, content.as_ref(), &request);
            prop_assert!(selecting.matches(&request));
            prop_assert_eq!(&selecting, &selecting.clone());
        }

        #[test]
        fn lines_are_one_list(
            rules in any_rules(),
            codings in any_lines(),
            languages in any_lines(),
            other in any_lines(),
        ) {
            // A quote that is left open hides the comma that joins two lines.
            let unquoted = |lines: Vec<HeaderValue>| -> Vec<HeaderValue> {
                lines.into_iter().filter(|line| !line.as_bytes().contains(&b'"')).collect()
            };
            let [codings, languages, other] = [codings, languages, other].map(unquoted);
            let apart = request(&codings, &languages, &other);
            let together = request(&combine(&codings), &combine(&languages), &combine(&other));
            prop_assert!(selecting(&rules, None, &apart).matches(&together));
            prop_assert!(selecting(&rules, None, &together).matches(&apart));
        }

        #[test]
        fn who_replaces_matches(rules in any_rules(), one in any_lines(), other in any_lines()) {
            // Without Content-Language, which lets a request match what was made from another.
            let (one, other) = (request(&one, &one, &[]), request(&other, &other, &[]));
            let (first, second) = (selecting(&rules, None, &one), selecting(&rules, None, &other));
            prop_assert_eq!(first == second, first.matches(&other));
            prop_assert_eq!(first.matches(&other), second.matches(&one));
        }

        #[test]
        fn weights_are_read_as_written(weight in 0u16..=1000) {
            let text = format!("{}.{:03}", weight / 1000, weight % 1000);
            prop_assert_eq!(thousandths(text.as_bytes()), Some(weight));
            prop_assert_eq!(thousandths(text.trim_end_matches('0').as_bytes()), Some(weight));
        }

        #[test]
        fn other_weights_are_none(text in "[0-9.+e-]{0,6}") {
            let (whole, decimals) = text.split_once('.').unwrap_or((&text, ""));
            let is_weight = matches!(whole, "0" | "1")
                && decimals.len() <= 3
                && decimals.bytes().all(|byte| byte.is_ascii_digit() && (whole == "0" || byte == b'0'));
            prop_assert_eq!(thousandths(text.as_bytes()).is_some(), is_weight, "{}", text);
        }

        #[test]
        fn va3_what_is_forwarded_says_what_is_compared(lines in any_lines(), other in any_lines()) {
            let known = Codings::known(["br", "gzip"]);
            let rules = Rules { codings: known.clone(), ..Rules::default() };
            let sent = request(&lines, &[], &[]);
            let mut forwarded = sent.clone();
            known.normalise(&mut forwarded);
            prop_assert!(selecting(&rules, None, &sent).matches(&forwarded));
            let mut others = request(&other, &[], &[]);
            let same = selecting(&rules, None, &sent).matches(&others);
            known.normalise(&mut others);
            prop_assert_eq!(forwarded == others, same);
        }
    }
}
