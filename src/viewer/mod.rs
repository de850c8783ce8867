//! Fields that say something about a request's client: its device, connection, country and network, as CloudFront adds them.
//!
//! [`ViewerLayer`] is wrapped around the cache. It takes away what a client has sent under these names, and adds what it
//! can know:
//!
//! | group | fields | known by |
//! |---|---|---|
//! | [device](ViewerField::DEVICE) | `CloudFront-Is-{Android,Desktop,IOS,Mobile,SmartTV,Tablet}-Viewer` | `User-Agent` |
//! | [connection](ViewerField::CONNECTION) | `CloudFront-Viewer-Address`, `-Http-Version`, `CloudFront-Forwarded-Proto`; `-TLS`, `-JA3-Fingerprint`, `-JA4-Fingerprint`; `-Header-Count` by choice | the request and its extensions |
//! | [geography](ViewerField::GEOGRAPHY) | `CloudFront-Viewer-Country`, `-Country-Name`, `-Country-Region`, `-Country-Region-Name`, `-City`, `-Latitude`, `-Longitude`, `-Metro-Code`, `-Postal-Code`, `-Time-Zone` | a City or Country [`Database`] |
//! | [network](ViewerField::NETWORK) | `CloudFront-Viewer-ASN` | an ASN [`Database`] |
//!
//! A field whose value nobody knows is absent, never empty. `CloudFront-Viewer-Header-Order` is not made, because
//! [`http::HeaderMap`] does not keep the order of fields.
//!
//! ```
//! use axum::{Router, http::HeaderMap, routing::get};
//! use larder::viewer::ViewerField;
//! use larder::{CacheBuilder, StandardPolicy, ViewerLayer};
//!
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
//! let policy = StandardPolicy::default().key_field(ViewerField::IsMobile.name());
//! let page = |headers: HeaderMap| async move {
//!     let page = if headers["cloudfront-is-mobile-viewer"] == "true" { "small" } else { "large" };
//!     ([("cache-control", "max-age=60")], page)
//! };
//! let app: Router = Router::new()
//!     .route("/", get(page))
//!     .layer(CacheBuilder::default().policy(policy).build())
//!     .layer(ViewerLayer::new().only([ViewerField::IsMobile]));
//!
//! use tower::ServiceExt;
//! for (user_agent, expected) in [("a (iPhone)", "small"), ("a (X11)", "large"), ("b (iPhone)", "small")] {
//!     let request = http::Request::get("/").header("user-agent", user_agent);
//!     // A client's own word does not count.
//!     let request = request.header("cloudfront-is-mobile-viewer", "false");
//!     let answer = app.clone().oneshot(request.body(axum::body::Body::empty()).unwrap()).await.unwrap();
//!     assert_eq!(axum::body::to_bytes(answer.into_body(), 100).await.unwrap(), expected);
//! }
//! # });
//! ```
//!
//! # Devices
//!
//! A small table of words decides, by `User-Agent` alone, as CloudFront does; client hints do not count, because a browser sends
//! them only where it was asked for them. Several fields can be `true`: a tablet is mobile as well (CloudFront does so for some
//! tablets), and so are Android and iOS devices that are not televisions. What is neither mobile nor a television is a desktop:
//! also a client without a `User-Agent`, a program, and a crawler that does not say that it is a phone. Safari on an iPad says
//! that it is a Macintosh, so it is a desktop.
//!
//! # Costs
//!
//! Each field costs a request an insertion, and each distinct value that selects costs a stored variant: key and `Vary` on
//! `CloudFront-Viewer-Country`, not on the city. [`ViewerLayer::only`] and [`ViewerLayer::without`] leave fields out, and then
//! nothing is computed for them.

mod address;
mod database;
mod device;
mod fields;
mod records;
mod tls;

use std::sync::Arc;
use std::task::{Context, Poll};

use http::header::{self, HeaderMap, HeaderValue};
use http::uri::Scheme;
use http::{Request, Version, request};
use tower::{Layer, Service};

use self::address::written;
pub use self::address::{ClientAddress, InvalidNetwork, Network};
pub use self::database::{Database, DatabaseError, DatabaseFile};
use self::device::Device;
pub use self::fields::ViewerField;
use self::fields::{FieldSet, Names};
pub use self::tls::{TlsHandshake, ViewerTls};
use crate::policy::cloudfront::VouchedFields;

