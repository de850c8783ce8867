//! TLS byte by byte: an authority that issues certificates, an origin that shows them and whose answers the test writes, and a
//! client.

use std::io::{BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::crypto::ring;
use rustls::pki_types::PrivateKeyDer;
use rustls::server::{WantsServerCert, WebPkiClientVerifier};
use rustls::{
    ClientConfig, ClientConnection, ConfigBuilder, RootCertStore, ServerConfig, ServerConnection,
    StreamOwned, WantsVerifier,
};

use super::file::TempFile;
use super::raw::{GUARD, Message};

/// An authority, whose certificate a file has.
pub struct Authority {
    pub file: TempFile,
    certificate: rcgen::Certificate,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    pub fn new() -> Self {
        Self::named("authority")
    }

    pub fn named(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap();
        let file = TempFile::new("pem", certificate.pem());
        Self { file, certificate, issuer: Issuer::new(params, key) }
    }

    /// A server with a certificate for these names, which may be addresses.
    pub fn server(&self, names: &[&str]) -> ServerConfig {
        self.server_with(names, |_| {})
    }

    /// The same, with a certificate that `edit` has changed.
    pub fn server_with(&self, names: &[&str], edit: impl FnOnce(&mut CertificateParams)) -> ServerConfig {
        self.certified(builder().with_no_client_auth(), names, edit)
    }

    /// A server that wants a certificate of its clients.
    pub fn server_for_certified(&self, names: &[&str]) -> ServerConfig {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.der().clone()).unwrap();
        let provider = Arc::new(ring::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
        self.certified(builder().with_client_cert_verifier(verifier.build().unwrap()), names, |_| {})
    }

    /// A certificate for these names and its key, as files.
    pub fn issue(&self, names: &[&str]) -> Issued {
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(names).unwrap().signed_by(&key, &self.issuer).unwrap();
        Issued {
            certificate: TempFile::new("pem", certificate.pem()),
            key: TempFile::new("pem", key.serialize_pem()),
        }
    }

    /// A client that trusts this authority and speaks these protocols.
    pub fn client(&self, protocols: &[&str]) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.der().clone()).unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let builder = builder.with_safe_default_protocol_versions().unwrap();
        let mut config = builder.with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        config
    }

    fn certified(
        &self,
        builder: ConfigBuilder<ServerConfig, WantsServerCert>,
        names: &[&str],
        edit: impl FnOnce(&mut CertificateParams),
    ) -> ServerConfig {
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        edit(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        builder.with_single_cert(vec![certificate.der().clone()], key).unwrap()
    }
}

/// A certificate and its key.
pub struct Issued {
    pub certificate: TempFile,
    pub key: TempFile,
}

impl Issued {
    /// What a proxy has to be told.
    pub fn options(&self) -> [&str; 4] {
        ["--tls-cert", self.certificate.name(), "--tls-key", self.key.name()]
    }

    /// The files have another certificate and key from now on.
    pub fn becomes(&self, other: &Self) {
        for (file, other) in [(&self.certificate, &other.certificate), (&self.key, &other.key)] {
            file.write(std::fs::read(other.path()).unwrap());
        }
    }
}

/// A server whose certificate signs itself, and that certificate.
pub fn self_signed(names: &[&str], is_ca: IsCa) -> (ServerConfig, TempFile) {
    let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.is_ca = is_ca;
    let key = KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();
    let file = TempFile::new("pem", certificate.pem());
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let builder = builder().with_no_client_auth();
    (builder.with_single_cert(vec![certificate.der().clone()], key).unwrap(), file)
}

fn builder() -> ConfigBuilder<ServerConfig, WantsVerifier> {
    let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
    builder.with_safe_default_protocol_versions().unwrap()
}

/// An origin that speaks TLS.
#[derive(Clone)]
pub struct TlsOrigin {
    config: Arc<ServerConfig>,
    listener: Arc<TcpListener>,
}

impl TlsOrigin {
    pub fn new(config: ServerConfig) -> Self {
        Self { config: Arc::new(config), listener: Arc::new(TcpListener::bind("127.0.0.1:0").unwrap()) }
    }

    /// The same origin with another certificate.
    pub fn with(&self, config: ServerConfig) -> Self {
        Self { config: Arc::new(config), listener: Arc::clone(&self.listener) }
    }

    /// Its URL by this name.
    pub fn url(&self, name: &str) -> String {
        format!("https://{name}:{}", self.port())
    }

    pub fn port(&self) -> u16 {
        self.listener.local_addr().unwrap().port()
    }

    /// The next connection; its handshake is made when it is first read.
    pub fn accept(&self) -> TlsConnection {
        let (stream, _) = self.listener.accept().unwrap();
        stream.set_read_timeout(Some(GUARD)).unwrap();
        let connection = ServerConnection::new(Arc::clone(&self.config)).unwrap();
        TlsConnection(BufReader::new(StreamOwned::new(connection, stream)))
    }

    /// The next request, on a connection of its own.
    #[track_caller]
    pub fn asked(&self) -> (Message, TlsConnection) {
        let mut connection = self.accept();
        (connection.asked(), connection)
    }
}

/// A connection to an origin, on its side.
pub struct TlsConnection(pub BufReader<StreamOwned<ServerConnection, TcpStream>>);

impl TlsConnection {
    /// The next request.
    #[track_caller]
    pub fn asked(&mut self) -> Message {
        Message::read(&mut self.0).expect("the origin is asked")
    }

    pub fn answer(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.get_mut().write_all(bytes.as_ref()).unwrap();
        self.0.get_mut().flush().unwrap();
    }

    pub fn tls(&self) -> &ServerConnection {
        &self.0.get_ref().conn
    }

    /// Ends the connection as TLS has it.
    pub fn close(mut self) {
        self.0.get_mut().conn.send_close_notify();
        self.0.get_mut().flush().unwrap();
    }

    /// Ends the connection without a word of TLS.
    pub fn cut(self) {
        self.0.get_ref().sock.shutdown(std::net::Shutdown::Both).unwrap();
    }
}

/// A client that speaks HTTP/1.1 over TLS.
pub struct TlsClient(pub BufReader<StreamOwned<ClientConnection, TcpStream>>);

impl TlsClient {
    /// `name` is what the certificate has to be for.
    pub fn new(config: ClientConfig, address: SocketAddr, name: &'static str) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        Self::over(stream, config, name)
    }

    pub fn over(stream: TcpStream, config: ClientConfig, name: &'static str) -> Self {
        stream.set_read_timeout(Some(GUARD)).unwrap();
        let connection = ClientConnection::new(Arc::new(config), name.try_into().unwrap()).unwrap();
        Self(BufReader::new(StreamOwned::new(connection, stream)))
    }

    /// # Errors
    ///
    /// The connection or the handshake fails.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> std::io::Result<()> {
        self.0.get_mut().write_all(bytes.as_ref())?;
        self.0.get_mut().flush()
    }

    pub fn get(&mut self, path: &str) {
        self.send(super::raw::get(path)).unwrap();
    }

    #[track_caller]
    pub fn next(&mut self) -> Message {
        Message::read(&mut self.0).expect("the proxy answers")
    }

    pub fn try_next(&mut self) -> Option<Message> {
        Message::read(&mut self.0)
    }

    pub fn tls(&self) -> &ClientConnection {
        &self.0.get_ref().conn
    }
}
