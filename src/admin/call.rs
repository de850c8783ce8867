//! A request to the admin service, as its functions read it.

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri};
use http_body::Body;
use http_body_util::{BodyExt, Limited};
use serde::de::DeserializeOwned;

use super::answer::Refusal;
use crate::error::BoxError;

/// The most bytes of content that a request may have.
const MOST_CONTENT: usize = 1 << 20;

/// A request whose token is right.
pub(super) struct Call {
    pub(super) content: Bytes,
    /// What the target has in the place of `**`.
    pub(super) rest: String,
    pub(super) request: Parts,
}

impl Call {
    /// Reads the content.
    pub(super) async fn read<B>(request: Parts, rest: String, body: B) -> Result<Self, Refusal>
    where
        B: Body<Error: Into<BoxError>> + Send,
    {
        let body = std::pin::pin!(Limited::new(body, MOST_CONTENT));
        let content = body.collect().await.map_err(|_| {
            Refusal::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                "content",
                "the content is longer than 1 MiB, or broke off",
                "send less, in several requests",
            )
        })?;
        Ok(Self { content: content.to_bytes(), rest, request })
    }

    /// What the path has in the place of `**`, decoded, without the query.
    pub(super) fn rest_of_path(&self) -> String {
        decoded(self.rest.split('?').next().unwrap_or_default(), false)
    }

    /// Reads the content as JSON.
    pub(super) fn json<T: DeserializeOwned>(&self) -> Result<T, Refusal> {
        serde_json::from_slice(&self.content).map_err(|error| {
            Refusal::invalid(
                format!("the content is not the JSON that is expected: {error}"),
                "see docs/ADMIN.md, which has an example of each request",
            )
        })
    }

    /// The values of a parameter of the query, decoded.
    pub(super) fn parameters<'a>(&'a self, name: &'a str) -> impl Iterator<Item = String> + 'a {
        let pairs = self.request.uri.query().unwrap_or_default().split('&');
        let pairs = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        pairs.filter(move |(own, _)| decoded(own, true) == name).map(|(_, value)| decoded(value, true))
    }

    pub(super) fn parameter(&self, name: &str) -> Option<String> {
        self.parameters(name).next()
    }

    /// A field of the request, if it is one line of text.
    pub(super) fn field(&self, name: &str) -> Option<&str> {
        self.request.headers.get(name)?.to_str().ok()
    }

    /// The request that the parameters `url`, `method` and `header` describe.
    pub(super) fn described(&self) -> Result<Parts, Refusal> {
        const HELP: &str = "say ?url=https://example.com/path, with &method=GET and &header=Name:value where they matter, \
                            percent-encoded";
        let url =
            self.parameter("url").ok_or_else(|| Refusal::invalid("the parameter `url` is missing", HELP))?;
        let uri = absolute(&url)?;
        let method = self.parameter("method").unwrap_or_else(|| "GET".to_owned());
        let method = Method::from_bytes(method.as_bytes())
            .map_err(|_| Refusal::invalid(format!("{method:?} is not a method"), HELP))?;
        let mut request = Request::new(());
        *request.method_mut() = method;
        let host = uri.authority().map(|authority| HeaderValue::try_from(authority.as_str()));
        *request.uri_mut() = uri;
        *request.headers_mut() = fields(self.parameters("header"), HELP)?;
        if let Some(Ok(host)) = host {
            request.headers_mut().entry(http::header::HOST).or_insert(host);
        }
        Ok(request.into_parts().0)
    }
}

/// Fields, each as a line: `Name: value`.
pub(super) fn fields(
    lines: impl IntoIterator<Item = String>,
    help: &'static str,
) -> Result<HeaderMap, Refusal> {
    let mut fields = HeaderMap::new();
    for field in lines {
        let line = field.split_once(':').and_then(|(name, value)| {
            let name = HeaderName::from_bytes(name.trim_matches(' ').as_bytes()).ok()?;
            Some((name, HeaderValue::from_str(value.trim_matches([' ', '\t'])).ok()?))
        });
        let (name, value) =
            line.ok_or_else(|| Refusal::invalid(format!("{field:?} is not a field"), help))?;
        fields.append(name, value);
    }
    Ok(fields)
}

/// A URL with scheme and host.
pub(super) fn absolute(url: &str) -> Result<Uri, Refusal> {
    let refused = || {
        Refusal::invalid(
            format!("{url:?} is not an absolute URL"),
            "write it with scheme and host and percent-encoded, as in https://example.com/path",
        )
    };
    let uri: Uri = url.parse().map_err(|_| refused())?;
    if uri.scheme().is_some() && uri.authority().is_some() { Ok(uri) } else { Err(refused()) }
}

/// Percent-decoded text; bytes that are no UTF-8 become replacement characters. In a query, `+` is a space.
fn decoded(text: &str, is_query: bool) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let hex = after
            .first_chunk::<2>()
            .and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        let (value, next) = match (byte, hex) {
            (b'%', Some(decoded)) if after[0] != b'+' => (decoded, &after[2..]),
            (b'+', _) if is_query => (b' ', after),
            _ => (byte, after),
        };
        bytes.push(value);
        rest = next;
    }
    String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_percent_decoded_once() {
        for (text, in_query, in_path) in [
            ("a%20b", "a b", "a b"),
            ("a+b", "a b", "a+b"),
            ("%2525", "%25", "%25"),
            ("%", "%", "%"),
            ("%2", "%2", "%2"),
            ("%zz", "%zz", "%zz"),
            ("%+1", "% 1", "%+1"),
            ("%C3%A9", "é", "é"),
            ("%ff", "\u{fffd}", "\u{fffd}"),
            ("", "", ""),
        ] {
            assert_eq!(decoded(text, true), in_query, "{text}");
            assert_eq!(decoded(text, false), in_path, "{text}");
        }
    }

    fn call(query: &str) -> Call {
        let (request, ()) =
            Request::get(format!("/explain?{query}")).body(()).expect("a request").into_parts();
        Call { content: Bytes::new(), request, rest: String::new() }
    }

    #[test]
    fn a_request_is_described_by_parameters() {
        let described =
            call("url=https://a/x%3Fy=1&method=HEAD&header=Accept:+text/html&header=x:1&header=x:2");
        let request = described.described().expect("a request");
        assert_eq!((request.method, request.uri.to_string().as_str()), (Method::HEAD, "https://a/x?y=1"));
        assert_eq!(request.headers["accept"], "text/html");
        assert_eq!(request.headers["host"], "a");
        assert_eq!(request.headers.get_all("x").iter().count(), 2);
        for query in [
            "",
            "url=",
            "url=/x",
            "url=a/x",
            "url=https://a/&method=G%20T",
            "url=https://a/&header=x",
            "url=https://a/&header=x%0a:1",
            "url=https://a/&header=x:%0d%0ay",
        ] {
            assert_eq!(
                call(query).described().err().map(|refusal| refusal.status().as_u16()),
                Some(400),
                "{query}"
            );
        }
    }
}
