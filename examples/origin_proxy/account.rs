//! The origin's pages of one user: nobody else's. `Authorization: user:one` and `user:two` are let in.

use axum::Router;
use axum::extract::Query;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::StatusCode;
use http::header::{self, HeaderMap};

/// Somebody who is not let in.
struct Unknown;

impl IntoResponse for Unknown {
    fn into_response(self) -> Response {
        let ask = [(header::WWW_AUTHENTICATE, "user"), (header::CACHE_CONTROL, "no-store")];
        (StatusCode::UNAUTHORIZED, ask, "Who are you?\n").into_response()
    }
}

/// Whoever asks for a page.
fn user(headers: &HeaderMap) -> Result<&str, Unknown> {
    let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    match given.and_then(|given| given.strip_prefix("user:")) {
        Some(user @ ("one" | "two")) => Ok(user),
        _ => Err(Unknown),
    }
}

pub fn router<S: Clone + Send + Sync + 'static>() -> Router<S> {
    Router::new()
        .route("/account", get(account))
        .route("/account/balance", get(balance))
        .route("/me", get(me))
}

/// Says that it is private, which keeps every shared cache from storing it that does not tell users apart.
async fn me(headers: HeaderMap) -> Result<Response, Unknown> {
    let user = user(&headers)?;
    let told: String = ["x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "via"]
        .iter()
        .filter_map(|name| Some(format!("{name}: {}\n", headers.get(*name)?.to_str().ok()?)))
        .collect();
    let fields = [(header::CACHE_CONTROL, "private, max-age=30"), (header::VARY, "authorization")];
    Ok((fields, format!("user: {user}\n{told}")).into_response())
}

#[derive(serde::Deserialize)]
struct Tab {
    tab: Option<String>,
}

/// Leaves it to the cache's key to tell users apart.
async fn account(Query(Tab { tab }): Query<Tab>, headers: HeaderMap) -> Result<Response, Unknown> {
    let user = user(&headers)?;
    let tab = tab.unwrap_or_else(|| "overview".to_owned());
    let page = format!("user: {user}\ntab: {tab}\nviewer: {}\n", viewer(&headers));
    Ok(([(header::CACHE_CONTROL, "max-age=30"), (header::VARY, VIEWER_FIELDS)], page).into_response())
}

/// Has to be asked for each time, as far as its fields are obeyed.
async fn balance(headers: HeaderMap) -> Result<Response, Unknown> {
    let user = user(&headers)?;
    let tag = format!("\"balance-{user}\"");
    let fields = [(header::CACHE_CONTROL, "no-cache, must-revalidate"), (header::ETAG, &*tag)];
    if headers.get(header::IF_NONE_MATCH).is_some_and(|known| known == tag.as_str()) {
        return Ok((StatusCode::NOT_MODIFIED, fields).into_response());
    }
    Ok((fields, format!("user: {user}\nbalance: 42\n")).into_response())
}

/// The country and the device of the client, as far as a proxy in front of the origin says so.
pub fn viewer(headers: &HeaderMap) -> String {
    let country = headers.get("cloudfront-viewer-country").and_then(|country| country.to_str().ok());
    let is = |device: &str| headers.get(device).is_some_and(|is| is == "true");
    let device = if is("cloudfront-is-tablet-viewer") {
        "tablet"
    } else if is("cloudfront-is-mobile-viewer") {
        "phone"
    } else if is("cloudfront-is-smarttv-viewer") {
        "television"
    } else if is("cloudfront-is-desktop-viewer") {
        "desktop"
    } else {
        "unknown device"
    };
    format!("{device} in {}", country.unwrap_or("an unknown country"))
}

/// The fields that [`viewer`] depends on.
pub const VIEWER_FIELDS: &str = "cloudfront-viewer-country, cloudfront-is-desktop-viewer, \
    cloudfront-is-mobile-viewer, cloudfront-is-smarttv-viewer, cloudfront-is-tablet-viewer";
