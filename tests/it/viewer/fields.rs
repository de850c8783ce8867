//! Which fields a request gets, and with which values.

use http::uri::Scheme;
use http::{HeaderName, HeaderValue, Request, Version};
use larder::ViewerLayer;
use larder::viewer::{ClientAddress, TlsHandshake, ViewerField, ViewerTls};

use super::{
    BERLIN, LOS_ANGELES, SAO_PAULO, SOMEWHERE_IN_GERMANY, UNKNOWN, asn, city, database, fields, from,
};

fn place() -> ViewerLayer {
    ViewerLayer::new()
        .database(database(&city()))
        .database(database(&asn()))
        .without(ViewerField::DEVICE.iter().chain(ViewerField::CONNECTION).copied())
}

#[test]
fn cf5_a_city_database_tells_where_a_client_is() {
    assert_eq!(
        fields(&place(), from(LOS_ANGELES)),
        [
            "viewer-asn: 64496",
            "viewer-city: Los Angeles",
            "viewer-country-name: United States",
            "viewer-country-region-name: California",
            "viewer-country-region: CA",
            "viewer-country: US",
            "viewer-latitude: 34.19310",
            "viewer-longitude: -118.13830",
            "viewer-metro-code: 803",
            "viewer-postal-code: 91001",
            "viewer-time-zone: America/Los_Angeles",
        ]
    );
    assert_eq!(
        fields(&place(), from(BERLIN)),
        [
            "viewer-asn: 4200000000",
            "viewer-city: Berlin",
            "viewer-country-name: Germany",
            "viewer-country: DE",
            "viewer-time-zone: Europe/Berlin",
        ]
    );
}

#[test]
fn cf5_what_a_database_does_not_know_is_absent() {
    // A metro code is of the United States only, and an empty time zone is none.
    assert_eq!(
        fields(&place(), from(SAO_PAULO)),
        [
            "viewer-city: S%C3%A3o Paulo",
            "viewer-country-name: Brazil",
            "viewer-country-region: SP",
            "viewer-country: BR",
        ]
    );
    assert_eq!(
        fields(&place(), from(SOMEWHERE_IN_GERMANY)),
        ["viewer-asn: 4200000000", "viewer-country-name: Germany", "viewer-country: DE"]
    );
    for address in [UNKNOWN, "203.0.113.200:1", "[2001:db9::1]:1"] {
        assert_eq!(fields(&place(), from(address)), Vec::<String>::new(), "{address}");
    }
    let nobody = Request::new(()).into_parts().0;
    assert_eq!(fields(&place(), nobody), Vec::<String>::new());
}

#[test]
fn cf5_an_ipv4_address_in_ipv6_form_is_found() {
    assert!(fields(&place(), from("[::ffff:198.51.100.10]:1")).contains(&"viewer-country: US".to_owned()));
}

#[test]
fn cf5_the_first_database_that_has_a_field_counts() {
    let only = [ViewerField::Asn, ViewerField::Country];
    for databases in [[asn(), city()], [city(), asn()]] {
        let layer = databases
            .iter()
            .fold(ViewerLayer::new().only(only), |layer, mmdb| layer.database(database(mmdb)));
        assert_eq!(fields(&layer, from(LOS_ANGELES)), ["viewer-asn: 64496", "viewer-country: US"]);
    }
}

#[test]
fn cf5_the_connection_is_told() {
    let layer =
        ViewerLayer::new().without(ViewerField::DEVICE.iter().copied()).with([ViewerField::HeaderCount]);
    let mut request = from(LOS_ANGELES);
    request.extensions.insert(Scheme::HTTPS);
    for name in ["host", "accept", "accept", "cloudfront-viewer-header-order"] {
        request.headers.append(HeaderName::from_static(name), HeaderValue::from_static("x"));
    }
    assert_eq!(
        fields(&layer, request),
        [
            "forwarded-proto: https",
            "viewer-address: 198.51.100.10:46532",
            "viewer-header-count: 4",
            "viewer-http-version: 1.1",
        ]
    );
    // Without brackets: the port is behind the last colon.
    let ipv6 = fields(&layer.only([ViewerField::Address]), from(BERLIN));
    assert_eq!(ipv6, ["viewer-address: 2001:db8::1:46532"]);
}

