//! The walk: real requests through the proxy, each showing one thing that a cache does.

use std::net::SocketAddr;
use std::time::{Duration, Instant, UNIX_EPOCH};

use axum::Router;
use axum::middleware::map_response;
use axum::response::Response;
use bytes::Bytes;
use http::header::{self, HeaderMap};
use http::{HeaderValue, Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Empty};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use larder::{CacheBuilder, CachePolicyExt, Clock, ClockHand, QueryLayer, StandardPolicy};
use tower::Layer;

use crate::edge::{Edge, Settings};
use crate::host::Host;
use crate::limits::Limits;
use crate::stop::Stop;
use crate::upstream::Upstream;
use crate::{origin, proxy, serve, tls};

/// The proxy in front of the origin, with a clock of its own. `/me` is stored for each user separately: there the key holds
/// the credential.
fn edge(origin: Uri, clock: Clock) -> Result<Edge, String> {
    let each = StandardPolicy::default().key_field(header::AUTHORIZATION).private_by_key(true);
    let policy = StandardPolicy::default()
        .strip_unkeyed(true)
        .when(|request| request.uri.path() == "/me", each.strip_unkeyed(true));
    let (host, id) = (Host::Client, HeaderValue::from_static("larder-walk"));
    let cache = CacheBuilder::default().policy(policy).x_cache(true).clock(clock).build();
    let limits = Limits::default();
    let tls = tls::config(&origin, None)?;
    let upstream = Upstream::new(origin.clone(), &tls, host, id.clone(), Duration::from_secs(10), &limits);
    let cache = QueryLayer::new().layer(cache.layer(upstream));
    Ok(Edge::new(
        cache,
        Settings { fields: limits.fields, host, id, origin, stall: limits.timeouts.stall, viewer: None },
    ))
}

/// A clock that stands still at this second. The walk moves it, so that no row depends on the machine's speed, or waits.
fn clock() -> (Clock, ClockHand) {
    let (clock, hand) = Clock::manual();
    let now = Clock::system().now().duration_since(UNIX_EPOCH).unwrap_or_default();
    hand.set_back(Duration::MAX); // to 1970
    hand.advance(Duration::from_secs(now.as_secs()));
    (clock, hand)
}

/// The origin with the same clock: the age of a response counts from its `Date`.
fn dated(router: Router, clock: Clock) -> Router {
    router.layer(map_response(move |mut response: Response| {
        let date = httpdate::fmt_http_date(clock.now());
        response.headers_mut().extend(HeaderValue::try_from(date).map(|date| (header::DATE, date)));
        std::future::ready(response)
    }))
}

/// Lets the clock run from now on.
async fn go(hand: ClockHand) {
    const TICK: Duration = Duration::from_millis(10);
    let mut ticks = tokio::time::interval(TICK);
    loop {
        ticks.tick().await;
        hand.advance(TICK);
    }
}

/// Starts origin and proxy and walks, then serves until it is stopped, unless `once`; whether every row was as expected.
pub async fn run(once: bool) -> Result<bool, String> {
    let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
    let (for_origin, for_proxy) = (serve::listen(loopback).await?, serve::listen(loopback).await?);
    let origin = for_origin.local_addr().map_err(|error| error.to_string())?;
    let proxy = for_proxy.local_addr().map_err(|error| error.to_string())?;
    let (clock, hand) = clock();
    let router = dated(origin::router(), clock.clone());
    tokio::spawn(async move { axum::serve(for_origin, router).await });
    let upstream = format!("http://{origin}").parse().map_err(|_| "the origin has a URL")?;
    proxy::spawn(for_proxy, edge(upstream, clock)?);

    println!("origin http://{origin}, larder http://{proxy}\n");
    let mut walk =
        Walk { client: Client::builder(TokioExecutor::new()).build_http(), hand, proxy, failed: 0, rows: 0 };
    walk.head();
    walk.steps().await?;
    println!("\n{} of {} rows as expected", walk.rows - walk.failed, walk.rows);
    if !once {
        try_it(proxy);
        let mut stop = Stop::by_signal()?;
        tokio::select! {
            () = go(walk.hand) => {}
            () = stop.asked() => {}
        }
    }
    Ok(walk.failed == 0)
}

fn try_it(proxy: SocketAddr) {
    println!("\nServing on until Ctrl-C. Try:\n");
    for line in [
        format!(
            "curl -i http://{proxy}/article/7                                # twice, and again after two seconds"
        ),
        format!("curl -i -H 'Authorization: user:one' http://{proxy}/me          # then user:two"),
        format!(
            "curl -i -X POST http://{proxy}/article/7                        # an edit: the next GET is a miss"
        ),
        format!(
            "curl -i --compressed http://{proxy}/                            # another variant of the page"
        ),
        format!(
            "curl -i -H 'X-Fail: 503' http://{proxy}/flaky                   # after one without: hidden"
        ),
        format!("curl -s -o /dev/null -D - -r 0-99 http://{proxy}/video"),
    ] {
        println!("  {line}");
    }
}

