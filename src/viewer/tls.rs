//! What a TLS terminator knows of a connection.

use http::HeaderValue;
use http::header::InvalidHeaderValue;

/// How a request's TLS connection came about; the third part of `CloudFront-Viewer-TLS`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TlsHandshake {
    /// `connectionReused`: the connection has carried a request before.
    ConnectionReused,
    /// `fullHandshake`.
    Full,
    /// `sessionResumed`.
    SessionResumed,
}

impl TlsHandshake {
    fn written(self) -> &'static str {
        match self {
            Self::ConnectionReused => "connectionReused",
            Self::Full => "fullHandshake",
            Self::SessionResumed => "sessionResumed",
        }
    }
}

/// What the code that accepts TLS connections puts among a request's extensions, for
/// [`ViewerField::Tls`](super::ViewerField::Tls), [`Ja3`](super::ViewerField::Ja3) and
/// [`Ja4`](super::ViewerField::Ja4). Without it, these fields are absent. Its clones share what they hold.
///
/// ```
/// use larder::viewer::{TlsHandshake, ViewerTls};
/// let tls = ViewerTls::new("TLSv1.3", "TLS_AES_128_GCM_SHA256", TlsHandshake::Full)?;
/// let mut request = http::Request::new(());
/// request.extensions_mut().insert(tls);
/// # Ok::<(), http::header::InvalidHeaderValue>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ViewerTls {
    pub(super) connection: HeaderValue,
    pub(super) ja3: Option<HeaderValue>,
    pub(super) ja4: Option<HeaderValue>,
}

impl ViewerTls {
    /// The version (`TLSv1.3`), the cipher suite by its name, and how the connection came about.
    ///
    /// # Errors
    ///
    /// If a name has characters that a field can't have.
    pub fn new(version: &str, cipher: &str, handshake: TlsHandshake) -> Result<Self, InvalidHeaderValue> {
        let connection = format!("{version}:{cipher}:{}", handshake.written());
        Ok(Self { connection: HeaderValue::try_from(connection)?, ja3: None, ja4: None })
    }

    /// The fingerprint of the client's hello by JA3.
    #[must_use]
    pub fn ja3(mut self, fingerprint: HeaderValue) -> Self {
        self.ja3 = Some(fingerprint);
        self
    }

    /// The fingerprint of the client's hello by JA4.
    #[must_use]
    pub fn ja4(mut self, fingerprint: HeaderValue) -> Self {
        self.ja4 = Some(fingerprint);
        self
    }
}
