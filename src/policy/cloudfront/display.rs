//! What a distribution says, for people to read.

use std::fmt::{self, Display, Formatter};

use http::HeaderName;

use super::distribution::{Behavior, Distribution};
use super::names::{CachePolicyConfig, ForwardedHeaders, OriginRequestPolicyConfig};
use crate::policy::{Pattern, Selection};

impl Display for Distribution {
    /// A paragraph for each behavior, the default one last, and what holds for all of them.
    ///
    /// ```
    /// use larder::policy::cloudfront::{CachePolicyConfig, Distribution};
    /// let distribution = Distribution::new(CachePolicyConfig::caching_optimized());
    /// assert_eq!(distribution.to_string(), "\
    /// default:
    ///     cache policy CachingOptimized
    ///         lifetimes: at least 1 s, by default 86400 s, at most 31536000 s
    ///         key: headers none, cookies none, query none, Accept-Encoding as gzip and br
    /// ");
    /// ```
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for (pattern, behavior) in &self.behaviors {
            write!(f, "{}:\n{behavior}", pattern.as_str())?;
        }
        write!(f, "default:\n{}", self.default)?;
        for error in self.custom_error_responses() {
            write!(f, "error {}:", error.error_code.as_u16())?;
            if let Some(ttl) = error.error_caching_min_ttl {
                write!(f, " at least {} s", ttl.as_secs())?;
            }
            if let Some((path, status)) = &error.page {
                write!(f, " the page {path}, as {}", status.as_u16())?;
            }
            f.write_str("\n")?;
        }
        match &self.cache_tag_header {
            Some(name) => writeln!(f, "tags: {name}"),
            None => Ok(()),
        }
    }
}

impl Display for Behavior {
    /// The policies, each with what it says.
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "    cache policy {}", self.cache_policy)?;
        if let Some(policy) = &self.origin_request_policy {
            write!(f, "    origin request policy {policy}")?;
        }
        if self.caches_options {
            f.write_str("    caches OPTIONS, too\n")?;
        }
        if self.is_signed {
            f.write_str("    its URLs are signed\n")?;
        }
        Ok(())
    }
}

impl Display for CachePolicyConfig {
    /// The name, the lifetimes and the key.
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let lifetimes = self.lifetimes();
        let [min, default, max] = [lifetimes.min, lifetimes.default, lifetimes.max].map(|ttl| ttl.as_secs());
        writeln!(f, "{}", named(&self.name))?;
        writeln!(f, "        lifetimes: at least {min} s, by default {default} s, at most {max} s")?;
        let headers = match &*self.headers.0 {
            [] => "none".to_owned(),
            names => list(names),
        };
        let (cookies, query) = (shown(&self.cookies.0), shown(&self.query_strings.0));
        write!(f, "        key: headers {headers}, cookies {cookies}, query {query}")?;
        match (self.gzip, self.brotli) {
            (false, false) => writeln!(f),
            (true, false) => writeln!(f, ", Accept-Encoding as gzip"),
            (false, true) => writeln!(f, ", Accept-Encoding as br"),
            (true, true) => writeln!(f, ", Accept-Encoding as gzip and br"),
        }
    }
}

impl Display for OriginRequestPolicyConfig {
    /// The name, and what goes to the origin.
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", named(&self.name))?;
        let headers = match &self.headers.0 {
            ForwardedHeaders::None => "none".to_owned(),
            ForwardedHeaders::AllowList(names) => list(names),
            ForwardedHeaders::AllViewer(own) if own.is_empty() => "all of the client".to_owned(),
            ForwardedHeaders::AllViewer(own) => format!("all of the client and {}", list(own)),
            ForwardedHeaders::AllExcept(names) => format!("all of the client except {}", list(names)),
        };
        let (cookies, query) = (shown(&self.cookies.0), shown(&self.query_strings.0));
        writeln!(f, "        to the origin: headers {headers}; cookies {cookies}; query {query}")
    }
}

fn named(name: &str) -> &str {
    if name.is_empty() { "without a name" } else { name }
}

fn list(names: &[HeaderName]) -> String {
    names.iter().map(HeaderName::as_str).collect::<Vec<_>>().join(" ")
}

fn shown(names: &Selection) -> String {
    let list = |patterns: &[Pattern]| patterns.iter().map(Pattern::as_str).collect::<Vec<_>>().join(" ");
    match names {
        Selection::None => "none".to_owned(),
        Selection::All => "all".to_owned(),
        Selection::AllowList(patterns) => list(patterns),
        Selection::AllExcept(patterns) => format!("all except {}", list(patterns)),
    }
}
