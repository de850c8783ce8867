//! Selecting fields (RFC 9111 4.1).

mod written;

use http::header::{self, HeaderMap, HeaderName};
use smallvec::SmallVec;
use thiserror::Error;

use super::accept::Meaning;
use super::coding::Coded;
use super::fields::{Members, is_longer_than, list};
use super::rules::Rules;

/// The request fields that selected a stored response, with the values they had. Made from the response's
/// `Vary` when it is stored; matched against each later request without parsing `Vary` again.
///
/// Content in a registered coding is for clients that accept the coding, even if `Vary` does not say so.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selecting {
    /// Present if `Accept-Encoding` is not among the fields.
    coded: Option<Box<Coded>>,
    fields: Box<[Field]>,
}

#[derive(Clone, Debug, Eq)]
struct Field {
    name: HeaderName,
    /// The members joined by `, `; `None` if the request had no such field.
    value: Option<Box<[u8]>>,
    /// By its meaning, it may match a request that sent another spelling.
    meaning: Option<Box<Meaning>>,
}

/// Why no later request can match.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum NeverMatches {
    /// The request's selecting fields are longer than 4 KiB in total, and too long to be compared: each variant of a
    /// key is compared with each request.
    #[error("the request's selecting fields are too long to be compared")]
    TooLong,
    /// `Vary` has a member `*`, or one that is not a field name.
    #[error("`Vary` has a member `*` or one that is not a field name")]
    Vary,
}

/// A request with a longer selecting field matches nothing, and the answer to one with longer ones is not stored.
const LONGEST: usize = 4096;

impl Selecting {
    /// Reads `Vary` of a response and the fields it names of the request that led to it. Of the rules, those
    /// for codings, languages and unkeyed fields count.
    ///
    /// # Errors
    ///
    /// [`NeverMatches`] if `Vary` contains `*` (RFC 9111 4.1) or something that is not a field name, and if the
    /// request's selecting fields are too long.
    pub fn of(response: &HeaderMap, request: &HeaderMap, rules: &Rules) -> Result<Self, NeverMatches> {
        Self::of_those(|_| true, response, request, rules)
    }

    /// By the fields that `Vary` names and that `selects` accepts.
    fn of_those(
        selects: impl Fn(&HeaderName) -> bool,
        response: &HeaderMap,
        request: &HeaderMap,
        rules: &Rules,
    ) -> Result<Self, NeverMatches> {
        let mut names = SmallVec::<[HeaderName; 4]>::new();
        for member in list(response, &header::VARY) {
            match HeaderName::from_bytes(member) {
                Ok(name) if name == "*" => return Err(NeverMatches::Vary), // `*` is a token, so a name
                // A field that the origin never sees does not select.
                Ok(name) if rules.unkeyed.strips(&name) || !selects(&name) => {}
                Ok(name) => names.push(name),
                Err(_) => return Err(NeverMatches::Vary),
            }
        }
        Self::by(names, response, request, rules)
    }

    /// By these fields of the request, and by the coding of the content where none of them is about codings.
    fn by(
        mut names: SmallVec<[HeaderName; 4]>,
        response: &HeaderMap,
        request: &HeaderMap,
        rules: &Rules,
    ) -> Result<Self, NeverMatches> {
        if names.is_empty() {
            return Ok(Self { coded: Coded::of(response).map(Box::new), fields: Box::default() });
        }
        names.sort_unstable_by(|a, b| a.as_str().cmp(b.as_str()));
        names.dedup();
        let is_negotiated = names.contains(&header::ACCEPT_ENCODING);
        let coded = if is_negotiated { None } else { Coded::of(response).map(Box::new) };
        let fields = names.into_iter().map(|name| Field {
            value: joined(request, &name),
            meaning: Meaning::of(&name, response, request, (&rules.codings, rules.languages)).map(Box::new),
            name,
        });
        let fields: Box<[Field]> = fields.collect();
        if fields.iter().filter_map(|field| field.value.as_ref()).map(|value| value.len()).sum::<usize>()
            > LONGEST
        {
            return Err(NeverMatches::TooLong);
        }
        Ok(Self { coded, fields })
    }

