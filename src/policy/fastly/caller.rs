//! Who asks, and what is removed of what they say in Fastly's name.

use http::header::HeaderName;
use http::request;

use crate::policy::peer::{Caller, Peers};
use crate::semantics::token::TokenField;

/// How those are recognised that get more than clients do.
#[derive(Clone, Debug, Default)]
pub(super) struct Recognised {
    pub(super) debug: Option<TokenField>,
    pub(super) peers: Peers,
}

impl Recognised {
    /// Who has sent a request. What only peers may say of it is removed, and so are the secrets: the inner service sees neither.
    pub(super) fn recognise(&self, request: &mut request::Parts) -> Caller {
        let is_debugging = self.debug.as_ref().is_some_and(|token| token.is_in(&request.headers));
        let is_peer = self.peers.recognise(request);
        let caller = Caller { is_debugging, is_peer };
        if let Some(token) = &self.debug {
            request.headers.remove(token.name());
        }
        if !is_peer && request.headers.keys().any(is_for_peers) {
            let forged: Vec<_> = request.headers.keys().filter(|name| is_for_peers(name)).cloned().collect();
            for name in forged {
                request.headers.remove(name);
            }
        }
        caller
    }
}

/// Whether a request field is one that Fastly's caches set for each other and for the origin: `Fastly-FF`, `Fastly-Client`,
/// `Fastly-Client-IP`, `Fastly-SSL` and whatever has such a name, also with `_` for `-`.
fn is_for_peers(name: &HeaderName) -> bool {
    matches!(name.as_str().as_bytes(), [b'f', b'a', b's', b't', b'l', b'y', b'-' | b'_', ..])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::TrustedPeer;
    use http::{HeaderValue, Request};

    fn request(fields: &[(&'static str, &'static str)]) -> request::Parts {
        let mut parts = Request::new(()).into_parts().0;
        for (name, value) in fields {
            parts.headers.append(*name, HeaderValue::from_static(value));
        }
        parts
    }

    #[track_caller]
    fn check(
        recognised: &Recognised,
        fields: &[(&'static str, &'static str)],
        (is_peer, is_debugging): (bool, bool),
        left: &[&str],
    ) {
        let mut request = request(fields);
        let caller = recognised.recognise(&mut request);
        assert_eq!(caller, Caller { is_debugging, is_peer }, "{fields:?}");
        assert_eq!(request.headers.keys().map(HeaderName::as_str).collect::<Vec<_>>(), left, "{fields:?}");
    }

    #[test]
    fn fa9_a_peer_is_known_by_an_extension_or_by_a_closure() {
        let peers = Peers::new().by(|request| request.headers.contains_key("x-verified"));
        let recognised = Recognised { peers, ..Recognised::default() };
        check(
            &recognised,
            &[("x-verified", "1"), ("fastly-ff", "a")],
            (true, false),
            &["x-verified", "fastly-ff"],
        );
        check(&recognised, &[("fastly-ff", "a")], (false, false), &[]);
        let mut marked = request(&[("fastly-ff", "a")]);
        marked.extensions.insert(TrustedPeer::new());
        assert!(Recognised::default().recognise(&mut marked).is_peer);
        assert!(marked.headers.contains_key("fastly-ff"));
    }

    #[test]
    fn a_client_says_nothing_in_fastlys_name() {
        for name in [
            "fastly-ff",
            "fastly-client",
            "fastly-client-ip",
            "fastly-ssl",
            "fastly-debug",
            "fastly-orig-accept-encoding",
            "fastly_client_ip",
            "fastly-anything",
        ] {
            check(
                &Recognised::default(),
                &[("accept", "*/*"), (name, "x"), (name, "y")],
                (false, false),
                &["accept"],
            );
        }
        check(
            &Recognised::default(),
            &[("fastly", "x"), ("x-fastly-ff", "x")],
            (false, false),
            &["fastly", "x-fastly-ff"],
        );
    }

    #[test]
    fn fa10_the_debug_token_is_for_the_cache_alone() {
        let debug = HeaderName::from_static("fastly-debug");
        let recognised =
            Recognised { debug: Some(TokenField::new(debug, "secret")), ..Recognised::default() };
        check(&recognised, &[("fastly-debug", "secret")], (false, true), &[]);
        check(&recognised, &[("fastly-debug", "1")], (false, false), &[]);
        assert!(!format!("{recognised:?}").contains("secret"));
    }
}
