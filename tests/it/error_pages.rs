//! Pages in the place of errors.

use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{Method, Request, Response, StatusCode, request};
use http_body_util::Empty;
use larder::policy::cloudfront::{CachePolicyConfig, CustomErrorResponse, Distribution};
use larder::{CacheService, CallLimits, ErrorPages, ErrorPagesLayer};
use tower::{Layer, Service};

use crate::support::bench::read;
use crate::support::origin::{Refused, ScriptedBody};
use crate::support::{Bench, CacheBuilder, Origin, Reply, Seen, cache_builder};

/// An origin that has some pages, and remembers what it was asked.
#[derive(Clone)]
struct Site {
    asked: Arc<Mutex<Vec<request::Parts>>>,
    pages: Arc<dyn Fn(&str) -> Reply + Send + Sync>,
}

impl Site {
    fn new(pages: impl Fn(&str) -> Reply + Send + Sync + 'static) -> Self {
        Self { asked: Arc::default(), pages: Arc::new(pages) }
    }

    /// The methods and targets of all requests.
    fn asked(&self) -> Vec<String> {
        let asked = self.asked.lock().unwrap();
        asked.iter().map(|request| format!("{} {}", request.method, request.uri)).collect()
    }
}

impl Service<Request<Empty<Bytes>>> for Site {
    type Response = Response<ScriptedBody>;
    type Error = Refused;
    type Future = <Origin as Service<Request<Empty<Bytes>>>>::Future;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Refused>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Empty<Bytes>>) -> Self::Future {
        let (parts, body) = request.into_parts();
        let reply = (self.pages)(parts.uri.path());
        self.asked.lock().unwrap().push(parts.clone());
        Origin::new([reply]).call(Request::from_parts(parts, body))
    }
}

type Pages<I> = ErrorPages<CacheService<I, larder::BoxStore>>;

fn pages(layer: ErrorPagesLayer, builder: CacheBuilder, site: &Site) -> Pages<Site> {
    layer.layer(builder.outcome_in_extensions(true).build().layer(site.clone()))
}

async fn ask(service: &Pages<Site>, method: Method, path: &str, fields: &[(&str, &str)]) -> Seen {
    let mut request = Request::builder().method(method).uri(path).header("host", "example.com");
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    let request = request.body(Empty::<Bytes>::new()).unwrap();
    read(service.clone().call(request).await.unwrap()).await
}

async fn get(service: &Pages<Site>, path: &str) -> Seen {
    ask(service, Method::GET, path, &[]).await
}

const PAGE: PathAndQuery = PathAndQuery::from_static("/404.html");

fn not_found() -> ErrorPagesLayer {
    ErrorPagesLayer::new().page(StatusCode::NOT_FOUND, PAGE)
}

/// A site with a page for what it has not.
fn site() -> Site {
    Site::new(|path| match path {
        "/404.html" => {
            Reply::cc("nothing here", "max-age=600").field("etag", "\"page\"").field("x-page", "1")
        }
        "/" => Reply::cc("welcome", "max-age=60"),
        _ => Reply::cc("lost", "max-age=20").status(404).field("etag", "\"lost\"").field("x-lost", "1"),
    })
}

#[tokio::test]
async fn cf10_an_error_is_replaced_by_a_page_with_its_own_status() {
    let site = site();
    let service = pages(not_found(), cache_builder(), &site);
    let seen = get(&service, "/a?b").await.has_body("nothing here");
    assert_eq!(seen.status, 404);
    assert_eq!((seen.field("x-page"), seen.field("x-lost")), (Some("1"), None));
    // How long it is kept is said of the error; what would say which content a client has is said of neither.
    assert_eq!((seen.field("cache-control"), seen.field("etag")), (Some("max-age=20"), None));
    seen.told("larder; fwd=uri-miss; stored; ttl=20");
    assert_eq!(site.asked(), ["GET /a?b", "GET /404.html"]);
    // Both are stored.
    get(&service, "/a?b").await.has_body("nothing here").told("larder; hit; ttl=20");
    get(&service, "/b").await.has_body("nothing here");
    assert_eq!(site.asked()[2..], ["GET /b"]);
    get(&service, "/").await.has_body("welcome").told("larder; fwd=uri-miss; stored; ttl=60");
}

