//! The layer around a cache: fields about the client in the key and in `Vary`.

use std::net::SocketAddr;

use axum::Router;
use axum::routing::get;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request};
use http_body_util::Empty;
use larder::viewer::{ViewerField, ViewerService};
use larder::{CachePolicy, StandardPolicy, ViewerLayer};
use tokio::net::TcpListener;
use tower::{Layer, Service};

use super::{BERLIN, LOS_ANGELES, UNKNOWN, city, database};
use crate::support::bench::read;
use crate::support::{CacheService, Origin, Reply, Seen, cache_builder, wire};

const PHONE: &str = "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) Mobile/15E148";
const ANOTHER_PHONE: &str = "Mozilla/5.0 (Linux; Android 10; K) Chrome/126.0.0.0 Mobile Safari/537.36";
const DESKTOP: &str = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) Chrome/126.0.0.0 Safari/537.36";

struct Scene {
    origin: Origin,
    service: ViewerService<CacheService<Origin>>,
}

impl Scene {
    fn new(policy: impl CachePolicy, replies: impl IntoIterator<Item = Reply>) -> Self {
        let origin = Origin::new(replies);
        let cache = cache_builder().policy(policy).build();
        let viewer = ViewerLayer::new().database(database(&city()));
        Self { service: viewer.layer(cache.layer(origin.clone())), origin }
    }

