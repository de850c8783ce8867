//! What the origin learns about a client: its device, and where it is by a database in MaxMind's format.

use axum::Router;
use axum::routing::any;
use http::HeaderMap;

use crate::example_proxy::process::{Proxy, run};
use crate::support::file::TempFile;
use crate::support::mmdb::{Mmdb, Value, map, named, text};
use crate::support::wire;

/// A database that knows this machine.
fn here(code: &str) -> Vec<u8> {
    let country = map([("iso_code", text(code)), ("names", named("A country"))]);
    let record = map([("country", country), ("location", map([("time_zone", text("Pacific/Auckland"))]))]);
    Mmdb::new("Test-City").network("127.0.0.0/8", record).bytes()
}

fn asn() -> Vec<u8> {
    let record = map([("autonomous_system_number", Value::U32(64_496))]);
    Mmdb::new("Test-ASN").network("127.0.0.0/8", record).bytes()
}

/// Answers with the fields that CloudFront would add, storable.
async fn origin() -> String {
    let echo = any(|headers: HeaderMap| async move {
        let fields = headers.iter().filter(|(name, _)| name.as_str().starts_with("cloudfront-"));
        let fields: String =
            fields.map(|(name, value)| format!("{name}: {}\n", value.to_str().unwrap())).collect();
        ([("cache-control", "max-age=60")], format!("fields\n{fields}"))
    });
    format!("http://{}", wire::serve_router(Router::new().fallback(echo)).await)
}

const PHONE: (&str, &str) =
    ("user-agent", "Mozilla/5.0 (iPhone; CPU iPhone OS 17_0 like Mac OS X) Mobile/15E148");

#[tokio::test]
async fn cf5_the_origin_learns_the_clients_device_country_and_network() {
    let (city, network) = (TempFile::new("mmdb", here("NZ")), TempFile::new("mmdb", asn()));
    let databases = ["--geo-db", city.name(), "--asn-db", network.name()];
    let proxy = Proxy::before(&origin().await, &databases);
    let forged = [PHONE, ("cloudfront-viewer-country", "XX"), ("x-forwarded-for", "192.0.2.1")];
    let seen = wire::get(proxy.address, "/x", &forged).await.body;
    for field in [
        "cloudfront-forwarded-proto: http\n",
        "cloudfront-is-desktop-viewer: false\n",
        "cloudfront-is-ios-viewer: true\n",
        "cloudfront-is-mobile-viewer: true\n",
        "cloudfront-viewer-asn: 64496\n",
        "cloudfront-viewer-country: NZ\n",
        "cloudfront-viewer-country-name: A country\n",
        "cloudfront-viewer-http-version: 1.1\n",
        "cloudfront-viewer-time-zone: Pacific/Auckland\n",
        "cloudfront-viewer-address: 127.0.0.1:",
    ] {
        assert!(seen.contains(field), "{field} in {seen}");
    }
    assert!(!seen.contains("cloudfront-viewer-address: 127.0.0.1:0\n") && !seen.contains("city"), "{seen}");
}

#[tokio::test]
async fn cf5_the_fields_are_there_only_where_they_are_asked_for() {
    let origin = origin().await;
    for (arguments, expected) in [
        (&[][..], "fields\n"),
        (&["--profile", "rfc9111"], "fields\n"),
        // Without an origin request policy that names them, CloudFront forwards none.
        (&["--profile", "cloudfront"], "fields\n"),
    ] {
        let proxy = Proxy::before(&origin, arguments);
        wire::get(proxy.address, "/x", &[PHONE]).await.has_body(expected);
    }
    let proxy = Proxy::before(&origin, &["--viewer-headers", "--key-header", "CloudFront-Is-Mobile-Viewer"]);
    let mobile = |seen: &str| seen.contains("cloudfront-is-mobile-viewer: true\n");
    for (agent, is_mobile) in [(PHONE, true), (("user-agent", "curl/8"), false)] {
        for hit in [false, true] {
            let seen = wire::get(proxy.address, "/x", &[agent]).await;
            assert_eq!((mobile(&seen.body), seen.is_hit()), (is_mobile, hit), "{}", seen.body);
        }
    }
    let policy = TempFile::new(
        "toml",
        "profile = 'cloudfront'\n[default]\ncache_policy = 'UseOriginCacheControlHeaders'\n\
         origin_request_policy = 'AllViewerAndCloudFrontHeaders-2022-06'",
    );
    let proxy = Proxy::before(&origin, &["--policy", policy.name()]);
    let seen = wire::get(proxy.address, "/x", &[PHONE]).await;
    assert!(mobile(&seen.body) && !seen.body.contains("country"), "{}", seen.body);
}

/// `LARDER_BLESS=1` writes it.
#[test]
fn the_database_of_the_walk_is_what_is_written_here() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/origin_proxy/viewer.mmdb");
    let expected = here("NZ");
    if std::env::var_os("LARDER_BLESS").is_some() {
        std::fs::write(path, &expected).unwrap();
    }
    assert!(std::fs::read(path).unwrap() == expected, "write it anew: LARDER_BLESS=1");
}

#[test]
fn a_file_that_is_no_database_is_reported_at_the_start() {
    let broken = TempFile::new("mmdb", "no database");
    for file in [broken.name(), "/no/such.mmdb"] {
        let output = run(&["proxy", "--upstream=http://127.0.0.1:1", "--geo-db", file]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!((output.status.code(), said.lines().count()), (Some(2), 1), "{said}");
        assert!(said.contains(file), "{said}");
    }
}
