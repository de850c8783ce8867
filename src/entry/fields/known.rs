//! Names and values that stand in the heads of very many responses.
//!
//! A head that is kept has one byte in the place of such a name, and another one in the place of such a value; an answer
//! gets a static string, which takes no memory and whose clones touch no reference count. What is not in the tables is
//! kept as it came, so their extent is a matter of cost alone: without the values, an entry with four fields takes
//! @@MEMORY@@ bytes more, and a hit @@HIT@@ instructions more. The tables are never written down.

use http::HeaderValue;
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

macro_rules! table {
    ($table:ident, $parsed:ident: $kind:ident, $($text:literal),+ $(,)?) => {
        static $table: Table<{ [$($text),+].len() }> = Table::new([$($text),+]);
        static $parsed: [$kind; [$($text),+].len()] = [$($kind::from_static($text)),+];
    };
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

/// The number of a value, if it is a known one.
pub(super) fn value_id(value: &[u8]) -> Option<u8> {
    VALUES.position(value)
}

#[inline]
pub(super) fn value(id: usize) -> Option<&'static HeaderValue> {
    PARSED_VALUES.get(id)
}

#[rustfmt::skip]
table! { NAMES, PARSED_NAMES: HeaderName,
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

#[rustfmt::skip]
table! { VALUES, PARSED_VALUES: HeaderValue,
    "*", "0", "1", "-1", "?0", "?1", "br", "de", "en", "fr", "on", "GET", "HIT", "PHP", "all", "gws",
    "off", "DENY", "MISS", "deny", "gzip", "none", "sffe", "true", "zstd", "Caddy", "bytes", "en-US",
    "envoy", "false", "nginx", "AES256", "Accept", "Apache", "Cookie", "Origin", "Vercel", "accept",
    "inline", "noopen", "origin", "public", "ASP.NET", "Express", "IE=edge", "Kestrel", "Netlify",
    "Next.js", "Varnish", "deflate", "noindex", "nosniff", "private", "uvicorn", "AmazonS3", "GET,HEAD",
    "STANDARD", "gunicorn", "identity", "no-cache", "no-store", "text/css", "text/xml", "1.1 vegur",
    "BlockBlob", "GET, HEAD", "LiteSpeed", "font/woff", "image/gif", "image/png", "max-age=0", "max-age=1",
    "max-age=5", "openresty", "same-site", "text/html", "video/mp4", "1.1 google", "GitHub.com",
    "SAMEORIGIN", "attachment", "cloudflare", "font/woff2", "image/avif", "image/jpeg", "image/webp",
    "max-age=10", "max-age=15", "max-age=30", "max-age=60", "sameorigin", "text/plain", "unsafe-url",
    "1.1 varnish", "max-age=120", "max-age=180", "max-age=240", "max-age=300", "max-age=600",
    "max-age=900", "no-referrer", "s-maxage=60", "same-origin", "unsafe-none", "Content-Type",
    "content-type", "cross-origin", "image/x-icon", "max-age=1200", "max-age=1800", "max-age=3600",
    "max-age=7200", "require-corp", "s-maxage=300", "s-maxage=600", "1; mode=block", "image/svg+xml",
    "max-age=10800", "max-age=14400", "max-age=21600", "max-age=28800", "max-age=43200", "max-age=86400",
    "s-maxage=3600", "max-age=172800", "max-age=259200", "max-age=432000", "max-age=604800",
    "s-maxage=86400", "Accept-Encoding", "accept-encoding", "accept-language", "application/pdf",
    "application/xml", "max-age=1209600", "max-age=2419200", "max-age=2592000", "max-age=5184000",
    "max-age=7776000", "must-revalidate", "text/javascript", "application/json", "application/wasm",
    "max-age=15552000", "max-age=15768000", "max-age=31536000", "max-age=31557600", "max-age=63072000",
    "public, max-age=0", "public, max-age=1", "public, max-age=5", "s-maxage=31536000",
    "text/event-stream", "GET, HEAD, OPTIONS", "GET, POST, OPTIONS", "Microsoft-IIS/10.0",
    "public, max-age=10", "public, max-age=15", "public, max-age=30", "public, max-age=60",
    "application/ld+json", "application/rss+xml", "h3=\":443\"; ma=86400", "public, max-age=120",
    "public, max-age=180", "public, max-age=240", "public, max-age=300", "public, max-age=600",
    "public, max-age=900", "public, s-maxage=60", "application/atom+xml", "public, max-age=1200",
    "public, max-age=1800", "public, max-age=3600", "public, max-age=7200", "public, s-maxage=300",
    "public, s-maxage=600", "h3=\":443\"; ma=2592000", "public, max-age=10800", "public, max-age=14400",
    "public, max-age=21600", "public, max-age=28800", "public, max-age=43200", "public, max-age=86400",
    "public, s-maxage=3600", "application/javascript", "public, max-age=172800", "public, max-age=259200",
    "public, max-age=432000", "public, max-age=604800", "public, s-maxage=86400",
    "Accept, Accept-Encoding", "Accept-Encoding, Accept", "Accept-Encoding, Cookie",
    "Accept-Encoding, Origin", "Origin, Accept-Encoding", "cross-origin; report-to",
    "origin, accept-encoding", "public, max-age=1209600", "public, max-age=2419200",
    "public, max-age=2592000", "public, max-age=5184000", "public, max-age=7776000",
    "text/css; charset=utf-8", "text/html;charset=UTF-8", "text/html;charset=utf-8",
    "text/xml; charset=utf-8", "application/octet-stream", "application/problem+json",
    "origin-when-cross-origin", "public, max-age=15552000", "public, max-age=15768000",
    "public, max-age=31536000", "public, max-age=31557600", "same-origin-allow-popups",
    "text/html; charset=UTF-8", "text/html; charset=utf-8", "text/plain;charset=utf-8",
    "application/manifest+json", "public, s-maxage=31536000", "text/plain; charset=utf-8",
    "no-referrer-when-downgrade", "Accept-Encoding, User-Agent", "max-age=31536000, immutable",
    "Sun, 17 Jan 2038 19:14:07 GMT", "Thu, 01 Jan 1970 00:00:00 GMT", "Thu, 19 Nov 1981 08:52:00 GMT",
    "application/json;charset=utf-8", "application/xml; charset=utf-8", "text/javascript; charset=utf-8",
    "application/json; charset=utf-8", "strict-origin-when-cross-origin",
    "public,max-age=31536000,immutable", "public, max-age=0, must-revalidate",
    "max-age=15552000; includeSubDomains", "max-age=31536000; includeSubDomains",
    "no-cache, no-store, must-revalidate", "public, immutable, max-age=31536000",
    "public, max-age=31536000, immutable", "application/javascript; charset=utf-8",
    "max-age=31536000; includeSubDomains; preload", "max-age=63072000; includeSubDomains; preload",
    "Origin, Access-Control-Request-Method, Access-Control-Request-Headers",
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
        for (at, text) in VALUES.texts.iter().enumerate() {
            assert_eq!(value_id(text.as_bytes()).map(usize::from), Some(at), "{text} is there once");
            assert_eq!(value(at).map(HeaderValue::as_bytes), Some(text.as_bytes()));
        }
        for text in ["", "x-nobodys", "text/htmk", &"x".repeat(1000)] {
            assert_eq!(value_id(text.as_bytes()), None, "{text}");
        }
        assert_eq!(name(PARSED_NAMES.len() as u8), None);
    }
}
