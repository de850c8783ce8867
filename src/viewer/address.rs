//! The client's address: of the connection, or as trusted proxies report it.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;

use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::request;
use smallvec::SmallVec;
use thiserror::Error;

/// Where the address of a request's client comes from.
///
/// By default, from the connection: a [`SocketAddr`] among the request's extensions, or with feature `axum` its
/// `ConnectInfo<SocketAddr>` (which `into_make_service_with_connect_info` puts there). `X-Forwarded-For` is the
/// client's word, and does not count unless proxies in front of this service are known:
///
/// * [`ClientAddress::behind`] so many of them: each has appended the address that it was called from. Only right where
///   every request takes the way through all of them.
/// * [`ClientAddress::behind_networks`]: from the connection on, and then through `X-Forwarded-For` from its end, the first
///   address that belongs to none of these networks is the client's. What a client has written itself stands before that.
///
/// An IPv4 address in IPv6 form (`::ffff:192.0.2.1`) counts as IPv4. Where the address can't be told, the fields that
/// need it are absent.
#[derive(Clone, Default)]
pub struct ClientAddress(Source);

type Find = dyn Fn(&request::Parts) -> Option<SocketAddr> + Send + Sync;

#[derive(Clone, Default)]
enum Source {
    #[default]
    Connection,
    Function(Arc<Find>),
    Hops(usize),
    Networks(Arc<[Network]>),
}

impl ClientAddress {
    /// That of the connection; the default.
    pub fn of_connection() -> Self {
        Self::default()
    }

    /// What `X-Forwarded-For` says at this position from its end: 1 for one proxy in front of this service. If the field
    /// has fewer addresses, its first one counts; without the field, the connection's.
    pub fn behind(proxies: usize) -> Self {
        Self(Source::Hops(proxies))
    }

    /// The first address that belongs to none of these networks, from the connection on towards the client. If all of
    /// them are trusted, the one that is furthest from here.
    ///
    /// ```
    /// use larder::viewer::{ClientAddress, Network};
    /// let balancers: Vec<Network> = vec!["10.0.0.0/8".parse()?, "2001:db8::/32".parse()?];
    /// let address = ClientAddress::behind_networks(balancers);
    /// # let _ = address;
    /// # Ok::<(), larder::viewer::InvalidNetwork>(())
    /// ```
    pub fn behind_networks(trusted: impl IntoIterator<Item = Network>) -> Self {
        Self(Source::Networks(trusted.into_iter().collect()))
    }

    /// Whatever a function says of a request; port 0 where only the address is known.
    pub fn by(find: impl Fn(&request::Parts) -> Option<SocketAddr> + Send + Sync + 'static) -> Self {
        Self(Source::Function(Arc::new(find)))
    }

    pub(super) fn of(&self, request: &request::Parts) -> Option<SocketAddr> {
        let found = match &self.0 {
            Source::Connection => connection(request),
            Source::Function(find) => find(request),
            Source::Hops(0) => connection(request),
            Source::Hops(proxies) => match forwarded(&request.headers).take(*proxies).last() {
                Some(address) => parsed(address),
                None => connection(request),
            },
            Source::Networks(trusted) => beyond(trusted, request),
        };
        found.map(canonical)
    }
}

impl fmt::Debug for ClientAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Source::Connection => f.write_str("OfConnection"),
            Source::Function(_) => f.debug_tuple("By").finish_non_exhaustive(),
            Source::Hops(proxies) => f.debug_tuple("Behind").field(proxies).finish(),
            Source::Networks(trusted) => f.debug_tuple("BehindNetworks").field(trusted).finish(),
        }
    }
}

/// The address that this service was called from.
fn connection(request: &request::Parts) -> Option<SocketAddr> {
    let address = request.extensions.get::<SocketAddr>();
    #[cfg(feature = "axum")]
    let address = address.or_else(|| {
        let info = request.extensions.get::<axum::extract::ConnectInfo<SocketAddr>>();
        info.map(|axum::extract::ConnectInfo(address)| address)
    });
    address.copied()
}

/// From the connection on, the first address that is not trusted. One that cannot be read was written by a trusted proxy,
/// which did not know the address of its client.
fn beyond(trusted: &[Network], request: &request::Parts) -> Option<SocketAddr> {
    let is_trusted = |address: SocketAddr| {
        let address = address.ip().to_canonical();
        trusted.iter().any(|network| network.contains(address))
    };
    let mut address = connection(request)?;
    let mut further = forwarded(&request.headers);
    while is_trusted(address) {
        let Some(next) = further.next() else {
            break;
        };
        address = parsed(next)?;
    }
    Some(address)
}

/// The members of `X-Forwarded-For` from the end, where the nearest proxy has appended its own.
fn forwarded(headers: &HeaderMap) -> impl Iterator<Item = &[u8]> {
    const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
    let lines = headers.get_all(X_FORWARDED_FOR).into_iter().rev();
    let members = lines.flat_map(|line| line.as_bytes().rsplit(|byte| *byte == b','));
    members.map(<[u8]>::trim_ascii).filter(|member| !member.is_empty())
}

