//! Keys by rules: what shares an entry, what does not, and what the origin sees.

use axum::Router;
use axum::extract::OriginalUri;
use axum::routing::any;
use bytes::Bytes;
use futures_util::FutureExt;
use http::header::{self, HeaderName};
use http::uri::{Authority, Scheme};
use http::{Extensions, Method, Request, Uri, request};
use http_body_util::Empty;
use larder::policy::{Bypass, KeyRules, Policies, PolicyData, QueryRules, Selection, TRACKERS};
use larder::store::PurgeTarget;
use larder::{CachePolicy, CachePolicyExt, MemoryStore, RequestAction, StandardPolicy};
use tower::{Layer, Service, ServiceExt};

use crate::support::alloc;
use crate::support::bench::{Seen, read};
use crate::support::origin::Origin;
use crate::support::{Bench, Reply, cache_builder};

const FRESH: &str = "max-age=60";

fn bench(policy: impl CachePolicy) -> Bench {
    Bench::with(cache_builder().policy(policy), [Reply::cc("x", FRESH)])
}

fn keyed(rules: KeyRules) -> Bench {
    bench(StandardPolicy::default().key(rules))
}

/// What the origin saw of the latest request.
fn target(bench: &Bench) -> String {
    bench.origin.last().uri.to_string()
}

fn field(bench: &Bench, name: &str) -> Option<String> {
    let headers = bench.origin.last().headers;
    let lines: Vec<_> = headers.get_all(name).iter().map(|line| line.to_str().unwrap()).collect();
    (!lines.is_empty()).then(|| lines.join("|"))
}

/// Each request is a miss: its key is that of none before.
async fn all_differ(bench: &Bench, requests: &[(&str, &[(&str, &str)])]) {
    for (path, fields) in requests {
        assert!(!bench.get_with(path, fields).await.is_hit(), "{path} {fields:?}");
    }
}

/// The first is a miss, all others are hits of it.
async fn all_share(bench: &Bench, requests: &[(&str, &[(&str, &str)])]) {
    let mut is_first = true;
    for (path, fields) in requests {
        assert_eq!(bench.get_with(path, fields).await.is_hit(), !is_first, "{path} {fields:?}");
        is_first = false;
    }
}

async fn send(bench: &Bench, request: Request<Empty<Bytes>>) -> Seen {
    read(bench.cache.clone().call(request).await.unwrap()).await
}

#[tokio::test]
async fn fa11_queries_that_differ_in_trackers_and_order_share_what_is_stored() {
    let bench =
        bench(StandardPolicy::default().query(QueryRules::all().ignore_trackers().sorted().cleaned()));
    let spellings = ["/a?b=2&a=1", "/a?a=1&b=2", "/a?utm_source=x&a=1&&b=2&fbclid=7", "/a?a=1&b=2&"];
    all_share(&bench, &spellings.map(|path| (path, &[][..]))).await;
    assert_eq!(target(&bench), "/a?a=1&b=2", "the origin sees what is in the key");
    all_differ(
        &bench,
        &["/a", "/a?a=1", "/a?a=1&b=2&a=1", "/a?a=1&b=%32", "/A?a=1&b=2"].map(|path| (path, &[][..])),
    )
    .await;
    all_share(&bench, &["/c?utm_id=1", "/c", "/c?", "/c?gclid"].map(|path| (path, &[][..]))).await;
    assert_eq!(target(&bench), "/c");
}

#[tokio::test]
async fn fa11_a_query_of_which_nothing_counts_reaches_no_origin() {
    for (rules, seen) in [
        (QueryRules::none(), "/a"),
        (QueryRules::allow_list(["page"]), "/a?page=1"),
        (["page", "p_*"].into(), "/a?page=1&p_x"),
        (QueryRules::all_except(["page", "p_*"]), "/a?x"),
        (Selection::all_except(["x"]).into(), "/a?page=1&p_x"),
    ] {
        let bench = bench(StandardPolicy::default().query(rules));
        bench.get("/a?page=1&x&p_x").await;
        assert_eq!(target(&bench), seen);
        assert!(bench.get(seen).await.is_hit(), "{seen}");
        // A HEAD asks for the same.
        assert!(bench.send(Method::HEAD, "/a?page=1&x&p_x", &[]).await.is_hit(), "{seen}");
    }
}

