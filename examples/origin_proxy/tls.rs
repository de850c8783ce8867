//! TLS to the origin: which certificates are trusted, and what a failed handshake is called.
//!
//! The origin's certificate has to be for the host of `--upstream`, whatever `Host` the client has asked for. Only
//! HTTP/1.1 is negotiated: tunnels, interim responses and connections that carry the content of one request each
//! (`pool`) are made for it.

use std::path::Path;
use std::sync::Arc;

use http::Uri;
use http::uri::Scheme;
use hyper_rustls::ConfigBuilderExt;
use rustls::crypto::ring;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{CertificateError, ClientConfig, RootCertStore};

/// The configuration for upstreams. If `ca` names a PEM file, its certificates are trusted, and those of the system
/// are not.
///
/// # Errors
///
/// One sentence: there is no certificate to trust, or the upstream has a host that no certificate can be for.
pub fn config(upstreams: &[Uri], ca: Option<&Path>) -> Result<Arc<ClientConfig>, String> {
    let of_https = || upstreams.iter().filter(|upstream| upstream.scheme() == Some(&Scheme::HTTPS));
    let is_https = of_https().next().is_some();
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| format!("TLS can't be used: {error}"))?;
    let builder = match (is_https, ca) {
        (true, Some(file)) => builder.with_root_certificates(roots("upstream-ca", file)?),
        (true, None) => builder.with_native_roots().map_err(|error| {
            format!("the system has no certificates to trust; --upstream-ca names a file of some: {error}")
        })?,
        (false, Some(_)) => return Err("--upstream-ca goes with an upstream of https".to_owned()),
        // Not used.
        (false, None) => builder.with_root_certificates(RootCertStore::empty()),
    };
    of_https().try_for_each(check_name)?;
    let mut config = builder.with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// The certificates of a PEM file that an option names.
///
/// # Errors
///
/// One sentence: the file can't be read, or has no certificate that can be used.
pub fn roots(option: &str, file: &Path) -> Result<RootCertStore, String> {
    let wrong = |why: &dyn std::fmt::Display| format!("--{option} {}: {why}", file.display());
    let unreadable = |error: pem::Error| match error {
        pem::Error::Io(error) => wrong(&format!("can't be read: {error}")),
        error => wrong(&format!("is not PEM: {error}")),
    };
    let mut roots = RootCertStore::empty();
    for (number, certificate) in (1..).zip(CertificateDer::pem_file_iter(file).map_err(unreadable)?) {
        let added = roots.add(certificate.map_err(unreadable)?);
        added.map_err(|error| wrong(&format!("certificate {number} can't be used: {error}")))?;
    }
    if roots.is_empty() {
        return Err(wrong(&"has no certificate (-----BEGIN CERTIFICATE-----)"));
    }
    Ok(roots)
}

fn check_name(upstream: &Uri) -> Result<(), String> {
    let host = upstream.host().unwrap_or_default();
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let name = ServerName::try_from(host);
    name.map(drop)
        .map_err(|_| format!("'{upstream}' is not an upstream URL: no certificate can be for '{host}'"))
}

/// Why a certificate is not accepted, as a word of `Cache-Status`.
pub fn detail(error: &CertificateError) -> &'static str {
    use CertificateError as Error;
    match error {
        Error::Expired
        | Error::ExpiredContext { .. }
        | Error::NotValidYet
        | Error::NotValidYetContext { .. } => "origin-certificate-expired",
        Error::NotValidForName | Error::NotValidForNameContext { .. } => "origin-certificate-name",
        // An authority of the name of a trusted one is not that one.
        Error::BadSignature | Error::UnknownIssuer => "origin-certificate-untrusted",
        _ => "origin-certificate-invalid",
    }
}
