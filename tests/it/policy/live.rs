//! The policy is replaced while requests are under way.

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use http::HeaderValue;
use larder::policy::Policies;
use larder::{CachePolicy, CachePolicyExt, StandardPolicy};
use tower::ServiceExt;

use crate::support::cache_builder;

/// Signs what is forwarded, and what is answered; half of the pages never come from storage.
fn signing(name: &'static str) -> impl CachePolicy {
    let name = HeaderValue::from_static(name);
    let (of_request, of_answer) = (name.clone(), name);
    let signing = StandardPolicy::default()
        .on_forward(move |request, _| _ = request.headers.insert("x-forwarded-by", of_request.clone()))
        .on_deliver(move |delivery| _ = delivery.headers.insert("x-answered-by", of_answer.clone()));
    Policies::new(signing.map_terms(|_, terms| terms.strip.push("x-stripped".parse().unwrap())))
}

async fn echo(request: Request) -> Response {
    tokio::task::yield_now().await;
    let signed = request.headers()["x-forwarded-by"].clone();
    let cache_control = if request.uri().path().starts_with("/fresh/") { "max-age=60" } else { "no-store" };
    (
        [
            ("x-origin-saw", signed),
            ("cache-control", HeaderValue::from_static(cache_control)),
            ("x-stripped", HeaderValue::from_static("1")),
        ],
        "page",
    )
        .into_response()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_request_is_lost_or_has_hooks_of_two_policies_while_the_policy_changes() {
    let layer = cache_builder().policy(signing("0")).build();
    let handle = layer.handle();
    let app = Router::new().fallback(echo).layer(layer);
    let clients = (0..8).map(|client| {
        let (app, handle) = (app.clone(), handle.clone());
        tokio::spawn(async move {
            for number in 0..500 {
                if number % 7 == 0 {
                    handle.set_policy(signing(["1", "2", "3"][number % 3]));
                }
                let folder = if number % 2 == 0 { "fresh" } else { "private" };
                let uri = format!("http://example.com/{folder}/{}", (client + number) % 50);
                let answer =
                    app.clone().oneshot(Request::get(uri).body(Body::empty()).unwrap()).await.unwrap();
                let (head, body) = answer.into_parts();
                let told = head.headers["cache-status"].to_str().unwrap();
                assert!(!head.headers.contains_key("x-stripped"), "{head:?}");
                // What was fetched for this request alone was forwarded and answered by one policy.
                if !told.contains("hit") && !told.contains("collapsed") {
                    assert_eq!(head.headers["x-origin-saw"], head.headers["x-answered-by"], "{head:?}");
                }
                assert_eq!(axum::body::to_bytes(body, 100).await.unwrap(), "page");
            }
        })
    });
    for client in clients.collect::<Vec<_>>() {
        client.await.unwrap();
    }
}
