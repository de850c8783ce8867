//! How a connection is made: to one server, to the primary that Sentinel names, or to a Cluster.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::cluster::{ClusterClient, ClusterClientBuilder};
use redis::cluster_async::ClusterConnection;
use redis::io::tcp::{TcpSettings, socket2::TcpKeepalive};
use redis::sentinel::{SentinelClientBuilder, SentinelServerType};
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, ConnectionInfo, ErrorKind, IntoConnectionInfo,
    Pipeline, ProtocolVersion, PushInfo, PushKind, RedisConnectionInfo, RedisError, RedisResult, TlsMode,
    Value,
};

use super::config::{Account, Address, InvalidRedisConfig, RedisConfig, Servers};
use crate::runtime::Deadline;

/// What is said to a connection that ends: at once with RESP3, at the next command with RESP2 (R6).
pub(super) type WhenLost = Arc<dyn Fn() + Send + Sync>;

/// Commands of many tasks over few sockets. Clones share them.
#[derive(Clone)]
pub(super) enum Connection {
    Cluster(ClusterConnection),
    Server(MultiplexedConnection),
}

impl Connection {
    pub(super) async fn send(&mut self, command: &Cmd) -> RedisResult<Value> {
        match self {
            Self::Cluster(connection) => command.query_async(connection).await,
            Self::Server(connection) => command.query_async(connection).await,
        }
    }

    /// Sends commands one right after the other over one connection.
    pub(super) async fn send_together(&mut self, commands: &Pipeline) -> RedisResult<Vec<Value>> {
        match self {
            Self::Cluster(connection) => commands.query_async(connection).await,
            Self::Server(connection) => commands.query_async(connection).await,
        }
    }
}

/// Where connections lead.
pub(super) struct Target {
    pub(super) account: Account,
    pub(super) database: i64,
    /// Of the Sentinels, the one that is asked first: the last one that has answered.
    first: AtomicUsize,
    pub(super) servers: Servers,
    #[cfg(feature = "redis-tls")]
    pub(super) certificates: Option<redis::TlsCertificates>,
    pub(super) tls: bool,
}

/// How many commands a connection takes before one waits for another: with the default of 50, 64 tasks get two thirds of the
/// throughput (R4).
const PIPELINE: usize = 1_024;
/// A connection whose bytes nobody has acknowledged for so long is none (R2).
const UNACKNOWLEDGED: Duration = Duration::from_secs(5);
/// An idle connection is probed so often.
const KEEP_ALIVE: Duration = Duration::from_secs(30);

impl Target {
    pub(super) fn of(config: &RedisConfig) -> Result<Self, InvalidRedisConfig> {
        let target = Self {
            account: config.account.clone(),
            #[cfg(feature = "redis-tls")]
            certificates: config.certificates.clone(),
            database: config.database,
            first: AtomicUsize::new(0),
            servers: config.servers.clone(),
            tls: config.tls,
        };
        #[cfg(feature = "redis-tls")]
        target.prepare_tls()?;
        Ok(target)
    }

    /// Reads the certificates, and sees to it that there is cryptography, of which rustls has none by itself (R16). What a program
    /// has installed is left as it is.
    #[cfg(feature = "redis-tls")]
    fn prepare_tls(&self) -> Result<(), InvalidRedisConfig> {
        if self.tls {
            let _ = rustls::crypto::ring::default_provider().install_default();
            let nowhere = Address { host: "localhost".into(), port: 6379 };
            let client = self.client(&nowhere, ProtocolVersion::RESP3);
            client.map_err(|error| InvalidRedisConfig::Certificates(error.to_string()))?;
        }
        Ok(())
    }

    pub(super) fn is_cluster(&self) -> bool {
        matches!(self.servers, Servers::Cluster(_))
    }

    pub(super) fn has_sentinel(&self) -> bool {
        matches!(self.servers, Servers::Sentinel { .. })
    }