#[tokio::test]
async fn a11_a_parameter_that_is_not_in_the_key_cannot_shape_what_is_stored() {
    let bench = keyed(KeyRules::new().query(QueryRules::all().ignore(TRACKERS.iter().copied())));
    bench.get("/?utm_content=%3Cscript%3E").await;
    assert_eq!(target(&bench), "/");
    // Nor what only some parsers would take for such a parameter.
    for cloaked in ["/?utm_content=a;cb=x", "/?utm%5Fcontent=x", "/?UTM_content=x", "/?a;utm_content=x"] {
        bench.get(cloaked).await;
        let expected = if cloaked.starts_with("/?utm_content") { "/" } else { cloaked };
        assert_eq!(target(&bench), expected, "{cloaked}");
        if expected == cloaked {
            bench.get("/").await.told("larder; hit; ttl=60");
        }
    }
}

#[tokio::test]
async fn a11_an_origin_sees_the_whole_query_if_somebody_wants_that() {
    let rules = QueryRules::allow_list(["page"]).sorted().forward_as_sent();
    let bench = bench(StandardPolicy::default().query(rules).cookies(["id"]));
    let seen = bench.get_with("/a?x=1&page=2", &[("cookie", "_ga=1")]).await;
    assert!(!seen.is_hit());
    assert_eq!((target(&bench).as_str(), field(&bench, "cookie")), ("/a?x=1&page=2", None));
    all_share(&bench, &[("/b?page=2", &[]), ("/b?page=2&y", &[])]).await;
}

#[tokio::test]
async fn an_unsafe_request_is_forwarded_as_it_came_and_invalidates_what_gets_share() {
    let rules =
        KeyRules::new().query(QueryRules::none()).cookies(["id"]).host(Authority::from_static("one.example"));
    for bypasses in [false, true] {
        let policy =
            StandardPolicy::default().key(rules.clone()).map_request(move |request, action| match action {
                _ if bypasses && request.method == Method::POST => RequestAction::bypass("mine"),
                action => action,
            });
        let bench = bench(policy);
        all_share(&bench, &[("/a?x=1", &[]), ("/a?x=2", &[])]).await;
        let fields = [("cookie", "_ga=1; id=2"), ("host", "Two.example:80")];
        bench.send(Method::POST, "/a?x=3", &fields).await;
        assert_eq!(target(&bench), "/a?x=3");
        assert_eq!(field(&bench, "cookie").as_deref(), Some("_ga=1; id=2"));
        assert_eq!(
            field(&bench, "host").as_deref(),
            Some("two.example"),
            "spelled as ever, and the client's own"
        );
        assert!(!bench.get("/a?x=1").await.is_hit(), "{bypasses}");
    }
}

#[tokio::test]
async fn requests_of_which_nothing_is_stored_reach_the_origin_as_they_came() {
    let policy = || {
        let rules = KeyRules::new()
            .query(QueryRules::none())
            .cookies(["id"])
            .host(Authority::from_static("one.example"))
            .scheme(Scheme::HTTPS);
        StandardPolicy::default().key(rules)
    };
    let cart = policy().map_request(|request, action| match request.uri.path() {
        "/cart" => RequestAction::bypass("cart"),
        _ => action,
    });
    let bench = bench(cart);
    #[track_caller]
    fn came_through(bench: &Bench) {
        let seen = bench.origin.last();
        assert_eq!(seen.uri.query(), Some("x=1"));
        assert_eq!(seen.headers["cookie"], "_ga=1; id=2");
        assert_eq!(seen.headers["host"], "example.com");
        assert_eq!(seen.extensions.get::<Scheme>(), None);
    }
    let fields = [("cookie", "_ga=1; id=2")];
    bench.get_with("/cart?x=1", &fields).await.told("larder; fwd=bypass; detail=\"cart\"");
    came_through(&bench);
    let upgrade = [fields[0], ("connection", "upgrade"), ("upgrade", "websocket")];
    bench.get_with("/chat?x=1", &upgrade).await.told("larder; fwd=bypass; detail=\"upgrade\"");
    came_through(&bench);
    let by_extension = Request::get("/a?x=1").header("host", "example.com").header("cookie", "_ga=1; id=2");
    let by_extension = by_extension.extension(Bypass::new("preview")).body(Empty::new()).unwrap();
    send(&bench, by_extension).await.told("larder; fwd=bypass; detail=\"preview\"");
    came_through(&bench);
    for method in [Method::OPTIONS, Method::TRACE, Method::QUERY] {
        bench.send(method, "/a?x=1", &fields).await.told("larder; fwd=method");
        came_through(&bench);
    }
    let tagging =
        Bench::with(cache_builder().policy(policy()).tag_only().key_in_cache_status(true), [Reply::new("x")]);
    tagging.get_with("/a?x=1", &fields).await;
    came_through(&tagging);
    // All others have less.
    bench.get_with("/a?x=1", &fields).await;
    let seen = bench.origin.last();
    assert_eq!((seen.uri.to_string().as_str(), &seen.headers["cookie"]), ("/a", &"id=2".parse().unwrap()));
    assert_eq!(seen.extensions.get::<Scheme>(), Some(&Scheme::HTTPS));
}

