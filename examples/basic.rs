//! One line puts a cache in front of an axum application: `cargo run --example basic`, then twice
//! `curl -i http://127.0.0.1:3000/`.

use axum::{Router, routing::get};
use larder::CacheLayer;

/// Says how long it may be stored, and that is all.
async fn hello() -> ([(&'static str, &'static str); 1], &'static str) {
    ([("cache-control", "max-age=60")], "Hello")
}

/// The application.
pub fn app() -> Router {
    Router::new().route("/", get(hello)).layer(CacheLayer::default())
}

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
    axum::serve(listener, app()).await
}
