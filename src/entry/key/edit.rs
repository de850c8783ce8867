//! What a policy's rules take out of a request, so that what is not in the key cannot shape what is stored under it.

use http::header::{self, HeaderMap, HeaderName};
use http::request::Parts;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderValue, Uri};
use smallvec::SmallVec;

use super::target::{any_query, each_uri, scheme, settle_authority};

/// A request that is being edited.
pub(crate) struct Edited<'a> {
    /// Boxed, since most requests are left alone.
    before: Option<Box<Unedited>>,
    request: &'a mut Parts,
}

/// What a request had before it was edited, as far as it was. It stays in the request's extensions, in case that the request
/// is forwarded and nothing is stored.
#[derive(Clone, Default)]
struct Unedited {
    cookies: Option<Lines>,
    hosts: Option<Lines>,
    scheme: Option<Option<Scheme>>,
    uris: Uris,
}

type Lines = SmallVec<[HeaderValue; 1]>;

/// Every URI of a request; none where they are as they were.
type Uris = SmallVec<[Uri; 3]>;

fn uris_of(request: &mut Parts) -> Uris {
    let mut uris = Uris::new();
    each_uri(request, |uri| uris.push(uri.clone()));
    uris
}

fn put_uris(request: &mut Parts, uris: Uris) {
    let mut uris = uris.into_iter();
    each_uri(request, |uri| {
        if let Some(before) = uris.next() {
            *uri = before;
        }
    });
}

impl Unedited {
    /// Of two edits, what was there before the earlier one counts.
    fn or(self, later: Self) -> Self {
        Self {
            cookies: self.cookies.or(later.cookies),
            hosts: self.hosts.or(later.hosts),
            scheme: self.scheme.or(later.scheme),
            uris: if self.uris.is_empty() { later.uris } else { self.uris },
        }
    }

    fn restore(self, request: &mut Parts) {
        for (name, lines) in [(&header::COOKIE, self.cookies), (&header::HOST, self.hosts)] {
            if let Some(lines) = lines {
                set_lines(&mut request.headers, name, lines);
            }
        }
        match self.scheme {
            Some(Some(scheme)) => _ = request.extensions.insert(scheme),
            Some(None) => _ = request.extensions.remove::<Scheme>(),
            None => {}
        }
        put_uris(request, self.uris);
    }
}

impl<'a> Edited<'a> {
    pub(crate) fn new(request: &'a mut Parts) -> Self {
        Self { before: None, request }
    }

    /// The request as it is by now.
    pub(crate) fn request(&self) -> &Parts {
        self.request
    }

    fn before(&mut self) -> &mut Unedited {
        self.before.get_or_insert_default()
    }

    /// Keeps the URIs before the first change to one.
    fn keep_uris(&mut self) {
        if self.before().uris.is_empty() {
            let uris = uris_of(self.request);
            self.before().uris = uris;
        }
    }

    /// Gives each URI of the request another query, or none, if the query of one of them `changes`. `write` appends it, with
    /// its question mark.
    pub(crate) fn queries(&mut self, changes: impl Fn(&str) -> bool, write: impl Fn(&str, &mut String)) {
        if !any_query(self.request, changes) {
            return;
        }
        self.keep_uris();
        // Most requests have one path and query, however many URIs.
        let mut latest: Option<(PathAndQuery, PathAndQuery)> = None;
        each_uri(self.request, |uri| {
            let Some(path) = uri.path_and_query() else {
                return;
            };
            let after = match &latest {
                Some((before, after)) if before == path => after.clone(),
                _ => match with_query(path, &write) {
                    Some(after) => latest.insert((path.clone(), after)).1.clone(),
                    None => return,
                },
            };
            replace(uri, |parts| parts.path_and_query = Some(after));
        });
    }

    /// Whether the request already names this origin, as far as one is given, and no other.
    pub(crate) fn has_origin(&mut self, authority: Option<&Authority>, named: Option<&Scheme>) -> bool {
        authority.is_none_or(|authority| has_authority(self.request, authority))
            && named.is_none_or(|named| scheme(&self.request.uri, self.request) == Ok(named))
    }

