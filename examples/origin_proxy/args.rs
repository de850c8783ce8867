//! The command line.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use http::Uri;
use http::header::HeaderName;
use http::uri::PathAndQuery;
use larder::ServerTiming;
use lexopt::{Arg, Parser, ValueExt};

use crate::access_log::{self, Format};
use crate::admin::AdminOptions;
use crate::check_health::HealthCheck;
use crate::client_tls::TlsFiles;
use crate::config::{self, Given, LISTS, SWITCHES};
use crate::host::Host;
use crate::limits::Limits;
use crate::node_name::NodeName;
use crate::policy::{Profile, Source};
use crate::serve::{self, Drain};
use crate::slices::{SliceOptions, SliceParts};
use crate::store::{StoreOptions, StoreParts};
use crate::units::size;
use crate::usage::options;
use crate::viewer::ViewerOptions;

pub enum Command {
    CheckConfig(PathBuf),
    CheckPolicy(Source),
    Fleet { server: PathBuf },
    Help,
    Origin { listen: SocketAddr },
    Proxy(Box<ProxyOptions>),
    Walk { once: bool },
}

pub struct ProxyOptions {
    pub access_log: access_log::Options,
    pub admin: Option<AdminOptions>,
    pub debug_token_file: Option<PathBuf>,
    pub drain: Drain,
    pub edges: Vec<Uri>,
    pub health: Option<HealthCheck>,
    pub graphql: bool,
    pub host: Host,
    pub limits: Limits,
    pub listen: SocketAddr,
    pub name: NodeName,
    pub peer_token_file: Option<PathBuf>,
    pub policy: Source,
    pub server_timing: Option<ServerTiming>,
    pub shield: Option<Uri>,
    pub slices: SliceOptions,
    pub store: StoreOptions,
    pub timeout: Duration,
    pub tls: Option<TlsFiles>,
    pub upstream_ca: Option<PathBuf>,
    pub upstreams: Vec<Uri>,
    pub viewer: ViewerOptions,
    pub workers: Option<usize>,
}

/// Reads the command line; an error is one sentence.
pub fn parse(mut parser: Parser) -> Result<Command, String> {
    let mut once = false;
    loop {
        match next(&mut parser)? {
            None => return Ok(Command::Walk { once }),
            Some(Word::Option(name)) => match name.as_str() {
                "help" | "h" => return Ok(Command::Help),
                "once" => once = true,
                _ => return Err(unknown(&name)),
            },
            Some(Word::Value(command)) if once => {
                return Err(format!("--once goes without a command, not with '{command}'"));
            }
            Some(Word::Value(command)) => match command.as_str() {
                "check-config" => return check_config(parser),
                "check-policy" => return check_policy(parser),
                "fleet" => return fleet(parser),
                "origin" => return origin(parser),
                "proxy" => return proxy(parser),
                _ => {
                    return Err(format!(
                        "there is no command '{command}'; there are check-config, check-policy, fleet, origin and proxy"
                    ));
                }
            },
        }
    }
}

/// The options that have been given.
#[derive(Default)]
struct Once(Vec<String>);

impl Once {
    /// Adds an option, unless it has been given and may not be given again.
    fn add(&mut self, name: &str) -> Result<(), String> {
        if self.0.iter().any(|given| given == name) && !LISTS.contains(&name) {
            return Err(format!("--{name} is given twice"));
        }
        self.0.push(name.to_owned());
        Ok(())
    }
}

fn fleet(mut parser: Parser) -> Result<Command, String> {
    let mut server = PathBuf::from("redis-server");
    let mut once = Once::default();
    while let Some(word) = next(&mut parser)? {
        let name = word.option()?;
        once.add(&name)?;
        match name.as_str() {
            "help" | "h" => return Ok(Command::Help),
            "server" => server = path(&mut parser, "server")?,
            name => return Err(unknown(name)),
        }
    }
    Ok(Command::Fleet { server })
}

