//! TLS for clients: a certificate and its key from files, which can be read again while the proxy runs.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

/// Where the certificate is, with those of the authorities between it and a trusted one, and its key. Both are PEM.
#[derive(Clone)]
pub struct TlsFiles {
    pub certificates: PathBuf,
    pub key: PathBuf,
}

/// What clients get in a handshake.
#[derive(Clone)]
pub struct ClientTls {
    config: Arc<ArcSwap<ServerConfig>>,
    files: TlsFiles,
}

impl ClientTls {
    /// # Errors
    ///
    /// One sentence: a file can't be read or has not what it should, or the key is that of another certificate.
    pub fn load(files: TlsFiles) -> Result<Self, String> {
        let config = config(&files)?;
        Ok(Self { config: Arc::new(ArcSwap::from(config)), files })
    }

    /// For the next connection.
    pub fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(self.config.load_full())
    }

    /// Reads the files again: connections that begin from now on get what they have. Returns the file of the certificate.
    ///
    /// # Errors
    ///
    /// As for [`load`](Self::load). Then nothing has changed.
    pub fn reload(&self) -> Result<&Path, String> {
        self.config.store(config(&self.files)?);
        Ok(&self.files.certificates)
    }
}

fn config(files: &TlsFiles) -> Result<Arc<ServerConfig>, String> {
    let certificates = certificates(&files.certificates)?;
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|error| match error {
        pem::Error::NoItemsFound => {
            format!("--tls-key {}: has no key (-----BEGIN PRIVATE KEY-----)", files.key.display())
        }
        error => unreadable("--tls-key", &files.key, error),
    })?;
    let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| format!("TLS can't be used: {error}"))?;
    let mut config = builder.with_no_client_auth().with_single_cert(certificates, key).map_err(|error| {
        let files = (files.certificates.display(), files.key.display());
        format!("--tls-cert {} and --tls-key {} can't be used: {error}", files.0, files.1)
    })?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let wrong = |error| unreadable("--tls-cert", file, error);
    let certificates = CertificateDer::pem_file_iter(file).map_err(wrong)?;
    let certificates: Vec<_> = certificates.collect::<Result<_, _>>().map_err(wrong)?;
    if certificates.is_empty() {
        return Err(format!(
            "--tls-cert {}: has no certificate (-----BEGIN CERTIFICATE-----)",
            file.display()
        ));
    }
    Ok(certificates)
}

fn unreadable(option: &str, file: &Path, error: pem::Error) -> String {
    match error {
        pem::Error::Io(error) => format!("{option} {}: can't be read: {error}", file.display()),
        error => format!("{option} {}: is not PEM: {error}", file.display()),
    }
}
