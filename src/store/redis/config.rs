//! Where the servers are, and how the store uses them.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;

use super::advice::{Listener, RedisAdvice};
use crate::runtime::clock::Clock;

/// One server.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Address {
    pub(super) host: Box<str>,
    pub(super) port: u16,
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// A user of the server, whose password is not shown.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct Account {
    pub(super) password: Option<Box<str>>,
    pub(super) user: Option<Box<str>>,
}

impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Account").field("user", &self.user).finish_non_exhaustive()
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Servers {
    Cluster(Vec<Address>),
    Sentinel { account: Account, name: Box<str>, sentinels: Vec<Address> },
    Single(Address),
}

/// How many bytes a chunk may have.
pub(super) const CHUNKS: RangeInclusive<u32> = (16 << 10)..=(64 << 20);

/// How many replicas have to have a purge, and for how long that is waited for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Replicas {
    pub(super) count: usize,
    pub(super) limit: Duration,
}

/// Settings of a [`RedisStore`](super::RedisStore): where the servers are, and how the store uses them.
///
/// | URL | servers |
/// |---|---|
/// | `redis://[user:password@]host[:port][/database]` | one |
/// | `redis-sentinel://[user:password@]host[:port],…/name[/database]` | the primary that these Sentinels know by this name |
/// | `redis-cluster://[user:password@]host[:port],…` | a Cluster that has these nodes, and others |
///
/// Ports that are not named are 6379, and 26379 for Sentinels. `rediss`, `rediss-sentinel` and `rediss-cluster` are the same over
/// TLS, with the feature `redis-tls`. User and password are those of the servers, percent-encoded; a password alone is
/// `:password@`. Valkey has the same URLs.
///
/// ```
/// use std::time::Duration;
/// use larder::store::RedisConfig;
/// let config: RedisConfig = "redis://cache:secret@10.0.0.7:6379/2".parse()?;
/// let config = config.namespace("shop").deadline(Duration::from_millis(50)).max_object(1 << 20);
/// assert!("redis-sentinel://10.0.0.7".parse::<RedisConfig>().is_err()); // of which primary?
/// # let _ = config;
/// # Ok::<(), larder::store::InvalidRedisConfig>(())
/// ```
#[derive(Clone)]
pub struct RedisConfig {
    pub(super) account: Account,
    #[cfg(feature = "redis-tls")]
    pub(super) certificates: Option<redis::TlsCertificates>,
    pub(super) clock: Clock,
    pub(super) connections: usize,
    pub(super) content_deadline: Duration,
    pub(super) database: i64,
    pub(super) deadline: Duration,
    pub(super) inline: u64,
    pub(super) keep: Duration,
    pub(super) listener: Option<Listener>,
    pub(super) max_object: u64,
    pub(super) max_variants: usize,
    pub(super) namespace: Box<str>,
    pub(super) replicas: Option<Replicas>,
    pub(super) secret: [u8; 16],
    pub(super) servers: Servers,
    pub(super) chunk: u32,
    pub(super) tls: bool,
}

/// Why settings make no [`RedisStore`](super::RedisStore).
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum InvalidRedisConfig {
    /// Certificates that are none.
    #[error("the certificates can't be read: {0}")]
    Certificates(String),
    /// A Cluster has one database.
    #[error("a Cluster has database 0 alone, not {0}")]
    Database(i64),
    /// No address, or one that is none.
    #[error(
        "`{0}` is no address: write `host` or `host:port`, several of them with commas between, IPv6 in brackets"
    )]
    Address(String),
    /// A number that has to be greater than zero.
    #[error("{0} is zero")]
    Zero(&'static str),
    /// A namespace that can't be part of a name.
    #[error("the namespace `{0}` is empty, or has a brace, a space or a control character in it")]
    Namespace(String),
    /// Something in the path of a URL that is not understood.
    #[error("the path `{0}` is not understood: {1}")]
    Path(String, &'static str),
    /// A URL of another kind.
    #[error(
        "`{0}` is no URL of Redis: it begins with redis://, redis-sentinel:// or redis-cluster://, or with rediss for TLS"
    )]
    Scheme(String),
    /// TLS, without the feature for it.
    #[error("TLS needs the feature `redis-tls` of larder")]
    Tls,
    /// A user or password that is not percent-encoded UTF-8.
    #[error("the user or the password is not percent-encoded UTF-8")]
    User,
}

