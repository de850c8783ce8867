//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use http::Uri;
use http::header::HeaderName;
use larder::ServerTiming;
use lexopt::{Arg, Parser, ValueExt};

use crate::host::Host;
use crate::limits::Limits;
use crate::policy::{Profile, Source};
use crate::serve;
use crate::units::size;
use crate::viewer::ViewerOptions;

pub const USAGE: &str = "\
origin_proxy                  an origin and a caching proxy on loopback: a walk through what a cache does,
                              then both serve on until Ctrl-C
origin_proxy --once           the walk only; the exit status is 1 if a row is not as expected
origin_proxy origin           the origin alone
    --listen ADDR             where, default 127.0.0.1:8081
origin_proxy proxy            the proxy alone, before any origin
    --upstream URL            the origin, http://HOST[:PORT] or https://HOST[:PORT]; required
    --upstream-ca FILE        the certificates (PEM) to trust for https, instead of the system's
    --listen ADDR             where, default 127.0.0.1:8080
    --host WHOSE              the Host that the origin gets: client, the one that was asked for (default); upstream,
                              the origin's own: then Location and Content-Location are rewritten for the client
    --profile NAME            default: careful with cookies and credentials; rfc9111: all that the RFC permits; cloudfront,
                              fastly: what these services do
    --policy FILE             what is cached, under which key, for how long: in TOML, or in AWS's JSON for the profile
                              cloudfront (docs/POLICY.md). Options outweigh the file, and the file the profile. The file is
                              read again on SIGHUP
    --candidate FILE          another policy, which is asked and counted, and never acted on: on SIGHUP and at the end, the
                              proxy prints how many more hits it would have had, or fewer
    --key-header NAME         a request field that is in every key; may be given more than once
    --graphql                 the answer to a POST is stored if the POST is certainly a GraphQL query
    --viewer-headers          the origin gets fields such as CloudFront-Is-Mobile-Viewer (docs/PROXY.md); on in the profile
                              cloudfront and with either of these files
    --geo-db FILE             a database of cities or countries in MaxMind's format, for CloudFront-Viewer-Country and others
    --asn-db FILE             such a database of networks, for CloudFront-Viewer-ASN
    --server-timing PERCENT   of so many answers, Server-Timing says what the cache did and how long the origin took
    --memory SIZE             bytes held in memory, default 256MiB
    --max-object SIZE         the largest object stored, default 8MiB, or --memory if that is less
    --timeout SECONDS         how long a call may last without a byte to or from the origin, default 30
    --drain SECONDS           how long open requests may take to end when the proxy is stopped, default 10; a second
                              signal ends them at once
    --workers N               threads, default one for each core
  what clients may do:
    --head SECONDS            how long a connection may take to send its first request head, or one that it has begun,
                              default 20
    --head-size SIZE          the largest head of a request, default 64KiB
    --idle SECONDS            how long a connection may be without a request, default 60
    --ping SECONDS            how long an HTTP/2 connection may be silent before it is pinged, and how long the answer
                              may take, default 20
    --stall SECONDS           how long a client may take nothing of its answer, or send nothing of its content, default 30
    --max-fields N            the most fields of a request, default 100
    --max-query SIZE          the largest content of a QUERY that is stored, default 16KiB
    --max-streams N           the most open requests of an HTTP/2 connection, default 100
    --max-connections N       of all clients; the default follows from the limit of open files, as does the next one
    --max-connections-per-address N
                              default half of --max-connections; for IPv6, an address is its first 64 bits
  what calls clients may have under way at the origin; hits are not counted:
    --max-calls N             in all; default a fourth of the descriptors that are free
    --max-calls-per-connection N
                              default 64, fewer with few descriptors
    --max-calls-per-address N default 256, fewer with few descriptors
    --call-wait SECONDS       how long a request waits for its call, then 503; default 2
  what the origin may do:
    --max-answer-fields N     the most fields of an answer, default 1000
origin_proxy check-policy FILE prints what was understood of a policy, or what is wrong with it: then the exit status is 1
    --profile, --key-header   as for the proxy
    SIZE is a number of bytes, or one with KiB, MiB or GiB";

/// The largest object stored, unless an option says something else.
const MAX_OBJECT: u64 = 8 << 20;

pub enum Command {
    CheckPolicy(Source),
    Help,
    Origin { listen: SocketAddr },
    Proxy(Box<ProxyOptions>),
    Walk { once: bool },
}