#[tokio::test]
async fn below_a_nested_router_the_handler_sees_what_is_in_the_key_in_every_uri() {
    let layer = cache_builder()
        .policy(StandardPolicy::default().query(QueryRules::all().ignore_trackers().sorted()))
        .key_in_cache_status(true)
        .build();
    let echo = async |OriginalUri(original): OriginalUri, uri: Uri| {
        ([("cache-control", FRESH)], format!("{original} {uri}"))
    };
    let inner = Router::new().route("/x", any(echo)).route("/", any(echo)).layer(layer);
    let app = Router::new().nest("/api", Router::new().nest("/v1", inner));
    let get = async |uri: &str| {
        let request = Request::get(uri).header("host", "a").body(axum::body::Body::empty()).unwrap();
        read(app.clone().oneshot(request).await.unwrap()).await
    };
    let key = "key=\"http://a/api/v1/x?a=1&b=2\"";
    let seen = get("/api/v1/x?b=2&utm_id=7&a=1").await.has_body("/api/v1/x?a=1&b=2 /x?a=1&b=2");
    seen.told(&format!("larder; fwd=uri-miss; stored; ttl=60; {key}"));
    get("/api/v1/x?a=1&b=2").await.told(&format!("larder; hit; ttl=60; {key}"));
    get("/api/v1?gclid=1").await.has_body("/api/v1 /");
    get("/api/v1").await.told("larder; hit; ttl=60; key=\"http://a/api/v1\"");
}

#[tokio::test]
async fn kx4_fields_are_in_the_key_by_value_presence_or_class() {
    let name = HeaderName::from_static;
    for (rules, sharing, differing) in [
        (
            KeyRules::new().header(name("x-shop")),
            [("x-shop", "1"), ("x-shop", "1")],
            &[("x-shop", "2"), ("x-shop", "01"), ("x-shop", ""), ("x-other", "1")][..],
        ),
        (
            KeyRules::new().header_presence(name("x-preview")),
            [("x-preview", "1"), ("x-preview", "")],
            &[("x-other", "1")],
        ),
        (
            KeyRules::new().accepts("image/avif"),
            [("accept", "image/avif,image/webp,*/*;q=0.8"), ("accept", "image/avif;q=0.5")],
            &[("accept", "image/avif;q=0, image/webp, */*"), ("accept", "image/webp, */*")],
        ),
        (
            KeyRules::new().accepts("image/avif"),
            [("accept", "*/*"), ("accept", "image/webp")],
            &[("accept", "image/avif")],
        ),
        (
            KeyRules::new().header_contains(name("user-agent"), "bot"),
            [("user-agent", "a Bot"), ("user-agent", "bots")],
            &[("user-agent", "a browser")],
        ),
        (
            KeyRules::new().mobile(),
            [("user-agent", "X Mobile Y"), ("user-agent", "Mobi")],
            &[("user-agent", "X"), ("sec-ch-ua-mobile", "?1")],
        ),
        (
            KeyRules::new().class("tier", |request: &request::Parts| match request.headers.get("x-tier") {
                Some(tier) if tier == "gold" => "gold",
                _ => "other",
            }),
            [("x-tier", "tin"), ("x-tier", "lead")],
            &[("x-tier", "gold")],
        ),
        (
            KeyRules::new().part("first", |request| {
                Some(request.headers.get("x-a")?.as_bytes().first().copied()?.to_be_bytes())
            }),
            [("x-a", "b1"), ("x-a", "b2")],
            &[("x-a", "c1"), ("x-a", ""), ("x-a", "d")],
        ),
    ] {
        let bench = keyed(rules.clone());
        all_share(&bench, &sharing.each_ref().map(|field| ("/", std::slice::from_ref(field)))).await;
        let differing: Vec<_> = differing.iter().map(|field| ("/", std::slice::from_ref(field))).collect();
        all_differ(&bench, &differing).await;
        // The origin sees the fields as they came.
        let last = differing.last().unwrap().1[0];
        assert_eq!(field(&bench, last.0).as_deref(), Some(last.1), "{rules:?}");
    }
}

