//! What a request's key is made of.

mod cookies;
mod part;
mod query;
mod spellings;
mod trackers;

use std::borrow::Cow;

use http::header::HeaderName;
use http::uri::{Authority, Scheme};
use http::{Extensions, request};

use self::cookies::CookieRules;
use self::part::KeyPart;
pub use self::query::QueryRules;
pub(super) use self::spellings::path_of;
pub use self::trackers::TRACKERS;
use super::hooks::RequestAction;
use super::pattern::Selection;
use crate::entry::key::{AnyOrigin, CacheKey, Edited, KeyError};
use crate::semantics::methods::is_safe;

/// What a request's key is made of: for [`StandardPolicy::key`](crate::StandardPolicy::key), or a policy of your own.
///
/// Without any rule it is the absolute URI, byte for byte. Rules leave something out (of the query, of the cookies, of the
/// origin), or add something (fields, presence, classes, who asks).
///
/// **What is not in the key must not shape the response**, or one client chooses what others get. So what rules leave out of
/// the query and of the cookies is removed from every safe request that may be answered from storage, or whose answer may be
/// stored: the inner service sees what is in the key, and `Vary` selects by it. Requests that are forwarded otherwise go as
/// they came: unsafe ones, and those that bypass the cache. An unsafe request has the key of the GET, and so invalidates it.
///
/// Purges, and unsafe requests, reach everything that is stored for what they name, however keys spell it: `purge(uri)` with a
/// query that is not in the key removes what all queries share, and a URI of one host what all hosts share.
///
/// ```
/// use http::header;
/// use larder::policy::{KeyRules, QueryRules};
/// use larder::{CacheBuilder, StandardPolicy};
///
/// #[derive(Clone)]
/// struct User(u64); // an authentication layer in front of the cache has put it into the extensions
///
/// let rules = KeyRules::new()
///     .query(QueryRules::all().ignore_trackers().sorted())
///     .cookies(["theme"])
///     .accepts("image/avif")
///     .identity("user", |extensions| Some(extensions.get::<User>()?.0.to_be_bytes()));
/// let layer = CacheBuilder::default().policy(StandardPolicy::default().key(rules)).build();
/// # let _ = layer;
/// ```
#[derive(Clone, Debug, Default)]
pub struct KeyRules {
    cookies: Option<CookieRules>,
    origin: OriginRules,
    parts: Vec<KeyPart>,
    query: QueryRules,
}

/// What of the origin is in a key.
#[derive(Clone, Debug, Default)]
struct OriginRules {
    any: AnyOrigin,
    /// In the place of the one that was asked for.
    authority: Option<Authority>,
    /// The same.
    scheme: Option<Scheme>,
}

impl KeyRules {
    /// The absolute URI alone.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds whether `Accept` names a media type, such as `image/avif`, with a weight above 0. Ranges such as `*/*` do not count,
    /// since browsers send them that cannot show every type. The service has to decide in the same way, and needs no `Vary`
    /// then.
    ///
    /// A field that a service may read in either way is a third class, which shares nothing with the others: one of more than
    /// 1,024 bytes, one whose lines differ, and one that has the name in another way than in lower case, in a well-formed list,
    /// and with weights above 0.
    #[must_use]
    pub fn accepts(self, media_type: impl Into<Box<str>>) -> Self {
        self.with(KeyPart::Accepts(media_type.into().to_ascii_lowercase().into()))
    }

    /// Leaves out the host: all hosts share what is stored, which has the same path and scheme.
    ///
    /// **The inner service still sees each client's own host.** If it puts that into a link or a redirect, or has other content
    /// for another host, one client chooses what everybody gets. [`KeyRules::host`] is safe: the service sees one host. Keys have
    /// an empty host, and a part that no request for an empty host has under other rules.
    #[must_use]
    pub fn any_host(mut self) -> Self {
        self.origin.any.host = true;
        self.origin.authority = None;
        self
    }

