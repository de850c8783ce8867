//! The rows of the walk: a request each, what came back, and whether that was expected.

use std::net::SocketAddr;
use std::time::Instant;

use bytes::Bytes;
use http::header::HeaderMap;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use larder::ClockHand;

pub const ERROR: &str = "Error from larder";
pub const HIT: &str = "Hit from larder";
pub const MISS: &str = "Miss from larder";
pub const REFRESH: &str = "RefreshHit from larder";

/// A client that walks, and the count of its rows.
pub struct Walk {
    client: Client<HttpConnector, Empty<Bytes>>,
    failed: usize,
    pub hand: ClockHand,
    proxy: SocketAddr,
    rows: usize,
}

pub struct Answer {
    pub body: Bytes,
    pub fields: HeaderMap,
    pub status: StatusCode,
}

impl Answer {
    pub fn field(&self, name: &str) -> &str {
        self.fields.get(name).and_then(|value| value.to_str().ok()).unwrap_or("-")
    }

    /// Whether `Cache-Status` is exactly this.
    pub fn told(&self, cache_status: &str) -> bool {
        self.field("cache-status") == cache_status
    }

    pub fn has(&self, text: &str) -> bool {
        String::from_utf8_lossy(&self.body).contains(text)
    }
}

pub type Fields<'a> = &'a [(&'a str, &'a str)];

impl Walk {
    pub fn new(hand: ClockHand) -> Self {
        let client = Client::builder(TokioExecutor::new()).build_http();
        Self { client, failed: 0, hand, proxy: SocketAddr::from(([127, 0, 0, 1], 0)), rows: 0 }
    }

    /// The next requests go to this proxy.
    pub fn goes_to(&mut self, proxy: SocketAddr) {
        self.proxy = proxy;
    }

    /// Says how many rows were as expected; whether all of them were.
    pub fn ends(&self) -> bool {
        println!("\n{} of {} rows as expected", self.rows - self.failed, self.rows);
        self.failed == 0
    }

    /// What the next rows are about.
    pub fn title(&self, title: &str) {
        println!("\n{title}\n");
        self.head();
    }

    fn head(&self) {
        self.line(
            ["request", "status", "X-Cache", "Cache-Status", "Age", "ETag", "ms", "what it shows"],
            ' ',
        );
        println!("{}", "-".repeat(196));
    }

    fn line(&self, columns: [&str; 8], mark: char) {
        let [request, status, x_cache, cache_status, age, tag, ms, shows] = columns;
        println!(
            "{mark} {request:<35} {status:>6}  {x_cache:<22}  {cache_status:<50}  {age:>4}  {tag:<24}  {ms:>6}  {shows}"
        );
    }

    pub async fn get(
        &mut self,
        path: &str,
        fields: Fields<'_>,
        status: u16,
        x_cache: &str,
        shows: &str,
        also: impl Fn(&Answer) -> bool,
    ) -> Result<Answer, String> {
        self.send(Method::GET, path, fields, status, x_cache, shows, also).await
    }

    #[expect(clippy::too_many_arguments, reason = "a row of a table")]
    pub async fn send(
        &mut self,
        method: Method,
        path: &str,
        fields: Fields<'_>,
        status: u16,
        x_cache: &str,
        shows: &str,
        also: impl Fn(&Answer) -> bool,
    ) -> Result<Answer, String> {
        let begun = Instant::now();
        let answer = self.fetch(&method, path, fields).await?;
        let ms = format!("{:.1}", begun.elapsed().as_secs_f64() * 1000.0);
        let expected = answer.status == status && answer.field("x-cache") == x_cache && also(&answer);
        self.rows += 1;
        self.failed += usize::from(!expected);
        let with = fields.iter().map(|(_, value)| format!(" {value}")).collect::<String>();
        let request: String = format!("{method} {path}{with}").chars().take(35).collect();
        self.line(
            [
                &request,
                answer.status.as_str(),
                answer.field("x-cache"),
                answer.field("cache-status"),
                answer.field("age"),
                answer.field("etag"),
                &ms,
                shows,
            ],
            if expected { ' ' } else { '!' },
        );
        if !expected {
            println!("! expected {status} and {x_cache}");
        }
        Ok(answer)
    }

    async fn fetch(&self, method: &Method, path: &str, fields: Fields<'_>) -> Result<Answer, String> {
        let mut request = Request::builder().method(method).uri(format!("http://{}{path}", self.proxy));
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let request = request.body(Empty::new()).map_err(|error| error.to_string())?;
        let failed = |error: &dyn std::fmt::Display| format!("{method} {path} failed: {error}");
        let response = self.client.request(request).await.map_err(|error| failed(&error))?;
        let (parts, body) = response.into_parts();
        let body = body.collect().await.map_err(|error| failed(&error))?.to_bytes();
        Ok(Answer { body, fields: parts.headers, status: parts.status })
    }
}