    async fn ask(
        &self,
        address: &str,
        user_agent: &'static str,
        fields: &[(&'static str, &'static str)],
    ) -> Seen {
        let mut request = Request::new(Empty::<Bytes>::new());
        *request.uri_mut() = "http://example.com/".parse().unwrap();
        request.extensions_mut().insert(address.parse::<SocketAddr>().unwrap());
        request.headers_mut().insert("user-agent", HeaderValue::from_static(user_agent));
        for (name, value) in fields {
            request.headers_mut().append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        read(self.service.clone().call(request).await.unwrap()).await
    }

    fn saw(&self, name: &str) -> Option<String> {
        self.origin.last().headers.get(name).map(|value| value.to_str().unwrap().to_owned())
    }
}

fn by_device_and_country() -> StandardPolicy {
    StandardPolicy::default()
        .key_field(ViewerField::IsMobile.name())
        .key_field(HeaderName::from_static("cloudfront-viewer-country"))
}

const STORED: &str = "larder; fwd=uri-miss; stored; ttl=60";
const HIT: &str = "larder; hit; ttl=60";

#[tokio::test]
async fn cf5_device_and_country_in_the_key_select() {
    let replies = ["phone in US", "desktop in US", "phone in DE", "phone nowhere"];
    let scene = Scene::new(by_device_and_country(), replies.map(|body| Reply::cc(body, "max-age=60")));
    scene.ask(LOS_ANGELES, PHONE, &[]).await.told(STORED).has_body("phone in US");
    assert_eq!(scene.saw("cloudfront-is-mobile-viewer").as_deref(), Some("true"));
    assert_eq!(scene.saw("cloudfront-viewer-country").as_deref(), Some("US"));
    scene.ask(LOS_ANGELES, ANOTHER_PHONE, &[]).await.told(HIT).has_body("phone in US");
    scene.ask(LOS_ANGELES, DESKTOP, &[]).await.told(STORED).has_body("desktop in US");
    scene.ask(BERLIN, PHONE, &[]).await.told(STORED).has_body("phone in DE");
    // An address that nobody knows is none of these.
    scene.ask(UNKNOWN, PHONE, &[]).await.told(STORED).has_body("phone nowhere");
    assert_eq!(scene.saw("cloudfront-viewer-country"), None);
    scene.ask(UNKNOWN, PHONE, &[]).await.told(HIT).has_body("phone nowhere");
    scene.ask(BERLIN, PHONE, &[]).await.told(HIT).has_body("phone in DE");
}

#[tokio::test]
async fn a11_forged_viewer_fields_choose_no_stored_response_and_store_none_under_another_key() {
    let forged = [
        ("cloudfront-is-mobile-viewer", "true"),
        ("cloudfront-viewer-country", "DE"),
        ("cloudfront_viewer_country", "DE"),
        ("x-forwarded-for", "2001:db8::1"),
    ];
    let replies = ["desktop in US", "phone in DE"];
    let scene = Scene::new(by_device_and_country(), replies.map(|body| Reply::cc(body, "max-age=60")));
    scene.ask(LOS_ANGELES, DESKTOP, &forged).await.told(STORED).has_body("desktop in US");
    assert_eq!(scene.saw("cloudfront-is-mobile-viewer").as_deref(), Some("false"));
    assert_eq!(scene.saw("cloudfront-viewer-country").as_deref(), Some("US"));
    assert_eq!(scene.saw("cloudfront_viewer_country"), None);
    scene.ask(BERLIN, PHONE, &[]).await.told(STORED).has_body("phone in DE");
    scene.ask(LOS_ANGELES, DESKTOP, &forged).await.told(HIT).has_body("desktop in US");
    scene.ask(LOS_ANGELES, DESKTOP, &[]).await.told(HIT).has_body("desktop in US");
}

#[tokio::test]
async fn a11_forged_fields_have_no_effect_where_nothing_is_known() {
    let scene = Scene::new(by_device_and_country(), [Reply::cc("x", "max-age=60")]);
    scene.ask(UNKNOWN, DESKTOP, &[("cloudfront-viewer-country", "US")]).await.told(STORED);
    assert_eq!(scene.saw("cloudfront-viewer-country"), None);
    scene.ask(UNKNOWN, DESKTOP, &[("cloudfront-viewer-country", "FR")]).await.told(HIT);
}

#[tokio::test]
async fn cf5_vary_on_a_viewer_field_selects() {
    let page = |body| {
        Reply::cc(body, "max-age=60").field("vary", "CloudFront-Viewer-Country, CloudFront-Is-Tablet-Viewer")
    };
    let scene = Scene::new(StandardPolicy::default(), ["US", "DE", "nowhere"].map(page));
    scene.ask(LOS_ANGELES, DESKTOP, &[]).await.told(STORED).has_body("US");
    scene.ask(BERLIN, DESKTOP, &[]).await.told("larder; fwd=vary-miss; stored; ttl=60").has_body("DE");
    // Neither is a tablet.
    scene.ask(BERLIN, PHONE, &[]).await.told(HIT).has_body("DE");
    scene.ask(UNKNOWN, DESKTOP, &[]).await.told("larder; fwd=vary-miss; stored; ttl=60").has_body("nowhere");
    let forged = [("cloudfront-viewer-country", "DE")];
    scene.ask(LOS_ANGELES, DESKTOP, &forged).await.told(HIT).has_body("US");
    scene.ask(UNKNOWN, DESKTOP, &forged).await.told(HIT).has_body("nowhere");
}

#[tokio::test]
async fn a18_what_a_client_writes_into_viewer_fields_makes_no_variants() {
    let page =
        Reply::cc("x", "max-age=60").field("vary", "cloudfront-viewer-city, cloudfront-viewer-made-up");
    let scene = Scene::new(StandardPolicy::default(), [page]);
    scene.ask(LOS_ANGELES, DESKTOP, &[]).await.told(STORED);
    for value in ["a", "b", "c"] {
        let forged = [("cloudfront-viewer-city", value), ("cloudfront-viewer-made-up", value)];
        scene.ask(LOS_ANGELES, DESKTOP, &forged).await.told(HIT);
    }
}

#[tokio::test]
async fn cf5_a_router_of_axum_tells_the_address_and_the_version_of_the_wire() {
    let page = |fields: HeaderMap| async move {
        let told = |name: &str| fields.get(name).map(|value| value.to_str().unwrap().to_owned());
        let (address, version) = (told("cloudfront-viewer-address"), told("cloudfront-viewer-http-version"));
        format!("{} {}", address.unwrap().rsplit_once(':').unwrap().0, version.unwrap())
    };
    let router = Router::new().route("/", get(page)).layer(cache_builder().build()).layer(ViewerLayer::new());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let service = router.into_make_service_with_connect_info::<SocketAddr>();
    tokio::spawn(async move { axum::serve(listener, service).await.unwrap() });
    for (client, expected) in [(wire::client(), "127.0.0.1 1.1"), (wire::http2_client(), "127.0.0.1 2.0")] {
        let request = Request::get(format!("http://{address}/")).body(Empty::<Bytes>::new()).unwrap();
        read(client.request(request).await.unwrap()).await.has_body(expected);
    }
}
