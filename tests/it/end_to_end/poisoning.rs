//! Published techniques of cache poisoning (A36), each against an origin that trusts every request field. `docs/GUIDE.md` has
//! the results as a table; this test compares each row.

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderName, HeaderValue, Request, Response};
use http_body_util::Full;
use larder::{Clock, StandardPolicy};
use tower::{Layer, Service, service_fn};

use crate::support::bench::{Seen, read};
use crate::support::cache_builder;

/// What one client asks, and then everybody else.
struct Technique {
    /// As in the guide.
    name: &'static str,
    /// Whether everybody else gets the answer that the one client has shaped: by the policy that heeds what clients ask
    /// for and stores every error, by the careful default, and by that with unkeyed fields stripped. The first is `None`
    /// where nothing is left by which it could be had.
    poisons: [Option<bool>; 3],
    answers: fn(&Parts) -> (u16, String),
    attack: Ask,
    cache_control: &'static str,
    /// The error that any field beside `Host` draws.
    draws: Option<u16>,
    /// A good response is stored first.
    is_warm: bool,
    plain: &'static str,
}

struct Ask {
    content: &'static str,
    fields: Vec<(&'static str, String)>,
    host: &'static str,
    target: &'static str,
}

impl Ask {
    fn plain(target: &'static str) -> Self {
        Self { content: "", fields: Vec::new(), host: "s.test", target }
    }

    fn request(&self) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(Bytes::from_static(self.content.as_bytes())));
        *request.uri_mut() = self.target.parse().unwrap();
        request.headers_mut().insert("host", HeaderValue::from_static(self.host));
        for (name, value) in &self.fields {
            request
                .headers_mut()
                .append(HeaderName::from_static(name), HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        request
    }
}

fn field<'a>(request: &'a Parts, name: &str) -> Option<&'a str> {
    request.headers.get(name).and_then(|value| std::str::from_utf8(value.as_bytes()).ok())
}

const YES: Option<bool> = Some(true);
const NO: Option<bool> = Some(false);