    /// Gives the request another authority, another scheme, or both. The scheme of now says which port is left out.
    pub(crate) fn origin(&mut self, authority: Option<&Authority>, to: Option<&Scheme>) {
        self.keep_uris();
        self.before().hosts = Some(lines(&self.request.headers, &header::HOST));
        settle_authority(self.request);
        let has_host =
            self.request.headers.contains_key(header::HOST) || self.request.uri.authority().is_none();
        let host = authority.filter(|_| has_host).map(|authority| HeaderValue::try_from(authority.as_str()));
        if let Some(Ok(host)) = host {
            self.request.headers.insert(header::HOST, host);
        }
        each_uri(self.request, |uri| {
            if uri.authority().is_some() {
                replace(uri, |parts| {
                    parts.authority = authority.cloned().or(parts.authority.take());
                    parts.scheme = to.cloned().or(parts.scheme.take());
                });
            }
        });
        if let Some(to) = to {
            self.before().scheme = Some(self.request.extensions.insert(to.clone()));
        }
    }

    /// Gives the request other cookies, or none.
    pub(crate) fn cookies(&mut self, edited: Option<HeaderValue>) {
        self.before().cookies = Some(lines(&self.request.headers, &header::COOKIE));
        set_lines(&mut self.request.headers, &header::COOKIE, edited);
    }

    /// Whether anything was edited.
    pub(crate) fn is_another(&self) -> bool {
        self.before.is_some()
    }

    /// Undoes what was done to queries.
    pub(crate) fn undo_queries(&mut self) {
        let mut before = self.before.iter().flat_map(|before| &before.uris);
        each_uri(self.request, |uri| {
            if let Some(path) = before.next().and_then(Uri::path_and_query).cloned() {
                replace(uri, |parts| parts.path_and_query = Some(path));
            }
        });
    }

    /// Undoes all of it.
    pub(crate) fn undo(self) {
        if let Some(before) = self.before {
            before.restore(self.request);
        }
    }

    /// The request stays as it was edited, unless it is forwarded and nothing is stored: see [`restore`].
    pub(crate) fn keep(self) {
        let Some(later) = self.before else {
            return;
        };
        let unedited = match self.request.extensions.remove::<Unedited>() {
            Some(earlier) => earlier.or(*later),
            None => *later,
        };
        self.request.extensions.insert(unedited);
    }
}

/// Gives a request back what was taken out of it.
pub(crate) fn restore(request: &mut Parts) {
    if let Some(unedited) = request.extensions.remove::<Unedited>() {
        unedited.restore(request);
    }
}

/// Forgets what was taken out of a request that is forwarded without it.
pub(super) fn forget(request: &mut Parts) {
    request.extensions.remove::<Unedited>();
}

/// Whether the request names this authority, and no other.
fn has_authority(request: &mut Parts, authority: &Authority) -> bool {
    let mut is_named = false;
    let mut is_alone = true;
    let mut compare = |named: &[u8]| {
        is_named = true;
        is_alone &= named == authority.as_str().as_bytes();
    };
    request.headers.get_all(header::HOST).into_iter().for_each(|host| compare(host.as_bytes()));
    each_uri(request, |uri| {
        if let Some(named) = uri.authority() {
            compare(named.as_str().as_bytes());
        }
    });
    is_named && is_alone
}

fn replace(uri: &mut Uri, edit: impl FnOnce(&mut http::uri::Parts)) {
    let mut parts = uri.clone().into_parts();
    edit(&mut parts);
    // With another query, authority or scheme it is a URI still.
    if let Ok(edited) = Uri::from_parts(parts) {
        *uri = edited;
    }
}

/// The path with another query; `None` where it has none.
fn with_query(path: &PathAndQuery, write: impl Fn(&str, &mut String)) -> Option<PathAndQuery> {
    let query = path.query()?;
    let mut text = String::with_capacity(path.as_str().len());
    text.push_str(path.path());
    write(query, &mut text);
    PathAndQuery::try_from(text).ok()
}

fn lines(headers: &HeaderMap, name: &HeaderName) -> Lines {
    headers.get_all(name).into_iter().cloned().collect()
}

