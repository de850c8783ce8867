//! Content in codings: gzip goes only to clients that accept it, and no tag or date of one coding validates another one (B1).
//! `Client` sends what clients send and checks each answer, so it works with any origin: here tower-http's files and
//! compression inside the cache; in `nginx.rs` a real nginx behind the example proxy.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use flate2::read::GzDecoder;
use http::header::{self, HeaderName};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use larder::{Clock, ClockHand, StandardPolicy};
use tower::{Layer, ServiceBuilder};
use tower_http::compression::CompressionLayer;
use tower_http::compression::predicate::SizeAbove;
use tower_http::services::ServeDir;

use crate::support::cache_builder;
use crate::support::wire;

/// A folder of its own for a test, with two files; it goes with the value.
pub struct Folder(pub PathBuf);

/// Names and lines. The cache takes in the one whole; the other one is larger than that, and streams.
pub const FILES: [(&str, u64); 2] = [("small.txt", 100), ("large.txt", 7_000)];

impl Folder {
    pub fn new() -> Self {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let name = format!("codings-{}-{}", process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let folder = Self(Path::new(env!("CARGO_TARGET_TMPDIR")).join(name));
        std::fs::create_dir_all(&folder.0).unwrap();
        for (name, lines) in FILES {
            let mut file = File::create(folder.0.join(name)).unwrap();
            file.write_all(content(lines).as_bytes()).unwrap();
            // Long ago, so that the date is a strong validator too.
            file.set_modified(UNIX_EPOCH + Duration::from_secs(1_600_000_000)).unwrap();
        }
        folder
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

pub fn content(lines: u64) -> String {
    (0..lines).map(|line| format!("{line}: {}\n", line * line % 1009)).collect()
}

/// What a client accepts, as `Accept-Encoding`.
pub const ACCEPTS: [Option<&str>; 4] = [Some("gzip"), Some("br"), Some("identity"), None];

/// What else a request has.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum With {
    Cookie,
    Head,
    ModifiedSince,
    Nothing,
    OtherTag,
    Range,
    StrongTag,
    WeakTag,
}

pub const WITH: [With; 8] = [
    With::Nothing,
    With::Cookie,
    With::Head,
    With::ModifiedSince,
    With::OtherTag,
    With::Range,
    With::StrongTag,
    With::WeakTag,
];

/// Asks for one file, and takes note of each answer that is wrong.
pub struct Client {
    http: wire::HttpClient<Empty<Bytes>>,
    address: SocketAddr,
    plain: Bytes,
    /// The strong tag of what is not coded.
    tag: Option<String>,
    /// The tag of what is.
    coded_tag: Option<String>,
    modified: HeaderValue,
    /// The first bytes of gzip as the origin makes it.
    magic: Bytes,
    pub seen: Tally,
}

/// What has been seen: a matrix in which nothing is coded, or nothing comes from storage, shows nothing.
#[derive(Debug, Default)]
pub struct Tally {
    asked: usize,
    coded: usize,
    hits: usize,
    not_modified: usize,
    parts: usize,
    /// Examples, by what is wrong.
    wrong: BTreeMap<String, Vec<String>>,
}

impl Client {
    /// `path` at the origin itself, by which the right answers are known.
    pub async fn knowing(origin: SocketAddr, path: &str, plain: &[u8]) -> Self {
        let http = wire::client();
        let ask = |accept| {
            let request = Request::get(format!("http://{origin}{path}")).header("accept-encoding", accept);
            http.request(request.body(Empty::new()).unwrap())
        };
        let (identity, gzip) = (ask("identity").await.unwrap(), ask("gzip").await.unwrap());
        assert_eq!(gzip.headers()["content-encoding"], "gzip", "{path}: the origin codes");
        assert_eq!(identity.headers().get("content-encoding"), None, "{path}: the origin codes not always");
        let text = |fields: &HeaderMap, name| {
            fields.get(name).map(|value: &HeaderValue| value.to_str().unwrap().to_owned())
        };
        let (fields, coded_tag) = (identity.headers().clone(), text(gzip.headers(), "etag"));
        assert_eq!(identity.into_body().collect().await.unwrap().to_bytes(), plain, "{path}");
        let coded = gzip.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(decode(&coded).unwrap(), plain, "{path}");
        Self {
            address: origin,
            plain: Bytes::copy_from_slice(plain),
            tag: text(&fields, "etag"),
            coded_tag,
            modified: fields["last-modified"].clone(),
            magic: coded.slice(..10),
            seen: Tally::default(),
            http,
        }
    }

    /// Asks there from now on.
    pub fn at(self, address: SocketAddr) -> Self {
        Self { address, ..self }
    }

    fn fields(&self, accept: Option<&'static str>, with: With) -> HeaderMap {
        let mut fields = HeaderMap::new();
        if let Some(accept) = accept {
            fields.insert(header::ACCEPT_ENCODING, HeaderValue::from_static(accept));
        }
        let value = |value: &str| HeaderValue::from_str(value).unwrap();
        let known = self.tag.as_deref().unwrap_or("\"another\"");
        let more: &[(HeaderName, HeaderValue)] = &match with {
            With::Head | With::Nothing => vec![],
            With::Cookie => vec![(header::COOKIE, value("session=1"))],
            With::ModifiedSince => vec![(header::IF_MODIFIED_SINCE, self.modified.clone())],
            // The date is not looked at beside a tag.
            With::OtherTag => vec![
                (header::IF_NONE_MATCH, value("\"other\"")),
                (header::IF_MODIFIED_SINCE, self.modified.clone()),
            ],
            With::Range => vec![(header::RANGE, value("bytes=0-9"))],
            With::StrongTag => vec![(header::IF_NONE_MATCH, value(known))],
            With::WeakTag => vec![(header::IF_NONE_MATCH, value(&format!("W/{known}")))],
        };
        fields.extend(more.iter().cloned());
        fields
    }

    pub async fn ask(&mut self, path: &str, accept: Option<&'static str>, with: With) {
        let mut request = Request::new(Empty::new());
        *request.uri_mut() = format!("http://{}{path}", self.address).parse().unwrap();
        *request.headers_mut() = self.fields(accept, with);
        if with == With::Head {
            *request.method_mut() = Method::HEAD;
        }
        let (parts, body) = self.http.request(request).await.unwrap().into_parts();
        let body = body.collect().await.map(http_body_util::Collected::to_bytes);
        let wrong = match &body {
            Ok(body) => self.judge(accept, with, &parts, body),
            Err(error) => Some(format!("broken: {error}")),
        };
        if let Some(wrong) = wrong {
            let status = parts.status.as_u16();
            let told = parts.headers.get("cache-status").cloned();
            let example = format!("{path}, {accept:?} with {with:?}: {told:?}");
            self.seen.wrong.entry(format!("{status}, {wrong}")).or_default().push(example);
        }
    }

    /// What is wrong with an answer.
    fn judge(
        &mut self,
        accept: Option<&str>,
        with: With,
        answer: &http::response::Parts,
        body: &Bytes,
    ) -> Option<String> {
        let field = |name| answer.headers.get(name).map(|value: &HeaderValue| value.to_str().unwrap());
        let coding = field("content-encoding");
        let is_gzip = coding == Some("gzip");
        self.seen.asked += 1;
        self.seen.coded += usize::from(is_gzip);
        self.seen.hits += usize::from(field("cache-status").is_some_and(|status| status.contains("; hit")));
        if coding.is_some() && !(is_gzip && accept == Some("gzip")) {
            return Some(format!("coded as {coding:?}"));
        }
        let tag = field("etag").map(str::to_owned);
        if is_gzip && tag.is_some() && tag == self.tag && tag != self.coded_tag {
            return Some(format!("gzip has the tag of what is not coded, {tag:?}"));
        }
        match answer.status {
            StatusCode::NOT_MODIFIED => {
                self.seen.not_modified += 1;
                let holds = match with {
                    With::ModifiedSince => true,
                    With::StrongTag | With::WeakTag => self.tag.is_some(),
                    _ => false,
                };
                (!holds || !body.is_empty()).then(|| "the condition does not hold".to_owned())
            }
            StatusCode::OK if with == With::Head => {
                let length = self.plain.len().to_string();
                let is_right = is_gzip || field("content-length").is_none_or(|said| said == length);
                (!is_right || !body.is_empty()).then(|| "a HEAD with the wrong length".to_owned())
            }
            StatusCode::OK if is_gzip => match decode(body) {
                Ok(content) => (content != self.plain).then(|| "other content".to_owned()),
                Err(error) => Some(format!("no gzip: {error}")),
            },
            StatusCode::OK => {
                (*body != self.plain).then(|| format!("{} bytes that are not the file", body.len()))
            }
            StatusCode::PARTIAL_CONTENT if with == With::Range => {
                self.seen.parts += 1;
                let part = if is_gzip { &self.magic } else { &self.plain.slice(..10) };
                let plain = format!("bytes 0-9/{}", self.plain.len());
                let range = field("content-range");
                let is_right = body == part && (range == Some(&plain)) != is_gzip;
                (!is_right).then(|| format!("the wrong bytes: {body:?}, {range:?}"))
            }
            _ => Some("the wrong status".to_owned()),
        }
    }

    /// Each pair of clients of which one accepts gzip takes turns, with everything that a request can have.
    pub async fn in_turns(&mut self, path: &str) {
        for first in ACCEPTS {
            for second in ACCEPTS {
                if first != Some("gzip") && second != Some("gzip") {
                    continue; // nothing is coded for these
                }
                for (number, with) in WITH.into_iter().enumerate() {
                    let name = |accept: Option<&'static str>| accept.unwrap_or("none");
                    let path = format!("{path}-{}-{}-{number}", name(first), name(second));
                    for (accept, with) in [
                        (first, With::Nothing),
                        (second, with),
                        (first, with),
                        (second, With::Nothing),
                        (first, With::Nothing),
                        (second, with),
                    ] {
                        self.ask(&path, accept, with).await;
                    }
                }
            }
        }
    }

    /// Anything after anything, the same in every run. `advance` is called now and then.
    pub async fn in_any_order(&mut self, path: &str, advance: impl Fn()) {
        let state = Cell::new(0x9e37_79b9_7f4a_7c15_u64);
        let any = |count: usize| {
            // Marsaglia's xorshift.
            let mut x = state.get();
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            state.set(x);
            (x % count as u64) as usize
        };
        for number in 0..16 {
            let path = format!("{path}-any-{number}");
            for _ in 0..15 {
                self.ask(&path, ACCEPTS[any(ACCEPTS.len())], WITH[any(WITH.len())]).await;
                if any(3) == 0 {
                    advance();
                }
            }
        }
    }
}

impl Tally {
    /// Nothing was wrong, and what could have been wrong was there.
    #[track_caller]
    pub fn is_right(&self, told: &str) {
        let Tally { asked, coded, hits, not_modified, parts, wrong } = self;
        let mut counts =
            format!("{told}: {asked} answers, {coded} gzip, {hits} hits, {not_modified} 304, {parts} 206");
        for (wrong, examples) in wrong {
            let some = examples[..examples.len().min(3)].join("\n    ");
            write!(counts, "\n  {} wrong: {wrong}\n    {some}", examples.len()).unwrap();
        }
        println!("{counts}");
        assert!(wrong.is_empty(), "{counts}");
        assert!(*coded > 0 && *not_modified > 0 && *parts > 0, "{counts}");
    }
}

fn decode(coded: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut plain = Vec::new();
    GzDecoder::new(coded).read_to_end(&mut plain).map(|_| plain)
}

/// What an origin says of its two codings, rightly or not.
#[derive(Clone, Copy, Debug)]
enum Tags {
    /// No tag; both have one date.
    None,
    /// Both have one strong tag, as tower-http's files have under its compression.
    One,
    /// What is coded has none.
    PlainOnly,
    /// What is coded has the weak tag of what is not, and a 304 the strong one, as from nginx.
    Weakened,
}

/// Files under compression: behind a cache, and as they are.
struct Served {
    cached: SocketAddr,
    direct: SocketAddr,
    clock: ClockHand,
}

async fn serve(
    folder: &Folder,
    tags: Tags,
    vary: bool,
    cache_control: &'static str,
    policy: StandardPolicy,
) -> Served {
    let (clock, hand) = Clock::manual();
    let origin = ServiceBuilder::new()
        .map_response(move |mut response: Response<_>| {
            let fields = response.headers_mut();
            fields.insert(header::CACHE_CONTROL, HeaderValue::from_static(cache_control));
            if !vary {
                fields.remove(header::VARY);
            }
            let is_coded = fields.contains_key(header::CONTENT_ENCODING);
            match (tags, fields.remove(header::ETAG)) {
                (Tags::One, Some(tag)) => drop(fields.insert(header::ETAG, tag)),
                (Tags::PlainOnly | Tags::Weakened, Some(tag)) if !is_coded => {
                    fields.insert(header::ETAG, tag);
                }
                (Tags::Weakened, Some(tag)) => {
                    let weak = format!("W/{}", tag.to_str().unwrap());
                    fields.insert(header::ETAG, weak.parse().unwrap());
                }
                _ => {}
            }
            response
        })
        .map_request(move |mut request: Request<Incoming>| {
            if matches!(tags, Tags::None) {
                // Files have a tag, which would be compared.
                request.headers_mut().remove(header::IF_RANGE);
                if request.headers_mut().remove(header::IF_NONE_MATCH).is_some() {
                    request.headers_mut().remove(header::IF_MODIFIED_SINCE);
                }
            }
            request
        })
        .layer(CompressionLayer::new().no_br().no_deflate().no_zstd().compress_when(SizeAbove::new(1)))
        .service(ServeDir::new(&folder.0));
    let direct = wire::serve(origin.clone()).await;
    let cache = cache_builder().policy(policy).clock(clock).build();
    let cached = wire::serve(cache.layer(origin)).await;
    Served { cached, direct, clock: hand }
}

/// All of it for one origin: fresh, validated each time, and now and then stale; by both profiles; small and large.
async fn check(tags: Tags, vary: bool) {
    let folder = Folder::new();
    let profiles = [("default", StandardPolicy::default()), ("rfc9111", StandardPolicy::rfc9111())];
    let mut seen = Tally::default();
    for (profile, policy) in profiles {
        for (file, lines) in FILES {
            let plain = content(lines);
            for cache_control in ["max-age=60", "no-cache"] {
                let served = serve(&folder, tags, vary, cache_control, policy.clone()).await;
                let path = format!("/{file}");
                let mut client =
                    Client::knowing(served.direct, &path, plain.as_bytes()).await.at(served.cached);
                client.seen = seen;
                let path = format!("{path}?{profile}-{cache_control}");
                // Coding takes its time: the large one need not be coded so often.
                if lines < 1_000 {
                    client.in_turns(&path).await;
                }
                client.in_any_order(&path, || served.clock.advance(Duration::from_secs(61))).await;
                seen = client.seen;
            }
        }
    }
    seen.is_right(&format!("{tags:?}, vary: {vary}"));
}

#[tokio::test]
async fn b01_compressed_files_with_one_strong_tag_go_only_to_clients_that_accept_the_coding() {
    check(Tags::One, true).await;
}

#[tokio::test]
async fn b01_compressed_files_with_a_weakened_tag_go_only_to_clients_that_accept_the_coding() {
    check(Tags::Weakened, true).await;
}

#[tokio::test]
async fn b01_compressed_files_without_a_tag_go_only_to_clients_that_accept_the_coding() {
    check(Tags::PlainOnly, true).await;
}

#[tokio::test]
async fn b01_compressed_files_with_one_date_go_only_to_clients_that_accept_the_coding() {
    check(Tags::None, true).await;
}

#[tokio::test]
async fn b01_without_vary_gzip_with_one_strong_tag_goes_only_to_clients_that_accept_it() {
    check(Tags::One, false).await;
}

#[tokio::test]
async fn b01_without_vary_gzip_with_a_weakened_tag_goes_only_to_clients_that_accept_it() {
    check(Tags::Weakened, false).await;
}

#[tokio::test]
async fn b01_without_vary_gzip_without_a_tag_goes_only_to_clients_that_accept_it() {
    check(Tags::PlainOnly, false).await;
}

#[tokio::test]
async fn b01_without_vary_gzip_with_one_date_goes_only_to_clients_that_accept_it() {
    check(Tags::None, false).await;
}
