//! Other proxies of the same owner: an edge asks a shield in place of the origin, and shows a token by which the shield knows it.
//!
//! A shield believes what an edge says of its client: the scheme, and fields such as `CloudFront-Viewer-Country`. It makes
//! nothing for browsers, since the edge does. Whoever else sends the field with a token says nothing by it: the field is
//! removed at the first step of a request, whoever has sent it, and so reaches no origin and no stored response.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwap;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::request;
use http::uri::Scheme;
use larder::policy::Peers;

use crate::client::Client;
use crate::upstream::FORWARDED_PROTO;

/// The field with the token.
pub const PEER: HeaderName = HeaderName::from_static("larder-peer");

/// How many fields more than a client's a request of an edge may have: the edge adds some.
pub const MORE_FIELDS: usize = 32;

/// The fewest characters of a token.
const SHORTEST: usize = 16;

/// The tokens of a file: an edge shows the first one, a shield believes them all. So they are replaced without a gap: the new
/// one is added as the last one everywhere, then becomes the first one, and then the old one goes.
#[derive(Clone)]
pub struct PeerTokens {
    current: Arc<ArcSwap<Tokens>>,
    file: PathBuf,
    /// By which schemes clients have asked edges: `http`, and `https`.
    schemes: Arc<[AtomicBool; 2]>,
}

struct Tokens {
    believed: Peers,
    shown: HeaderValue,
}

impl PeerTokens {
    /// # Errors
    ///
    /// One sentence: the file can't be read, or has no token, or what is none.
    pub fn load(file: PathBuf) -> Result<Self, String> {
        let tokens = read(&file)?;
        Ok(Self { current: Arc::new(ArcSwap::from_pointee(tokens)), file, schemes: Arc::default() })
    }

    /// Reads the file again, and returns its name.
    ///
    /// # Errors
    ///
    /// As for [`load`](Self::load). Then nothing has changed.
    pub fn reload(&self) -> Result<&Path, String> {
        self.current.store(Arc::new(read(&self.file)?));
        Ok(&self.file)
    }

    /// Shows the token.
    pub fn mark(&self, headers: &mut HeaderMap) {
        headers.insert(PEER, self.current.load().shown.clone());
    }

    /// The scheme of what edges ask for where a URL is known by `named`: the other one, where all of their clients have asked by that.
    /// So it is where TLS servers in front of the edges take what is asked by `https`.
    pub fn scheme(&self, named: Scheme) -> Scheme {
        let is_https = named == Scheme::HTTPS;
        let has_asked = |is_https: bool| self.schemes[usize::from(is_https)].load(Ordering::Relaxed);
        match has_asked(!is_https) && !has_asked(is_https) {
            false => named,
            true if is_https => Scheme::HTTP,
            true => Scheme::HTTPS,
        }
    }

    /// Whether an edge has sent the request. Then what it says of its client is believed.
    pub fn recognise(&self, request: &mut request::Parts) -> bool {
        let is_peer = self.current.load().believed.recognise(request);
        if is_peer {
            let is_https = request.headers.get(FORWARDED_PROTO).is_some_and(|scheme| scheme == "https");
            self.schemes[usize::from(is_https)].store(true, Ordering::Relaxed);
            let scheme = if is_https { Scheme::HTTPS } else { Scheme::HTTP };
            if let Some(client) = request.extensions.get_mut::<Client>() {
                client.is_behind_peer(scheme.clone());
            }
            request.extensions.insert(scheme);
        }
        is_peer
    }
}

fn read(file: &Path) -> Result<Tokens, String> {
    let wrong = |why: &str| format!("--peer-token-file {}: {why}", file.display());
    let text = std::fs::read_to_string(file).map_err(|error| wrong(&format!("can't be read: {error}")))?;
    let lines: Vec<_> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    // Which line is wrong is said, and not what it has.
    let is_token = |line: &str| line.len() >= SHORTEST && line.bytes().all(|byte| byte.is_ascii_graphic());
    if let Some(number) = text.lines().position(|line| !line.trim().is_empty() && !is_token(line.trim())) {
        let reason = format!(
            "line {} is not a token: one has {SHORTEST} visible ASCII characters or more",
            number + 1
        );
        return Err(wrong(&reason));
    }
    let first = lines.first().ok_or_else(|| wrong("has no token"))?;
    let mut shown = HeaderValue::from_str(first).map_err(|_| wrong("has no token"))?;
    shown.set_sensitive(true);
    let believed = lines.iter().fold(Peers::new(), |peers, token| peers.token(PEER, token));
    Ok(Tokens { believed, shown })
}