impl RedisConfig {
    fn of(servers: Servers) -> Self {
        Self {
            account: Account::default(),
            #[cfg(feature = "redis-tls")]
            certificates: None,
            clock: Clock::system(),
            connections: 1,
            content_deadline: Duration::from_secs(2),
            database: 0,
            deadline: Duration::from_millis(100),
            inline: 32 << 10,
            keep: Duration::from_secs(24 * 60 * 60),
            listener: None,
            max_object: 8 << 20,
            max_variants: 64,
            namespace: "larder".into(),
            replicas: None,
            secret: [0; 16],
            servers,
            chunk: 512 << 10,
            tls: false,
        }
    }

    /// One server.
    pub fn single(host: &str, port: u16) -> Self {
        Self::of(Servers::Single(Address { host: host.into(), port }))
    }

    /// The primary that these Sentinels know by a name, whichever it is at the time.
    pub fn sentinel<'a>(sentinels: impl IntoIterator<Item = (&'a str, u16)>, name: &str) -> Self {
        let sentinels = addresses(sentinels);
        Self::of(Servers::Sentinel { account: Account::default(), name: name.into(), sentinels })
    }

    /// A Cluster that has these nodes, and others.
    pub fn cluster<'a>(nodes: impl IntoIterator<Item = (&'a str, u16)>) -> Self {
        Self::of(Servers::Cluster(addresses(nodes)))
    }

    /// The user of the servers' access control lists, and the password. What the user needs is in docs/FLEET.md.
    #[must_use]
    pub fn user(mut self, name: &str, password: &str) -> Self {
        self.account = Account { password: Some(password.into()), user: Some(name.into()) };
        self
    }

    /// A password without a user.
    #[must_use]
    pub fn password(mut self, password: &str) -> Self {
        self.account = Account { password: Some(password.into()), user: None };
        self
    }

    /// The user and the password of the Sentinels, which have their own. No effect without Sentinels.
    #[must_use]
    pub fn sentinel_user(mut self, name: &str, password: &str) -> Self {
        if let Servers::Sentinel { account, .. } = &mut self.servers {
            *account = Account { password: Some(password.into()), user: Some(name.into()) };
        }
        self
    }

    /// Whether connections are encrypted; default `false`. Needs the feature `redis-tls`.
    #[must_use]
    pub fn tls(mut self, is_encrypted: bool) -> Self {
        self.tls = is_encrypted;
        self
    }

    /// The certificates, in PEM, of those who may sign that of a server, in place of the ones that browsers trust.
    #[cfg(feature = "redis-tls")]
    #[must_use]
    pub fn root_certificates(mut self, pem: &[u8]) -> Self {
        let client_tls = self.certificates.and_then(|certificates| certificates.client_tls);
        self.certificates = Some(redis::TlsCertificates { client_tls, root_cert: Some(pem.into()) });
        self
    }

    /// The store's own certificate and key, in PEM, for servers that ask for one.
    #[cfg(feature = "redis-tls")]
    #[must_use]
    pub fn client_certificate(mut self, certificate: &[u8], key: &[u8]) -> Self {
        let root_cert = self.certificates.and_then(|certificates| certificates.root_cert);
        let own = redis::ClientTlsConfig { client_cert: certificate.into(), client_key: key.into() };
        self.certificates = Some(redis::TlsCertificates { client_tls: Some(own), root_cert });
        self
    }

    /// Which database of the server; default 0. A Cluster has no other.
    #[must_use]
    pub fn database(mut self, number: i64) -> Self {
        self.database = number;
        self
    }

    /// What the names of all keys begin with; default `larder`. Stores with one namespace share everything; all of them need the
    /// same [secret](RedisConfig::secret).
    #[must_use]
    pub fn namespace(mut self, name: &str) -> Self {
        self.namespace = name.into();
        self
    }

    /// Without it, anybody can look for URIs whose records have one name, and keep a page out of the cache by them. Default: none.
    #[must_use]
    pub fn secret(mut self, secret: [u8; 16]) -> Self {
        self.secret = secret;
        self
    }

    /// How long a look-up or a purge may take, everything included; default 100 ms. It is what a request loses where the server
    /// hangs, for the first few.
    #[must_use]
    pub fn deadline(mut self, limit: Duration) -> Self {
        self.deadline = limit;
        self
    }

    /// How long it may take to store a response, everything included, or to send or fetch a [chunk](RedisConfig::chunk) of content
    /// that comes in or goes out in parts; default 2 s, and never less than the [deadline](RedisConfig::deadline).
    #[must_use]
    pub fn content_deadline(mut self, limit: Duration) -> Self {
        self.content_deadline = limit;
        self
    }

    /// The most bytes of content in one response; default 8 MiB. Redis is no place for videos.
    #[must_use]
    pub fn max_object(mut self, bytes: u64) -> Self {
        self.max_object = bytes;
        self
    }

    /// How many connections records and content are spread over; default 1, to a Cluster so many for each of its nodes. One carries
    /// some 100,000 hits a second, as it is written and read by one task. Purges and what nodes read of them have the first one,
    /// and what waits for something at the server has others.
    #[must_use]
    pub fn connections(mut self, count: usize) -> Self {
        self.connections = count.max(1);
        self
    }

    /// The most responses under one key, at least 1; default 64. The oldest is dropped.
    #[must_use]
    pub fn max_variants(mut self, count: usize) -> Self {
        self.max_variants = count.max(1);
        self
    }

    /// Content of up to so many bytes is stored with its head, and comes with each look-up; default 32 KiB. What is larger is
    /// stored in chunks, which a hit fetches after the look-up. All responses of a key together have up to 1 MiB, or four times as
    /// much as this and at most 8 MiB: the oldest that do not fit are dropped.
    #[must_use]
    pub fn inline(mut self, bytes: u64) -> Self {
        self.inline = bytes;
        self
    }

    /// How many bytes a chunk of content has; default 512 KiB, at least 16 KiB, at most 64 MiB. Each is fetched by a command of
    /// its own, two of them ahead of the client.
    #[must_use]
    pub fn chunk(mut self, bytes: u32) -> Self {
        self.chunk = bytes.clamp(*CHUNKS.start(), *CHUNKS.end());
        self
    }

    /// How long a response is kept after it has become stale, to be validated, and to stand in for errors; default a day. One that
    /// may be served stale for longer than that is kept for as long.
    #[must_use]
    pub fn keep(mut self, time: Duration) -> Self {
        self.keep = time;
        self
    }

    /// A purge succeeds when so many replicas have it, too, within a time (`WAIT`); default: none have to. With one, a purge that
    /// has succeeded is not lost where the primary is and that replica takes over.
    #[must_use]
    pub fn wait_for_replicas(mut self, count: usize, limit: Duration) -> Self {
        self.replicas = (count > 0).then_some(Replicas { count, limit });
        self
    }

    /// The clock of the cache, where that has another one than the system's ([`CacheBuilder::clock`](crate::CacheBuilder::clock)). It
    /// is compared with the server's, so that responses are as old here as they are on the node that has stored them.
    #[must_use]
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// Is called, once for each kind, with risks in how the servers are set up. With the feature `tracing`, it is also
    /// logged as a warning.
    #[must_use]
    pub fn on_advice(mut self, listener: impl Fn(&RedisAdvice) + Send + Sync + 'static) -> Self {
        self.listener = Some(Arc::new(listener));
        self
    }

    /// Whether keys may be on several servers.
    pub(super) fn is_cluster(&self) -> bool {
        matches!(self.servers, Servers::Cluster(_))
    }

    /// Finds what is wrong before anything is sent.
    pub(super) fn check(&self) -> Result<(), InvalidRedisConfig> {
        let is_part_of_name = |c: char| !matches!(c, '{' | '}') && !c.is_whitespace() && !c.is_control();
        if self.namespace.is_empty() || !self.namespace.chars().all(is_part_of_name) {
            return Err(InvalidRedisConfig::Namespace(self.namespace.clone().into()));
        }
        if self.tls && cfg!(not(feature = "redis-tls")) {
            return Err(InvalidRedisConfig::Tls);
        }
        let has_addresses = match &self.servers {
            Servers::Cluster(nodes) => {
                if self.database != 0 {
                    return Err(InvalidRedisConfig::Database(self.database));
                }
                !nodes.is_empty()
            }
            Servers::Sentinel { name, sentinels, .. } => {
                if name.is_empty() {
                    return Err(InvalidRedisConfig::Path(String::new(), "the name of a primary is missing"));
                }
                !sentinels.is_empty()
            }
            Servers::Single(address) => !address.host.is_empty(),
        };
        if !has_addresses {
            return Err(InvalidRedisConfig::Address(String::new()));
        }
        for (name, is_zero) in
            [("the deadline", self.deadline.is_zero()), ("the largest object", self.max_object == 0)]
        {
            if is_zero {
                return Err(InvalidRedisConfig::Zero(name));
            }
        }
        Ok(())
    }
}

