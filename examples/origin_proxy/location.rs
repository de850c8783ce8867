//! References to the origin in `Location` and `Content-Location`. A client may be unable to reach the origin's own
//! authority: with `--host upstream` they name the authority that the client asked for instead.

use http::header::{self, HeaderMap};
use http::{HeaderValue, Uri};

use crate::host;

/// Rewrites references to the origin. Only the copy for one client is rewritten, never the stored response, since each
/// client may have asked for another host.
pub fn rewrite(headers: &mut HeaderMap, origin: &Uri, client: &HeaderValue) {
    let Some(origin) = origin.authority() else {
        return;
    };
    let origin = host::normalized(origin.as_str().as_bytes());
    for (name, value) in headers.iter_mut() {
        if (*name == header::LOCATION || *name == header::CONTENT_LOCATION)
            && let Some(rewritten) = for_client(value.as_bytes(), &origin, client.as_bytes())
        {
            *value = rewritten;
        }
    }
}

/// The reference with the client's authority; `None` if it does not name the origin.
fn for_client(reference: &[u8], origin: &[u8], client: &[u8]) -> Option<HeaderValue> {
    const SCHEME: &[u8] = b"http://";
    let begins_with_scheme = reference.len() >= SCHEME.len()
        && SCHEME.eq_ignore_ascii_case(reference.get(..SCHEME.len()).unwrap_or_default());
    // RFC 3986 4.2: without a scheme, `//` begins an authority as well.
    let rest =
        if begins_with_scheme { reference.get(SCHEME.len()..)? } else { reference.strip_prefix(b"//")? };
    let end = rest.iter().position(|byte| b"/?#".contains(byte)).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    if host::normalized(authority) != origin {
        return None;
    }
    HeaderValue::from_bytes(&[SCHEME, client, path].concat()).ok()
}