/// Adds fields to each request that say something about its client; see [the module](self).
///
/// ```no_run
/// use larder::ViewerLayer;
/// use larder::viewer::{Database, ViewerField};
/// let layer = ViewerLayer::new()
///     .database(Database::open("/var/lib/GeoIP/GeoLite2-City.mmdb")?)
///     .database(Database::open("/var/lib/GeoIP/GeoLite2-ASN.mmdb")?)
///     .without([ViewerField::Latitude, ViewerField::Longitude]);
/// # let _ = layer;
/// # Ok::<(), larder::viewer::DatabaseError>(())
/// ```
#[derive(Clone, Debug)]
pub struct ViewerLayer {
    viewer: Arc<Viewer>,
}

#[derive(Clone, Debug)]
struct Viewer {
    address: ClientAddress,
    databases: Vec<Database>,
    fields: FieldSet,
    names: Names,
    scheme: Option<Scheme>,
}

impl ViewerLayer {
    /// Without a database: the device, and what the connection says. All fields are on except
    /// [`ViewerField::HeaderCount`].
    pub fn new() -> Self {
        let viewer = Viewer {
            address: ClientAddress::default(),
            databases: Vec::new(),
            fields: FieldSet::ALL.without(FieldSet::of([ViewerField::HeaderCount])),
            names: Names::default(),
            scheme: None,
        };
        Self { viewer: Arc::new(viewer) }
    }

    /// Where the address of a request's client comes from; default [`ClientAddress::of_connection`].
    #[must_use]
    pub fn client_address(self, address: ClientAddress) -> Self {
        self.set(|viewer| viewer.address = address)
    }

    /// Adds a database. Each field comes from the first database that has it.
    #[must_use]
    pub fn database(self, database: Database) -> Self {
        self.set(|viewer| viewer.databases.push(database))
    }

    /// Adds only these fields.
    #[must_use]
    pub fn only(self, fields: impl IntoIterator<Item = ViewerField>) -> Self {
        self.set(|viewer| viewer.fields = FieldSet::of(fields))
    }

    /// The beginning of the names of all fields; default `CloudFront-`. With another one, `Viewer-` and `-Viewer` are left
    /// out: `X-Viewer-` makes `X-Viewer-Country`, `X-Viewer-Is-Mobile` and `X-Viewer-Forwarded-Proto`. Everything that a
    /// client sends with this prefix is removed; what begins with `CloudFront-` then is not.
    ///
    /// # Panics
    ///
    /// When the prefix is `X-`, which is that of many other fields, and when it does not end with `-` or is not 2 to 64
    /// characters long that a field name can have.
    #[must_use]
    #[track_caller]
    pub fn prefix(self, prefix: &str) -> Self {
        match Names::with_prefix(prefix) {
            Some(names) => self.set(|viewer| viewer.names = names),
            None => panic!(
                "a prefix is of 2 to 64 characters that a field name can have, ends with `-` and is not `X-`: {prefix:?}"
            ),
        }
    }

    /// The scheme of requests that do not say theirs, for [`ViewerField::ForwardedProto`]; default none, and then the field
    /// is absent. Requests say it by an [`http::uri::Scheme`] among their extensions, or by [`ViewerTls`], which mean the
    /// connection; the scheme in a request's target is the client's word.
    #[must_use]
    pub fn scheme(self, scheme: Scheme) -> Self {
        self.set(|viewer| viewer.scheme = Some(scheme))
    }

    /// Adds these fields as well.
    #[must_use]
    pub fn with(self, fields: impl IntoIterator<Item = ViewerField>) -> Self {
        self.set(|viewer| viewer.fields = viewer.fields.and(FieldSet::of(fields)))
    }

    /// Does not add these fields.
    ///
    /// ```
    /// use larder::ViewerLayer;
    /// use larder::viewer::ViewerField;
    /// let layer = ViewerLayer::new().without(ViewerField::CONNECTION.iter().copied());
    /// # let _ = layer;
    /// ```
    #[must_use]
    pub fn without(self, fields: impl IntoIterator<Item = ViewerField>) -> Self {
        self.set(|viewer| viewer.fields = viewer.fields.without(FieldSet::of(fields)))
    }

    /// What the layer does with a request, for services that are not made of layers.
    pub fn apply(&self, request: &mut request::Parts) {
        self.viewer.apply(request);
    }

    fn set(mut self, edit: impl FnOnce(&mut Viewer)) -> Self {
        edit(Arc::make_mut(&mut self.viewer));
        self
    }
}

impl Default for ViewerLayer {
    fn default() -> Self {
        Self::new()
    }
}

impl<S> Layer<S> for ViewerLayer {
    type Service = ViewerService<S>;

    fn layer(&self, inner: S) -> ViewerService<S> {
        ViewerService { inner, viewer: Arc::clone(&self.viewer) }
    }
}

