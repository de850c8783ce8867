//! Selecting fields (RFC 9111 4.1).

use http::header::{self, HeaderMap, HeaderName};

use super::fields::{Members, list};

/// The request fields that selected a stored response, with the values they had. Made from the response's
/// `Vary` when it is stored; matched against each later request without parsing `Vary` again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selecting {
    fields: Box<[Field]>,
}

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
    pub fn of(response: &HeaderMap, request: &HeaderMap) -> Result<Self, NeverMatches> {
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
        let fields = names.into_iter().map(|name| Field { value: canonical(request, &name), name }).collect();
        Ok(Self { fields })
    }

    /// Whether a request has the same selecting fields: lines combined, white space round members
    /// dropped, otherwise byte for byte; absent matches absent only.
    pub fn matches(&self, request: &HeaderMap) -> bool {
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

    /// Whether the response has selecting fields at all.
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    /// The selecting fields' names, sorted, each with its value (`None`: the request had no such field).
    pub fn iter(&self) -> impl Iterator<Item = (&HeaderName, Option<&[u8]>)> {
        self.fields.iter().map(|field| (&field.name, field.value.as_deref()))
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
            .sum()
    }
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
        let selecting =
            Selecting::of(&headers(&[("vary", vary)]), &headers(stored)).expect("a Vary that can match");
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
    }

    #[test]
    fn never() {
        for vary in ["*", "*, *", ", *", "*, foo", "foo, *", "foo bar", "foo:", "\"foo\""] {
            let selecting = Selecting::of(&headers(&[("vary", vary)]), &HeaderMap::new());
            assert_eq!(selecting, Err(NeverMatches), "{vary}");
        }
        let two_lines = headers(&[("vary", "foo"), ("vary", "*")]);
        assert_eq!(Selecting::of(&two_lines, &HeaderMap::new()), Err(NeverMatches));
    }
}