/// An attack by one field: `answers` makes the page of the request.
fn by_field(
    name: &'static str,
    (field, value): (&'static str, &str),
    poisons: [Option<bool>; 3],
    answers: fn(&Parts) -> (u16, String),
) -> Technique {
    let attack = Ask { fields: vec![(field, value.to_owned())], ..Ask::plain("/page") };
    Technique {
        name,
        poisons,
        answers,
        attack,
        cache_control: "public, max-age=60",
        draws: None,
        is_warm: false,
        plain: "/page",
    }
}

/// An attack by one field that draws an error.
fn by_error(
    name: &'static str,
    field: (&'static str, &str),
    poisons: [Option<bool>; 3],
    status: u16,
) -> Technique {
    Technique { draws: Some(status), ..by_field(name, field, poisons, |_| (200, "page".into())) }
}

/// An attack by another target than that of everybody else, or by the same.
fn by_target(
    name: &'static str,
    attack: Ask,
    plain: &'static str,
    poisons: [Option<bool>; 3],
    answers: fn(&Parts) -> (u16, String),
) -> Technique {
    Technique { attack, plain, ..by_field(name, ("x", ""), poisons, answers) }
}

fn techniques() -> Vec<Technique> {
    let oversized = "a".repeat(20_000);
    let evil = "evil.example";
    let mut techniques = vec![
        by_field("`X-Forwarded-Host` in links", ("x-forwarded-host", evil), [YES, YES, NO], |request| {
            (200, format!("//{}/", field(request, "x-forwarded-host").unwrap_or("s.test")))
        }),
        by_field("`X-Host`, `X-Forwarded-Server` in links", ("x-host", evil), [YES, YES, NO], |request| {
            (200, format!("//{}/", field(request, "x-host").unwrap_or("s.test")))
        }),
        by_field("`Forwarded` in links", ("forwarded", "host=evil.example"), [YES, YES, NO], |request| {
            (200, field(request, "forwarded").unwrap_or("host=s.test").into())
        }),
        by_field(
            "`X_Forwarded_Host`, read as `X-Forwarded-Host`",
            ("x_forwarded_host", evil),
            [YES, YES, NO],
            |request| (200, format!("//{}/", field(request, "x_forwarded_host").unwrap_or("s.test"))),
        ),
        by_field(
            "`X-Forwarded-Scheme` or `-Proto`: a redirect to itself",
            ("x-forwarded-scheme", "http"),
            [YES, YES, NO],
            |request| {
                (
                    if field(request, "x-forwarded-scheme") == Some("http") { 301 } else { 200 },
                    "https://s.test/page".into(),
                )
            },
        ),
        by_field(
            "`X-Forwarded-SSL: off`: a redirect to itself",
            ("x-forwarded-ssl", "off"),
            [YES, YES, NO],
            |request| {
                (
                    if field(request, "x-forwarded-ssl") == Some("off") { 301 } else { 200 },
                    "https://s.test/page".into(),
                )
            },
        ),
        by_field(
            "`X-Forwarded-Port` in links: nothing listens there",
            ("x-forwarded-port", "1"),
            [YES, YES, NO],
            |request| (200, format!("//s.test:{}/", field(request, "x-forwarded-port").unwrap_or("80"))),
        ),
        by_field(
            "`X-Forwarded-Prefix` in links",
            ("x-forwarded-prefix", "//evil.example"),
            [YES, YES, NO],
            |request| {
                (200, format!("{}/script.js", field(request, "x-forwarded-prefix").unwrap_or_default()))
            },
        ),
        by_field("`X-Original-URL`: another page", ("x-original-url", "/other"), [YES, YES, NO], |request| {
            (200, field(request, "x-original-url").unwrap_or(request.uri.path()).into())
        }),
        by_field(
            "`X-Rewrite-URL`: a page that is not there (404)",
            ("x-rewrite-url", "/none"),
            [YES, YES, NO],
            |request| (if field(request, "x-rewrite-url").is_some() { 404 } else { 200 }, "page".into()),
        ),
        by_field(
            "`X-HTTP-Destination-URL`: another page",
            ("x-http-destination-url", "/other"),
            [YES, YES, NO],
            |request| (200, field(request, "x-http-destination-url").unwrap_or(request.uri.path()).into()),
        ),
        by_field(
            "HMO: a method override that gives other content",
            ("x-http-method-override", "HEAD"),
            [YES, YES, NO],
            |request| {
                (
                    200,
                    if field(request, "x-http-method-override") == Some("HEAD") { "" } else { "page" }.into(),
                )
            },
        ),
        by_error(
            "HMO: a method override that is refused (405)",
            ("x-http-method-override", "DELETE"),
            [YES, NO, NO],
            405,
        ),
        by_field("`Proxy`, read as `HTTP_PROXY`", ("proxy", evil), [YES, YES, NO], |request| {
            (200, format!("fetched through {}", field(request, "proxy").unwrap_or("nobody")))
        }),
        by_error("HHO: an oversized field (400, 413, 431)", ("x-oversized", &oversized), [YES, NO, NO], 431),
        by_error("HMC: a byte that the origin refuses (400)", ("x-meta", "\u{fe}"), [YES, NO, NO], 400),
        by_error("HMC: a byte on which the origin fails (500)", ("x-meta", "\u{fe}"), [YES, YES, YES], 500),
        by_error(
            "`Authorization` that is refused on a public page (401)",
            ("authorization", "x"),
            [YES, NO, NO],
            401,
        ),
        by_error("`Cookie` that is refused on a public page (400)", ("cookie", "="), [YES, NO, NO], 400),
        by_error("`Accept` that nothing satisfies (406)", ("accept", "x/y"), [YES, NO, NO], 406),
        by_error("`Content-Type` of a GET (415)", ("content-type", "x"), [YES, NO, NO], 415),
        by_error("`Range` that can't be satisfied (416)", ("range", "bytes=cow"), [NO, NO, NO], 416),
        by_error("`If-Match` that fails (412)", ("if-match", "\"x\""), [NO, NO, NO], 412),
        by_error("`Expect` that is not met (417)", ("expect", "x"), [YES, NO, NO], 417),
        by_error(
            "`Transfer-Encoding` that is not supported (501)",
            ("transfer-encoding", "x"),
            [NO, NO, NO],
            501,
        ),
        by_error("`Upgrade` that is required or refused (426)", ("upgrade", "x"), [NO, NO, NO], 426),
        by_error("`Max-Forwards: 0` on a GET (400)", ("max-forwards", "0"), [YES, NO, NO], 400),
        by_error("`User-Agent` that a firewall blocks (403)", ("user-agent", "scanner"), [YES, NO, NO], 403),
        by_error(
            "`X-Forwarded-For` that is banned (403)",
            ("x-forwarded-for", "192.0.2.1"),
            [YES, NO, NO],
            403,
        ),
        by_field("`User-Agent` without `Vary`", ("user-agent", "phone"), [YES, YES, YES], |request| {
            (200, field(request, "user-agent").unwrap_or("desktop").into())
        }),
        by_field("`Accept` without `Vary`", ("accept", "text/plain"), [YES, YES, YES], |request| {
            (200, field(request, "accept").unwrap_or("text/html").into())
        }),
        by_field(
            "`Accept-Language` without `Vary`",
            ("accept-language", "tlh"),
            [YES, YES, YES],
            |request| (200, field(request, "accept-language").unwrap_or("en").into()),
        ),
        by_field(
            "`Origin` without `Vary`, in `Access-Control-Allow-Origin`",
            ("origin", "https://evil.example"),
            [YES, YES, YES],
            |request| (200, field(request, "origin").unwrap_or("*").into()),
        ),
        by_field(
            "a framework's own field, such as `X-Now-Route-Matches`",
            ("x-now-route-matches", "888"),
            [YES, YES, YES],
            |request| (200, field(request, "x-now-route-matches").unwrap_or("page").into()),
        ),
        by_target(
            "fat GET: content that counts as parameters",
            Ask { content: "x=evil", fields: vec![("content-length", "6".into())], ..Ask::plain("/page") },
            "/page",
            [NO, NO, NO],
            |request| (200, field(request, "content-length").unwrap_or_default().into()),
        ),
        by_target(
            "parameter cloaking: `;` separates, too",
            Ask::plain("/page?a=1&utm=2;a=evil"),
            "/page?a=1&utm=2",
            [NO, NO, NO],
            |request| (200, request.uri.query().unwrap_or_default().into()),
        ),
        by_target(
            "a parameter that the cache leaves out of the key",
            Ask::plain("/page?utm_content=evil"),
            "/page",
            [NO, NO, NO],
            |request| (200, request.uri.query().unwrap_or_default().into()),
        ),
        by_target(
            "`Host` in capitals, reflected",
            Ask { host: "S.TEST", ..Ask::plain("/page") },
            "/page",
            [None, NO, NO],
            |request| (200, field(request, "host").unwrap_or_default().into()),
        ),
        by_target(
            "`Host` with the default port, or a bare colon, reflected",
            Ask { host: "s.test:80", ..Ask::plain("/page") },
            "/page",
            [None, NO, NO],
            |request| (200, field(request, "host").unwrap_or_default().into()),
        ),
        by_target(
            "`Host` with another port, reflected",
            Ask { host: "s.test:1", ..Ask::plain("/page") },
            "/page",
            [NO, NO, NO],
            |request| (200, field(request, "host").unwrap_or_default().into()),
        ),
        by_target(
            "an absolute target that contradicts `Host`",
            Ask { host: "evil.test", ..Ask::plain("http://s.test/page") },
            "/page",
            [NO, NO, NO],
            |request| (200, field(request, "host").unwrap_or_default().into()),
        ),
        by_target("`GET *` for `GET /*`", Ask::plain("*"), "/*", [None, NO, NO], |request| {
            (200, request.uri.path().into())
        }),
        by_target(
            "`%0d%0a` in the path, which the origin decodes into a field",
            Ask::plain("/page%0d%0aSet-Cookie:a"),
            "/page",
            [NO, NO, NO],
            |request| (200, request.uri.path().into()),
        ),
        by_target(
            "an encoded slash or dot segment: `/static/..%2fpage`",
            Ask::plain("/static/..%2fpage"),
            "/static/../page",
            [NO, NO, NO],
            |request| (200, request.uri.path().into()),
        ),
    ];
    for (name, field) in [
        ("`Cache-Control: no-cache` over what is fresh", ("cache-control", "no-cache")),
        ("`Cache-Control: max-age=0` over what is fresh", ("cache-control", "max-age=0")),
        ("`Pragma: no-cache` over what is fresh", ("pragma", "no-cache")),
    ] {
        let mut forced =
            by_field(name, field, [YES, NO, NO], |request| (200, field_or(request, "accept-language", "en")));
        forced.attack.fields.push(("accept-language", "tlh".into()));
        forced.is_warm = true;
        techniques.push(forced);
    }
    for (name, path) in [
        ("deception by a suffix: `/me/x.css`", "/me/x.css"),
        ("deception by a delimiter: `/me;x.css`", "/me;x.css"),
        ("deception by an encoded delimiter: `/me%3fx.css`", "/me%3fx.css"),
        ("deception by dot segments: `/static/..%2fme`", "/static/..%2fme"),
    ] {
        // The one client is led there with its cookie; everybody else looks for what it got.
        let mut deceived = by_field(name, ("cookie", "user=one"), [NO, NO, NO], |request| {
            (200, field_or(request, "cookie", "nobody"))
        });
        (deceived.attack.target, deceived.plain, deceived.cache_control) = (path, path, "max-age=60");
        techniques.push(deceived);
    }
    techniques
}

fn field_or(request: &Parts, name: &str, otherwise: &str) -> String {
    field(request, name).unwrap_or(otherwise).to_owned()
}

/// Whether everybody else gets something else than without the attack.
async fn is_poisoned(technique: &Technique, policy: StandardPolicy) -> bool {
    let Technique { answers, cache_control, draws, .. } = *technique;
    let answers = move |request: &Parts| match draws {
        Some(status) if request.headers.len() > 1 => (status, "refused".into()),
        _ => answers(request),
    };
    let origin = service_fn(move |request: Request<Full<Bytes>>| {
        let (status, body) = answers(&request.into_parts().0);
        let response = Response::builder().status(status).header("cache-control", cache_control);
        std::future::ready(Ok::<_, Infallible>(response.body(Full::new(Bytes::from(body))).unwrap()))
    });
    let (clock, hand) = Clock::manual();
    let cache = cache_builder().policy(policy).clock(clock).build().layer(origin);
    let ask = async |ask: &Ask| -> Seen { read(cache.clone().call(ask.request()).await.unwrap()).await };
    let plain = Ask::plain(technique.plain);
    if technique.is_warm {
        ask(&plain).await;
        hand.advance(Duration::from_secs(1));
    }
    ask(&technique.attack).await;
    let seen = ask(&plain).await;
    let good = answers(&plain.request().into_parts().0);
    (seen.status.as_u16(), seen.body) != good
}

#[tokio::test]
async fn a36_the_guide_says_which_published_techniques_poison() {
    let guide = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/GUIDE.md")).unwrap();
    let table = guide.split("| technique |").nth(1).expect("the guide has the table");
    let rows: Vec<_> = table.lines().skip(2).take_while(|line| line.starts_with('|')).collect();
    let before = || StandardPolicy::default().client_directives(true).drawn_errors(true);
    let mut shown = 0;
    for technique in techniques() {
        let policies = [before(), StandardPolicy::default(), StandardPolicy::default().strip_unkeyed(true)];
        let mut cells = Vec::new();
        for (policy, expected) in policies.into_iter().zip(technique.poisons) {
            if let Some(expected) = expected {
                assert_eq!(is_poisoned(&technique, policy).await, expected, "{}", technique.name);
            }
            cells.push(if expected == NO { "no" } else { "yes" });
        }
        let row = format!("| {} | {} |", technique.name, cells.join(" | "));
        assert!(rows.iter().any(|line| line.starts_with(&row)), "the guide lacks {row}");
        shown += 1;
    }
    assert_eq!(rows.len(), shown, "the guide says more than is shown");
    // What no message can hold.
    assert!(HeaderValue::from_bytes(b"a\r\nSet-Cookie: a").is_err());
    assert!("/page\r\nSet-Cookie:a".parse::<http::Uri>().is_err());
}