/// A service that looks for a word in a field, without the limits of a class.
#[tokio::test]
async fn kx4_what_a_class_does_not_read_to_its_end_shares_with_no_other_class() {
    let name = HeaderName::from_static;
    let (long_accept, long_agent) =
        (format!("image/avif, {}", "a/b,".repeat(300)), format!("{} Mobi bot", "x".repeat(4100)));
    let unread = |rules: KeyRules, field, values: [&str; 3]| {
        let values = values.map(str::to_owned);
        async move {
            let bench = bench(StandardPolicy::default().key(rules));
            let requests = values.each_ref().map(|value| [(field, value.as_str())]);
            let requests = requests.each_ref().map(|request| ("/", &request[..]));
            all_differ(&bench, &requests).await;
        }
    };
    unread(KeyRules::new().accepts("image/avif"), "accept", [&long_accept, "text/html", "image/avif"]).await;
    let malformed = "image/avif;q=1.0000";
    unread(KeyRules::new().accepts("image/avif"), "accept", [malformed, "text/html", "image/avif"]).await;
    unread(KeyRules::new().mobile(), "user-agent", [&long_agent, "X11", "iPhone Mobile"]).await;
    let bots = KeyRules::new().header_contains(name("user-agent"), "bot");
    unread(bots, "user-agent", [&long_agent, "X11", "a bot"]).await;
    // What the hint says, and what the service makes of the User-Agent.
    all_differ(
        &bench(StandardPolicy::default().key(KeyRules::new().mobile())),
        &[
            ("/", &[("user-agent", "iPhone Mobile"), ("sec-ch-ua-mobile", "?0")]),
            ("/", &[("user-agent", "iPhone Mobile")]),
            ("/", &[("user-agent", "X11"), ("sec-ch-ua-mobile", "?0")]),
        ],
    )
    .await;
}

#[tokio::test]
async fn kx4_cookies_that_do_not_count_prevent_no_hit() {
    let bench = bench(StandardPolicy::default().cookies(["session", "ab_*"]));
    all_share(
        &bench,
        &[("/", &[("cookie", "_ga=1")]), ("/", &[("cookie", "_ga=2; theme=dark")]), ("/", &[])],
    )
    .await;
    assert_eq!(field(&bench, "cookie"), None);
    all_share(
        &bench,
        &[
            ("/", &[("cookie", "_ga=1; session=7; ab_x=1")]),
            ("/", &[("cookie", "ab_x=1; session=7")]),
            ("/", &[("cookie", "session=7"), ("cookie", "ab_x=1; session")]),
        ],
    )
    .await;
    assert_eq!(field(&bench, "cookie").as_deref(), Some("ab_x=1; session=7"));
    all_differ(
        &bench,
        &[
            ("/", &[("cookie", "session=7")]),
            ("/", &[("cookie", "session=8; ab_x=1")]),
            ("/", &[("cookie", "session=; ab_x=1")]),
            ("/", &[("cookie", "session=7; session=8; ab_x=1")]),
            ("/", &[("cookie", "session=8; session=7; ab_x=1")]),
        ],
    )
    .await;
}

#[tokio::test]
async fn kx4_cookies_in_the_key_let_private_pages_be_stored_and_change_nothing_about_set_cookie() {
    let policy = StandardPolicy::default().cookies(["session"]);
    let private = || [Reply::cc("x", "private, max-age=60")];
    let session = [("cookie", "session=7; _ga=1")];
    let plain = Bench::with(cache_builder().policy(policy.clone()), private());
    plain.get_with("/", &session).await.told("larder; fwd=uri-miss; detail=\"private\"");
    let by_key = Bench::with(cache_builder().policy(policy.clone().private_by_key(true)), private());
    all_share(&by_key, &[("/", &session), ("/", &[("cookie", "session=7")])]).await;
    all_differ(&by_key, &[("/", &[("cookie", "session=8")]), ("/", &[])]).await;
    let setting = [Reply::cc("x", FRESH).field("set-cookie", "session=9")];
    let setting = Bench::with(cache_builder().policy(policy), setting);
    setting.get_with("/", &session).await.told("larder; fwd=uri-miss; detail=\"set-cookie\"");
}