#[tokio::test]
async fn cf10_a_page_can_have_another_status() {
    let layer =
        ErrorPagesLayer::new().page_as(StatusCode::NOT_FOUND, PathAndQuery::from_static("/"), StatusCode::OK);
    let service = pages(layer, cache_builder(), &site());
    let seen = get(&service, "/app/route").await.has_body("welcome");
    assert_eq!(seen.status, 200);
}

#[tokio::test]
async fn cf10_a_page_that_fails_leaves_the_error_as_it_is_and_is_not_asked_for_again() {
    for page in [Reply::new("no page").status(404), Reply::new("elsewhere").status(302), Reply::refused()] {
        let site = Site::new(move |path| match path {
            "/404.html" => page.clone(),
            _ => Reply::new("lost").status(404),
        });
        let service = pages(not_found(), cache_builder(), &site);
        let seen = get(&service, "/a").await.has_body("lost");
        assert_eq!(seen.status, 404);
        assert_eq!(site.asked(), ["GET /a", "GET /404.html"]);
    }
}

#[tokio::test]
async fn cf10_a_head_gets_the_head_of_the_page() {
    let site = site();
    let service = pages(not_found(), cache_builder(), &site);
    let seen = ask(&service, Method::HEAD, "/a", &[]).await.has_body("");
    assert_eq!((seen.status.as_u16(), seen.field("content-length")), (404, Some("12")));
}

#[tokio::test]
async fn cf10_the_page_is_asked_for_without_conditions_and_without_a_range() {
    let site = site();
    let service = pages(not_found(), cache_builder(), &site);
    let conditions = [("if-none-match", "\"page\""), ("range", "bytes=0-1"), ("accept-language", "de")];
    let seen = ask(&service, Method::GET, "/a", &conditions).await.has_body("nothing here");
    assert_eq!(seen.status, 404);
    let asked = site.asked.lock().unwrap();
    let fields = &asked[1].headers;
    assert!(!fields.contains_key("if-none-match") && !fields.contains_key("range"));
    assert_eq!(fields["accept-language"], "de");
}

#[tokio::test]
async fn cf10_a_range_that_is_not_satisfiable_can_have_a_page() {
    let site = Site::new(|path| match path {
        "/416.html" => Reply::cc("no such part", "max-age=60"),
        _ => Reply::cc("0123456789", "max-age=60").field("etag", "\"1\""),
    });
    let layer = ErrorPagesLayer::new()
        .page(StatusCode::RANGE_NOT_SATISFIABLE, PathAndQuery::from_static("/416.html"));
    let service = pages(layer, cache_builder(), &site);
    get(&service, "/").await.has_body("0123456789");
    let seen = ask(&service, Method::GET, "/", &[("range", "bytes=100-")]).await.has_body("no such part");
    assert_eq!(seen.status, 416);
}

#[tokio::test]
async fn cf10_what_the_cache_refuses_because_of_its_limits_has_no_page() {
    let layer = || {
        let layer = ErrorPagesLayer::new().page(StatusCode::SERVICE_UNAVAILABLE, PAGE);
        layer.page(StatusCode::GATEWAY_TIMEOUT, PAGE)
    };
    // The page is stored already, so that it could be had.
    let service = pages(layer(), cache_builder(), &site());
    get(&service, "/404.html").await.has_body("nothing here");
    let refused = ask(&service, Method::GET, "/", &[("cache-control", "only-if-cached")]).await;
    assert_eq!((refused.status.as_u16(), &*refused.body), (504, ""));
    // The only call that there may be is under way, since its content has not been read.
    let slow = Site::new(|path| match path {
        "/404.html" => Reply::cc("sorry", "max-age=60"),
        _ => Reply::cc("slow", "no-store").frames(&["a", "b"]),
    });
    let limits = CallLimits::new().total(1).wait(Duration::ZERO);
    let service = pages(layer(), cache_builder().call_limits(limits), &slow);
    get(&service, "/404.html").await.has_body("sorry");
    let first = Request::get("http://example.com/first").body(Empty::<Bytes>::new()).unwrap();
    let under_way = service.clone().call(first).await.unwrap();
    let refused = get(&service, "/second").await;
    assert_eq!((refused.status.as_u16(), &*refused.body), (503, ""));
    assert_eq!(slow.asked(), ["GET /404.html", "GET http://example.com/first"]);
    drop(under_way);
    // An origin's own answer has its page.
    let failing = Site::new(|path| match path {
        "/404.html" => Reply::new("sorry"),
        _ => Reply::new("").status(503),
    });
    get(&pages(layer(), cache_builder(), &failing), "/").await.has_body("sorry");
}

