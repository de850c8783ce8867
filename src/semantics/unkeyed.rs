//! Request fields that services believe and that no key holds: a client that sends one shapes what everybody gets.

use http::Method;
use http::header::{self, HeaderMap, HeaderName};

use super::methods::is_retrieval;

/// Fields by which a framework lets a proxy in front of it say what was asked for: another host, scheme, path or method
/// than the request's own. A client that sends one impersonates such a proxy.
///
/// `X-Forwarded-For` and `X-Real-IP` are not among them: a proxy gives them another value for each client anyway, so a
/// response that depends on them cannot be meant for everybody.
pub static BELIEVED: &[HeaderName] = &NAMES;

static NAMES: [HeaderName; 41] = [
    header::FORWARDED,
    HeaderName::from_static("base-url"),
    HeaderName::from_static("front-end-https"),
    HeaderName::from_static("proxy"), // `HTTP_PROXY` of a CGI program
    HeaderName::from_static("request-uri"),
    HeaderName::from_static("x-backend-host"),
    HeaderName::from_static("x-forwarded-context"),
    HeaderName::from_static("x-forwarded-host"),
    HeaderName::from_static("x-forwarded-path"),
    HeaderName::from_static("x-forwarded-port"),
    HeaderName::from_static("x-forwarded-prefix"),
    HeaderName::from_static("x-forwarded-proto"),
    HeaderName::from_static("x-forwarded-protocol"),
    HeaderName::from_static("x-forwarded-scheme"),
    HeaderName::from_static("x-forwarded-server"),
    HeaderName::from_static("x-forwarded-ssl"),
    HeaderName::from_static("x-forwarded-uri"),
    HeaderName::from_static("x-host"),
    HeaderName::from_static("x-http-destination-url"),
    HeaderName::from_static("x-http-destinationurl"),
    HeaderName::from_static("x-http-host-override"),
    HeaderName::from_static("x-http-method"),
    HeaderName::from_static("x-http-method-override"),
    HeaderName::from_static("x-invoke-path"), // this and four below are of Next.js
    HeaderName::from_static("x-invoke-status"),
    HeaderName::from_static("x-matched-path"),
    HeaderName::from_static("x-method-override"),
    HeaderName::from_static("x-middleware-prefetch"),
    HeaderName::from_static("x-middleware-subrequest"),
    HeaderName::from_static("x-original-host"),
    HeaderName::from_static("x-original-method"),
    HeaderName::from_static("x-original-uri"),
    HeaderName::from_static("x-original-url"),
    HeaderName::from_static("x-override-url"),
    HeaderName::from_static("x-proxy-url"),
    HeaderName::from_static("x-request-uri"),
    HeaderName::from_static("x-rewrite-uri"),
    HeaderName::from_static("x-rewrite-url"),
    HeaderName::from_static("x-scheme"),
    HeaderName::from_static("x-script-name"),
    HeaderName::from_static("x-url-scheme"),
];

/// Whether services take a request with this field for one with another method: a field of [`BELIEVED`] whose name says
/// `method`. Many take a name with `_` for the same one with `-`.
pub(crate) fn names_method(name: &HeaderName) -> bool {
    let name = name.as_str().replace('_', "-");
    name.contains("method") && NAMES.iter().any(|own| *own == name.as_str())
}

/// The fields that are stripped from a request whose answer may be stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnkeyedFields {
    /// Fields that are keyed, or forwarded on purpose.
    kept: Vec<HeaderName>,
    listed: Vec<HeaderName>,
    strips: bool,
}

impl Default for UnkeyedFields {
    /// Nothing is stripped; the list is [`BELIEVED`].
    fn default() -> Self {
        Self { kept: Vec::new(), listed: BELIEVED.to_vec(), strips: false }
    }
}

impl UnkeyedFields {
    /// Whether anything is stripped.
    pub fn strip(&mut self, on: bool) {
        self.strips = on;
    }