/// `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1` or `[2001:db8::1]:80`; without a port, port 0.
fn parsed(text: &[u8]) -> Option<SocketAddr> {
    let text = std::str::from_utf8(text).ok()?;
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let alone = || bare.parse::<IpAddr>().ok().map(|address| SocketAddr::new(address, 0));
    text.parse().ok().or_else(alone)
}

/// An address as a field has it, with its port behind the last colon.
pub(super) fn written(address: SocketAddr) -> Option<HeaderValue> {
    let IpAddr::V4(v4) = address.ip() else {
        return HeaderValue::try_from(format!("{}:{}", address.ip(), address.port())).ok();
    };
    // By hand: formatting takes 1,500 instructions more, a fifth of a hit.
    let mut text = SmallVec::<[u8; 24]>::new();
    let [a, b, c, d] = v4.octets().map(u16::from);
    for (number, separator) in [(a, b'.'), (b, b'.'), (c, b'.'), (d, b':')] {
        put(&mut text, number);
        text.push(separator);
    }
    put(&mut text, address.port());
    HeaderValue::from_bytes(&text).ok()
}

/// In decimal digits.
fn put(text: &mut SmallVec<[u8; 24]>, number: u16) {
    if number >= 10 {
        put(text, number / 10);
    }
    text.push(b'0' + (number % 10) as u8);
}

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// A network of addresses: `10.0.0.0/8`, `2001:db8::/32`, or one address alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    bits: u8,
}

/// A text is no [`Network`].
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{text:?} is not a network: write an address and its length, as in 10.0.0.0/8 or 2001:db8::/32")]
pub struct InvalidNetwork {
    text: String,
}

impl Network {
    /// Whether an address belongs to it. An IPv4 address that is written as an IPv6 one (`::ffff:10.0.0.1`) counts as IPv4.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                let differing = u32::from(own) ^ u32::from(other);
                differing.checked_shr(32 - u32::from(self.bits)).unwrap_or_default() == 0
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                let differing = u128::from(own) ^ u128::from(other);
                differing.checked_shr(128 - u32::from(self.bits)).unwrap_or_default() == 0
            }
            _ => false,
        }
    }

    /// An IPv4 network that is written as an IPv6 one is the IPv4 network; `None` if it reaches beyond these addresses, since it
    /// would contain none of them.
    fn of(address: IpAddr, bits: u8) -> Option<Self> {
        let canonical = address.to_canonical();
        let is_mapped = address.is_ipv6() && canonical.is_ipv4();
        let bits = if is_mapped { bits.checked_sub(96)? } else { bits };
        Some(Self { address: canonical, bits })
    }
}

impl From<IpAddr> for Network {
    fn from(address: IpAddr) -> Self {
        let address = address.to_canonical();
        Self { address, bits: if address.is_ipv4() { 32 } else { 128 } }
    }
}

impl FromStr for Network {
    type Err = InvalidNetwork;

