//! Selecting fields (RFC 9111 4.1).

use http::header::{self, HeaderMap, HeaderName};

use super::fields::{Members, list, trim};

/// The request fields that selected a stored response, with the values they had. Made from the response's
/// `Vary` when it is stored; matched against each later request without parsing `Vary` again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selecting {
    fields: Box<[Field]>,
    language: Option<Language>,
}

/// How `Accept-Language` matches, which is case-insensitive always (RFC 4647 2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Languages {
    /// The same ranges in the same order, as RFC 9111 4.1 has it.
    #[default]
    AsSent,
    /// The same ranges with the same weights in any order; and a response with a `Content-Language`
    /// matches every request that prefers exactly this language. Some origins give order a meaning.
    Negotiated,
}

/// What selects by language, apart from the fields that match byte for byte.
#[derive(Clone, Debug)]
struct Language {
    /// The ranges of the request in their normal form; `None` where it had no `Accept-Language`.
    accepted: Option<Box<[Range]>>,
    /// `Content-Language` in lower case, where it is a single one and negotiation is on.
    content: Option<Box<[u8]>>,
    /// The line as it came, where it was one: most requests that match do so byte for byte.
    line: Option<Box<[u8]>>,
    matching: Languages,
}

/// A language range in lower case with its weight in thousandths.
type Range = (Box<[u8]>, u16);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Field {
    name: HeaderName,
    /// The members joined by `, `; `None` where the request had no such field.
    value: Option<Box<[u8]>>,
}

/// `Vary` has a member `*` or one that is no field name: no request can be shown to match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NeverMatches;

impl Selecting {
    /// Reads `Vary` of a response and the fields it names of the request that led to it.
    ///
    /// # Errors
    ///
    /// [`NeverMatches`] where `Vary` holds `*` (RFC 9111 4.1) or something that is no field name.
    pub fn of(response: &HeaderMap, request: &HeaderMap, languages: Languages) -> Result<Self, NeverMatches> {
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
        let by_language = names.contains(&header::ACCEPT_LANGUAGE);
        names.retain(|name| *name != header::ACCEPT_LANGUAGE);
        let language = by_language.then(|| Language {
            accepted: accepted(request, languages),
            line: single_line(request).map(Into::into),
            content: content_language(response).filter(|_| languages == Languages::Negotiated),
            matching: languages,
        });
        let fields = names.into_iter().map(|name| Field { value: canonical(request, &name), name }).collect();
        Ok(Self { fields, language })
    }

    /// The same, and one more field of the request.
    #[must_use]
    pub(crate) fn with_field(self, request: &HeaderMap, name: HeaderName) -> Self {
        let mut fields = self.fields.into_vec();
        if fields.iter().all(|field| field.name != name) {
            fields.push(Field { value: canonical(request, &name), name });
        }
        Self { fields: fields.into_boxed_slice(), ..self }
    }

    /// Whether a request has the same selecting fields: lines combined, white space round members
    /// dropped, otherwise byte for byte (languages in any case); absent matches absent only.
    pub fn matches(&self, request: &HeaderMap) -> bool {
        self.language.as_ref().is_none_or(|language| language.matches(request)) && self.fields_match(request)
    }

    fn fields_match(&self, request: &HeaderMap) -> bool {
        self.fields.iter().all(|field| {
            let mut lines = request.get_all(&field.name).into_iter();
            match (&field.value, lines.next()) {
                (None, None) => true,
                (None, Some(_)) | (Some(_), None) => false,
                // Most requests that match do so byte for byte.
                (Some(value), Some(line)) if **value == *line.as_bytes() && lines.next().is_none() => true,
                (Some(value), Some(_)) => list(request, &field.name).eq(Members::new(value)),
            }
        })
    }

    /// Bytes of heap memory held.
    pub(crate) fn weight(&self) -> usize {
        self.fields
            .iter()
            .map(|field| {
                size_of::<Field>()
                    + field.name.as_str().len()
                    + field.value.as_ref().map_or(0, |value| value.len())
            })
            .sum::<usize>()
            + self.language.as_ref().map_or(0, Language::weight)
    }
}

/// However the request spelled it.
impl PartialEq for Language {
    fn eq(&self, other: &Self) -> bool {
        self.accepted == other.accepted && self.content == other.content && self.matching == other.matching
    }
}

impl Eq for Language {}