fn origin(mut parser: Parser) -> Result<Command, String> {
    let mut listen = SocketAddr::from(([127, 0, 0, 1], 8081));
    let mut once = Once::default();
    while let Some(word) = next(&mut parser)? {
        let name = word.option()?;
        once.add(&name)?;
        match name.as_str() {
            "help" | "h" => return Ok(Command::Help),
            "listen" => listen = address(&value(&mut parser, "listen")?)?,
            name => return Err(unknown(name)),
        }
    }
    Ok(Command::Origin { listen })
}

fn proxy(mut parser: Parser) -> Result<Command, String> {
    let (mut config, mut flags, mut once) = (None, Vec::new(), Once::default());
    while let Some(word) = next(&mut parser)? {
        let name = word.option()?;
        once.add(&name)?;
        match name.as_str() {
            "help" | "h" => return Ok(Command::Help),
            "config" => config = Some(path(&mut parser, "config")?),
            name if SWITCHES.contains(&name) => flags.push(Given::flag(name, OsString::new())),
            name if options().any(|known| known == name) => {
                let value = parser.value().map_err(|_| format!("--{name} needs a value"))?;
                flags.push(Given::flag(name, value));
            }
            name => return Err(unknown(name)),
        }
    }
    let options = ProxyOptions::of(&config::merged(config.as_deref(), flags)?)?;
    Ok(Command::Proxy(Box::new(options)))
}

fn check_config(mut parser: Parser) -> Result<Command, String> {
    let mut file = None;
    while let Some(word) = next(&mut parser)? {
        match word {
            Word::Option(name) if name == "help" || name == "h" => return Ok(Command::Help),
            Word::Option(name) => return Err(unknown(&name)),
            Word::Value(path) if file.is_none() => file = Some(path.into()),
            more => _ = more.option()?,
        }
    }
    file.map(Command::CheckConfig)
        .ok_or_else(|| "check-config needs FILE, the options that it reads".to_owned())
}

impl Default for ProxyOptions {
    fn default() -> Self {
        Self {
            access_log: access_log::Options::default(),
            admin: None,
            debug_token_file: None,
            drain: serve::DRAIN,
            graphql: false,
            health: None,
            host: Host::Client,
            limits: Limits::default(),
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            edges: Vec::new(),
            name: NodeName::default(),
            peer_token_file: None,
            policy: Source::default(),
            server_timing: None,
            shield: None,
            slices: SliceOptions::default(),
            store: StoreOptions::default(),
            timeout: Duration::from_secs(30),
            tls: None,
            upstream_ca: None,
            upstreams: Vec::new(),
            viewer: ViewerOptions::default(),
            workers: None,
        }
    }
}

/// Options that mean something only with another one.
#[derive(Default)]
struct Parts {
    admin: Option<SocketAddr>,
    admin_token_file: Option<PathBuf>,
    connections_per_address: Option<usize>,
    health_interval: Option<Duration>,
    health_path: Option<PathAndQuery>,
    slices: SliceParts,
    store: StoreParts,
    tls_cert: Option<PathBuf>,
    tls_key: Option<PathBuf>,
}