    /// Leaves out the scheme: what was stored for `http` answers for `https`.
    ///
    /// **The inner service can still see the scheme.** If it redirects `http` to `https`, that redirect is stored for `https`,
    /// too. [`KeyRules::scheme`] is safe: the service sees one scheme. Keys have the scheme `any`, and a part that no request
    /// for this scheme has under other rules.
    #[must_use]
    pub fn any_scheme(mut self) -> Self {
        self.origin.any.scheme = true;
        self.origin.scheme = None;
        self
    }

    /// Adds a class of requests, which a closure names: a country, a tier, a side of an experiment. It is asked for each
    /// request, so it has to be quick. The service should decide by the class, and by nothing finer.
    #[must_use]
    pub fn class<F, T>(self, name: impl Into<Cow<'static, str>>, class: F) -> Self
    where
        F: Fn(&request::Parts) -> T + Send + Sync + 'static,
        T: AsRef<[u8]>,
    {
        let name = name.into();
        let own = name.clone();
        self.with(KeyPart::closure(name, move |key, request| key.with(&own, class(request).as_ref())))
    }

    /// Adds whether a request has a cookie of this name: for pages that are the same for all who are logged in. The service sees
    /// its value, which is not in the key, so the response is shared only where it says so (`public`, `s-maxage`).
    #[must_use]
    pub fn cookie_presence(mut self, name: impl Into<Box<str>>) -> Self {
        let name = name.into();
        if let Some(cookies) = &mut self.cookies {
            cookies.present.push(name.clone());
        }
        self.with(KeyPart::CookiePresence(name))
    }

    /// The cookies that count, by name: they are in the key, and the service sees no others. So the key holds the credential
    /// `Cookie`, and a cookie that does not count prevents nothing. Without this rule, no cookie is in the key, and the
    /// service sees all of them.
    ///
    /// Names and values compare byte for byte, the order of different names does not matter, and what has no `=` is no cookie.
    /// The rule for `Set-Cookie` still holds: such a response is stored only where it says that it is shared.
    #[must_use]
    pub fn cookies(mut self, counting: impl Into<Selection>) -> Self {
        let present = self.parts.iter().filter_map(|part| match part {
            KeyPart::CookiePresence(name) => Some(name.clone()),
            _ => None,
        });
        self.cookies = Some(CookieRules { present: present.collect(), selection: counting.into() });
        self
    }

    /// Adds a request field, or the fact that it is absent. With `Authorization` or `Cookie`, the key holds that credential.
    #[must_use]
    pub fn header(self, name: HeaderName) -> Self {
        self.with(KeyPart::Field(name))
    }

    /// Adds whether a field contains a word, in whatever case. A field with a line of more than 4 KiB, or with lines that differ in
    /// this, is a third class, which shares nothing with the others.
    ///
    /// **The service still sees the whole value, which is not in the key.** It should decide by the word alone.
    #[must_use]
    pub fn header_contains(self, name: HeaderName, word: impl Into<Box<str>>) -> Self {
        self.with(KeyPart::Contains(name, word.into()))
    }

    /// Adds whether a request has a field.
    ///
    /// **The service still sees its value, which is not in the key.** If it decides by more than whether the field is there, one
    /// client chooses what everybody gets who sends one: use [`KeyRules::header`] then.
    #[must_use]
    pub fn header_presence(self, name: HeaderName) -> Self {
        self.with(KeyPart::FieldPresence(name))
    }

    /// Keys have this host, `host` or `host:port`, whatever host was asked for; and so has each request that the inner service
    /// gets for the cache's sake. For a service that is one site under several names. User information is left out.
    ///
    /// ```
    /// use larder::policy::KeyRules;
    /// let rules = KeyRules::new().host(http::uri::Authority::from_static("www.example.com"));
    /// # let _ = rules;
    /// ```
    #[must_use]
    pub fn host(mut self, authority: Authority) -> Self {
        self.origin.any.host = false;
        // As keys spell it.
        let host = authority.as_str().rsplit('@').next().unwrap_or_default().to_ascii_lowercase();
        self.origin.authority = Some(Authority::try_from(host).unwrap_or(authority));
        self
    }

    /// Adds who asks, as a layer in front of the cache has left it in the request's extensions; or the fact that nobody knows,
    /// if the closure returns `None`.
    ///
    /// An identity counts as every credential of the request: whoever has the same one may get the same response. With
    /// [`StandardPolicy::private_by_key`](crate::StandardPolicy::private_by_key), `private` responses are stored for it. With
    /// several identities, all have to be there.
    ///
    /// ```
    /// use larder::StandardPolicy;
    /// use larder::policy::KeyRules;
    /// # #[derive(Clone)] struct User { id: String }
    /// let rules = KeyRules::new().identity("user", |extensions| Some(extensions.get::<User>()?.id.clone()));
    /// let policy = StandardPolicy::default().key(rules).private_by_key(true);
    /// # let _ = policy;
    /// ```
    #[must_use]
    pub fn identity<F, T>(self, name: impl Into<Cow<'static, str>>, identity: F) -> Self
    where
        F: Fn(&Extensions) -> Option<T> + Send + Sync + 'static,
        T: AsRef<[u8]>,
    {
        let name = name.into();
        let own = name.clone();
        self.with(KeyPart::closure(name, move |key, request| match identity(&request.extensions) {
            Some(identity) => key.with_identity(&own, identity.as_ref()),
            None => key.with_absent_identity(&own),
        }))
    }

    /// Adds whether a browser says that it is on a phone: by the word `Mobi` in `User-Agent`, and by `Sec-CH-UA-Mobile` where it
    /// sends that. Where the two differ, or one of them says nothing clear, that is a third class, which shares nothing with the
    /// others: a service may look at either.
    #[must_use]
    pub fn mobile(self) -> Self {
        self.with(KeyPart::Mobile)
    }

    /// Adds whatever a closure makes of a request, or the fact that it makes nothing of it. It sees what the inner service would
    /// see, and is asked for each request, so it has to be quick.
    #[must_use]
    pub fn part<F, T>(self, name: impl Into<Cow<'static, str>>, part: F) -> Self
    where
        F: Fn(&request::Parts) -> Option<T> + Send + Sync + 'static,
        T: AsRef<[u8]>,
    {
        let name = name.into();
        let own = name.clone();
        self.with(KeyPart::closure(name, move |key, request| match part(request) {
            Some(value) => key.with(&own, value.as_ref()),
            None => key.with_absent(&own),
        }))
    }

    /// What of the query is in the key.
    #[must_use]
    pub fn query(mut self, rules: impl Into<QueryRules>) -> Self {
        self.query = rules.into();
        self
    }

    /// Keys have this scheme, and each request that the inner service gets for the cache's sake counts as accepted by it,
    /// whatever scheme was asked for.
    #[must_use]
    pub fn scheme(mut self, scheme: Scheme) -> Self {
        self.origin.any.scheme = false;
        self.origin.scheme = Some(scheme);
        self
    }

    fn with(mut self, part: KeyPart) -> Self {
        self.parts.push(part);
        self
    }

    /// The request fields that are in the key as they are.
    pub(super) fn fields(&self) -> impl Iterator<Item = &HeaderName> {
        self.parts.iter().filter_map(|part| match part {
            KeyPart::Field(name) => Some(name),
            _ => None,
        })
    }

    /// The key of a request, or a bypass where it has none: for [`CachePolicy::request`](crate::CachePolicy::request). What is
    /// not in the key is removed from a safe request.
    ///
    /// ```
    /// use http::request;
    /// use larder::policy::{KeyRules, PolicyData};
    /// use larder::store::PurgeTarget;
    /// use larder::{CachePolicy, RequestAction};
    ///
    /// struct Shop(KeyRules);
    ///
    /// impl CachePolicy for Shop {
    ///     fn request(&self, request: &mut request::Parts, _: &mut PolicyData) -> RequestAction {
    ///         self.0.key(request)
    ///     }
    ///
    ///     fn spellings(&self, target: &PurgeTarget) -> Vec<PurgeTarget> {
    ///         self.0.spellings(target)
    ///     }
    /// }
    /// ```
    pub fn key(&self, request: &mut request::Parts) -> RequestAction {
        match self.key_of(request) {
            Ok(key) => RequestAction::Cache(key),
            Err(error) => RequestAction::bypass(error.as_str()),
        }
    }

    fn key_of(&self, request: &mut request::Parts) -> Result<CacheKey, KeyError> {
        let stays_edited = is_safe(&request.method);
        let mut edited = Edited::new(request);
        let key = self.edit(&mut edited).and_then(|()| self.key_of_edited(edited.request()));
        if stays_edited && key.is_ok() {
            if self.query.forwards_as_sent() {
                edited.undo_queries();
            }
            edited.keep();
        } else {
            edited.undo();
        }
        key
    }

    /// Whether the scheme that a client asks for is in no key.
    pub(super) fn shares_schemes(&self) -> bool {
        self.origin.any.scheme
    }

    /// Removes from a request what is not in its key.
    fn edit(&self, edited: &mut Edited<'_>) -> Result<(), KeyError> {
        let (authority, scheme) = (self.origin.authority.as_ref(), self.origin.scheme.as_ref());
        if (authority.is_some() || scheme.is_some()) && !edited.has_origin(authority, scheme) {
            CacheKey::check_origin(edited.request())?;
            edited.origin(authority, scheme);
        }
        if !self.query.is_all() {
            edited
                .queries(|query| self.query.changes(query), |query, target| self.query.write(query, target));
        }
        if let Some(cookies) = &self.cookies {
            cookies.edit(edited);
        }
        Ok(())
    }

    fn key_of_edited(&self, request: &request::Parts) -> Result<CacheKey, KeyError> {
        let mut key = match self.origin.any {
            any if any == AnyOrigin::default() => CacheKey::of(request)?,
            any => CacheKey::of_any(request, any)?,
        };
        if let Some(cookies) = &self.cookies {
            key = cookies.add(key, &request.headers);
        }
        Ok(self.parts.iter().fold(key, |key, part| part.add(key, request)))
    }

    /// Whether a request has something that is not in its key and that is removed from a safe one. What is stored for the answer
    /// to such a POST ([`StandardPolicy::post`](crate::StandardPolicy::post)) would not be what a GET gets.
    pub fn leaves_out(&self, request: &request::Parts) -> bool {
        let mut request = request.clone();
        let mut edited = Edited::new(&mut request);
        self.edit(&mut edited).is_ok() && edited.is_another()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::header::{self, HeaderMap};
    use http::{HeaderValue, Method, Request};
    use proptest::prelude::*;

    /// What a client sends.
    #[derive(Clone, Debug)]
    struct Sent {
        host: &'static str,
        scheme: &'static str,
        path: String,
        x: Vec<String>,
        y: Option<String>,
        cookies: Vec<String>,
        user: Option<String>,
    }

    #[derive(Clone)]
    struct User(String);

    impl Sent {
        fn request(&self, method: Method) -> request::Parts {
            let request = Request::builder()
                .method(method)
                .uri(format!("{}://{}{}", self.scheme, self.host, self.path));
            let (mut request, ()) = request.body(()).expect("a request").into_parts();
            let mut add = |name, value: &str| {
                request.headers.append(name, HeaderValue::from_str(value).expect("a value"));
            };
            self.x.iter().for_each(|line| add(X, line));
            self.y.iter().for_each(|line| add(Y, line));
            self.cookies.iter().for_each(|line| add(header::COOKIE, line));
            request.extensions.extend(
                self.user
                    .clone()
                    .map(|user| {
                        let mut extensions = Extensions::new();
                        extensions.insert(User(user));
                        extensions
                    })
                    .unwrap_or_default(),
            );
            request
        }

        /// What of it is in the key by the rules below, by the words of their documentation.
        fn counting(&self) -> impl PartialEq + std::fmt::Debug + use<> {
            let (path, query) = self.path.split_once('?').unwrap_or((&self.path, ""));
            let mut query: Vec<_> =
                query.split('&').filter(|part| !part.is_empty() && !part.starts_with("utm_")).collect();
            query.sort_by_key(|part| part.split('=').next());
            let pairs = self.cookies.iter().flat_map(|line| line.split(';')).map(str::trim);
            let mut cookies: Vec<_> =
                pairs.filter(|pair| pair.starts_with("a=") || pair.starts_with("b=")).collect();
            cookies.sort_by_key(|pair| &pair[..1]);
            let owned = |list: Vec<&str>| list.into_iter().map(str::to_owned).collect::<Vec<_>>();
            (
                (self.scheme, path.to_owned(), owned(query), owned(cookies)),
                (self.x.clone(), self.y.is_some(), self.y.as_deref().map(|y| y.contains('1'))),
                self.user.clone(),
            )
        }
    }

    const X: HeaderName = HeaderName::from_static("x");
    const Y: HeaderName = HeaderName::from_static("y");

    fn rules() -> KeyRules {
        KeyRules::new()
            .any_host()
            .query(QueryRules::all().ignore(["utm_*"]).sorted().cleaned())
            .cookies(["a", "b"])
            .header(X)
            .header_presence(Y)
            .part("y", |request| {
                let y = request.headers.get(Y)?.as_bytes();
                Some([u8::from(y.contains(&b'1'))])
            })
            .identity("user", |extensions| extensions.get::<User>().map(|user| user.0.clone()))
    }

    prop_compose! {
        fn any_request()(
            host in prop::sample::select(vec!["one", "two:8080"]),
            scheme in prop::sample::select(vec!["http", "https"]),
            path in "/[ab]?(\\?([ab]=?[12]?&?|utm_x=1&){0,3})?",
            x in prop::collection::vec("[12]{0,2}", 0..3),
            y in prop::option::of("[12]{0,2}"),
            cookies in prop::collection::vec("((a|b|_ga|c)=?[12]?;? ?){0,3}", 0..2),
            user in prop::option::of("[12]?"),
        ) -> Sent {
            Sent { host, scheme, path, x, y, cookies, user }
        }
    }

    fn key(sent: &Sent, method: Method) -> (CacheKey, request::Parts) {
        let mut request = sent.request(method);
        match rules().key(&mut request) {
            RequestAction::Cache(key) => (key, request),
            RequestAction::Bypass(reason) => panic!("{reason:?}"),
        }
    }

    fn seen(request: &request::Parts) -> (String, HeaderMap) {
        (request.uri.to_string(), request.headers.clone())
    }

    proptest! {
        #[test]
        fn a03_keys_are_the_same_exactly_if_what_counts_is(one in any_request(), other in any_request()) {
            let (key_of_one, _) = key(&one, Method::GET);
            let (key_of_other, _) = key(&other, Method::GET);
            prop_assert_eq!(key_of_one == key_of_other, one.counting() == other.counting());
        }

        #[test]
        fn a11_requests_with_one_key_look_the_same_to_the_service(one in any_request(), other in any_request()) {
            // With nothing but URI and cookies; its host is what nobody keys here, and told to be dangerous.
            let bare = |sent: Sent| Sent { host: "one", x: Vec::new(), y: None, user: None, ..sent };
            let (one, other) = (bare(one), bare(other));
            let ((key_of_one, request), (key_of_other, other)) = (key(&one, Method::GET), key(&other, Method::HEAD));
            prop_assert_eq!(key_of_one == key_of_other, seen(&request) == seen(&other));
        }

        #[test]
        fn a_request_is_edited_once_and_an_unsafe_one_not_at_all(sent in any_request()) {
            let (first, mut request) = key(&sent, Method::GET);
            let before = seen(&request);
            let again = rules().key(&mut request);
            prop_assert!(matches!(again, RequestAction::Cache(again) if again == first));
            prop_assert_eq!(seen(&request), before.clone());
            let (of_post, post) = key(&sent, Method::POST);
            prop_assert_eq!(&of_post, &first);
            prop_assert_eq!(seen(&post), seen(&sent.request(Method::POST)));
            prop_assert_eq!(rules().leaves_out(&post), before != seen(&post));
            // And a bypass gives everything back.
            crate::entry::key::restore(&mut request);
            prop_assert_eq!(seen(&request), seen(&sent.request(Method::GET)));
        }

        #[test]
        fn a23_keys_by_rules_are_restored_from_their_bytes(sent in any_request()) {
            let (key, _) = key(&sent, Method::GET);
            prop_assert_eq!(CacheKey::from_bytes(key.as_bytes()), Ok(key));
        }
    }
}