#[tokio::test]
async fn kx4_a_cookie_whose_presence_is_keyed_is_seen_and_shared_only_by_permission() {
    let rules = KeyRules::new().cookies(Selection::None).cookie_presence("session");
    for rules in [rules, KeyRules::new().cookie_presence("session").cookies(Selection::None)] {
        let replies = [Reply::cc("public", "public, max-age=60"), Reply::cc("x", FRESH)];
        let bench = Bench::with(cache_builder().policy(StandardPolicy::default().key(rules)), replies);
        let session = [("cookie", "session=1; _ga=5")];
        all_share(&bench, &[("/", &session), ("/", &[("cookie", "session=2")])]).await;
        assert_eq!(field(&bench, "cookie").as_deref(), Some("session=1"));
        all_share(&bench, &[("/", &[]), ("/", &[("cookie", "_ga=1")])]).await;
        bench.get_with("/b", &session).await.told("larder; fwd=uri-miss; detail=\"cookie\"");
    }
}

#[tokio::test]
async fn a01_a_host_that_keys_do_not_tell_apart_is_one_host_to_the_origin() {
    let rules = KeyRules::new().host(Authority::from_static("WWW.example.com"));
    let bench = Bench::with(
        cache_builder().policy(StandardPolicy::default().key(rules)).key_in_cache_status(true),
        [Reply::cc("x", FRESH)],
    );
    let key = "key=\"http://www.example.com/a\"";
    bench
        .get_with("/a", &[("host", "evil.example")])
        .await
        .told(&format!("larder; fwd=uri-miss; stored; ttl=60; {key}"));
    assert_eq!(field(&bench, "host").as_deref(), Some("www.example.com"));
    for host in ["www.example.com", "example.com:80", "example.com:8080", "[::1]"] {
        bench.get_with("/a", &[("host", host)]).await.told(&format!("larder; hit; ttl=60; {key}"));
    }
    // By HTTP/2, and through a proxy.
    let absolute = Request::get("http://evil.example/b").body(Empty::new()).unwrap();
    send(&bench, absolute).await;
    assert_eq!(target(&bench), "http://www.example.com/b");
    assert!(bench.get("/b").await.is_hit());
    // The scheme is in the key.
    assert!(!send(&bench, Request::get("https://example.com/b").body(Empty::new()).unwrap()).await.is_hit());
}

#[tokio::test]
async fn a02_a_request_with_two_authorities_has_no_key_by_any_rule() {
    let host = || Authority::from_static("www.example.com");
    for rules in
        [KeyRules::new().host(host()), KeyRules::new().any_host(), KeyRules::new().any_host().any_scheme()]
    {
        let bench = keyed(rules);
        let ambiguous = "larder; fwd=bypass; detail=\"ambiguous-authority\"";
        bench.get_with("/", &[("host", "a"), ("host", "b")]).await.told(ambiguous);
        bench.get_with("http://a/", &[("host", "b")]).await.told(ambiguous);
        assert_eq!(field(&bench, "host").as_deref(), Some("b"), "and goes as it came");
    }
}

#[tokio::test]
async fn a37_a_scheme_that_keys_do_not_tell_apart_is_one_scheme_to_the_origin() {
    let bench = keyed(KeyRules::new().scheme(Scheme::HTTPS));
    let by = |scheme: Scheme, host: &'static str| {
        Request::get("/").header("host", host).extension(scheme).body(Empty::<Bytes>::new()).unwrap()
    };
    send(&bench, by(Scheme::HTTP, "a:80")).await;
    let seen = bench.origin.last();
    assert_eq!((seen.extensions.get(), &seen.headers["host"]), (Some(&Scheme::HTTPS), &"a".parse().unwrap()));
    assert!(send(&bench, by(Scheme::HTTPS, "a:443")).await.is_hit());
    // Port 80 under TLS is another authority, which the origin would see.
    assert!(!send(&bench, by(Scheme::HTTPS, "a:80")).await.is_hit());
    assert_eq!(field(&bench, "host").as_deref(), Some("a:80"));
    send(&bench, Request::get("http://b/").body(Empty::new()).unwrap()).await;
    assert_eq!(target(&bench), "https://b/");
}

