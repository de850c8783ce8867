//! What the answer to an unsafe request invalidates (RFC 9111 4.4).

use http::header::HeaderMap;
use http::{Method, StatusCode, Uri, header};

use super::groups::{self, CACHE_GROUP_INVALIDATION, TooMany};
use super::methods::is_safe;
use super::uri::is_scheme;

/// Whether the answer to a request invalidates stored responses for its target: the method is unsafe or unknown, and
/// the answer is not an error.
pub(crate) fn invalidates(method: &Method, status: StatusCode) -> bool {
    !is_safe(method) && (status.is_success() || status.is_redirection())
}

/// The URIs, apart from the target, that the answer names in `Location` and `Content-Location`, if they belong to the
/// target's origin (RFC 9111 4.4: others must not be invalidated).
pub(crate) fn named_targets(target: &Uri, response: &HeaderMap) -> Vec<Uri> {
    let mut targets = Vec::new();
    for name in [header::LOCATION, header::CONTENT_LOCATION] {
        for value in response.get_all(name) {
            if let Some(uri) = resolve(target, value.as_bytes())
                && uri != *target
                && !targets.contains(&uri)
            {
                targets.push(uri);
            }
        }
    }
    targets
}

/// What the answer to an unsafe request makes invalid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MadeInvalid {
    /// The groups, in the scope of their origin; or the origin, `scheme://authority/`, where there are more than can be
    /// told: nobody can say which, so that the origin goes as a whole.
    pub(crate) groups: Result<Vec<Box<str>>, Box<[u8]>>,
    /// The URIs beside the target.
    pub(crate) named: Vec<Uri>,
}

impl MadeInvalid {
    /// `None` where the answer makes nothing invalid, not even what is stored for the target. `uri` is that of the request's
    /// key; `target` is the absolute URI that it was sent to, where it is known.
    pub(crate) fn by(
        method: &Method,
        target: Option<&Uri>,
        uri: &[u8],
        (status, response): (StatusCode, &HeaderMap),
    ) -> Option<Self> {
        if !invalidates(method, status) {
            return None;
        }
        let groups = match groups::of(response, &CACHE_GROUP_INVALIDATION) {
            Ok(groups) => Ok(groups.iter().map(|group| groups::scoped(uri, group)).collect()),
            Err(TooMany) => Err(origin_of(uri).into()),
        };
        let named = target.map(|target| named_targets(target, response)).unwrap_or_default();
        Some(Self { groups, named })
    }
}

/// Whether a response says that it is what a GET of the target would give (RFC 9110 8.7).
pub(crate) fn is_named_by(target: &Uri, response: &HeaderMap) -> bool {
    let location = response.get(header::CONTENT_LOCATION);
    location.is_some_and(|location| resolve(target, location.as_bytes()).as_ref() == Some(target))
}

/// `scheme://authority/` of a key's URI.
fn origin_of(uri: &[u8]) -> &[u8] {
    let mut slashes = uri.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
    slashes.nth(2).map_or(uri, |path| &uri[..=path])
}

/// Resolves a URI reference against an absolute base (RFC 3986 5.2). `None` if the result does not belong to the base's
/// origin, or is not a URI.
pub(crate) fn resolve(base: &Uri, reference: &[u8]) -> Option<Uri> {
    let reference = std::str::from_utf8(reference).ok()?.trim_matches([' ', '\t']);
    let reference = reference.split('#').next().unwrap_or_default();
    let (scheme, authority) = (base.scheme_str()?, base.authority()?.as_str());
    let path_and_query = if has_scheme(reference) {
        let uri: Uri = reference.parse().ok()?;
        let same = uri.scheme_str()?.eq_ignore_ascii_case(scheme)
            && same_authority(scheme, uri.authority()?.as_str(), authority);
        return same.then(|| with_path(scheme, authority, uri.path(), uri.query())).flatten();
    } else if let Some(rest) = reference.strip_prefix("//") {
        let (other, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        if !same_authority(scheme, other, authority) {
            return None;
        }
        path.to_owned()
    } else if reference.starts_with('/') {
        reference.to_owned()
    } else if reference.is_empty() {
        base.path_and_query()?.as_str().to_owned()
    } else if reference.starts_with('?') {
        format!("{}{reference}", base.path())
    } else {
        let folder = base.path().rfind('/').map_or("/", |end| &base.path()[..=end]);
        format!("{folder}{reference}")
    };
    let (path, query) = match path_and_query.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (path_and_query.as_str(), None),
    };
    with_path(scheme, authority, path, query)
}

fn has_scheme(reference: &str) -> bool {
    reference.split_once(':').is_some_and(|(scheme, _)| is_scheme(scheme.as_bytes()))
}

