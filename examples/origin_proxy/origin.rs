//! An origin as one finds them: pages, users, articles, files, a video, and bad days.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use bytes::Bytes;
use http::StatusCode;
use http::header::{self, HeaderMap, HeaderValue};
use tower_http::compression::CompressionLayer;

use crate::stop::{self, Stop};
use crate::{account, serve};

/// What the origin knows.
#[derive(Clone, Default)]
struct Site {
    /// How often each article was edited.
    articles: Arc<Mutex<HashMap<u64, u64>>>,
    /// How many requests have come this far.
    requests: Arc<AtomicU64>,
}

/// Runs the origin alone until it is interrupted.
pub async fn run(address: SocketAddr) -> Result<(), String> {
    let listener = serve::listen(address).await?;
    let address = listener.local_addr().map_err(|error| error.to_string())?;
    let mut stop = Stop::by_signal()?;
    stop::ignore_hang_up()?;
    println!("origin: http://{address}");
    axum::serve(listener, router())
        .with_graceful_shutdown(async move { stop.asked().await })
        .await
        .map_err(|error| error.to_string())
}

pub fn router() -> Router {
    let page = Router::new().route("/", get(page)).layer(CompressionLayer::new());
    Router::new()
        .merge(page)
        .merge(account::router())
        .route("/news", get(news))
        .route("/article/{id}", get(article).post(edit))
        .route("/asset/{name}", get(asset))
        .route("/time", get(time))
        .route("/slow", get(slow))
        .route("/video", get(video))
        .route("/flaky", get(flaky))
        .with_state(Site::default())
}

/// A page rendered for everybody with the same device in the same country, in whichever coding the client takes.
async fn page(State(site): State<Site>, headers: HeaderMap) -> impl IntoResponse {
    let count = site.requests.fetch_add(1, Ordering::Relaxed) + 1;
    let articles: String =
        (1..=20).map(|id| format!("<li><a href=\"/article/{id}\">Article {id}</a></li>")).collect();
    let viewer = account::viewer(&headers);
    let page = format!(
        "<!doctype html><title>The pantry</title><h1>Render {count}</h1><p>For a {viewer}</p><ul>{articles}</ul>"
    );
    let fields = [(header::CACHE_CONTROL, "public, max-age=60"), (header::VARY, account::VIEWER_FIELDS)];
    (fields, Html(page))
}

/// News for caches, and for nobody else: browsers keep none.
async fn news(Query(News { page }): Query<News>) -> impl IntoResponse {
    let page = page.unwrap_or(1);
    let fields = [
        ("cache-control", "no-store".to_owned()),
        ("surrogate-control", "max-age=3600".to_owned()),
        ("surrogate-key", format!("news page-{page}")),
    ];
    (fields, format!("News, page {page}\n"))
}

#[derive(serde::Deserialize)]
struct News {
    page: Option<u32>,
}

/// Shared by everybody for two seconds, then validated.
async fn article(State(site): State<Site>, Path(id): Path<u64>, headers: HeaderMap) -> Response {
    let edits = site.articles.lock().unwrap_or_else(PoisonError::into_inner).get(&id).copied().unwrap_or(0);
    let tag = format!("\"article-{id}-{edits}\"");
    let fields = [
        (header::CACHE_CONTROL, "public, s-maxage=2, stale-while-revalidate=30".to_owned()),
        (header::ETAG, tag.clone()),
    ];
    if headers.get(header::IF_NONE_MATCH).is_some_and(|known| known == tag.as_str()) {
        return (StatusCode::NOT_MODIFIED, fields).into_response();
    }
    (fields, format!("Article {id}, edited {edits} times\n")).into_response()
}

async fn edit(State(site): State<Site>, Path(id): Path<u64>) -> impl IntoResponse {
    *site.articles.lock().unwrap_or_else(PoisonError::into_inner).entry(id).or_default() += 1;
    StatusCode::NO_CONTENT
}

