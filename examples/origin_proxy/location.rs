//! References to the origin in `Location` and `Content-Location`. A client may be unable to reach the origin's own
//! authority: with `--host upstream` they name the authority that the client asked for instead.

use http::header::{self, HeaderMap};
use http::uri::Scheme;
use http::{HeaderValue, Request, Uri};

use crate::client::Client;
use crate::host;
use crate::upstreams::Upstreams;

/// What a client calls the origin.
pub struct Named {
    authority: HeaderValue,
    scheme: Scheme,
}

impl Named {
    /// By its request.
    pub fn by<B>(request: &Request<B>) -> Option<Self> {
        let scheme =
            request.extensions().get().map_or(Scheme::HTTP, |client: &Client| client.scheme().clone());
        Some(Self { authority: host::of(request)?, scheme })
    }
}

/// Rewrites references to any of the upstreams. Only the copy for one client is rewritten, never the stored response, since
/// each client may have asked for another host.
pub fn rewrite(headers: &mut HeaderMap, upstreams: &Upstreams, client: &Named) {
    for (name, value) in headers.iter_mut() {
        if *name == header::LOCATION || *name == header::CONTENT_LOCATION {
            let origins = upstreams.iter().filter_map(|node| Origin::of(&node.uri));
            let rewritten = origins.filter_map(|origin| origin.reference(value.as_bytes(), client)).next();
            if let Some(rewritten) = rewritten {
                *value = rewritten;
            }
        }
    }
}

struct Origin<'a> {
    /// In the form that is compared.
    authority: Vec<u8>,
    scheme: &'a Scheme,
}

impl<'a> Origin<'a> {
    fn of(uri: &'a Uri) -> Option<Self> {
        let (scheme, authority) = (uri.scheme()?, uri.authority()?);
        Some(Self { authority: host::normalized(authority.as_str().as_bytes(), scheme), scheme })
    }

    /// The reference as it is for the client; `None` if it does not name the origin. The scheme counts: behind another
    /// one there may be another server.
    fn reference(&self, reference: &[u8], client: &Named) -> Option<HeaderValue> {
        let rest = match reference.iter().position(|&byte| byte == b':') {
            // RFC 3986 4.2: without a scheme, `//` begins an authority as well.
            _ if reference.starts_with(b"//") => reference,
            Some(colon) if reference[..colon].eq_ignore_ascii_case(self.scheme.as_str().as_bytes()) => {
                &reference[colon + 1..]
            }
            _ => return None,
        };
        let rest = rest.strip_prefix(b"//")?;
        let end = rest.iter().position(|byte| b"/?#".contains(byte)).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        if host::normalized(authority, self.scheme) != self.authority {
            return None;
        }
        let Named { authority, scheme } = client;
        HeaderValue::from_bytes(&[scheme.as_str().as_bytes(), b"://", authority.as_bytes(), path].concat())
            .ok()
    }
}