impl Viewer {
    fn apply(&self, request: &mut request::Parts) {
        let lines = request.headers.len();
        self.names.remove_all(&mut request.headers);
        if self.names.are_cloudfronts() {
            request.extensions.insert(VouchedFields);
        }
        // Without room, fields are inserted one by one, or not at all.
        let _ = request.headers.try_reserve(self.fields.len());
        if self.fields.has_any(FieldSet::DEVICE) {
            self.add_device(&mut request.headers);
        }
        self.add_connection(request, lines);
        self.add_address(request);
    }

    fn add(&self, headers: &mut HeaderMap, field: ViewerField, value: HeaderValue) {
        // A request that has thirty thousand fields gets no more.
        let _ = headers.try_insert(self.names.of(field), value);
    }

    fn add_device(&self, headers: &mut HeaderMap) {
        for (field, holds) in Device::of(headers.get(header::USER_AGENT)).fields() {
            if self.fields.has(field) {
                self.add(headers, field, HeaderValue::from_static(if holds { "true" } else { "false" }));
            }
        }
    }

    fn add_connection(&self, request: &mut request::Parts, lines: usize) {
        let fields = self.fields;
        if fields.has(ViewerField::HeaderCount) {
            self.add(&mut request.headers, ViewerField::HeaderCount, lines.into());
        }
        if fields.has(ViewerField::HttpVersion)
            && let Some(version) = version(request.version)
        {
            self.add(&mut request.headers, ViewerField::HttpVersion, HeaderValue::from_static(version));
        }
        let tls = request.extensions.get::<ViewerTls>();
        if fields.has(ViewerField::ForwardedProto)
            && let Some(scheme) = scheme(request, tls.is_some(), self.scheme.as_ref())
        {
            self.add(&mut request.headers, ViewerField::ForwardedProto, HeaderValue::from_static(scheme));
        }
        let Some(tls) = tls else {
            return;
        };
        let known = [
            (ViewerField::Tls, Some(&tls.connection)),
            (ViewerField::Ja3, tls.ja3.as_ref()),
            (ViewerField::Ja4, tls.ja4.as_ref()),
        ];
        for (field, value) in known {
            if fields.has(field)
                && let Some(value) = value
            {
                self.add(&mut request.headers, field, value.clone());
            }
        }
    }

    fn add_address(&self, request: &mut request::Parts) {
        let mut wanted = self.fields;
        let has_database = !self.databases.is_empty() && wanted.has_any(FieldSet::PLACE);
        if !has_database && !wanted.has(ViewerField::Address) {
            return;
        }
        let Some(address) = self.address.of(request) else {
            return;
        };
        if wanted.has(ViewerField::Address)
            && let Some(value) = written(address)
        {
            self.add(&mut request.headers, ViewerField::Address, value);
        }
        if !has_database {
            return;
        }
        for database in &self.databases {
            for (field, value) in database.find(address.ip()).iter().flat_map(|record| record.iter()) {
                if wanted.has(*field) {
                    wanted = wanted.without(FieldSet::of([*field]));
                    self.add(&mut request.headers, *field, value.clone());
                }
            }
        }
    }
}

/// As CloudFront writes it.
fn version(version: Version) -> Option<&'static str> {
    match version {
        Version::HTTP_09 => Some("0.9"),
        Version::HTTP_10 => Some("1.0"),
        Version::HTTP_11 => Some("1.1"),
        Version::HTTP_2 => Some("2.0"),
        Version::HTTP_3 => Some("3.0"),
        _ => None,
    }
}

/// The scheme of the connection, if anybody knows it but the client.
fn scheme(request: &request::Parts, is_tls: bool, otherwise: Option<&Scheme>) -> Option<&'static str> {
    let accepted = request.extensions.get::<Scheme>();
    let by_tls = || is_tls.then_some(&Scheme::HTTPS);
    let scheme = accepted.or_else(by_tls).or(otherwise)?;
    if *scheme == Scheme::HTTPS {
        Some("https")
    } else if *scheme == Scheme::HTTP {
        Some("http")
    } else {
        None
    }
}

/// The service that [`ViewerLayer`] makes.
#[derive(Clone, Debug)]
pub struct ViewerService<S> {
    inner: S,
    viewer: Arc<Viewer>,
}

impl<S, Q> Service<Request<Q>> for ViewerService<S>
where
    S: Service<Request<Q>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Q>) -> S::Future {
        let (mut parts, body) = request.into_parts();
        self.viewer.apply(&mut parts);
        self.inner.call(Request::from_parts(parts, body))
    }
}
