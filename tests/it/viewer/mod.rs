//! Fields about a request's client: what they are made of, and what a cache does with them.

mod caching;
mod databases;
mod fields;

use std::net::SocketAddr;

use http::Request;
use http::request::Parts;
use larder::ViewerLayer;
use larder::viewer::Database;

use crate::support::mmdb::{Mmdb, Value, map, named, text};

/// In Los Angeles, in the example networks; `2001:db8:1::/48` within Berlin's.
pub const LOS_ANGELES: &str = "198.51.100.10:46532";
pub const SAO_PAULO: &str = "203.0.113.9:1234";
pub const BERLIN: &str = "[2001:db8::1]:46532";
pub const SOMEWHERE_IN_GERMANY: &str = "[2001:db8:1::1]:1";
pub const UNKNOWN: &str = "192.0.2.1:1";

fn country(code: &str, name: &str) -> Value {
    map([("iso_code", text(code)), ("names", named(name))])
}

pub fn city() -> Mmdb {
    let los_angeles = map([
        ("city", map([("names", named("Los Angeles"))])),
        ("country", country("US", "United States")),
        (
            "location",
            map([
                ("accuracy_radius", Value::U16(20)),
                ("latitude", Value::Double(34.1931)),
                ("longitude", Value::Double(-118.1383)),
                ("metro_code", Value::U16(803)),
                ("time_zone", text("America/Los_Angeles")),
            ]),
        ),
        ("postal", map([("code", text("91001"))])),
        (
            "subdivisions",
            Value::List(vec![
                map([("iso_code", text("CA")), ("names", named("California"))]),
                map([("iso_code", text("037")), ("names", named("Los Angeles County"))]),
            ]),
        ),
    ]);
    let sao_paulo = map([
        ("city", map([("names", map([("de", text("Sankt Paul")), ("en", text("São Paulo"))]))])),
        ("country", country("BR", "Brazil")),
        ("location", map([("metro_code", Value::U16(1)), ("time_zone", text(""))])),
        ("subdivisions", Value::List(vec![map([("iso_code", text("SP"))])])),
    ]);
    let berlin = map([
        ("city", map([("names", named("Berlin"))])),
        ("country", country("DE", "Germany")),
        ("location", map([("time_zone", text("Europe/Berlin"))])),
    ]);
    Mmdb::new("Test-City")
        .network("198.51.100.0/24", los_angeles)
        .network("203.0.113.0/25", sao_paulo)
        .network("2001:db8:1::/48", map([("country", country("DE", "Germany"))]))
        .network("2001:db8::/32", berlin)
}

pub fn asn() -> Mmdb {
    let number = |number| {
        map([("autonomous_system_number", Value::U32(number)), ("autonomous_system_organization", text("X"))])
    };
    Mmdb::new("Test-ASN")
        .network("198.51.100.0/24", number(64_496))
        .network("2001:db8::/33", number(4_200_000_000))
}

pub fn database(mmdb: &Mmdb) -> Database {
    Database::from_bytes(mmdb.bytes()).unwrap()
}

/// A request over a connection from this address.
pub fn from(address: &str) -> Parts {
    let mut parts = Request::new(()).into_parts().0;
    parts.extensions.insert(address.parse::<SocketAddr>().unwrap());
    parts
}

/// The fields of a request behind the layer, as `name: value` without CloudFront's prefix, in order.
pub fn fields(layer: &ViewerLayer, mut request: Parts) -> Vec<String> {
    layer.apply(&mut request);
    let line = |(name, value): (&http::HeaderName, &http::HeaderValue)| {
        let name = name.as_str().strip_prefix("cloudfront-")?;
        Some(format!("{name}: {}", value.to_str().unwrap()))
    };
    let mut lines: Vec<_> = request.headers.iter().filter_map(line).collect();
    lines.sort();
    lines
}