#[tokio::test]
async fn a37_an_origin_that_is_left_out_of_keys_is_seen_as_it_came() {
    let by = |scheme: Scheme, host: &'static str| {
        Request::get("/").header("host", host).extension(scheme).body(Empty::<Bytes>::new()).unwrap()
    };
    let policy =
        |rules| cache_builder().policy(StandardPolicy::default().key(rules)).key_in_cache_status(true);
    let any_scheme = Bench::with(policy(KeyRules::new().any_scheme()), [Reply::cc("x", FRESH)]);
    let told = "larder; fwd=uri-miss; stored; ttl=60; key=\"any://a/\"";
    send(&any_scheme, by(Scheme::HTTP, "a:80")).await.told(told);
    assert_eq!(any_scheme.origin.last().extensions.get(), Some(&Scheme::HTTP));
    assert!(send(&any_scheme, by(Scheme::HTTPS, "A:443")).await.is_hit());
    for host in ["b", "a:8080"] {
        assert!(!send(&any_scheme, by(Scheme::HTTPS, host)).await.is_hit(), "{host}");
    }
    let told = "larder; fwd=uri-miss; stored; ttl=60; key=\"any://a:80/\"";
    send(&any_scheme, by(Scheme::HTTPS, "a:80")).await.told(told);
    let any_host = Bench::with(policy(KeyRules::new().any_host()), [Reply::cc("x", FRESH)]);
    send(&any_host, by(Scheme::HTTP, "a"))
        .await
        .told("larder; fwd=uri-miss; stored; ttl=60; key=\"http:///\"");
    assert_eq!(field(&any_host, "host").as_deref(), Some("a"));
    assert!(send(&any_host, by(Scheme::HTTP, "b")).await.is_hit());
    assert!(!send(&any_host, by(Scheme::HTTPS, "b")).await.is_hit());
}