pub struct ProxyOptions {
    pub drain: Duration,
    pub graphql: bool,
    pub host: Host,
    pub limits: Limits,
    pub listen: SocketAddr,
    pub max_object: u64,
    pub memory: u64,
    pub policy: Source,
    pub server_timing: Option<ServerTiming>,
    pub timeout: Duration,
    pub upstream: Uri,
    pub upstream_ca: Option<PathBuf>,
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
                "check-policy" => return check_policy(parser),
                "origin" => return origin(parser),
                "proxy" => return proxy(parser),
                _ => {
                    return Err(format!(
                        "there is no command '{command}'; there are check-policy, origin and proxy"
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
    /// Those that may be given more than once.
    const REPEATED: [&str; 3] = ["asn-db", "geo-db", "key-header"];

    /// Adds an option, unless it has been given and may not be given again.
    fn add(&mut self, name: &str) -> Result<(), String> {
        if self.0.iter().any(|given| given == name) && !Self::REPEATED.contains(&name) {
            return Err(format!("--{name} is given twice"));
        }
        self.0.push(name.to_owned());
        Ok(())
    }
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
    let (mut upstream, mut per_address, mut max_object) = (None, None, None);
    let mut once = Once::default();
    let mut options = ProxyOptions {
        drain: serve::DRAIN,
        graphql: false,
        host: Host::Client,
        limits: Limits::default(),
        listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
        max_object: MAX_OBJECT,
        memory: 256 << 20,
        policy: Source::default(),
        server_timing: None,
        timeout: Duration::from_secs(30),
        upstream: Uri::default(),
        upstream_ca: None,
        viewer: ViewerOptions::default(),
        workers: None,
    };
    while let Some(word) = next(&mut parser)? {
        let name = word.option()?;
        if name == "help" || name == "h" {
            return Ok(Command::Help);
        }
        once.add(&name)?;
        match name.as_str() {
            "asn-db" | "geo-db" => options.viewer.databases.push(path(&mut parser, &name)?),
            "drain" => options.drain = seconds(&value(&mut parser, "drain")?)?,
            "graphql" => options.graphql = true,
            "host" => options.host = host(&value(&mut parser, "host")?)?,
            "listen" => options.listen = address(&value(&mut parser, "listen")?)?,
            "max-object" => max_object = Some(size(&value(&mut parser, "max-object")?)?),
            "memory" => options.memory = size(&value(&mut parser, "memory")?)?,
            "candidate" | "key-header" | "policy" | "profile" => {
                source(&mut options.policy, &name, &mut parser)?
            }
            "server-timing" => options.server_timing = Some(share(&value(&mut parser, "server-timing")?)?),
            "timeout" => options.timeout = seconds(&value(&mut parser, "timeout")?)?,
            "upstream" => upstream = Some(origin_url(&value(&mut parser, "upstream")?)?),
            "upstream-ca" => options.upstream_ca = Some(path(&mut parser, "upstream-ca")?),
            "viewer-headers" => options.viewer.is_on = true,
            "workers" => options.workers = Some(workers(&value(&mut parser, "workers")?)?),
            "max-connections-per-address" => per_address = Some(number(&value(&mut parser, &name)?)?),
            name => limit(&mut options.limits, name, &mut parser)?,
        }
    }
    options.limits.connections_per_address =
        per_address.unwrap_or(options.limits.connections.div_ceil(2)).min(options.limits.connections);
    if max_object.is_some_and(|size| size > options.memory) {
        return Err("--max-object is above --memory, in which the object has to fit".to_owned());
    }
    options.max_object = max_object.unwrap_or(MAX_OBJECT.min(options.memory));
    options.upstream = upstream.ok_or("the proxy needs --upstream URL, the origin it stands before")?;
    Ok(Command::Proxy(Box::new(options)))
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
fn limit(limits: &mut Limits, name: &str, parser: &mut Parser) -> Result<(), String> {
    let mut value = || value(parser, name);
    match name {
        "call-wait" => limits.call_wait = seconds(&value()?)?,
        "head" => limits.timeouts.head = seconds(&value()?)?,
        "head-size" => limits.head_size = head_size(&value()?)?,
        "idle" => limits.timeouts.idle = seconds(&value()?)?,
        "max-answer-fields" => limits.origin.fields = number(&value()?)?,
        "max-calls" => limits.max_calls = number(&value()?)?,
        "max-calls-per-address" => limits.calls.per_address = number(&value()?)?,
        "max-calls-per-connection" => limits.calls.per_connection = number(&value()?)?,
        "max-connections" => limits.connections = number(&value()?)?,
        "max-fields" => limits.fields = number(&value()?)?,
        "max-query" => limits.query = size(&value()?)?.try_into().unwrap_or(usize::MAX),
        "max-streams" => limits.streams = number(&value()?)?,
        "ping" => limits.ping = seconds(&value()?)?,
        "stall" => limits.timeouts.stall = seconds(&value()?)?,
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
    text.parse().map_err(|_| format!("'{text}' is no address to listen on; one looks like 127.0.0.1:8080"))
}

fn host(text: &str) -> Result<Host, String> {
    match text {
        "client" => Ok(Host::Client),
        "upstream" => Ok(Host::Upstream),
        _ => Err(format!("there is no host '{text}' to send; there are client and upstream")),
    }
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
        _ => Err(format!("'{text}' is no share; it is a number of percent, 0 to 100")),
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    text.parse::<f64>()
        .ok()
        .filter(|seconds| *seconds > 0.0)
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .ok_or_else(|| format!("'{text}' is no time limit; it is a number of seconds above 0"))
}

/// How many of something there may be, as far as it can be counted here: tokio's semaphores and HTTP/2 have bounds.
fn number<N: TryFrom<u32>>(text: &str) -> Result<N, String> {
    text.parse()
        .ok()
        .filter(|number| (1..=1 << 24).contains(number))
        .and_then(|number| N::try_from(number).ok())
        .ok_or_else(|| format!("'{text}' is no number for a limit; it is 1 to {}", 1 << 24))
}

/// hyper needs 8 KiB to read into.
fn head_size(text: &str) -> Result<u32, String> {
    match size(text)? {
        size @ 0x2000..=0x100_0000 => Ok(size as u32),
        _ => Err(format!("'{text}' is no size of a head; it is 8KiB to 16MiB")),
    }
}

fn workers(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(number @ 1..=1024) => Ok(number),
        _ => Err(format!("'{text}' is no number of workers; it is 1 to 1024")),
    }
}

fn origin_url(text: &str) -> Result<Uri, String> {
    let wrong = |why: &str| format!("'{text}' is no upstream URL: {why}");
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