fn set_lines(headers: &mut HeaderMap, name: &HeaderName, lines: impl IntoIterator<Item = HeaderValue>) {
    headers.remove(name);
    for line in lines {
        headers.append(name, line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;

    fn request(uri: &str, fields: &[(&str, &str)]) -> Parts {
        let mut request = Request::get(uri);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        request.body(()).expect("a request").into_parts().0
    }

    /// URI, hosts, scheme, cookies.
    fn seen(request: &Parts) -> (String, Vec<HeaderValue>, Option<Scheme>, Vec<HeaderValue>) {
        let of = |name: &HeaderName| lines(&request.headers, name).into_vec();
        (request.uri.to_string(), of(&header::HOST), request.extensions.get().cloned(), of(&header::COOKIE))
    }

    #[track_caller]
    fn check_origin(
        (uri, host): (&str, Option<&str>),
        (authority, scheme): (Option<&'static str>, Option<Scheme>),
        expected: Option<(&str, Option<&str>, Option<Scheme>)>,
    ) {
        let mut request = request(uri, host.map(|host| ("host", host)).as_slice());
        let before = seen(&request);
        let mut edited = Edited::new(&mut request);
        let authority = authority.map(Authority::from_static);
        if !edited.has_origin(authority.as_ref(), scheme.as_ref()) {
            edited.origin(authority.as_ref(), scheme.as_ref());
        }
        assert_eq!(edited.is_another(), expected.is_some(), "{uri} {host:?}");
        let (uri, hosts, scheme, _) = seen(edited.request());
        if let Some(expected) = expected {
            let hosts: Vec<_> = hosts.iter().map(|host| host.to_str().expect("ASCII")).collect();
            assert_eq!((&*uri, hosts.first().copied(), scheme), expected);
        }
        edited.undo();
        assert_eq!(seen(&request), before);
    }

    #[test]
    fn a01_a_request_gets_another_origin_wherever_it_names_one() {
        let one = Some("one");
        let https = || Some(Scheme::HTTPS);
        check_origin(("/x", Some("two")), (one, None), Some(("/x", one, None)));
        check_origin(("/x", None), (one, None), Some(("/x", one, None)));
        check_origin(("http://two/x", None), (one, None), Some(("http://one/x", None, None)));
        check_origin(("http://two/x", Some("two")), (one, None), Some(("http://one/x", one, None)));
        check_origin(("/x", Some("two:80")), (one, https()), Some(("/x", one, https())));
        check_origin(("http://two:80/x", None), (None, https()), Some(("https://two/x", None, https())));
        check_origin(("/x", Some("Two:80")), (None, https()), Some(("/x", Some("two"), https())));
        check_origin(("/x", Some("two:443")), (None, https()), Some(("/x", Some("two:443"), https())));
        // As it is already.
        check_origin(("/x", one), (one, Some(Scheme::HTTP)), None);
        check_origin(("http://one/x", None), (one, None), None);
        check_origin(("https://two/x", None), (None, https()), None);
        check_origin(("/x", Some("two")), (None, None), None);
    }

    #[test]
    fn what_was_taken_out_of_a_request_is_given_back_however_often_it_was_edited() {
        let mut request = request("http://a/x?1", &[("cookie", "a=1"), ("cookie", "b=2"), ("host", "a")]);
        request.extensions.insert(Scheme::HTTP);
        let before = seen(&request);
        for query in ["?2", "", "?3"] {
            let mut edited = Edited::new(&mut request);
            edited.queries(|_| true, |_, target| target.push_str(query));
            edited.cookies(Some(HeaderValue::from_static("c=3")));
            edited.origin(Some(&Authority::from_static("b")), Some(&Scheme::HTTPS));
            edited.keep();
        }
        let (uri, hosts, scheme, cookies) = seen(&request);
        assert_eq!((&*uri, scheme), ("https://b/x", Some(Scheme::HTTPS)));
        assert_eq!(
            (hosts, cookies),
            (vec![HeaderValue::from_static("b")], vec![HeaderValue::from_static("c=3")])
        );
        restore(&mut request);
        assert_eq!(seen(&request), before);
        restore(&mut request);
        assert_eq!(seen(&request), before);
    }

    #[test]
    fn queries_can_be_given_back_alone() {
        let mut request = request("http://a/x?1", &[("host", "a")]);
        let mut edited = Edited::new(&mut request);
        edited.origin(Some(&Authority::from_static("b")), None);
        edited.queries(|_| true, |_, _| ());
        assert_eq!(edited.request().uri, "http://b/x");
        edited.undo_queries();
        edited.keep();
        assert_eq!(request.uri, "http://b/x?1");
    }
}