    /// [`Selecting::of`] those fields that `Vary` names and that are listed here, too. The coding of the content counts in any
    /// case: who does not accept it can't read it.
    ///
    /// # Errors
    ///
    /// [`NeverMatches::TooLong`], as there. What else `Vary` says does not count.
    pub(crate) fn of_listed(
        listed: &[HeaderName],
        response: &HeaderMap,
        request: &HeaderMap,
        rules: &Rules,
    ) -> Result<Self, NeverMatches> {
        let named: Vec<_> = list(response, &header::VARY).map(<[u8]>::to_ascii_lowercase).collect();
        let is_named = |name: &&HeaderName| named.iter().any(|line| line == name.as_str().as_bytes());
        let selects = |name: &&HeaderName| is_named(name) && !rules.unkeyed.strips(name);
        Self::by(listed.iter().filter(selects).cloned().collect(), response, request, rules)
    }

    /// [`Selecting::of`] those fields that `Vary` names and that are not listed here.
    ///
    /// # Errors
    ///
    /// [`NeverMatches`], as there.
    pub(crate) fn of_all_but(
        unlisted: &[HeaderName],
        response: &HeaderMap,
        request: &HeaderMap,
        rules: &Rules,
    ) -> Result<Self, NeverMatches> {
        Self::of_those(|name| !unlisted.contains(name), response, request, rules)
    }

    /// The same selecting fields, and one more field of the request.
    #[must_use]
    pub(crate) fn with_field(self, request: &HeaderMap, name: HeaderName) -> Self {
        let mut fields = self.fields.into_vec();
        if fields.iter().all(|field| field.name != name) {
            fields.push(Field { value: joined(request, &name), meaning: None, name });
        }
        Self { coded: self.coded, fields: fields.into_boxed_slice() }
    }

    /// Their names, and the values that the request had, if any.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&HeaderName, Option<&[u8]>)> {
        self.fields.iter().map(|field| (&field.name, field.value.as_deref()))
    }

    /// Whether a field is among them.
    pub(crate) fn has(&self, name: &HeaderName) -> bool {
        self.fields.iter().any(|field| field.name == *name)
    }

    /// Whether a request has the same selecting fields: lines combined, white space around members dropped, otherwise
    /// byte for byte (codings and languages as the rules have it); absent matches absent only. The request also has to
    /// accept the coding of the content.
    pub(crate) fn matches(&self, request: &HeaderMap) -> bool {
        self.fields.iter().all(|field| field.matches(request)) && self.suits(request)
    }

    #[inline]
    fn suits(&self, request: &HeaderMap) -> bool {
        self.coded.as_ref().is_none_or(|coded| coded.suits(request))
    }

    /// The values of these fields in a request: equal for requests that select the same response. `None` if nothing
    /// selects.
    pub(crate) fn signature(&self, request: &HeaderMap) -> Option<Box<[u8]>> {
        if self.fields.is_empty() && self.coded.is_none() {
            return None;
        }
        let mut signature = vec![u8::from(self.suits(request))];
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
        let fields: usize = self.fields.iter().map(|field| size_of::<Field>() + field.weight()).sum();
        fields + self.coded.as_ref().map_or(0, |coded| coded.weight())
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
            (Some(value), Some(_)) => {
                !is_longer_than(request, &self.name, LONGEST) && is_joined(request, &self.name, value)
            }
        }
    }

    fn weight(&self) -> usize {
        self.name.as_str().len()
            + self.value.as_ref().map_or(0, |value| value.len())
            + self.meaning.as_ref().map_or(0, |meaning| size_of::<Meaning>() + meaning.weight())
    }
}

/// By meaning, if there is one: a response that was stored for one spelling is replaced by one for another.
impl PartialEq for Field {
    fn eq(&self, other: &Self) -> bool {
        let has_normal_form = self.meaning.as_ref().is_some_and(|meaning| meaning.has_normal_form());
        self.name == other.name
            && self.meaning == other.meaning
            && (has_normal_form || self.value == other.value)
    }
}