impl Language {
    fn matches(&self, request: &HeaderMap) -> bool {
        let line = single_line(request);
        if line.is_some() && line == self.line.as_deref() {
            return true;
        }
        if line.is_some_and(|line| line.len() > LONGEST) {
            return false; // nobody speaks so many languages, and each variant would be compared
        }
        let presented = accepted(request, self.matching);
        if self.accepted == presented {
            return true;
        }
        match (&self.content, presented) {
            (Some(content), Some(presented)) => prefers(&presented, content),
            _ => false,
        }
    }

    fn weight(&self) -> usize {
        let ranges = self.accepted.iter().flatten();
        size_of::<Self>()
            + ranges.map(|(range, _)| size_of::<Range>() + range.len()).sum::<usize>()
            + self.content.as_ref().map_or(0, |content| content.len())
            + self.line.as_ref().map_or(0, |line| line.len())
    }
}

/// A longer `Accept-Language` only matches byte for byte.
const LONGEST: usize = 512;

fn single_line(request: &HeaderMap) -> Option<&[u8]> {
    let mut lines = request.get_all(header::ACCEPT_LANGUAGE).into_iter();
    let (Some(line), None) = (lines.next(), lines.next()) else {
        return None;
    };
    Some(line.as_bytes())
}

/// `Accept-Language` (RFC 9110 12.5.4) in its normal form; negotiated, sorted by weight and name.
fn accepted(request: &HeaderMap, languages: Languages) -> Option<Box<[Range]>> {
    if !request.contains_key(header::ACCEPT_LANGUAGE) {
        return None;
    }
    let mut ranges: Vec<Range> = list(request, &header::ACCEPT_LANGUAGE)
        .map(|member| {
            let mut parts = member.split(|&byte| byte == b';').map(trim);
            let range = parts.next().unwrap_or_default();
            let weight = parts.find_map(|part| match part {
                [b'q' | b'Q', b'=', weight @ ..] => Some(thousandths(weight)),
                _ => None,
            });
            (range.to_ascii_lowercase().into_boxed_slice(), weight.unwrap_or(1000))
        })
        .collect();
    if languages == Languages::Negotiated {
        ranges.sort_unstable_by(|(a, one), (b, other)| other.cmp(one).then_with(|| a.cmp(b)));
        ranges.dedup();
    }
    Some(ranges.into_boxed_slice())
}

/// A weight (RFC 9110 12.4.2) in thousandths; what is none counts as 0.
fn thousandths(weight: &[u8]) -> u16 {
    let text = std::str::from_utf8(weight).unwrap_or_default();
    let number: f32 = text.parse().unwrap_or_default();
    // Clamped to 0..=1, so that it fits.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let thousandths = (number.clamp(0.0, 1.0) * 1000.0).round() as u16;
    thousandths
}

/// Whether exactly this language is the one that is wanted most.
fn prefers(ranges: &[Range], language: &[u8]) -> bool {
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

fn canonical(request: &HeaderMap, name: &HeaderName) -> Option<Box<[u8]>> {
    request.contains_key(name).then(|| {
        let mut value = Vec::new();
        for member in list(request, name) {
            if !value.is_empty() {
                value.extend_from_slice(b", ");
            }
            value.extend_from_slice(member);
        }
        value.into_boxed_slice()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

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
        let selecting = Selecting::of(&headers(&[("vary", vary)]), &headers(stored), Languages::AsSent)
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
    }

    #[test]
    fn va3_languages() {
        let matches = |languages, content: &'static str, stored: &'static str, presented: &'static str| {
            let response = headers(&[("vary", "accept-language"), ("content-language", content)]);
            let request = headers(&[("accept-language", stored)]);
            let selecting = Selecting::of(&response, &request, languages).expect("a Vary that can match");
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
    }

    #[test]
    fn never() {
        for vary in ["*", "*, *", ", *", "*, foo", "foo, *", "foo bar", "foo:", "\"foo\""] {
            let selecting = Selecting::of(&headers(&[("vary", vary)]), &HeaderMap::new(), Languages::AsSent);
            assert_eq!(selecting, Err(NeverMatches), "{vary}");
        }
        let two_lines = headers(&[("vary", "foo"), ("vary", "*")]);
        assert_eq!(Selecting::of(&two_lines, &HeaderMap::new(), Languages::AsSent), Err(NeverMatches));
    }
}
