//! Names that stand in the heads of very many responses.
//!
//! A head that is kept has one byte in the place of such a name, and an answer gets a static string, which takes no memory.
//! What is not in the table is kept as it came, so its extent is a matter of cost alone: without it, an entry with four
//! fields takes 66 bytes more (of some 870), and a miss 3,700 instructions (6 %). The table is never written down.

use http::header::HeaderName;

/// Texts, and where each is found by [`place`].
struct Table<const N: usize> {
    texts: [&'static str; N],
    /// The number of a text plus one, or 0. A text whose place is taken is in the next free one.
    places: [u8; PLACES],
}

/// So many that most places are free.
const PLACES: usize = 1024;

/// A few bytes tell most texts apart.
const fn place(text: &[u8]) -> usize {
    let length = text.len();
    if length == 0 {
        return 0;
    }
    let [first, middle, late, last] =
        [text[0], text[length / 2], text[length - 1 - length / 4], text[length - 1]];
    (length * 37 + first as usize * 5 + middle as usize * 61 + late as usize * 17 + last as usize * 257)
        % PLACES
}

impl<const N: usize> Table<N> {
    const fn new(texts: [&'static str; N]) -> Self {
        let mut places = [0; PLACES];
        let mut id = 0;
        while id < N {
            let mut at = place(texts[id].as_bytes());
            while places[at] != 0 {
                at = (at + 1) % PLACES;
            }
            places[at] = id as u8 + 1;
            id += 1;
        }
        Self { texts, places }
    }

    #[inline]
    fn position(&self, text: &[u8]) -> Option<u8> {
        let mut at = place(text);
        loop {
            let id = self.places[at].checked_sub(1)?;
            if self.texts[usize::from(id)].as_bytes() == text {
                return Some(id);
            }
            at = (at + 1) % PLACES;
        }
    }
}

/// The number of a name, if it is a known one.
#[inline]
pub(super) fn name_id(name: &HeaderName) -> Option<u8> {
    NAMES.position(name.as_str().as_bytes())
}

#[inline]
pub(super) fn name(id: u8) -> Option<&'static HeaderName> {
    PARSED_NAMES.get(usize::from(id))
}

macro_rules! names {
    ($($text:literal),+ $(,)?) => {
        static NAMES: Table<{ [$($text),+].len() }> = Table::new([$($text),+]);
        static PARSED_NAMES: [HeaderName; [$($text),+].len()] = [$(HeaderName::from_static($text)),+];
    };
}

#[rustfmt::skip]
names! {
    "age", "nel", "p3p", "via", "date", "etag", "host", "link", "vary", "x-hw", "allow", "x-cdn", "cf-ray",
    "digest", "pragma", "server", "status", "sunset", "alt-svc", "expires", "refresh", "warning",
    "x-cache", "x-timer", "location", "priority", "vary-key", "accept-ch", "cache-tag", "expect-ct",
    "ratelimit", "report-to", "sourcemap", "x-backend", "x-edge-ip", "x-runtime", "x-varnish",
    "early-data", "set-cookie", "tracestate", "x-amz-id-2", "x-pingback", "x-trace-id", "accept-post",
    "content-md5", "critical-ch", "deprecation", "repr-digest", "retry-after", "traceparent",
    "x-amz-cf-id", "x-azure-ref", "x-generator", "x-goog-hash", "x-served-by", "x-sourcemap",
    "x-vercel-id", "accept-patch", "cache-groups", "cache-status", "content-type", "x-amz-cf-pop",
    "x-b3-traceid", "x-cache-hits", "x-ms-version", "x-powered-by", "x-request-id", "x-robots-tag",
    "accept-ranges", "cache-control", "content-range", "last-modified", "server-timing", "surrogate-key",
    "x-proxy-cache", "content-digest", "content-length", "feature-policy", "no-vary-search",
    "x-drupal-cache", "x-ms-blob-type", "x-nextjs-cache", "x-vercel-cache", "cf-cache-status",
    "clear-site-data", "document-policy", "public-key-pins", "referrer-policy", "x-accel-expires",
    "x-edge-location", "x-frame-options", "x-ms-request-id", "x-ua-compatible", "content-encoding",
    "content-language", "content-location", "ratelimit-policy", "want-repr-digest", "www-authenticate",
    "x-amz-request-id", "x-amz-version-id", "x-aspnet-version", "x-correlation-id", "x-xss-protection",
    "cdn-cache-control", "speculation-rules", "surrogate-control", "use-as-dictionary",
    "x-goog-generation", "x-ms-lease-status", "x-ratelimit-limit", "x-ratelimit-reset",
    "permissions-policy", "x-content-duration", "x-download-options", "x-rate-limit-limit",
    "content-disposition", "reporting-endpoints", "timing-allow-origin", "x-aspnetmvc-version",
    "x-fastly-request-id", "x-github-request-id", "available-dictionary", "origin-agent-cluster",
    "x-goog-storage-class", "x-guploader-uploadid", "supports-loading-mode", "x-goog-metageneration",
    "x-ratelimit-remaining", "access-control-max-age", "service-worker-allowed", "x-amz-meta-s3cmd-attrs",
    "x-content-type-options", "x-dns-prefetch-control", "x-drupal-dynamic-cache",
    "content-security-policy", "cache-group-invalidation", "x-amz-replication-status",
    "strict-transport-security", "cross-origin-opener-policy", "access-control-allow-origin",
    "access-control-allow-headers", "access-control-allow-methods", "cross-origin-embedder-policy",
    "cross-origin-resource-policy", "x-amz-server-side-encryption", "x-goog-stored-content-length",
    "access-control-expose-headers", "x-envoy-upstream-service-time", "x-goog-stored-content-encoding",
    "access-control-allow-credentials", "x-permitted-cross-domain-policies",
    "content-security-policy-report-only",
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_and_value_of_the_tables_is_found_and_no_other() {
        for (at, text) in NAMES.texts.iter().enumerate() {
            let parsed = HeaderName::from_static(text);
            assert_eq!(name_id(&parsed).map(usize::from), Some(at), "{text} is there once");
            assert_eq!(name(at as u8), Some(&parsed));
        }
        for text in ["x-nobodys", "content-typf", &"x".repeat(1000)] {
            assert_eq!(name_id(&HeaderName::try_from(text).expect("a name")), None, "{text}");
        }
        assert_eq!(name(PARSED_NAMES.len() as u8), None);
    }
}
