//! What a policy's rules take out of a request, so that what is not in the key cannot shape what is stored under it.

use http::header::{self, HeaderMap, HeaderName};
use http::request::Parts;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderValue, Uri};
use smallvec::SmallVec;

use super::target::{any_query, each_uri, scheme, settle_authority};

/// A request that is being edited.
pub(crate) struct Edited<'a> {
    before: Unedited,
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
    fn is_empty(&self) -> bool {
        self.cookies.is_none() && self.hosts.is_none() && self.scheme.is_none() && self.uris.is_empty()
    }

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
        Self { before: Unedited::default(), request }
    }

    /// The request as it is by now.
    pub(crate) fn request(&self) -> &Parts {
        self.request
    }

    /// Keeps the URIs before the first change to one.
    fn keep_uris(&mut self) {
        if self.before.uris.is_empty() {
            self.before.uris = uris_of(self.request);
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

    /// Gives the request another authority, another scheme, or both. The scheme of now says which port is left out.
    pub(crate) fn origin(&mut self, authority: Option<&Authority>, to: Option<&Scheme>) {
        let to = to.filter(|to| scheme(&self.request.uri, self.request).ok() != Some(*to)).cloned();
        let authority = authority.filter(|authority| !has_authority(self.request, authority));
        if to.is_none() && authority.is_none() {
            return;
        }
        self.keep_uris();
        self.before.hosts = Some(lines(&self.request.headers, &header::HOST));
        settle_authority(self.request);
        if let Some(host) = authority.and_then(|authority| HeaderValue::try_from(authority.as_str()).ok()) {
            self.request.headers.insert(header::HOST, host);
        }
        each_uri(self.request, |uri| {
            if uri.authority().is_some() {
                replace(uri, |parts| {
                    parts.authority = authority.cloned().or(parts.authority.take());
                    parts.scheme = to.clone().or(parts.scheme.take());
                });
            }
        });
        if let Some(to) = to {
            self.before.scheme = Some(self.request.extensions.insert(to));
        }
    }

    /// Gives the request other cookies, or none.
    pub(crate) fn cookies(&mut self, edited: Option<HeaderValue>) {
        self.before.cookies = Some(lines(&self.request.headers, &header::COOKIE));
        set_lines(&mut self.request.headers, &header::COOKIE, edited);
    }

    /// Whether anything was edited.
    pub(crate) fn is_another(&self) -> bool {
        !self.before.is_empty()
    }

    /// Undoes what was done to queries.
    pub(crate) fn undo_queries(&mut self) {
        let mut before = self.before.uris.iter();
        each_uri(self.request, |uri| {
            if let Some(path) = before.next().and_then(Uri::path_and_query).cloned() {
                replace(uri, |parts| parts.path_and_query = Some(path));
            }
        });
    }

    /// Undoes all of it.
    pub(crate) fn undo(self) {
        self.before.restore(self.request);
    }

    /// The request stays as it was edited, unless it is forwarded and nothing is stored: see [`restore`].
    pub(crate) fn keep(self) {
        if self.before.is_empty() {
            return;
        }
        let unedited = match self.request.extensions.remove::<Unedited>() {
            Some(earlier) => earlier.or(self.before),
            None => self.before,
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

/// Whether every authority that the request names is this one.
fn has_authority(request: &mut Parts, authority: &Authority) -> bool {
    let mut hosts = request.headers.get_all(header::HOST).into_iter();
    let is_host = hosts.next().is_some_and(|host| host.as_bytes() == authority.as_str().as_bytes());
    let mut has = is_host && hosts.next().is_none();
    each_uri(request, |uri| has &= uri.authority().is_none_or(|own| own.as_str() == authority.as_str()));
    has
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