impl fmt::Debug for RedisConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisConfig")
            .field("servers", &self.servers)
            .field("account", &self.account)
            .field("namespace", &self.namespace)
            .finish_non_exhaustive()
    }
}

fn addresses<'a>(list: impl IntoIterator<Item = (&'a str, u16)>) -> Vec<Address> {
    list.into_iter().map(|(host, port)| Address { host: host.into(), port }).collect()
}

impl FromStr for RedisConfig {
    type Err = InvalidRedisConfig;

    fn from_str(url: &str) -> Result<Self, InvalidRedisConfig> {
        const PORT: u16 = 6379;
        const SENTINEL_PORT: u16 = 26379;
        // Not the whole: it may have a password.
        let (scheme, rest) =
            url.split_once("://").ok_or_else(|| InvalidRedisConfig::Scheme("a URL without ://".into()))?;
        let (kind, tls) = match scheme {
            "redis" | "redis-cluster" | "redis-sentinel" => (scheme, false),
            "rediss" => ("redis", true),
            "rediss-cluster" => ("redis-cluster", true),
            "rediss-sentinel" => ("redis-sentinel", true),
            other => return Err(InvalidRedisConfig::Scheme(format!("{other}://"))),
        };
        if tls && cfg!(not(feature = "redis-tls")) {
            return Err(InvalidRedisConfig::Tls);
        }
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        if path.contains('@') {
            // A password with a slash in it, which is not to be taken for an address, and shown.
            return Err(InvalidRedisConfig::User);
        }
        let (account, hosts) = match authority.rsplit_once('@') {
            Some((account, hosts)) => (read_account(account)?, hosts),
            None => (Account::default(), authority),
        };
        let (path, database) = match kind {
            "redis-sentinel" => path.split_once('/').unwrap_or((path, "")),
            _ => ("", path),
        };
        let number = database.parse().ok().filter(|number| *number >= 0);
        let database = match number {
            _ if database.is_empty() => 0,
            Some(number) => number,
            None => {
                let why = "the number of a database, or nothing, is expected";
                return Err(InvalidRedisConfig::Path(database.into(), why));
            }
        };
        let port = if kind == "redis-sentinel" { SENTINEL_PORT } else { PORT };
        let mut addresses = hosts.split(',').map(|host| read_address(host, port));
        let servers = match kind {
            "redis" => Servers::Single(read_address(hosts, port)?),
            "redis-cluster" => Servers::Cluster(addresses.collect::<Result<_, _>>()?),
            _ => Servers::Sentinel {
                account: Account::default(),
                name: path.into(),
                sentinels: addresses.by_ref().collect::<Result<_, _>>()?,
            },
        };
        let config = Self { account, database, tls, ..Self::of(servers) };
        config.check().map(|()| config)
    }
}