const SEPARATOR: &[u8] = b", ";

/// The members of a field, joined; `None` if it is absent.
fn joined(request: &HeaderMap, name: &HeaderName) -> Option<Box<[u8]>> {
    let mut lines = request.get_all(name).into_iter().peekable();
    let length = lines.peek()?.len();
    let mut joined = Vec::with_capacity(length);
    for member in lines.flat_map(|line| Members::new(line.as_bytes())) {
        if !joined.is_empty() {
            joined.extend_from_slice(SEPARATOR);
        }
        joined.extend_from_slice(member);
    }
    Some(joined.into_boxed_slice())
}

/// Whether the members of a field, joined, equal `value`, without joining them. A field may be long and be compared
/// with many variants, so the comparison ends at the first difference.
fn is_joined(request: &HeaderMap, name: &HeaderName, value: &[u8]) -> bool {
    let mut rest = value;
    for (index, member) in list(request, name).enumerate() {
        let separator = if index > 0 { SEPARATOR } else { b"" };
        match rest.strip_prefix(separator).and_then(|rest| rest.strip_prefix(member)) {
            Some(after) => rest = after,
            None => return false,
        }
    }
    rest.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::semantics::accept::{Codings, Languages};
    use crate::semantics::tests::{any_value, map};
    use http::HeaderValue;
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
    fn a_request_matches_if_its_selecting_fields_match() {
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
        // Lines are combined, white space around members is removed, order and case stay.
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
    fn va3_accept_language_matches_as_sent_or_as_negotiated() {
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
    #[test]
    fn va3_selecting_fields_that_mean_the_same_are_equal() {
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
    fn a_vary_of_an_asterisk_or_outside_the_grammar_never_matches() {
        for vary in ["*", "*, *", ", *", "*, foo", "foo, *", "foo bar", "foo:", "\"foo\""] {
            let selecting = Selecting::of(&headers(&[("vary", vary)]), &HeaderMap::new(), &Rules::default());
            assert_eq!(selecting, Err(NeverMatches::Vary), "{vary}");
        }
        let two_lines = headers(&[("vary", "foo"), ("vary", "*")]);
        assert_eq!(Selecting::of(&two_lines, &HeaderMap::new(), &Rules::default()), Err(NeverMatches::Vary));
    }

    #[test]
    fn a39_a_selecting_field_that_is_too_long_matches_nothing() {
        let of = |length: usize| HeaderMap::from_iter([(header::COOKIE, value(&"a".repeat(length)))]);
        let vary = headers(&[("vary", "cookie, accept")]);
        for length in [LONGEST - 1, LONGEST, LONGEST + 1, 10 * LONGEST] {
            let selecting = Selecting::of(&vary, &of(length), &Rules::default());
            match selecting {
                Ok(selecting) if length <= LONGEST => {
                    assert!(selecting.matches(&of(length)), "{length}");
                    assert!(!selecting.matches(&of(length + 1)) && !selecting.matches(&of(length - 1)));
                }
                selecting => assert_eq!(selecting, Err(NeverMatches::TooLong), "{length}"),
            }
        }
        // All fields together.
        let mut two = of(LONGEST);
        two.insert(header::ACCEPT, value("a"));
        assert_eq!(Selecting::of(&vary, &two, &Rules::default()), Err(NeverMatches::TooLong));
        // Spelled at greater length.
        let selecting = Selecting::of(&vary, &of(1), &Rules::default()).expect("a Vary that can match");
        let padded = |commas: usize| {
            HeaderMap::from_iter([(header::COOKIE, value(&format!("a{}", ",".repeat(commas))))])
        };
        assert!(selecting.matches(&padded(LONGEST - 1)));
        assert!(!selecting.matches(&padded(LONGEST)));
        // What does not select may be as long as it likes.
        let vary = headers(&[("vary", "accept")]);
        assert!(Selecting::of(&vary, &of(10 * LONGEST), &Rules::default()).is_ok());
    }

    fn value(text: &str) -> HeaderValue {
        HeaderValue::from_str(text).expect("a value")
    }

    #[test]
    fn a36_stripped_fields_do_not_select() {
        let mut rules = Rules::default();
        let vary = headers(&[("vary", "x-forwarded-host, X_Host, accept")]);
        let forged = headers(&[("x-forwarded-host", "a"), ("x_host", "a"), ("accept", "b")]);
        let plain = headers(&[("accept", "b")]);
        let matches = |rules: &Rules| Selecting::of(&vary, &forged, rules).expect("a Vary").matches(&plain);
        assert!(!matches(&rules));
        rules.unkeyed.strip(true);
        assert!(matches(&rules));
        rules.unkeyed.keep(HeaderName::from_static("x_host"));
        assert!(!matches(&rules));
    }

    fn all_known() -> [Codings; 4] {
        let names = ["br", "gzip"];
        [Codings::known(names), Codings::one_of(names), Codings::cloudfront(names), Codings::fastly(names)]
    }

    fn any_rules() -> impl Strategy<Value = Rules> {
        let mut codings = vec![Codings::AsSent, Codings::Negotiated];
        codings.extend(all_known());
        let languages = [Languages::AsSent, Languages::Negotiated];
        (prop::sample::select(codings), prop::sample::select(languages.to_vec()))
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

    #[track_caller]
    fn check_listed(
        vary: &[(&'static str, &'static str)],
        listed: &[&'static str],
        changed: &'static str,
        matches: bool,
    ) {
        let listed: Vec<_> = listed.iter().map(|name| HeaderName::from_static(name)).collect();
        let request = map(&[("accept", "a"), ("origin", "b"), ("cookie", "c")]);
        let selecting = Selecting::of_listed(&listed, &map(vary), &request, &Rules::default());
        let mut other = request.clone();
        other.insert(changed, HeaderValue::from_static("other"));
        let found = selecting.expect("short fields").matches(&other);
        assert_eq!(found, matches, "{vary:?} {listed:?} {changed}");
    }

    #[test]
    fn a_policy_chooses_which_fields_of_vary_select() {
        let both = [("vary", "Accept, origin")];
        check_listed(&both, &["accept", "origin"], "accept", false);
        check_listed(&both, &["accept", "origin"], "cookie", true);
        check_listed(&both, &["accept"], "accept", false);
        check_listed(&both, &["accept"], "origin", true);
        check_listed(&both, &[], "accept", true);
        // Only what `Vary` names selects.
        check_listed(&both, &["cookie"], "cookie", true);
        check_listed(&[], &["accept"], "accept", true);
        // RFC 9111 4.1: `*` would match nothing.
        check_listed(&[("vary", "*, accept")], &["accept"], "accept", false);
        check_listed(&[("vary", "*, accept")], &["accept"], "origin", true);
    }

    proptest! {
        #[test]
        fn matching_a_request_never_panics(
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
                Err(_) => {}
                Ok(selecting) => {
                    prop_assert!(!star && selecting.matches(&stored));
                    let _ = selecting.matches(&request(&presented, &presented, &presented));
                }
            }
        }

        #[test]
        fn a_request_matches_its_own_selecting_fields(
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
        fn several_lines_of_a_field_are_one_list(
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
        fn selecting_fields_are_equal_exactly_if_they_match(rules in any_rules(), one in any_lines(), other in any_lines()) {
            // Without Content-Language, which lets a request match what was made from another.
            let (one, other) = (request(&one, &one, &[]), request(&other, &other, &[]));
            let (first, second) = (selecting(&rules, None, &one), selecting(&rules, None, &other));
            prop_assert_eq!(first == second, first.matches(&other));
            prop_assert_eq!(first.matches(&other), second.matches(&one));
        }

        #[test]
        fn va3_the_forwarded_accept_encoding_has_what_is_compared(
            lines in any_lines(), other in any_lines(), known in prop::sample::select(all_known().to_vec()),
        ) {
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