#[derive(Clone)]
struct User(&'static str);

#[tokio::test]
async fn a09_whoever_has_the_same_identity_shares_and_nobody_else() {
    let user = |extensions: &Extensions| extensions.get::<User>().map(|user| user.0);
    let policy = StandardPolicy::default().identity("user", user).private_by_key(true);
    let private = |body| Reply::cc(body, "private, max-age=60");
    let bench = Bench::with(
        cache_builder().policy(policy),
        [private("alice"), private("bob"), Reply::cc("all", FRESH)],
    );
    let get = async |user: Option<&'static str>, session: &'static str| {
        let mut request = Request::get("http://a/me").header("cookie", session);
        if let Some(user) = user {
            request = request.extension(User(user));
        }
        send(&bench, request.body(Empty::new()).unwrap()).await
    };
    get(Some("1"), "s=1").await.has_body("alice");
    get(Some("1"), "s=2").await.told("larder; hit; ttl=60").has_body("alice");
    get(Some("2"), "s=1").await.has_body("bob");
    // Who is nobody, or has no name, is neither of them; and their cookies count.
    get(None, "s=1").await.told("larder; fwd=uri-miss; detail=\"cookie\"");
    get(Some(""), "s=1").await.told("larder; fwd=uri-miss; stored; ttl=60");
    assert_eq!(bench.origin.calls(), 4);
}

#[tokio::test]
async fn the_answer_to_a_post_is_not_stored_for_gets_if_it_had_what_they_have_not() {
    let policy = StandardPolicy::rfc9111().query(QueryRules::none()).cookies(["id"]);
    for (path, fields, is_stored) in [
        ("/a", &[][..], true),
        ("/a", &[("cookie", "id=1")], false),
        ("/a?x=1", &[], false),
        ("/a", &[("cookie", "_ga=1")], false),
    ] {
        let reply = Reply::cc("made", FRESH).field("content-location", path);
        let bench = Bench::with(cache_builder().policy(policy.clone()), [reply, Reply::cc("x", FRESH)]);
        bench.send(Method::POST, path, fields).await;
        assert_eq!(bench.get("/a").await.is_hit(), is_stored, "{path} {fields:?}");
    }
}

/// The keys of profiles in the words of two services.
#[tokio::test]
async fn cf1_keys_are_made_of_the_lists_of_a_policy() {
    let rules = KeyRules::new()
        .any_host()
        .any_scheme()
        .query(QueryRules::all())
        .cookies(["ab"])
        .header(HeaderName::from_static("x"))
        .header(HeaderName::from_static("y"));
    let bench = keyed(rules);
    all_differ(
        &bench,
        &[
            ("/?a=1&b=2", &[]),
            ("/?b=2&a=1", &[]),
            ("/?a", &[]),
            ("/?a=", &[]),
            ("/?A=1", &[]),
            ("/?a=1", &[]),
            ("/?a=%31", &[]),
            ("/", &[("x", "1")]),
            ("/", &[("x", "01")]),
            ("/", &[("cookie", "ab=1")]),
            ("/", &[("cookie", "ab=2")]),
            ("/", &[("cookie", "ab=")]),
            ("/", &[]),
            ("/", &[("x", "1"), ("y", "2")]),
            ("/", &[("x", "1y"), ("y", "=2")]),
            ("/", &[("x", "1"), ("x", "2")]),
            ("/", &[("x", "1, 2")]),
        ],
    )
    .await;
    all_share(
        &bench,
        &[
            ("/same", &[("X", "1"), ("cookie", "ab=1; other=2")]),
            ("/same", &[("cookie", "more=3; ab=1"), ("x", "1")]),
            ("https://example.com/same", &[("x", "1"), ("cookie", "ab=1")]),
            ("/same", &[("host", "other.example"), ("x", "1"), ("cookie", "ab=1")]),
        ],
    )
    .await;
    assert!(bench.send(Method::HEAD, "/same", &[("x", "1"), ("cookie", "ab=1")]).await.is_hit());
}

/// A value cannot look like another part, whatever bytes a client sends.
#[tokio::test]
async fn a03_a_keyed_value_cannot_imitate_another_part() {
    let rules = || {
        KeyRules::new()
            .header(HeaderName::from_static("x"))
            .part("y", |request| Some(request.headers.get("y")?.as_bytes().to_vec()))
            .cookies(Selection::All)
            .identity("user", |extensions| extensions.get::<User>().map(|user| user.0))
    };
    let bench = bench(StandardPolicy::default().key(rules()).private_by_key(true));
    let requests: [(&str, &[(&str, &str)]); 11] = [
        ("/", &[("x", "1")]),
        ("/", &[("y", "1")]),
        ("/", &[("cookie", "x=1")]),
        ("/", &[("cookie", "y=1")]),
        ("/", &[("cookie", "user=1")]),
        ("/?x=1", &[]),
        ("/", &[("x", "1"), ("y", "1")]),
        ("/", &[("x", "1"), ("cookie", "y=1")]),
        ("/", &[("x", "a"), ("x", "b")]),
        ("/", &[("x", "ab")]),
        ("/", &[("cookie", "a=1; b=2")]),
    ];
    all_differ(&bench, &requests).await;
    let identified = Request::get("http://example.com/").extension(User("1")).body(Empty::new()).unwrap();
    assert!(!send(&bench, identified).await.is_hit());
}

#[tokio::test]
async fn a18_a_flood_of_keyed_values_leaves_memory_bounded() {
    const CAPACITY: u64 = 1 << 20;
    let store = MemoryStore::builder().capacity(CAPACITY).max_object(1 << 16).build();
    let rules = KeyRules::new()
        .header(HeaderName::from_static("x"))
        .cookies(Selection::All)
        .query(QueryRules::all().sorted());
    let layer = larder::CacheLayer::builder(store).policy(StandardPolicy::default().key(rules)).build();
    let (mut cache, handle) = (layer.layer(Origin::new([Reply::cc("x", "max-age=600")])), layer.handle());
    for number in 0..5_000 {
        let value = format!("{number}-{}", "v".repeat(500));
        let request = Request::get(format!("http://a/?q={number}"))
            .header("x", &value)
            .header("cookie", format!("c={value}"));
        let response = cache.call(request.body(Empty::<Bytes>::new()).unwrap()).await.unwrap();
        read(response).await;
    }
    let statistics = handle.statistics();
    assert!(statistics.bytes <= CAPACITY, "{statistics:?}");
    assert!(statistics.evictions > 3_000, "{statistics:?}");
}

/// The allocations of a hit.
fn allocations(policy: impl CachePolicy, fields: &[(&str, &str)]) -> u64 {
    let origin = Origin::new([Reply::cc("x", "max-age=600").field("content-type", "text/html")]);
    let layer = larder::CacheBuilder::default().clock(larder::Clock::manual().0).policy(policy).build();
    let mut cache = layer.layer(origin);
    let request = || {
        let mut request = Request::get("/articles/some?a=1&page=2").header("host", "www.example.com");
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        request.body(Empty::<Bytes>::new()).unwrap()
    };
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
        for _ in 0..4 {
            drop(cache.call(request()).await);
        }
        let request = request();
        let (count, answer) = alloc::during(|| cache.call(request).now_or_never());
        assert!(answer.unwrap().unwrap().headers()["cache-status"].to_str().unwrap().contains("hit"));
        count
    })
}