#[tokio::test]
async fn cf10_other_methods_keep_their_errors_unless_the_layer_is_for_all() {
    let site = site();
    let service = pages(not_found(), cache_builder(), &site);
    ask(&service, Method::POST, "/a", &[]).await.has_body("lost");
    let service = pages(not_found().all_methods(true), cache_builder(), &site);
    let fields = [("content-type", "text/plain"), ("content-length", "0")];
    ask(&service, Method::POST, "/a", &fields).await.has_body("nothing here");
    let asked = site.asked.lock().unwrap();
    assert_eq!(asked.last().unwrap().method, Method::GET);
    assert!(!asked.last().unwrap().headers.contains_key("content-type"));
}

#[tokio::test]
async fn cf10_the_layer_of_a_distribution_has_its_custom_error_responses() {
    let page = CustomErrorResponse::new(StatusCode::NOT_FOUND).page("/404.html", StatusCode::OK).unwrap();
    let distribution = Distribution::new(CachePolicyConfig::caching_optimized())
        .custom_error_response(page.error_caching_min_ttl(Duration::from_secs(300)))
        .error_caching_min_ttl(StatusCode::FORBIDDEN, Duration::ZERO);
    let site = site();
    let service = pages(ErrorPagesLayer::from(&distribution), cache_builder().policy(distribution), &site);
    let seen = get(&service, "/a").await.has_body("nothing here");
    assert_eq!(seen.status, 200);
    seen.told("larder; fwd=uri-miss; stored; ttl=300");
    get(&service, "/a").await.has_body("nothing here").told("larder; hit; ttl=300");
    assert!(CustomErrorResponse::new(StatusCode::NOT_FOUND).page("404.html", StatusCode::OK).is_err());
}

#[tokio::test]
async fn without_pages_answers_are_as_they_were() {
    let bench = Bench::new([Reply::new("lost").status(404)]);
    let service = ErrorPagesLayer::new().layer(bench.cache.clone());
    let request = Request::get("http://example.com/").body(Empty::<Bytes>::new()).unwrap();
    let seen = read(service.clone().call(request).await.unwrap()).await.has_body("lost");
    assert_eq!(seen.status, 404);
}

#[tokio::test]
async fn cf10_a_page_for_one_person_is_not_given_to_everybody_by_the_words_of_the_error() {
    let public = "public, max-age=600";
    // What the error says, what the page says, whether the page has a cookie, and what clients get.
    for (error, page, has_cookie, expected) in [
        (public, "private, no-store", true, "private, no-store"),
        (public, "max-age=5", false, public),
        (public, "max-age=5", true, "max-age=5"),
        (public, "no-cache", false, "no-cache"),
        (public, "private=\"x-user\", max-age=5", false, "private=\"x-user\", max-age=5"),
        ("no-store", "max-age=5", true, "max-age=5, no-store"),
        ("no-cache", "private", false, "private, no-cache"),
    ] {
        let page =
            Reply::cc("for alice", page).field("cdn-cache-control", page).field("x-cache-control", "1");
        let page = if has_cookie { page.field("set-cookie", "sid=alice") } else { page };
        let error = Reply::cc("lost", error).field("cdn-cache-control", error).status(404);
        let site = Site::new(move |path| if path == "/404.html" { page.clone() } else { error.clone() });
        let answer = {
            let request = Request::get("http://example.com/a").body(Empty::<Bytes>::new()).unwrap();
            pages(not_found(), cache_builder(), &site).call(request).await.unwrap()
        };
        let lines = answer.headers().get_all("cache-control").iter();
        let lines: Vec<_> = lines.map(|line| line.to_str().unwrap().to_owned()).collect();
        assert_eq!(lines.join(", "), expected);
        read(answer).await.has_body("for alice");
    }
}

#[tokio::test]
async fn cf10_a_page_has_the_status_of_its_error_where_another_one_can_have_no_content() {
    for (status, expected) in [(101, 404), (204, 404), (304, 404), (206, 404), (410, 410), (503, 503)] {
        let status = StatusCode::from_u16(status).unwrap();
        let service = pages(
            ErrorPagesLayer::new().page_as(StatusCode::NOT_FOUND, PAGE, status),
            cache_builder(),
            &site(),
        );
        assert_eq!(get(&service, "/a").await.has_body("nothing here").status, expected);
    }
}