    fn from_str(text: &str) -> Result<Self, InvalidNetwork> {
        let invalid = || InvalidNetwork { text: text.into() };
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| invalid())?;
        let Some(bits) = bits else {
            return Ok(address.into());
        };
        let most = if address.is_ipv4() { 32 } else { 128 };
        // `parse` takes `+8` as well.
        let is_number = bits.bytes().all(|byte| byte.is_ascii_digit());
        match bits.parse() {
            Ok(bits) if is_number && bits <= most => Self::of(address, bits).ok_or_else(invalid),
            _ => Err(invalid()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;

    /// Where a request comes from whose connection has `peer`, and with these lines of `X-Forwarded-For`.
    #[track_caller]
    fn check(address: &ClientAddress, peer: &str, lines: &[&str], expected: &str) {
        let (mut parts, ()) = Request::new(()).into_parts();
        if !peer.is_empty() {
            parts.extensions.insert(peer.parse::<SocketAddr>().expect("an address"));
        }
        for line in lines {
            parts.headers.append("x-forwarded-for", HeaderValue::from_str(line).expect("a value"));
        }
        let found = address.of(&parts).map(|found| found.to_string()).unwrap_or_default();
        assert_eq!(found, expected, "{address:?} {peer} {lines:?}");
    }

    #[test]
    fn a11_x_forwarded_for_does_not_count_unless_proxies_are_known() {
        let plain = ClientAddress::of_connection();
        check(&plain, "192.0.2.1:5", &["198.51.100.1"], "192.0.2.1:5");
        check(&plain, "", &["198.51.100.1"], "");
        check(&plain, "[::ffff:192.0.2.1]:5", &[], "192.0.2.1:5");
        check(&ClientAddress::behind(0), "192.0.2.1:5", &["198.51.100.1"], "192.0.2.1:5");
    }

    #[test]
    fn a11_behind_so_many_proxies_the_address_that_the_first_of_them_saw_counts() {
        let one = ClientAddress::behind(1);
        check(&one, "10.0.0.1:5", &["198.51.100.1"], "198.51.100.1:0");
        check(&one, "10.0.0.1:5", &["6.6.6.6, 198.51.100.1"], "198.51.100.1:0");
        check(&one, "10.0.0.1:5", &["6.6.6.6", "198.51.100.1:77"], "198.51.100.1:77");
        check(&one, "10.0.0.1:5", &["[2001:db8::1]:77"], "[2001:db8::1]:77");
        check(&one, "10.0.0.1:5", &["[2001:db8::1]"], "[2001:db8::1]:0");
        check(&one, "10.0.0.1:5", &["2001:db8::1"], "[2001:db8::1]:0");
        check(&one, "10.0.0.1:5", &["::ffff:198.51.100.1"], "198.51.100.1:0");
        check(&one, "10.0.0.1:5", &["6.6.6.6, unknown"], "");
        check(&one, "10.0.0.1:5", &["6.6.6.6, ,"], "6.6.6.6:0");
        check(&one, "10.0.0.1:5", &[], "10.0.0.1:5");
        let two = ClientAddress::behind(2);
        check(&two, "10.0.0.1:5", &["6.6.6.6, 198.51.100.1, 10.0.0.2"], "198.51.100.1:0");
        check(&two, "10.0.0.1:5", &["198.51.100.1"], "198.51.100.1:0");
    }

    #[test]
    fn a11_behind_networks_the_first_address_that_is_not_trusted_counts() {
        let networks = ["10.0.0.0/8", "2001:db8::/32"].map(|text| text.parse().expect("a network"));
        let behind = ClientAddress::behind_networks(networks);
        // A client that calls directly is not believed.
        check(&behind, "198.51.100.1:5", &["6.6.6.6"], "198.51.100.1:5");
        check(&behind, "10.0.0.1:5", &["6.6.6.6, 198.51.100.1"], "198.51.100.1:0");
        check(&behind, "10.0.0.1:5", &["6.6.6.6", "198.51.100.1, 10.0.0.2"], "198.51.100.1:0");
        check(&behind, "[2001:db8::7]:5", &["198.51.100.1, 2001:db8::8"], "198.51.100.1:0");
        check(&behind, "[::ffff:10.0.0.1]:5", &["198.51.100.1"], "198.51.100.1:0");
        check(&behind, "10.0.0.1:5", &["10.0.0.3, 10.0.0.2"], "10.0.0.3:0");
        check(&behind, "10.0.0.1:5", &["6.6.6.6, unknown"], "");
        check(&behind, "10.0.0.1:5", &[], "10.0.0.1:5");
        check(&behind, "", &["198.51.100.1"], "");
    }

    #[test]
    fn a_function_may_say_where_a_request_comes_from() {
        let by = ClientAddress::by(|request| request.headers.get("x-real")?.to_str().ok()?.parse().ok());
        check(&by, "10.0.0.1:5", &[], "");
    }

    #[test]
    fn cf5_an_address_is_written_with_its_port_behind_the_last_colon() {
        for (address, expected) in [
            ("198.51.100.10:46532", "198.51.100.10:46532"),
            ("0.0.0.0:0", "0.0.0.0:0"),
            ("255.255.255.255:65535", "255.255.255.255:65535"),
            ("[2001:db8::1]:443", "2001:db8::1:443"),
        ] {
            let address = address.parse().expect("an address");
            assert_eq!(written(address).expect("a value"), expected);
        }
    }

    #[track_caller]
    fn check_network(network: &str, address: &str, expected: bool) {
        let network: Network = network.parse().expect("a network");
        assert_eq!(network.contains(address.parse().expect("an address")), expected, "{network:?} {address}");
    }

    #[test]
    fn a_network_contains_the_addresses_with_its_prefix() {
        check_network("10.0.0.0/8", "10.255.0.1", true);
        check_network("10.0.0.0/8", "11.0.0.1", false);
        check_network("10.1.2.3/8", "10.0.0.1", true);
        check_network("192.0.2.1", "192.0.2.1", true);
        check_network("192.0.2.1", "192.0.2.2", false);
        check_network("0.0.0.0/0", "8.8.8.8", true);
        check_network("0.0.0.0/0", "::1", false);
        check_network("::/0", "::1", true);
        check_network("::ffff:10.0.0.0/104", "10.255.0.1", true);
        check_network("::ffff:10.0.0.0/104", "::ffff:10.255.0.1", true);
        check_network("::ffff:10.0.0.0/104", "11.0.0.1", false);
        check_network("::ffff:0.0.0.0/96", "11.0.0.1", true);
        check_network("10.0.0.0/8", "::ffff:10.0.0.1", true);
        check_network("2001:db8::/32", "2001:db8:ffff::1", true);
        check_network("2001:db8::/32", "2001:db9::1", false);
        check_network("2001:db8::1", "2001:db8::1", true);
        for wrong in [
            "",
            "::ffff:10.0.0.0/95",
            "10.0.0.0/33",
            "::/129",
            "10.0.0/8",
            "10.0.0.0/",
            "10.0.0.0/+8",
            "10.0.0.0/-1",
            "a/8",
        ] {
            let error = wrong.parse::<Network>().expect_err(wrong);
            assert!(error.to_string().starts_with(&format!("{wrong:?}")), "{error}");
        }
    }
}
