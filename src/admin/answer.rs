//! Answers of the admin service: JSON, with fields that keep them to whoever asked.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName};
use http::{HeaderValue, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use serde_json::{Value, json};

use super::events::Live;

/// The field that each answer of an [`AdminService`](super::AdminService) has, with the value `1`, whether or not the request has the
/// token. A client that is about to send a token to a configured address can ask without one first: what answers without this field
/// may be anything.
///
/// A proxy that forwards what its origins answer removes the field, or an origin could pass for an admin service.
pub const LARDER_ADMIN: HeaderName = HeaderName::from_static("larder-admin");

/// The body of an answer of the [`AdminService`](super::AdminService).
#[derive(Debug)]
pub struct AdminBody(Content);

#[derive(Debug)]
enum Content {
    Live(Box<Live>),
    Whole(Option<Bytes>),
}

impl AdminBody {
    fn whole(content: impl Into<Bytes>) -> Self {
        let content = content.into();
        Self(Content::Whole((!content.is_empty()).then_some(content)))
    }
}

impl Body for AdminBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match &mut self.0 {
            Content::Live(live) => live.poll_event(cx).map(|event| event.map(|event| Ok(Frame::data(event)))),
            Content::Whole(content) => Poll::Ready(content.take().map(|content| Ok(Frame::data(content)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.0, Content::Whole(None))
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Content::Live(_) => SizeHint::default(),
            Content::Whole(content) => {
                SizeHint::with_exact(content.as_ref().map_or(0, |whole| whole.len() as u64))
            }
        }
    }
}

/// An answer that is not sent yet.
pub(super) struct Answer {
    body: AdminBody,
    headers: HeaderMap,
    status: StatusCode,
}

impl Answer {
    /// 200 with JSON.
    pub(super) fn json(value: &Value) -> Self {
        let mut text = value.to_string();
        text.push('\n');
        Self::text("application/json", text)
    }

    /// 200 with text of this media type.
    pub(super) fn text(media_type: &'static str, text: impl Into<Bytes>) -> Self {
        let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static(media_type))]);
        Self { body: AdminBody::whole(text), headers, status: StatusCode::OK }
    }

    /// A stream of events.
    pub(super) fn live(live: Live) -> Self {
        let answer = Self::text("text/event-stream", "");
        Self { body: AdminBody(Content::Live(Box::new(live))), ..answer }
    }

    pub(super) fn status(mut self, status: StatusCode) -> Self {
        self.status = status;
        self
    }

    pub(super) fn field(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }

    /// The response, of which a HEAD gets the head only.
    pub(super) fn response(self, is_head: bool) -> Response<AdminBody> {
        let Self { body, mut headers, status } = self;
        for (name, value) in [
            (header::CACHE_CONTROL, "no-store"),
            (header::REFERRER_POLICY, "no-referrer"),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (header::X_FRAME_OPTIONS, "DENY"),
            (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
            (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
            (LARDER_ADMIN, "1"),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        headers
            .entry(header::CONTENT_SECURITY_POLICY)
            .or_insert(HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'"));
        if let Content::Whole(content) = &body.0 {
            let length = content.as_ref().map_or(0, Bytes::len);
            headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
        }
        let mut response = Response::new(if is_head { AdminBody::whole("") } else { body });
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        response
    }
}

/// Why a request is refused: in a word, in a sentence, and what to do.
#[derive(Debug)]
pub(super) struct Refusal {
    field: Option<Box<(HeaderName, HeaderValue)>>,
    help: String,
    message: String,
    status: StatusCode,
    word: &'static str,
}

impl Refusal {
    pub(super) fn new(
        status: StatusCode,
        word: &'static str,
        message: impl Into<String>,
        help: impl Into<String>,
    ) -> Self {
        Self { field: None, help: help.into(), message: message.into(), status, word }
    }

    /// 400: what the request says makes no sense.
    pub(super) fn invalid(message: impl Into<String>, help: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid", message, help)
    }

    pub(super) fn no_token() -> Self {
        let refusal = Self::new(
            StatusCode::UNAUTHORIZED,
            "no-token",
            "the request has no token",
            "send the field `Authorization: Bearer TOKEN`, or `Fastly-Key: TOKEN`",
        );
        refusal.field(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"larder\""))
    }

    pub(super) fn wrong_token() -> Self {
        let help = "send the token with which the admin service was set up";
        Self::new(StatusCode::FORBIDDEN, "wrong-token", "the token is not the right one", help)
    }

    pub(super) fn other_site(message: impl Into<String>) -> Self {
        Self::new(
            StatusCode::FORBIDDEN,
            "other-site",
            message,
            "use the page of this service, or a client that is not a browser; if this is that page, a server in front of the service \
             changes `Host`: let it send the browser's (nginx: proxy_set_header Host $http_host)",
        )
    }

    pub(super) fn not_found(help: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not-found", "there is nothing under this path", help)
    }

    pub(super) fn not_set_up(what: &str, method: &str) -> Self {
        let message = format!("this service was built without {what}");
        Self::new(StatusCode::NOT_FOUND, "not-set-up", message, format!("build it with `{method}`"))
    }

    /// 503: the process ends before the answer is there.
    pub(super) fn ending() -> Self {
        let message = "the process is about to end";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "ending", message, "send it again when it runs again")
    }

    /// The same with a field.
    pub(super) fn field(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.field = Some(Box::new((name, value)));
        self
    }

    #[cfg(test)]
    pub(super) fn status(&self) -> StatusCode {
        self.status
    }
}

impl From<Refusal> for Answer {
    fn from(refusal: Refusal) -> Self {
        let Refusal { field, help, message, status, word } = refusal;
        let mut answer =
            Self::json(&json!({ "error": word, "message": message, "help": help })).status(status);
        answer.headers.extend(field.map(|field| *field));
        answer
    }
}