fn same_authority(scheme: &str, one: &str, other: &str) -> bool {
    let default = if scheme == "https" { ":443" } else { ":80" };
    let bare = |authority: &str| authority.strip_suffix(default).unwrap_or(authority).to_ascii_lowercase();
    bare(one) == bare(other)
}

fn with_path(scheme: &str, authority: &str, path: &str, query: Option<&str>) -> Option<Uri> {
    let mut path_and_query = remove_dot_segments(path);
    if let Some(query) = query {
        path_and_query.push('?');
        path_and_query.push_str(query);
    }
    Uri::builder().scheme(scheme).authority(authority).path_and_query(path_and_query).build().ok()
}

/// RFC 3986 5.2.4.
fn remove_dot_segments(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let mut segments = path.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        match segment {
            "." | ".." => {
                if segment == ".." {
                    kept.pop();
                }
                if last {
                    kept.push("");
                }
            }
            segment => kept.push(segment),
        }
    }
    format!("/{}", kept.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::semantics::tests::map;
    use http::HeaderValue;
    use proptest::prelude::*;

    #[test]
    fn in1_a_successful_unsafe_request_invalidates() {
        // RFC 9111 4.4.
        let ok = StatusCode::OK;
        for method in ["POST", "PUT", "DELETE", "PATCH", "M-SEARCH", "get", "FROB"] {
            let method = Method::from_bytes(method.as_bytes()).expect("a method");
            assert!(invalidates(&method, ok), "{method}");
            assert!(invalidates(&method, StatusCode::SEE_OTHER), "{method}");
            assert!(!invalidates(&method, StatusCode::NOT_FOUND), "{method}");
            assert!(!invalidates(&method, StatusCode::INTERNAL_SERVER_ERROR), "{method}");
        }
        for method in ["GET", "HEAD", "OPTIONS", "TRACE", "QUERY"] {
            let method = Method::from_bytes(method.as_bytes()).expect("a method");
            assert!(!invalidates(&method, ok), "{method}");
        }
    }

    #[track_caller]
    fn check(reference: &str, expected: Option<&str>) {
        let base = Uri::from_static("http://a.example/b/c/d?q");
        let resolved = resolve(&base, reference.as_bytes()).map(|uri| uri.to_string());
        assert_eq!(resolved.as_deref(), expected, "{reference:?}");
    }

    #[test]
    fn in1_references_are_resolved_within_the_origin() {
        // RFC 3986 5.4, within one origin.
        check("g", Some("http://a.example/b/c/g"));
        check("./g", Some("http://a.example/b/c/g"));
        check("g/", Some("http://a.example/b/c/g/"));
        check("/g", Some("http://a.example/g"));
        check("?y", Some("http://a.example/b/c/d?y"));
        check("g?y", Some("http://a.example/b/c/g?y"));
        check("g?y/../x", Some("http://a.example/b/c/g?y/../x"));
        check("#s", Some("http://a.example/b/c/d?q"));
        check("g#s", Some("http://a.example/b/c/g"));
        check("", Some("http://a.example/b/c/d?q"));
        check(".", Some("http://a.example/b/c/"));
        check("..", Some("http://a.example/b/"));
        check("../g", Some("http://a.example/b/g"));
        check("../../../g", Some("http://a.example/g"));
        check("/./g", Some("http://a.example/g"));
        check("/../g", Some("http://a.example/g"));
        check("//a.example/g", Some("http://a.example/g"));
        check("//A.EXAMPLE:80/g", Some("http://a.example/g"));
        check("http://a.example/g", Some("http://a.example/g"));
        check("HTTP://A.example:80/g?x", Some("http://a.example/g?x"));
        check("g:h", None);
        check("//b.example/g", None);
        check("http://b.example/g", None);
        check("https://a.example/g", None);
        check("http://a.example:8080/g", None);
        check("http://", None);
        check("/caf\u{e9} x", None);
    }

    #[test]
    fn in1_location_and_content_location_name_targets_of_the_same_origin() {
        let target = Uri::from_static("http://a.example/x");
        let mut response = HeaderMap::new();
        response.append(header::LOCATION, HeaderValue::from_static("/y"));
        response.append(header::CONTENT_LOCATION, HeaderValue::from_static("/x"));
        response.append(header::CONTENT_LOCATION, HeaderValue::from_static("http://b.example/z"));
        assert_eq!(named_targets(&target, &response), [Uri::from_static("http://a.example/y")]);
    }

    fn by(method: &Method, code: u16, response: &[(&'static str, &'static str)]) -> Option<MadeInvalid> {
        let target = Uri::from_static("http://a.example/x?q");
        let status = StatusCode::from_u16(code).expect("a status");
        MadeInvalid::by(method, Some(&target), b"http://a.example/x?q", (status, &map(response)))
    }

    /// An answer to a POST.
    #[track_caller]
    fn check_by(
        code: u16,
        response: &[(&'static str, &'static str)],
        groups: Result<&[&str], &str>,
        named: &[&'static str],
    ) {
        let groups = match groups {
            Ok(groups) => Ok(groups.iter().map(|&group| group.into()).collect()),
            Err(origin) => Err(origin.as_bytes().into()),
        };
        let named = named.iter().map(|uri| Uri::from_static(uri)).collect();
        let found = by(&Method::POST, code, response);
        assert_eq!(found, Some(MadeInvalid { groups, named }), "{code} {response:?}");
    }

    #[test]
    fn in1_in2_a_success_invalidates_the_targets_and_groups_that_it_names() {
        // RFC 9111 4.4.
        check_by(200, &[], Ok(&[]), &[]);
        check_by(303, &[("location", "/y")], Ok(&[]), &["http://a.example/y"]);
        let both = [("location", "y"), ("content-location", "/z")];
        check_by(201, &both, Ok(&[]), &["http://a.example/y", "http://a.example/z"]);
        check_by(201, &[("location", "http://b.example/y")], Ok(&[]), &[]);
        // RFC 9875 3.
        let groups = [("cache-group-invalidation", "\"a\", \"b\"")];
        check_by(204, &groups, Ok(&["http://a.example a", "http://a.example b"]), &[]);
        check_by(200, &[("cache-group-invalidation", "a")], Ok(&[]), &[]);
        let many = vec!["\"a\""; groups::MOST_GROUPS + 1].join(", ").leak();
        check_by(200, &[("cache-group-invalidation", many)], Err("http://a.example/"), &[]);
    }

    #[test]
    fn in1_an_error_or_a_safe_method_invalidates_nothing() {
        let fields = [("location", "/y"), ("cache-group-invalidation", "\"a\"")];
        for code in [101, 400, 404, 409, 500, 503] {
            assert_eq!(by(&Method::POST, code, &fields), None, "{code}");
        }
        for method in [Method::GET, Method::HEAD, Method::OPTIONS, Method::QUERY] {
            assert_eq!(by(&method, 200, &fields), None, "{method}");
        }
    }

    #[test]
    fn in1_a_response_to_a_relative_target_names_no_other_targets() {
        let response = map(&[("location", "/y")]);
        let found = MadeInvalid::by(&Method::POST, None, b"http://a.example/x", (StatusCode::OK, &response));
        assert_eq!(found, Some(MadeInvalid { groups: Ok(Vec::new()), named: Vec::new() }));
    }

    #[test]
    fn st1_content_location_says_whether_a_response_represents_its_target() {
        // RFC 9110 8.7.
        let target = Uri::from_static("http://a.example/x?q");
        for (location, expected) in [
            (Some("/x?q"), true),
            (Some("x?q"), true),
            (Some("http://a.example/x?q"), true),
            (Some("//A.example:80/x?q"), true),
            (Some("/x?q#part"), true),
            (Some("/x"), false),
            (Some("/y?q"), false),
            (Some("https://a.example/x?q"), false),
            (Some("http://b.example/x?q"), false),
            (None, false),
        ] {
            let fields = location.map(|location| ("content-location", location));
            assert_eq!(is_named_by(&target, &map(fields.as_slice())), expected, "{location:?}");
        }
    }

    #[test]
    fn in2_the_origin_is_taken_from_the_uri_of_a_key() {
        for (uri, expected) in [
            ("http://a.example/x/y?q", "http://a.example/"),
            ("https://a.example:8443/", "https://a.example:8443/"),
            ("http://a.example", "http://a.example"),
            ("", ""),
        ] {
            assert_eq!(origin_of(uri.as_bytes()), expected.as_bytes(), "{uri}");
        }
    }

    proptest! {
        #[test]
        fn in1_no_reference_leads_out_of_the_origin(
            reference in prop_oneof![
                prop::collection::vec(any::<u8>(), 0..40),
                "(http:|https:|HTTP:)?(//)?(a.example|b.example|a.example:80|a.example@b)?[a-c./?#:@]{0,12}"
                    .prop_map(String::into_bytes),
            ],
        ) {
            let base = Uri::from_static("http://a.example/b/c/d?q");
            if let Some(uri) = resolve(&base, &reference) {
                prop_assert_eq!(uri.scheme_str(), Some("http"));
                prop_assert_eq!(uri.authority().map(http::uri::Authority::as_str), Some("a.example"));
                // What was resolved stands for itself.
                prop_assert_eq!(resolve(&base, uri.to_string().as_bytes()), Some(uri));
            }
        }
    }
}