impl ProxyOptions {
    /// What was given, over the defaults.
    ///
    /// # Errors
    ///
    /// One sentence, with file and line if it is about what a file says.
    pub fn of(given: &[Given]) -> Result<Self, String> {
        let (mut options, mut parts) = (Self::default(), Parts::default());
        for given in given {
            options.set(&mut parts, given).map_err(|reason| given.wrong(reason))?;
        }
        let limits = &mut options.limits;
        let per_address = parts.connections_per_address.unwrap_or(limits.connections.div_ceil(2));
        limits.connections_per_address = per_address.min(limits.connections);
        if options.upstreams.is_empty() && options.shield.is_none() {
            return Err("the proxy needs --upstream URL, the origin it stands before".to_owned());
        }
        options.policy.has_peers = options.peer_token_file.is_some();
        if options.shield.is_some() && !options.policy.has_peers {
            return Err(
                "--shield goes with --peer-token-file, by which the shield knows this proxy".to_owned()
            );
        }
        options.store = parts.store.options()?;
        options.policy.admission = options.store.admission();
        options.slices = parts.slices.options(options.store.max_object())?;
        options.health = match (parts.health_path, parts.health_interval) {
            (Some(path), interval) => {
                Some(HealthCheck { interval: interval.unwrap_or(Duration::from_secs(5)), path })
            }
            (None, None) => None,
            (None, Some(_)) => return Err("--health-interval goes with --health-path".to_owned()),
        };
        options.admin = match (parts.admin, parts.admin_token_file) {
            (Some(listen), Some(token_file)) => Some(AdminOptions { listen, token_file }),
            (None, None) => None,
            _ => return Err("--admin and --admin-token-file go together".to_owned()),
        };
        let is_taken = |admin: &AdminOptions| admin.listen == options.listen && options.listen.port() != 0;
        if options.admin.as_ref().is_some_and(is_taken) {
            return Err(format!("--admin and --listen are the same address, {}", options.listen));
        }
        if options.access_log.format.is_some() && options.access_log.file.is_none() {
            return Err("--access-log-format goes with --access-log".to_owned());
        }
        if options.admin.is_none() && !options.edges.is_empty() {
            return Err("--edge goes with --admin: what is purged there is purged at the edges".to_owned());
        }
        options.tls = match (parts.tls_cert, parts.tls_key) {
            (Some(certificates), Some(key)) => Some(TlsFiles { certificates, key }),
            (None, None) => None,
            _ => return Err("--tls-cert and --tls-key go together".to_owned()),
        };
        Ok(options)
    }

    /// Whatever requests are sent to: the shield first.
    pub fn servers(&self) -> Vec<Uri> {
        self.shield.iter().chain(&self.upstreams).cloned().collect()
    }

    fn set(&mut self, parts: &mut Parts, given: &Given) -> Result<(), String> {
        match given.name.as_str() {
            "access-log" => self.access_log.file = Some(given.file_or_dash()),
            "access-log-format" => self.access_log.format = Some(log_format(given.text()?)?),
            "admin" => parts.admin = Some(address(given.text()?)?),
            "admin-token-file" => parts.admin_token_file = Some(given.path()),
            "asn-db" | "geo-db" => self.viewer.databases.push(given.path()),
            "candidate" => self.policy.candidate = Some(given.path()),
            "debug-token-file" => self.debug_token_file = Some(given.path()),
            "edge" => self.edges.push(origin_url(given.text()?)?),
            "drain" => self.drain.limit = seconds(given.text()?)?,
            "drain-wait" => self.drain.wait = wait(given.text()?)?,
            "graphql" => self.graphql = true,
            "health-interval" => parts.health_interval = Some(seconds(given.text()?)?),
            "health-path" => parts.health_path = Some(health_path(given.text()?)?),
            "host" => self.host = host(given.text()?)?,
            "key-header" => self.policy.key_headers.push(field(given.text()?)?),
            "listen" => self.listen = address(given.text()?)?,
            "max-connections-per-address" => parts.connections_per_address = Some(number(given.text()?)?),
            "name" => self.name = NodeName::new(given.text()?)?,
            "peer-token-file" => self.peer_token_file = Some(given.path()),
            "policy" => self.policy.file = Some(given.path()),
            "profile" => self.policy.profile = Some(profile(given.text()?)?),
            "server-timing" => self.server_timing = Some(share(given.text()?)?),
            "shield" => self.shield = Some(origin_url(given.text()?)?),
            "timeout" => self.timeout = seconds(given.text()?)?,
            "tls-cert" => parts.tls_cert = Some(given.path()),
            "tls-key" => parts.tls_key = Some(given.path()),
            "upstream" => {
                let upstream = origin_url(given.text()?)?;
                if self.upstreams.contains(&upstream) {
                    return Err(format!("--upstream {upstream} is given twice"));
                }
                self.upstreams.push(upstream);
            }
            "upstream-ca" => self.upstream_ca = Some(given.path()),
            "viewer-headers" => self.viewer.is_on = true,
            "workers" => self.workers = Some(workers(given.text()?)?),
            name if parts.slices.set(name, given)? || parts.store.set(name, given)? => {}
            name => limit(&mut self.limits, name, given.text()?)?,
        }
        Ok(())
    }
}