/// `host`, `host:port`, `[::1]` or `[::1]:port`.
fn read_address(text: &str, port: u16) -> Result<Address, InvalidRedisConfig> {
    let invalid = || InvalidRedisConfig::Address(text.to_owned());
    let (host, rest) = match text.strip_prefix('[') {
        Some(rest) => rest.split_once(']').ok_or_else(invalid)?,
        None => text.split_at(text.find(':').unwrap_or(text.len())),
    };
    let port = match rest.strip_prefix(':') {
        Some(number) => number.parse().map_err(|_| invalid())?,
        None if rest.is_empty() => port,
        None => return Err(invalid()),
    };
    let is_part_of_host = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':');
    if host.is_empty() || !host.chars().all(is_part_of_host) || port == 0 {
        return Err(invalid());
    }
    Ok(Address { host: host.into(), port })
}

fn read_account(text: &str) -> Result<Account, InvalidRedisConfig> {
    let (user, password) = match text.split_once(':') {
        Some((user, password)) => (user, Some(password)),
        None => (text, None),
    };
    let user = Some(user).filter(|user| !user.is_empty()).map(decoded).transpose()?;
    Ok(Account { password: password.map(decoded).transpose()?, user })
}

/// Percent-decoded (RFC 3986 2.1).
fn decoded(text: &str) -> Result<Box<str>, InvalidRedisConfig> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut pieces = text.split('%');
    bytes.extend_from_slice(pieces.next().unwrap_or_default().as_bytes());
    for piece in pieces {
        let (digits, rest) = piece.split_at_checked(2).ok_or(InvalidRedisConfig::User)?;
        let is_hex = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
        let byte = u8::from_str_radix(digits, 16).ok().filter(|_| is_hex).ok_or(InvalidRedisConfig::User)?;
        bytes.push(byte);
        bytes.extend_from_slice(rest.as_bytes());
    }
    String::from_utf8(bytes).map(Into::into).map_err(|_| InvalidRedisConfig::User)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn read(url: &str) -> RedisConfig {
        url.parse().unwrap_or_else(|error| panic!("{url}: {error}"))
    }

    fn address(host: &str, port: u16) -> Address {
        Address { host: host.into(), port }
    }

    #[test]
    fn a_url_says_where_the_servers_are() {
        for (url, servers) in [
            ("redis://a", Servers::Single(address("a", 6379))),
            ("redis://a:1/", Servers::Single(address("a", 1))),
            ("redis://[::1]:1", Servers::Single(address("::1", 1))),
            ("redis://[::1]/3", Servers::Single(address("::1", 6379))),
            ("redis-cluster://a,b:2", Servers::Cluster(vec![address("a", 6379), address("b", 2)])),
            (
                "redis-sentinel://a,b:2/main/4",
                Servers::Sentinel {
                    account: Account::default(),
                    name: "main".into(),
                    sentinels: vec![address("a", 26379), address("b", 2)],
                },
            ),
        ] {
            assert_eq!(read(url).servers, servers, "{url}");
        }
        assert_eq!(read("redis://a/3").database, 3);
        assert_eq!(read("redis-sentinel://a/main/4").database, 4);
    }

    #[test]
    fn a_url_has_a_user_and_a_password() {
        for (url, user, password) in [
            ("redis://a", None, None),
            ("redis://:secret@a", None, Some("secret")),
            ("redis://me:p%40ss%3a%C3%A9@a", Some("me"), Some("p@ss:é")),
            ("redis://me:a:b@a", Some("me"), Some("a:b")),
            ("redis-cluster://me:@a,b", Some("me"), Some("")),
        ] {
            let account = read(url).account;
            assert_eq!((account.user.as_deref(), account.password.as_deref()), (user, password), "{url}");
        }
    }

    #[test]
    fn a_password_is_shown_nowhere() {
        let shown = format!("{:?}", read("redis://me:secret@a").sentinel_user("you", "secret"));
        assert!(shown.contains("me") && !shown.contains("secret"), "{shown}");
        for url in [
            "rediz://me:secret@a",
            "me:secret@a",
            "redis://me:secret@",
            "redis://me:secret@a/x",
            "redis://me:secret/secret@a",
        ] {
            let error = url.parse::<RedisConfig>().expect_err(url).to_string();
            assert!(!error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn what_is_no_url_of_servers_is_refused_with_a_reason() {
        type Invalid = InvalidRedisConfig;
        let of_address = |text: &str| Invalid::Address(text.to_owned());
        for (url, error) in [
            ("a:6379", Invalid::Scheme("a URL without ://".into())),
            ("http://a", Invalid::Scheme("http://".into())),
            ("redis://", of_address("")),
            ("redis://a,b", of_address("a,b")),
            ("redis://a:0", of_address("a:0")),
            ("redis://a:x", of_address("a:x")),
            ("redis://a?protocol=resp3", of_address("a?protocol=resp3")),
            ("redis://[::1", of_address("[::1")),
            ("redis-cluster://a,", of_address("")),
            ("redis-cluster://a/1", Invalid::Database(1)),
            ("redis://a/x", Invalid::Path("x".into(), "the number of a database, or nothing, is expected")),
            ("redis://a/-1", Invalid::Path("-1".into(), "the number of a database, or nothing, is expected")),
            ("redis-sentinel://a", Invalid::Path(String::new(), "the name of a primary is missing")),
            ("redis://%zz@a", Invalid::User),
            ("redis://%+1@a", Invalid::User),
            ("redis://%ff@a", Invalid::User),
        ] {
            assert_eq!(url.parse::<RedisConfig>().expect_err(url), error, "{url}");
        }
        if cfg!(not(feature = "redis-tls")) {
            assert_eq!("rediss://a".parse::<RedisConfig>().expect_err("TLS"), Invalid::Tls);
        }
    }

    #[test]
    fn settings_that_make_no_store_are_refused_with_a_reason() {
        type Invalid = InvalidRedisConfig;
        let one = || RedisConfig::single("a", 1);
        for (config, error) in [
            (one().namespace(""), Invalid::Namespace(String::new())),
            (one().namespace("a{b}"), Invalid::Namespace("a{b}".into())),
            (one().namespace("a b"), Invalid::Namespace("a b".into())),
            (one().deadline(Duration::ZERO), Invalid::Zero("the deadline")),
            (one().max_object(0), Invalid::Zero("the largest object")),
            (RedisConfig::cluster([]), Invalid::Address(String::new())),
            (RedisConfig::cluster([("a", 1)]).database(1), Invalid::Database(1)),
        ] {
            assert_eq!(config.check(), Err(error));
        }
        assert_eq!(one().check(), Ok(()));
    }
}