#[test]
fn cf5_each_version_has_its_name() {
    let layer = ViewerLayer::new().only([ViewerField::HttpVersion]);
    for (version, expected) in [
        (Version::HTTP_10, "1.0"),
        (Version::HTTP_11, "1.1"),
        (Version::HTTP_2, "2.0"),
        (Version::HTTP_3, "3.0"),
    ] {
        let mut request = from(LOS_ANGELES);
        request.version = version;
        assert_eq!(fields(&layer, request), [format!("viewer-http-version: {expected}")]);
    }
}

#[test]
fn a38_the_scheme_is_that_of_the_connection() {
    let layer = ViewerLayer::new().only([ViewerField::ForwardedProto]);
    let tls = || ViewerTls::new("TLSv1.3", "TLS_AES_128_GCM_SHA256", TlsHandshake::Full).unwrap();
    let proto = |layer: &ViewerLayer, accepted: Option<Scheme>, tls: Option<ViewerTls>| {
        let mut request = from(LOS_ANGELES);
        // The client's word.
        request.uri = "https://example.com/".parse().unwrap();
        request.headers.insert("x-forwarded-proto", HeaderValue::from_static("https"));
        accepted.map(|scheme| request.extensions.insert(scheme));
        tls.map(|tls| request.extensions.insert(tls));
        fields(layer, request).pop().unwrap_or_default()
    };
    assert_eq!(proto(&layer, None, None), "");
    assert_eq!(proto(&layer, Some(Scheme::HTTP), None), "forwarded-proto: http");
    assert_eq!(proto(&layer, Some(Scheme::HTTPS), None), "forwarded-proto: https");
    assert_eq!(proto(&layer, None, Some(tls())), "forwarded-proto: https");
    assert_eq!(proto(&layer, Some(Scheme::try_from("ftp").unwrap()), None), "");
    let layer = layer.scheme(Scheme::HTTP);
    assert_eq!(proto(&layer, None, None), "forwarded-proto: http");
    assert_eq!(proto(&layer, Some(Scheme::HTTPS), None), "forwarded-proto: https");
}

#[test]
fn cf5_the_tls_terminator_tells_of_tls() {
    let mut request = from(LOS_ANGELES);
    let tls = ViewerTls::new("TLSv1.2", "ECDHE-RSA-AES128-GCM-SHA256", TlsHandshake::SessionResumed).unwrap();
    request.extensions.insert(tls.clone().ja3(HeaderValue::from_static("e7d705a3286e19ea42f587b344ee6865")));
    let layer = ViewerLayer::new().only([ViewerField::Tls, ViewerField::Ja3, ViewerField::Ja4]);
    assert_eq!(
        fields(&layer, request),
        [
            "viewer-ja3-fingerprint: e7d705a3286e19ea42f587b344ee6865",
            "viewer-tls: TLSv1.2:ECDHE-RSA-AES128-GCM-SHA256:sessionResumed",
        ]
    );
    let mut request = from(LOS_ANGELES);
    request.extensions.insert(tls.ja4(HeaderValue::from_static("t13d1516h2_8daaf6152771_e5627efa2ab1")));
    assert_eq!(
        fields(&layer.without([ViewerField::Tls]), request),
        ["viewer-ja4-fingerprint: t13d1516h2_8daaf6152771_e5627efa2ab1"]
    );
    assert!(ViewerTls::new("TLS\n", "x", TlsHandshake::ConnectionReused).is_err());
}

#[test]
fn a11_what_a_client_sends_under_these_names_is_removed_whether_or_not_anything_is_known() {
    let forged = |address| {
        let mut request = from(address);
        for name in [
            "cloudfront-viewer-country",
            "cloudfront_viewer_country",
            "cloudfront-viewer_city",
            "cloudfront-viewer-tls",
            "cloudfront-viewer-header-order",
            "cloudfront-made-up",
            "cloudfront-is-mobile-viewer",
        ] {
            request.headers.append(HeaderName::from_static(name), HeaderValue::from_static("forged"));
            request.headers.append(HeaderName::from_static(name), HeaderValue::from_static("twice"));
        }
        request
    };
    let layer = ViewerLayer::new().database(database(&city())).only([ViewerField::Country]);
    assert_eq!(fields(&layer, forged(LOS_ANGELES)), ["viewer-country: US"]);
    assert_eq!(fields(&layer, forged(UNKNOWN)), Vec::<String>::new());
    assert_eq!(fields(&ViewerLayer::new().only([]), forged(LOS_ANGELES)), Vec::<String>::new());
    let mut request = forged(UNKNOWN);
    layer.apply(&mut request);
    assert!(request.headers.is_empty(), "{:?}", request.headers);
}

