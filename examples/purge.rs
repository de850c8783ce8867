//! A handler tags what it sends, and another one purges by the tag: `cargo run --example purge`, then
//! `curl -i http://127.0.0.1:3000/products/1` twice, and `curl -i -X PUT http://127.0.0.1:3000/prices`.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::{get, put};
use axum::{Extension, Router};
use larder::store::PurgeTarget;
use larder::{CacheBuilder, CacheHandle, CachePolicyExt, StandardPolicy};

/// The tags of a response, in its extensions: clients never see them.
#[derive(Clone)]
struct Tags(Vec<String>);

async fn product(Path(id): Path<u32>) -> (Extension<Tags>, [(&'static str, &'static str); 1], String) {
    let tags = Tags(vec!["prices".into(), format!("product:{id}")]);
    (Extension(tags), [("cache-control", "max-age=3600")], format!("product {id}"))
}

async fn change_prices(State(cache): State<CacheHandle>) -> StatusCode {
    match cache.purge_target(&PurgeTarget::tag("prices")).await {
        Ok(_) => StatusCode::NO_CONTENT,
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// The application.
pub fn app() -> Router {
    let policy = StandardPolicy::default().map_terms(|exchange, terms| {
        if let Some(Tags(tags)) = exchange.response.extensions.get() {
            terms.groups.extend(tags.iter().map(|tag| tag.as_str().into()));
        }
    });
    let cache = CacheBuilder::default().policy(policy).build();
    Router::new()
        .route("/products/{id}", get(product))
        .route("/prices", put(change_prices))
        .with_state(cache.handle())
        .layer(cache)
}

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
    axum::serve(listener, app()).await
}