    /// Makes a connection within `limit`, or longer where many addresses are tried; `within` is the longest that a command takes.
    pub(super) async fn connect(
        &self,
        limit: Duration,
        within: Duration,
        when_lost: &WhenLost,
    ) -> RedisResult<Connection> {
        match self.connect_by(ProtocolVersion::RESP3, limit, within, when_lost).await {
            Err(error) if error.kind() == ErrorKind::RESP3NotSupported => {
                self.connect_by(ProtocolVersion::RESP2, limit, within, when_lost).await
            }
            connected => connected,
        }
    }

    async fn connect_by(
        &self,
        protocol: ProtocolVersion,
        limit: Duration,
        within: Duration,
        when_lost: &WhenLost,
    ) -> RedisResult<Connection> {
        let client = match &self.servers {
            Servers::Cluster(nodes) => {
                // It may never end by itself (R11): whoever calls this has a time limit.
                // All nodes are connected to at one time, and the others wait for one that does not answer: so there is time left.
                let each = share(limit, 3);
                let connection = self.cluster(nodes, protocol, each, within)?.get_async_connection().await?;
                return Ok(Connection::Cluster(connection));
            }
            Servers::Single(address) => self.client(address, protocol)?,
            Servers::Sentinel { account, name, sentinels } => {
                // Asked anew for each connection: the crate's own connections know no Sentinel (R17).
                self.primary(sentinels, name, account, protocol, limit).await?
            }
        };
        let mut config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(limit))
            // The link has a deadline around each command, which ends it whatever the connection does (R1, R3).
            .set_response_timeout(None)
            .set_pipeline_buffer_size(PIPELINE);
        if protocol == ProtocolVersion::RESP3 {
            let when_lost = Arc::clone(when_lost);
            config = config.set_push_sender(move |push: PushInfo| {
                if push.kind == PushKind::Disconnection {
                    when_lost();
                }
                Ok::<_, std::convert::Infallible>(())
            });
        }
        client.get_multiplexed_async_connection_with_config(&config).await.map(Connection::Server)
    }

    fn client(&self, address: &Address, protocol: ProtocolVersion) -> RedisResult<Client> {
        let info = self.info(address, protocol)?;
        #[cfg(feature = "redis-tls")]
        if let (true, Some(certificates)) = (self.tls, &self.certificates) {
            return Client::build_with_tls(info, certificates.clone());
        }
        Client::open(info)
    }

    fn info(&self, address: &Address, protocol: ProtocolVersion) -> RedisResult<ConnectionInfo> {
        // What is set here is repeated by the crate itself in each connection; no other command that prepares one is (R8).
        let mut settings = RedisConnectionInfo::default().set_protocol(protocol).set_db(self.database);
        if let Some(user) = &self.account.user {
            settings = settings.set_username(user);
        }
        if let Some(password) = &self.account.password {
            settings = settings.set_password(password);
        }
        let info = self.address(address).into_connection_info()?;
        Ok(info.set_redis_settings(settings).set_tcp_settings(tcp()))
    }

    fn address(&self, Address { host, port }: &Address) -> ConnectionAddr {
        let host = host.to_string();
        match self.tls {
            false => ConnectionAddr::Tcp(host, *port),
            true => ConnectionAddr::TcpTls { host, port: *port, insecure: false, tls_params: None },
        }
    }

    /// Asks one Sentinel after the other, each for a part of the time. The next attempt begins with the one after the last that was
    /// asked in vain, so one that does not answer keeps nobody from the others.
    async fn primary(
        &self,
        sentinels: &[Address],
        name: &str,
        account: &Account,
        protocol: ProtocolVersion,
        limit: Duration,
    ) -> RedisResult<Client> {
        let limit = share(limit, sentinels.len());
        let mut failed = too_late(limit);
        for _ in sentinels {
            let first = self.first.load(Ordering::Relaxed);
            let Some(sentinel) = sentinels.get(first % sentinels.len()) else { break };
            // It counts as asked in vain until it has answered: the attempt may end at any time.
            self.first.store(first.wrapping_add(1), Ordering::Relaxed);
            let asked = self.primary_of(sentinel, name, account, protocol);
            match Deadline::new(limit).in_time(asked).await.unwrap_or_else(|| Err(too_late(limit))) {
                Ok(client) => {
                    self.first.store(first, Ordering::Relaxed);
                    return Ok(client);
                }
                Err(error) => failed = error,
            }
        }
        Err(failed)
    }

    /// The primary that one Sentinel names.
    async fn primary_of(
        &self,
        sentinel: &Address,
        name: &str,
        account: &Account,
        protocol: ProtocolVersion,
    ) -> RedisResult<Client> {
        let addresses = [self.address(sentinel)];
        let mut builder = SentinelClientBuilder::new(addresses, name, SentinelServerType::Master)?
            .set_client_to_redis_db(self.database)
            .set_client_to_redis_protocol(protocol)
            .set_client_to_redis_tcp_settings(tcp())
            .set_client_to_sentinel_tcp_settings(tcp());
        if self.tls {
            builder = builder.set_client_to_redis_tls_mode(TlsMode::Secure);
        }
        #[cfg(feature = "redis-tls")]
        if let (true, Some(certificates)) = (self.tls, &self.certificates) {
            builder = builder
                .set_client_to_redis_certificates(certificates.clone())
                .set_client_to_sentinel_certificates(certificates.clone());
        }
        if let Some(user) = &self.account.user {
            builder = builder.set_client_to_redis_username(user);
        }
        if let Some(password) = &self.account.password {
            builder = builder.set_client_to_redis_password(password);
        }
        if let Some(user) = &account.user {
            builder = builder.set_client_to_sentinel_username(user);
        }
        if let Some(password) = &account.password {
            builder = builder.set_client_to_sentinel_password(password);
        }
        builder.build()?.async_get_client().await
    }

    fn cluster(
        &self,
        nodes: &[Address],
        protocol: ProtocolVersion,
        limit: Duration,
        within: Duration,
    ) -> RedisResult<ClusterClient> {
        let infos = nodes.iter().map(|address| self.info(address, protocol));
        #[cfg_attr(not(feature = "redis-tls"), expect(unused_mut))]
        let mut builder = ClusterClientBuilder::new(infos.collect::<Result<Vec<_>, _>>()?)
            .connection_timeout(limit)
            .response_timeout(within)
            // The defaults try 16 times, each with that timeout (R14).
            .retries(1)
            .min_retry_wait(5)
            .max_retry_wait(20)
            .overall_response_timeout(Some(within))
            .use_protocol(protocol)
            .tcp_settings(tcp());
        #[cfg(feature = "redis-tls")]
        if self.tls {
            builder = builder.tls(TlsMode::Secure);
            if let Some(certificates) = &self.certificates {
                builder = builder.certs(certificates.clone());
            }
        }
        builder.build()
    }
}

/// The time that each of several has, with as much for what comes after them.
fn share(limit: Duration, count: usize) -> Duration {
    /// What a handshake takes where the servers are near enough.
    const LEAST: Duration = Duration::from_millis(300);
    let parts = u32::try_from(count).unwrap_or(u32::MAX).saturating_add(1);
    (limit / parts).max(LEAST)
}

/// Small commands are sent at once (R5).
fn tcp() -> TcpSettings {
    let keepalive = TcpKeepalive::new().with_time(KEEP_ALIVE);
    let settings = TcpSettings::default().set_nodelay(true).set_keepalive(keepalive);
    #[cfg(any(target_os = "android", target_os = "fuchsia", target_os = "linux"))]
    let settings = settings.set_user_timeout(UNACKNOWLEDGED);
    settings
}

/// An error of ours in the place of one of the crate.
pub(super) fn too_late(limit: Duration) -> RedisError {
    let text = format!("it took longer than {limit:?}");
    (ErrorKind::Io, "no connection could be made", text).into()
}
