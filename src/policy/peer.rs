//! Who asks: a client, another cache of the same owner, or somebody who looks for a fault.

use std::fmt;
use std::sync::Arc;

use http::header::HeaderName;
use http::request;

use crate::semantics::token::TokenField;

/// Says, in the extensions of a request, that another cache of the same owner has sent it. [`Peers::recognise`] puts it there,
/// or a layer in front of the cache that has authenticated the sender, by its certificate or its address.
///
/// Such a request never gets a stale response that is validated in the background (`stale-while-revalidate`): the other cache
/// would store what is stale already, and ask again at once. A stale response still stands in for an error (`stale-if-error`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TrustedPeer;

impl TrustedPeer {
    /// The mark.
    pub fn new() -> Self {
        Self
    }
}

/// Whether the sender of a request is a peer.
type IsPeer = dyn Fn(&request::Parts) -> bool + Send + Sync;

/// How a cache recognises other caches of the same owner, its *peers*, which ask it in place of the origin: by a secret, by what
/// a closure finds in a request, or by a [`TrustedPeer`] that is there already. What a client can send must not be enough.
///
/// [`CachePolicyExt::with_peers`](crate::CachePolicyExt::with_peers) says what they get. The policy
/// [`Fastly`](crate::policy::Fastly) has switches of its own.
///
/// ```
/// use http::{HeaderName, Request};
/// use larder::policy::Peers;
///
/// const FIELD: HeaderName = HeaderName::from_static("x-peer");
/// let peers = Peers::new().token(FIELD, "from the configuration");
/// let mut request = Request::get("/").header(FIELD, "a guess").body(())?.into_parts().0;
/// assert!(!peers.recognise(&mut request) && request.headers.is_empty());
/// # Ok::<(), http::Error>(())
/// ```
#[derive(Clone)]
pub struct Peers {
    by: Option<Arc<IsPeer>>,
    pub(super) fields: Vec<HeaderName>,
    tokens: Vec<TokenField>,
}

impl Default for Peers {
    fn default() -> Self {
        let fields = ["cache-tag", "cdn-cache-control", "surrogate-control", "surrogate-key"];
        Self { by: None, fields: fields.map(HeaderName::from_static).into(), tokens: Vec::new() }
    }
}

impl fmt::Debug for Peers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { fields, tokens, .. } = self;
        f.debug_struct("Peers").field("fields", fields).field("tokens", tokens).finish_non_exhaustive()
    }
}

impl Peers {
    /// Those whose requests have a [`TrustedPeer`] among their extensions.
    pub fn new() -> Self {
        Self::default()
    }

    /// Those whose requests a closure recognises, too: by an address that a proxy protocol has left, for example.
    #[must_use]
    pub fn by<F>(mut self, is_peer: F) -> Self
    where
        F: Fn(&request::Parts) -> bool + Send + Sync + 'static,
    {
        self.by = Some(Arc::new(is_peer));
        self
    }

    /// Further response fields that are for caches only: peers get them as the origin has sent them, and clients do not get them.
    /// `Cache-Tag`, `CDN-Cache-Control`, `Surrogate-Control` and `Surrogate-Key` always are.
    #[must_use]
    pub fn fields(mut self, names: impl IntoIterator<Item = HeaderName>) -> Self {
        self.fields.extend(names);
        self
    }

    /// Those whose requests show a secret in this field, too. An empty secret is none. Given more than once, each of the secrets
    /// will do: so they can be replaced one cache after the other.
    #[must_use]
    pub fn token(mut self, field: HeaderName, secret: &str) -> Self {
        self.tokens.push(TokenField::new(field, secret));
        self
    }

    /// Whether a peer has sent a request. Then a [`TrustedPeer`] is among its extensions. The fields with secrets are removed,
    /// whoever has sent them. Secrets are compared in a time that does not depend on where they differ.
    pub fn recognise(&self, request: &mut request::Parts) -> bool {
        let is_peer = request.extensions.get::<TrustedPeer>().is_some()
            || self.tokens.iter().any(|token| token.is_in(&request.headers))
            || self.by.as_ref().is_some_and(|is_peer| is_peer(request));
        for token in &self.tokens {
            request.headers.remove(token.name());
        }
        if is_peer {
            request.extensions.insert(TrustedPeer::new());
        }
        is_peer
    }
}

/// Who asks, where it is no client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Caller {
    /// It wants to know what the cache does.
    pub(super) is_debugging: bool,
    pub(super) is_peer: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderValue, Request};

    const FIELD: HeaderName = HeaderName::from_static("x-secret");

    #[track_caller]
    fn check(peers: &Peers, lines: &[&'static str], is_peer: bool) {
        let mut request = Request::new(()).into_parts().0;
        for line in lines {
            request.headers.append(FIELD, HeaderValue::from_static(line));
        }
        assert_eq!(peers.recognise(&mut request), is_peer, "{lines:?}");
        assert_eq!(request.extensions.get::<TrustedPeer>().is_some(), is_peer, "{lines:?}");
        assert!(request.headers.is_empty(), "{lines:?}");
    }

    #[test]
    fn fa9_only_a_whole_secret_in_one_line_makes_a_peer() {
        let peers = Peers::new().token(FIELD, "secret");
        check(&peers, &["secret"], true);
        for forged in ["", "s", "secre", "secret1", "Secret", "secret, secret", "terces"] {
            check(&peers, &[forged], false);
        }
        check(&peers, &["secret", "secret"], false);
        check(&peers, &[], false);
        // Without a secret, there is none to guess.
        check(&Peers::new().token(FIELD, ""), &[""], false);
    }

    #[test]
    fn fa9_each_of_several_secrets_will_do() {
        let peers = Peers::new().token(FIELD, "new").token(FIELD, "old");
        check(&peers, &["new"], true);
        check(&peers, &["old"], true);
        check(&peers, &["new", "old"], false);
    }

    #[test]
    fn a_secret_is_not_shown() {
        assert!(!format!("{:?}", Peers::new().token(FIELD, "hidden")).contains("hidden"));
    }
}
