//! One cache, and a lifetime for each route: `cargo run --example per_route`.
//!
//! One layer around the whole router asks axum which route a request has matched. So all routes share one store, and a
//! purge reaches all of them.

use std::time::Duration;

use axum::extract::MatchedPath;
use axum::{Router, routing::get};
use larder::semantics::freshness::LifetimeSource;
use larder::{CacheBuilder, CachePolicyExt, RequestAction, StandardPolicy};

/// What each route is stored for, where the handler does not say; `None` for a route that is not cached.
fn lifetime(route: &str) -> Option<Duration> {
    match route {
        "/login" => None,
        "/products/{id}" => Some(Duration::from_secs(3600)),
        _ => Some(Duration::from_secs(60)),
    }
}

fn route(request: &http::request::Parts) -> &str {
    request.extensions.get().map_or("", MatchedPath::as_str)
}

/// The application.
pub fn app() -> Router {
    let policy = StandardPolicy::default()
        .map_request(|request, action| match lifetime(route(request)) {
            None => RequestAction::bypass("route"),
            Some(_) => action,
        })
        .map_terms(|exchange, terms| {
            if let Some(lifetime) = lifetime(route(exchange.request)) {
                // Freshness from the handler comes first.
                if terms.source == LifetimeSource::None && exchange.response.status.is_success() {
                    terms.lifetime = lifetime;
                }
            }
        });
    let cache = CacheBuilder::default().policy(policy).build();
    Router::new()
        .route("/", get(|| async { "home" }))
        .route("/login", get(|| async { "login" }))
        .route("/products/{id}", get(|| async { "product" }))
        // Not `layer`, which would also cover the fallback: it has no route.
        .route_layer(cache)
}

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
    axum::serve(listener, app()).await
}