    /// Replaces the list.
    pub fn list(&mut self, names: impl IntoIterator<Item = HeaderName>) {
        self.listed = names.into_iter().collect();
    }

    /// Keeps a field, whatever the list says.
    pub fn keep(&mut self, name: HeaderName) {
        self.kept.push(name);
    }

    /// Whether a field is stripped: a listed one, or one with `_` in its name, which many services take for the same
    /// name with `-`. Fields that are kept are not stripped.
    pub fn strips(&self, name: &HeaderName) -> bool {
        self.strips
            && !self.kept.contains(name)
            && (name.as_str().contains('_') || self.listed.contains(name))
    }

    /// Whether a request has a field that is stripped.
    pub fn is_in(&self, request: &HeaderMap) -> bool {
        self.strips && request.keys().any(|name| self.strips(name))
    }

    /// Strips a request whose answer may be stored: GET, HEAD or QUERY.
    pub fn remove(&self, method: &Method, request: &mut HeaderMap) {
        if !self.strips || !(is_retrieval(method) || *method == Method::HEAD) {
            return;
        }
        let stripped: Vec<_> = request.keys().filter(|name| self.strips(name)).cloned().collect();
        for name in stripped {
            request.remove(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn fields(names: &[&'static str]) -> HeaderMap {
        names.iter().map(|name| (HeaderName::from_static(name), HeaderValue::from_static("x"))).collect()
    }

    #[track_caller]
    fn check(unkeyed: &UnkeyedFields, method: Method, name: &'static str, is_stripped: bool) {
        let mut request = fields(&["host", "accept", name]);
        unkeyed.remove(&method, &mut request);
        assert_eq!(!request.contains_key(name), is_stripped, "{method} {name}");
        assert_eq!(request.len(), if is_stripped { 2 } else { 3 }, "{method} {name}");
    }

    #[test]
    fn a36_unkeyed_fields_are_stripped_from_safe_requests() {
        let off = UnkeyedFields::default();
        let mut on = off.clone();
        on.strip(true);
        for (name, is_stripped) in [
            ("x-forwarded-host", true),
            ("forwarded", true),
            ("x-original-url", true),
            ("x-http-method-override", true),
            ("proxy", true),
            ("x_forwarded_host", true),
            ("x-tenant_id", true),
            ("x-forwarded-for", false),
            ("x-real-ip", false),
            ("origin", false),
            ("cookie", false),
            ("proxy-authorization", false),
        ] {
            for method in [Method::GET, Method::HEAD, Method::QUERY] {
                check(&on, method.clone(), name, is_stripped);
                check(&off, method, name, false);
            }
            // What an unsafe request asks for is its own business.
            for method in [Method::POST, Method::PUT, Method::DELETE, Method::OPTIONS] {
                check(&on, method, name, false);
            }
            assert_eq!((on.is_in(&fields(&[name])), off.is_in(&fields(&[name]))), (is_stripped, false));
        }
    }

    #[test]
    fn a36_a_policy_sets_the_list_of_unkeyed_fields_and_its_exceptions() {
        let mut unkeyed = UnkeyedFields::default();
        unkeyed.strip(true);
        unkeyed.keep(HeaderName::from_static("x-forwarded-host"));
        unkeyed.keep(HeaderName::from_static("x_tenant"));
        check(&unkeyed, Method::GET, "x-forwarded-host", false);
        check(&unkeyed, Method::GET, "x_tenant", false);
        check(&unkeyed, Method::GET, "x-host", true);
        unkeyed.list([HeaderName::from_static("x-mine"), HeaderName::from_static("x-forwarded-host")]);
        check(&unkeyed, Method::GET, "x-mine", true);
        check(&unkeyed, Method::GET, "x-host", false);
        check(&unkeyed, Method::GET, "x-forwarded-host", false);
        check(&unkeyed, Method::GET, "x_mine", true);
    }
}