struct Walk {
    client: Client<HttpConnector, Empty<Bytes>>,
    failed: usize,
    hand: ClockHand,
    proxy: SocketAddr,
    rows: usize,
}

struct Answer {
    body: Bytes,
    fields: HeaderMap,
    status: StatusCode,
}

impl Answer {
    fn field(&self, name: &str) -> &str {
        self.fields.get(name).and_then(|value| value.to_str().ok()).unwrap_or("-")
    }

    fn has(&self, text: &str) -> bool {
        String::from_utf8_lossy(&self.body).contains(text)
    }
}

type Fields<'a> = &'a [(&'a str, &'a str)];

impl Walk {
    async fn steps(&mut self) -> Result<(), String> {
        const MISS: &str = "Miss from larder";
        const HIT: &str = "Hit from larder";
        const REFRESH: &str = "RefreshHit from larder";
        const ERROR: &str = "Error from larder";
        /// Past the lifetime of what is fresh for two seconds.
        const LATER: Duration = Duration::from_secs(3);
        let (one, two): (Fields<'_>, Fields<'_>) =
            (&[("authorization", "user:one")], &[("authorization", "user:two")]);

        self.get("/me", one, 200, MISS, "user one: asked of the origin", |a| a.has("user: one")).await?;
        self.get("/me", one, 200, HIT, "user one again: from storage", |a| a.has("user: one")).await?;
        self.get("/me", two, 200, MISS, "user two: never user one's", |a| a.has("user: two")).await?;
        self.get("/me", two, 200, HIT, "user two again: her own copy", |a| a.has("user: two")).await?;
        self.get("/me", &[], 401, ERROR, "nobody: no copy of anybody's", |a| a.has("Who")).await?;

        let first = self
            .get("/article/1", &[], 200, MISS, "an article, shared by all", |a| a.has("edited 0"))
            .await?;
        let tag = first.field("etag").to_owned();
        self.get("/article/1", &[], 200, HIT, "shared", |a| a.has("edited 0")).await?;
        let known: Fields<'_> = &[("if-none-match", &tag)];
        self.get("/article/1", known, 304, HIT, "the client has it already", |a| a.body.is_empty()).await?;
        self.hand.advance(LATER);
        self.get("/article/1", &[], 200, REFRESH, "stale: the origin says 304", |a| a.has("edited 0"))
            .await?;
        self.get("/article/1", &[], 200, HIT, "fresh again", |a| a.has("edited 0")).await?;
        self.send(Method::POST, "/article/1", &[], 204, MISS, "an edit invalidates", |_| true).await?;
        self.get("/article/1", &[], 200, MISS, "so it is asked for anew", |a| a.has("edited 1")).await?;

        let time = self.get("/time", &[], 200, MISS, "no-store: never stored", |_| true).await?;
        self.get("/time", &[], 200, MISS, "and never the same", |a| a.body != time.body).await?;

        let gzip: Fields<'_> = &[("accept-encoding", "gzip")];
        let packed = |a: &Answer| a.field("content-encoding") == "gzip";
        let page =
            self.get("/", &[], 200, MISS, "a page, rendered for everybody", |a| a.has("Render")).await?;
        self.get("/", gzip, 200, MISS, "gzip is another variant (Vary)", packed).await?;
        self.get("/", &[], 200, HIT, "each variant", |a| a.body == page.body).await?;
        self.get("/", gzip, 200, HIT, "has its own copy", packed).await?;

        let style =
            self.get("/asset/style.css", &[], 200, MISS, "a file without a tag gets one", |_| true).await?;
        let tag = style.field("etag").to_owned();
        let reload: Fields<'_> = &[("cache-control", "no-cache"), ("if-none-match", &tag)];
        self.get("/asset/style.css", reload, 304, HIT, "immutable: a reload asks nobody", |_| true).await?;

        self.get("/slow", &[], 200, MISS, "slow once", |_| true).await?;
        self.get("/slow", &[], 200, HIT, "for everybody", |_| true).await?;

        self.get("/flaky", &[], 200, MISS, "a good day", |a| a.has("good day")).await?;
        self.hand.advance(LATER);
        let fail: Fields<'_> = &[("x-fail", "503")];
        self.get("/flaky", fail, 200, HIT, "a bad day, hidden (stale-if-error)", |a| a.has("a good day"))
            .await?;

        let part: Fields<'_> = &[("range", "bytes=0-99")];
        self.get("/video", part, 206, MISS, "a part of 16 MiB, from the origin", |a| a.body.len() == 100)
            .await?;
        self.get("/video", &[], 200, MISS, "too large to store: streamed", |a| a.body.len() == 16 << 20)
            .await?;
        Ok(())
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

    async fn get(
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
    async fn send(
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