/// A file whose name changes with its content, so that it never does.
async fn asset(Path(name): Path<String>) -> Response {
    let (kind, content) = match name.rsplit_once('.') {
        Some((_, "css")) => ("text/css", "body { font-family: serif }\n"),
        Some((_, "js")) => ("text/javascript", "console.log('pantry')\n"),
        _ => return StatusCode::NOT_FOUND.into_response(),
    };
    let fields =
        [(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, "public, max-age=31536000, immutable")];
    (fields, content).into_response()
}

async fn time(State(site): State<Site>) -> impl IntoResponse {
    let count = site.requests.fetch_add(1, Ordering::Relaxed) + 1;
    ([(header::CACHE_CONTROL, "no-store")], format!("This is request {count}, at this very moment\n"))
}

async fn slow() -> impl IntoResponse {
    tokio::time::sleep(Duration::from_millis(300)).await;
    ([(header::CACHE_CONTROL, "public, max-age=60")], "That took a while\n")
}

#[derive(serde::Deserialize)]
struct Flaky {
    fail: Option<u16>,
}

/// Fails with the status `?fail=` asks for.
async fn flaky(Query(flaky): Query<Flaky>, headers: HeaderMap) -> Response {
    let asked = headers.get("x-fail").and_then(|value| value.to_str().ok()?.parse().ok());
    let failure = flaky.fail.or(asked).and_then(|status| StatusCode::from_u16(status).ok());
    match failure.filter(|status| status.is_client_error() || status.is_server_error()) {
        Some(status) => (status, "Today is not a good day\n").into_response(),
        None => {
            let fields = [
                (header::CACHE_CONTROL, "public, max-age=2, stale-if-error=60"),
                (header::ETAG, "\"flaky\""),
            ];
            (fields, "Today is a good day\n").into_response()
        }
    }
}

/// 16 MiB, whole or in part.
const VIDEO: u64 = 16 << 20;

async fn video(headers: HeaderMap) -> Response {
    let range = headers.get(header::RANGE).and_then(|value| value.to_str().ok());
    let (status, first, last) = match range.map(single_range) {
        None => (StatusCode::OK, 0, VIDEO - 1),
        Some(Some((first, last))) => (StatusCode::PARTIAL_CONTENT, first, last),
        Some(None) => {
            let whole = [(header::CONTENT_RANGE, format!("bytes */{VIDEO}"))];
            return (StatusCode::RANGE_NOT_SATISFIABLE, whole).into_response();
        }
    };
    let chunk = Bytes::from(vec![b'v'; 64 << 10]);
    let frames = futures_util::stream::unfold(last - first + 1, move |left| {
        let part = chunk.slice(..usize::try_from(left.min(64 << 10)).unwrap_or(0));
        async move {
            (left > 0).then(|| {
                let rest = left - part.len() as u64;
                (Ok::<_, std::convert::Infallible>(part), rest)
            })
        }
    });
    let mut response = Response::new(Body::from_stream(frames));
    *response.status_mut() = status;
    let fields = response.headers_mut();
    fields.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    fields.insert(header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=3600"));
    fields.insert(header::CONTENT_LENGTH, HeaderValue::from(last - first + 1));
    fields.insert(header::CONTENT_TYPE, HeaderValue::from_static("video/mp4"));
    fields.insert(header::ETAG, HeaderValue::from_static("\"video-1\""));
    if status == StatusCode::PARTIAL_CONTENT
        && let Ok(range) = HeaderValue::from_str(&format!("bytes {first}-{last}/{VIDEO}"))
    {
        fields.insert(header::CONTENT_RANGE, range);
    }
    response
}

/// `bytes=first-last`, `first-` or `-suffix`; `None` where it can't be satisfied.
fn single_range(range: &str) -> Option<(u64, u64)> {
    let (first, last) = range.strip_prefix("bytes=")?.split_once('-')?;
    let (first, last) = match (first, last) {
        ("", suffix) => (VIDEO.checked_sub(suffix.parse().ok()?)?, VIDEO - 1),
        (first, "") => (first.parse().ok()?, VIDEO - 1),
        (first, last) => (first.parse().ok()?, last.parse::<u64>().ok()?.min(VIDEO - 1)),
    };
    (first <= last && first < VIDEO).then_some((first, last))
}
