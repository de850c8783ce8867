//! References to the origin in `Location` and `Content-Location`. A client may be unable to reach the origin's own
//! authority: with `--host upstream` they name the authority that the client asked for instead.

use http::header::{self, HeaderMap};
use http::uri::Scheme;
use http::{HeaderValue, Uri};

use crate::host;

/// Rewrites references to the origin. Only the copy for one client is rewritten, never the stored response, since each
/// client may have asked for another host.
pub fn rewrite(headers: &mut HeaderMap, origin: &Uri, client: &HeaderValue) {
    let (Some(scheme), Some(authority)) = (origin.scheme(), origin.authority()) else {
        return;
    };
    let origin = Origin { authority: host::normalized(authority.as_str().as_bytes(), scheme), scheme };
    for (name, value) in headers.iter_mut() {
        if (*name == header::LOCATION || *name == header::CONTENT_LOCATION)
            && let Some(rewritten) = origin.reference(value.as_bytes(), client.as_bytes())
        {
            *value = rewritten;
        }
    }
}

struct Origin<'a> {
    /// In the form that is compared.
    authority: Vec<u8>,
    scheme: &'a Scheme,
}

impl Origin<'_> {
    /// The reference as it is for the client; `None` if it does not name the origin. The scheme counts: behind another
    /// one there may be another server.
    fn reference(&self, reference: &[u8], client: &[u8]) -> Option<HeaderValue> {
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
        // This proxy serves no TLS.
        HeaderValue::from_bytes(&[b"http://", client, path].concat()).ok()
    }
}