fn check_policy(mut parser: Parser) -> Result<Command, String> {
    let (mut policy, mut once) = (Source::default(), Once::default());
    while let Some(word) = next(&mut parser)? {
        match word {
            Word::Option(name) if name == "help" || name == "h" => return Ok(Command::Help),
            Word::Option(name) if name == "key-header" || name == "profile" => {
                once.add(&name)?;
                source(&mut policy, &name, &mut parser)?;
            }
            Word::Option(name) => return Err(unknown(&name)),
            Word::Value(file) if policy.file.is_none() => policy.file = Some(file.into()),
            more => _ = more.option()?,
        }
    }
    if policy.file.is_none() {
        return Err("check-policy needs FILE, the policy that it reads".to_owned());
    }
    Ok(Command::CheckPolicy(policy))
}

/// An option that says where the policy comes from.
fn source(source: &mut Source, name: &str, parser: &mut Parser) -> Result<(), String> {
    match name {
        "candidate" => source.candidate = Some(path(parser, name)?),
        "policy" => source.file = Some(path(parser, name)?),
        "profile" => source.profile = Some(profile(&value(parser, name)?)?),
        _ => source.key_headers.push(field(&value(parser, name)?)?),
    }
    Ok(())
}

/// An option that sets a limit.
fn limit(limits: &mut Limits, name: &str, value: &str) -> Result<(), String> {
    match name {
        "call-wait" => limits.call_wait = seconds(value)?,
        "head" => limits.timeouts.head = seconds(value)?,
        "head-size" => limits.head_size = head_size(value)?,
        "idle" => limits.timeouts.idle = seconds(value)?,
        "max-answer-fields" => limits.origin.fields = number(value)?,
        "max-calls" => limits.max_calls = number(value)?,
        "max-calls-per-address" => limits.calls.per_address = number(value)?,
        "max-calls-per-connection" => limits.calls.per_connection = number(value)?,
        "max-calls-per-upstream" => limits.calls_per_upstream = Some(number(value)?),
        "max-connections" => limits.connections = number(value)?,
        "max-fields" => limits.fields = number(value)?,
        "max-query" => limits.query = size(value)?.try_into().unwrap_or(usize::MAX),
        "max-streams" => limits.streams = number(value)?,
        "ping" => limits.ping = seconds(value)?,
        "stall" => limits.timeouts.stall = seconds(value)?,
        _ => return Err(unknown(name)),
    }
    Ok(())
}

enum Word {
    Option(String),
    Value(String),
}

impl Word {
    fn option(self) -> Result<String, String> {
        match self {
            Self::Option(name) => Ok(name),
            Self::Value(value) => Err(format!("'{value}' is an argument too many; see --help")),
        }
    }
}

fn next(parser: &mut Parser) -> Result<Option<Word>, String> {
    match parser.next().map_err(|error| error.to_string())? {
        None => Ok(None),
        Some(Arg::Long(name)) => Ok(Some(Word::Option(name.to_owned()))),
        Some(Arg::Short(letter)) => Ok(Some(Word::Option(letter.to_string()))),
        Some(Arg::Value(value)) => Ok(Some(Word::Value(value.to_string_lossy().into_owned()))),
    }
}

fn value(parser: &mut Parser, name: &str) -> Result<String, String> {
    let value = parser.value().map_err(|_| format!("--{name} needs a value"))?;
    value.string().map_err(|_| format!("the value of --{name} is not text"))
}

