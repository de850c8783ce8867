//! A cache around an HTTP client: `cargo run --example client http://example.com/` asks twice, and the second answer comes
//! from storage if the first one may be stored.

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Empty};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use larder::CacheLayer;
use tower::{Layer, ServiceExt};

type Error = Box<dyn std::error::Error + Send + Sync>;

/// Asks for the URI twice, and returns the content with what the cache says of each answer.
pub async fn ask_twice(uri: &str) -> Result<Vec<(String, Bytes)>, Error> {
    let client = Client::builder(TokioExecutor::new()).build_http::<Empty<Bytes>>();
    let cached = CacheLayer::default().layer(client);
    let mut answers = Vec::new();
    for _ in 0..2 {
        let request = Request::get(uri).body(Empty::new())?;
        let response = cached.clone().oneshot(request).await?;
        let said = response.headers()["cache-status"].to_str()?.to_owned();
        // A response is stored only once its body has been read to the end.
        answers.push((said, response.into_body().collect().await?.to_bytes()));
    }
    Ok(answers)
}

#[tokio::main]
#[allow(clippy::print_stdout)]
async fn main() -> Result<(), Error> {
    let uri = std::env::args().nth(1).ok_or("usage: client URI")?;
    for (said, content) in ask_twice(&uri).await? {
        println!("{} bytes; {said}", content.len());
    }
    Ok(())
}