#[test]
fn rules_that_change_nothing_allocate_nothing() {
    let without = allocations(StandardPolicy::default(), &[]);
    let query = StandardPolicy::default().query(QueryRules::all().ignore_trackers().sorted().cleaned());
    assert_eq!(allocations(query, &[]), without);
    let origin = KeyRules::new().host(Authority::from_static("www.example.com")).scheme(Scheme::HTTP);
    assert_eq!(allocations(StandardPolicy::default().key(origin), &[]), without);
    // Few enough bytes for the key.
    let cookies = StandardPolicy::default().cookies(["a", "b"]);
    assert_eq!(allocations(cookies.clone(), &[("cookie", "a=1; b=2")]), without);
    assert_eq!(allocations(cookies, &[]), without);
    let classes = KeyRules::new().accepts("image/avif").mobile();
    assert_eq!(
        allocations(
            StandardPolicy::default().key(classes),
            &[("accept", "image/avif"), ("user-agent", "Mobi")]
        ),
        without
    );
}

/// A policy of somebody's own that is made of rules.
struct Own(KeyRules);

impl CachePolicy for Own {
    fn request(&self, request: &mut request::Parts, _: &mut PolicyData) -> RequestAction {
        self.0.key(request)
    }

    fn spellings(&self, target: &PurgeTarget) -> Vec<PurgeTarget> {
        self.0.spellings(target)
    }
}

#[tokio::test]
async fn an_own_policy_has_keys_by_rules() {
    let bench = bench(Own(KeyRules::new().query(QueryRules::none())));
    all_share(&bench, &[("/a?x", &[]), ("/a?y", &[])]).await;
    bench.handle.purge_target(&PurgeTarget::prefix("http://example.com/a?z")).await.unwrap();
    assert!(!bench.get("/a?x").await.is_hit());
}

#[tokio::test]
async fn rules_are_set_once_or_one_by_one_and_fields_come_in_addition() {
    let name = HeaderName::from_static("x-shop");
    let policy = StandardPolicy::default()
        .key_field(name.clone())
        .query(QueryRules::none())
        .cookies(["id"])
        .strip_unkeyed(true);
    let bench_of = bench(policy.clone());
    let shop = [("x-shop", "1"), ("cookie", "_ga=1")];
    all_share(&bench_of, &[("/a?x", &shop), ("/a?y", &[("x-shop", "1")])]).await;
    all_differ(&bench_of, &[("/a", &[("x-shop", "2")]), ("/a", &[("cookie", "id=1"), ("x-shop", "1")])])
        .await;
    // `key` replaces the rules, and nothing else; what it keys is not stripped.
    let bench_of = bench(policy.key(KeyRules::new().header(HeaderName::from_static("x-forwarded-host"))));
    all_differ(&bench_of, &[("/a?x", &shop), ("/a?y", &[("x-shop", "1")]), ("/a?y", &[("x-shop", "2")])])
        .await;
    bench_of.get_with("/b", &[("x-forwarded-host", "c"), ("x-host", "d")]).await;
    assert_eq!(
        (field(&bench_of, "x-forwarded-host").as_deref(), field(&bench_of, "x-host")),
        (Some("c"), None)
    );
}

#[tokio::test]
async fn each_row_of_a_table_has_keys_by_rules_of_its_own() {
    let standard = StandardPolicy::default();
    let policy = Policies::new(standard.clone())
        .path("/static/*", standard.clone().query(QueryRules::none()).cookies(Selection::None))
        .path("/shop/*", standard.query(QueryRules::all().sorted()));
    let bench = bench(policy);
    all_share(&bench, &[("/static/a?1", &[("cookie", "a=1")]), ("/static/a?2", &[])]).await;
    assert_eq!(field(&bench, "cookie"), None);
    all_share(&bench, &[("/shop/?b&a", &[]), ("/shop/?a&b", &[])]).await;
    all_differ(&bench, &[("/x?b&a", &[]), ("/x?a&b", &[])]).await;
    assert_eq!(field(&bench, header::COOKIE.as_str()), None);
}