fn path(parser: &mut Parser, name: &str) -> Result<PathBuf, String> {
    parser.value().map(PathBuf::from).map_err(|_| format!("--{name} needs a value"))
}

fn unknown(name: &str) -> String {
    format!("there is no option '{name}' here; see --help")
}

fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse()
        .map_err(|_| format!("'{text}' is not an address to listen on; one looks like 127.0.0.1:8080"))
}

fn host(text: &str) -> Result<Host, String> {
    match text {
        "client" => Ok(Host::Client),
        "upstream" => Ok(Host::Upstream),
        _ => Err(format!("there is no host '{text}' to send; there are client and upstream")),
    }
}

fn log_format(text: &str) -> Result<Format, String> {
    let named = Format::ALL.into_iter().find(|format| format.name() == text);
    named.ok_or_else(|| format!("there is no format '{text}' of an access log; there are common and json"))
}

fn profile(text: &str) -> Result<Profile, String> {
    let names = || Profile::ALL.map(Profile::name).join(", ");
    Profile::named(text).ok_or_else(|| format!("there is no profile '{text}'; there are {}", names()))
}

fn field(text: &str) -> Result<HeaderName, String> {
    text.parse().map_err(|_| format!("'{text}' can't be the name of a field"))
}

fn share(text: &str) -> Result<ServerTiming, String> {
    match text.parse::<f64>() {
        Ok(percent) if (0.0..=100.0).contains(&percent) => Ok(ServerTiming::sampled(percent)),
        _ => Err(format!("'{text}' is not a share; it is a number of percent, 0 to 100")),
    }
}

pub fn seconds(text: &str) -> Result<Duration, String> {
    text.parse::<f64>()
        .ok()
        .filter(|seconds| *seconds > 0.0)
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .ok_or_else(|| format!("'{text}' is not a time limit; it is a number of seconds above 0"))
}

/// A time, which may be none.
fn wait(text: &str) -> Result<Duration, String> {
    if text == "0" { Ok(Duration::ZERO) } else { seconds(text) }
}

/// How many of something there may be, as far as it can be counted here: tokio's semaphores and HTTP/2 have bounds.
pub fn number<N: TryFrom<u32>>(text: &str) -> Result<N, String> {
    text.parse()
        .ok()
        .filter(|number| (1..=1 << 24).contains(number))
        .and_then(|number| N::try_from(number).ok())
        .ok_or_else(|| format!("'{text}' is not a number for a limit; it is 1 to {}", 1 << 24))
}

/// hyper needs 8 KiB to read into.
fn head_size(text: &str) -> Result<u32, String> {
    match size(text)? {
        size @ 0x2000..=0x100_0000 => Ok(size as u32),
        _ => Err(format!("'{text}' is not a size of a head; it is 8KiB to 16MiB")),
    }
}

fn health_path(text: &str) -> Result<PathAndQuery, String> {
    let path = text.parse::<PathAndQuery>().ok().filter(|_| text.starts_with('/'));
    path.ok_or_else(|| format!("'{text}' is not a path to check; one looks like /health"))
}

fn workers(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(number @ 1..=1024) => Ok(number),
        _ => Err(format!("'{text}' is not a number of workers; it is 1 to 1024")),
    }
}

fn origin_url(text: &str) -> Result<Uri, String> {
    let wrong = |why: &str| format!("'{text}' is not an upstream URL: {why}");
    let uri: Uri = text.parse().map_err(|_| wrong("it is not a URL"))?;
    match uri.scheme_str() {
        Some("http" | "https") => {}
        _ => return Err(wrong("it has to start with http:// or https://")),
    }
    if uri.host().is_none_or(str::is_empty) {
        return Err(wrong("it names no host"));
    }
    if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
        return Err(wrong("user information has no place in it"));
    }
    if uri.path() != "/" || uri.query().is_some() {
        return Err(wrong("it has to end after the host and the port"));
    }
    Ok(uri)
}