#[test]
fn a11_a_client_cannot_choose_its_address() {
    let country = |layer: &ViewerLayer, peer: &str, forwarded: &[&'static str]| {
        let mut request = from(peer);
        for line in forwarded {
            request.headers.append("x-forwarded-for", HeaderValue::from_static(line));
        }
        for name in ["x-real-ip", "forwarded", "x-client-ip", "cloudfront-viewer-address", "fastly-client-ip"]
        {
            request.headers.insert(name, HeaderValue::from_static("203.0.113.9"));
        }
        fields(layer, request).pop()
    };
    let layer = ViewerLayer::new().database(database(&city())).only([ViewerField::Country]);
    let american = Some("viewer-country: US".to_owned());
    assert_eq!(country(&layer, LOS_ANGELES, &["203.0.113.9"]), american);
    let behind = layer.clone().client_address(ClientAddress::behind(1));
    assert_eq!(country(&behind, UNKNOWN, &["203.0.113.9", "198.51.100.10"]), american);
    let trusted = ["192.0.2.0/24".parse().unwrap()];
    let behind = layer.client_address(ClientAddress::behind_networks(trusted));
    assert_eq!(country(&behind, UNKNOWN, &["203.0.113.9", "198.51.100.10, 192.0.2.7"]), american);
    assert_eq!(country(&behind, LOS_ANGELES, &["203.0.113.9"]), american);
}

#[test]
fn the_address_of_a_function_counts() {
    let layer =
        ViewerLayer::new().only([ViewerField::Address]).client_address(ClientAddress::by(|request| {
            Some(
                (request.headers.get("x-client")?.to_str().ok()?.parse::<std::net::IpAddr>().ok()?, 0).into(),
            )
        }));
    let mut request = from(LOS_ANGELES);
    assert_eq!(fields(&layer, request.clone()), Vec::<String>::new());
    request.headers.insert("x-client", HeaderValue::from_static("203.0.113.9"));
    assert_eq!(fields(&layer, request), ["viewer-address: 203.0.113.9:0"]);
}

#[test]
fn axums_address_of_the_connection_counts() {
    let mut request = Request::new(()).into_parts().0;
    let address: std::net::SocketAddr = LOS_ANGELES.parse().unwrap();
    request.extensions.insert(axum::extract::ConnectInfo(address));
    let layer = ViewerLayer::new().only([ViewerField::Address]);
    assert_eq!(fields(&layer, request), ["viewer-address: 198.51.100.10:46532"]);
}

#[test]
fn cf5_the_prefix_can_be_ones_own() {
    let mut request = from(LOS_ANGELES);
    for name in ["x-viewer-country", "x_viewer_made_up", "cloudfront-viewer-country"] {
        request.headers.insert(HeaderName::from_static(name), HeaderValue::from_static("forged"));
    }
    let layer = ViewerLayer::new()
        .prefix("X-Viewer-")
        .database(database(&city()))
        .only([ViewerField::Country, ViewerField::IsDesktop]);
    layer.apply(&mut request);
    let mut names: Vec<_> =
        request.headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
    names.sort();
    // Another layer, nearer to the client, may have set CloudFront's.
    assert_eq!(
        names,
        ["cloudfront-viewer-country: forged", "x-viewer-country: US", "x-viewer-is-desktop: true"]
    );
}

#[test]
#[should_panic(expected = "not `X-`: \"X-\"")]
fn a_prefix_that_many_fields_have_is_refused() {
    let _ = ViewerLayer::new().prefix("X-");
}

#[test]
fn a_request_with_as_many_fields_as_there_can_be_gets_no_more_and_no_panic() {
    let mut request = from(LOS_ANGELES);
    let mut number = 0;
    while request
        .headers
        .try_append(HeaderName::try_from(format!("a{number}")).unwrap(), HeaderValue::from_static(""))
        .is_ok()
    {
        number += 1;
    }
    ViewerLayer::new().apply(&mut request);
    assert_eq!(request.headers.len(), number);
}
