//! `Cache-Control` of a response, to be written.

use std::fmt;
use std::time::Duration;

use http::HeaderValue;
use http::header::{self, HeaderMap, HeaderName};
use thiserror::Error;

use super::ResponseDirectives;
use crate::semantics::fields::is_token;
use crate::semantics::targeted::CDN_CACHE_CONTROL;

/// The directives of a response (RFC 9111 5.2.2, RFC 5861, RFC 8246), to be written into `Cache-Control` or into a targeted field
/// (RFC 9213).
///
/// ```
/// use std::time::Duration;
/// use larder::CacheControl;
///
/// const MINUTE: Duration = Duration::from_secs(60);
/// let control = CacheControl::new().public().max_age(MINUTE).stale_while_revalidate(5 * MINUTE);
/// assert_eq!(control.to_string(), "public, max-age=60, stale-while-revalidate=300");
/// ```
///
/// With the feature `axum` it is a part of a response: `(CacheControl::new().no_store(), "mine alone")`.
///
/// Lifetimes are written in whole seconds, 2^31 at most. What is said twice counts once, in the later form.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CacheControl {
    directives: ResponseDirectives,
    extensions: Vec<(Box<str>, Option<Box<str>>)>,
}

/// A text is no directive: its name is no token (RFC 9110 5.6.2), or its value has a byte that no field has.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("a directive has a token for a name, and a value of printable ASCII")]
pub struct InvalidDirective;

/// Directives and the field that they are for; see [`CacheControl::in_field`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheControlField {
    control: CacheControl,
    name: HeaderName,
}

/// A directive without a value.
macro_rules! flags {
    ($($(#[$doc:meta])* $name:ident),+) => { $(
        $(#[$doc])*
        #[must_use]
        pub fn $name(mut self) -> Self {
            self.directives.$name = true;
            self
        }
    )+ };
}

/// A directive with a number of seconds.
macro_rules! seconds {
    ($($(#[$doc:meta])* $name:ident),+) => { $(
        $(#[$doc])*
        #[must_use]
        pub fn $name(mut self, duration: Duration) -> Self {
            self.directives.$name = Some(seconds(duration));
            self
        }
    )+ };
}

impl CacheControl {
    /// No directive.
    pub fn new() -> Self {
        Self::default()
    }

    flags! {
        /// `immutable` (RFC 8246): it does not change while it is fresh, so a reload need not ask.
        immutable,
        /// `must-revalidate` (RFC 9111 5.2.2.2): never served stale.
        must_revalidate,
        /// `must-understand` (RFC 9111 5.2.2.3): stored only by caches that know the status, whatever `no-store` says.
        must_understand,
        /// `no-cache` (RFC 9111 5.2.2.4): never served without validation.
        no_cache,
        /// `no-store` (RFC 9111 5.2.2.5).
        no_store,
        /// `no-transform` (RFC 9111 5.2.2.6).
        no_transform,
        /// `private` (RFC 9111 5.2.2.7): not for shared caches.
        private,
        /// `proxy-revalidate` (RFC 9111 5.2.2.8): never served stale by shared caches.
        proxy_revalidate,
        /// `public` (RFC 9111 5.2.2.9): shared caches may give it to everybody.
        public
    }

    seconds! {
        /// `max-age` (RFC 9111 5.2.2.1).
        max_age,
        /// `s-maxage` (RFC 9111 5.2.2.10): the lifetime for shared caches, which implies `proxy-revalidate` for them.
        s_maxage,
        /// `stale-if-error` (RFC 5861 4).
        stale_if_error,
        /// `stale-while-revalidate` (RFC 5861 3).
        stale_while_revalidate
    }

    /// `no-cache="..."`: these fields are not used without validation. [`CacheControl::no_cache`] outweighs it.
    #[must_use]
    pub fn no_cache_fields(mut self, names: impl IntoIterator<Item = HeaderName>) -> Self {
        self.directives.no_cache_fields = names.into_iter().collect();
        self
    }

    /// `private="..."`: these fields are not for shared caches. [`CacheControl::private`] outweighs it.
    #[must_use]
    pub fn private_fields(mut self, names: impl IntoIterator<Item = HeaderName>) -> Self {
        self.directives.private_fields = names.into_iter().collect();
        self
    }

    /// A directive that has no method here (RFC 9111 5.2.3).
    ///
    /// # Errors
    ///
    /// [`InvalidDirective`] for what is no directive.
    pub fn extension(mut self, name: &str, value: Option<&str>) -> Result<Self, InvalidDirective> {
        let name = name.to_ascii_lowercase();
        let is_text = |value: &str| value.bytes().all(|byte| matches!(byte, b' '..=b'~'));
        if !is_token(name.as_bytes()) || !value.is_none_or(is_text) {
            return Err(InvalidDirective);
        }
        self.extensions.retain(|(own, _)| **own != *name);
        self.extensions.push((name.into(), value.map(Into::into)));
        Ok(self)
    }

    /// The value of the field. Empty where there is no directive.
    pub fn to_value(&self) -> HeaderValue {
        HeaderValue::try_from(self.to_string()).unwrap_or_else(|_| HeaderValue::from_static(""))
    }

    /// Sets `Cache-Control`, in place of what is there. Without a directive, the field is removed.
    pub fn set_in(&self, headers: &mut HeaderMap) {
        self.set_field(header::CACHE_CONTROL, headers);
    }

    /// The directives for a targeted field (RFC 9213), such as `Surrogate-Control` of a cache that reads it so.
    #[must_use]
    pub fn in_field(self, name: HeaderName) -> CacheControlField {
        CacheControlField { control: self, name }
    }

    /// The directives for `CDN-Cache-Control`, which caches on the origin's side read in place of `Cache-Control`.
    ///
    /// ```
    /// use std::time::Duration;
    /// use http::HeaderMap;
    /// use larder::CacheControl;
    ///
    /// let mut headers = HeaderMap::new();
    /// CacheControl::new().no_cache().set_in(&mut headers);
    /// CacheControl::new().max_age(Duration::from_secs(3600)).for_cdns().set_in(&mut headers);
    /// assert_eq!(headers["cdn-cache-control"], "max-age=3600");
    /// ```
    #[must_use]
    pub fn for_cdns(self) -> CacheControlField {
        self.in_field(CDN_CACHE_CONTROL)
    }

    fn set_field(&self, name: HeaderName, headers: &mut HeaderMap) {
        let value = self.to_value();
        if value.is_empty() {
            headers.remove(name);
        } else {
            headers.insert(name, value);
        }
    }

    /// Whether it says anything by this directive, whose name is in lower case.
    pub(crate) fn says(&self, name: &str) -> bool {
        let mut found = false;
        let _: Result<(), std::convert::Infallible> = self.each(|own, _| {
            found |= own == name;
            Ok(())
        });
        found
    }

    /// Calls `with` for each directive: its name, and its value as it is written.
    fn each<E>(&self, mut with: impl FnMut(&str, Option<&str>) -> Result<(), E>) -> Result<(), E> {
        let ResponseDirectives {
            immutable,
            malformed: _,
            max_age,
            must_revalidate,
            must_understand,
            no_cache,
            no_cache_fields,
            no_store,
            no_transform,
            private,
            private_fields,
            proxy_revalidate,
            public,
            s_maxage,
            stale_if_error,
            stale_while_revalidate,
            targeted: _,
        } = &self.directives;
        // Without a value where it is about all fields: a targeted field has each name once.
        let of_fields = |whole: bool, fields: &[HeaderName]| {
            let names = fields.iter().map(HeaderName::as_str).collect::<Vec<_>>().join(", ");
            (whole || !fields.is_empty()).then_some((!whole).then(|| format!("\"{names}\"")))
        };
        for (name, is_set) in [("public", public), ("no-store", no_store)] {
            if *is_set {
                with(name, None)?;
            }
        }
        for (name, whole, fields) in
            [("private", private, private_fields), ("no-cache", no_cache, no_cache_fields)]
        {
            if let Some(fields) = of_fields(*whole, fields) {
                with(name, fields.as_deref())?;
            }
        }
        for (name, seconds) in [
            ("max-age", max_age),
            ("s-maxage", s_maxage),
            ("stale-while-revalidate", stale_while_revalidate),
            ("stale-if-error", stale_if_error),
        ] {
            if let Some(seconds) = seconds {
                with(name, Some(&seconds.to_string()))?;
            }
        }
        for (name, is_set) in [
            ("must-revalidate", must_revalidate),
            ("proxy-revalidate", proxy_revalidate),
            ("must-understand", must_understand),
            ("no-transform", no_transform),
            ("immutable", immutable),
        ] {
            if *is_set {
                with(name, None)?;
            }
        }
        for (name, value) in &self.extensions {
            with(name, value.as_deref().map(written).as_deref())?;
        }
        Ok(())
    }
}

impl fmt::Display for CacheControl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut is_first = true;
        self.each(|name, value| {
            if !std::mem::take(&mut is_first) {
                f.write_str(", ")?;
            }
            f.write_str(name)?;
            match value {
                None => Ok(()),
                Some(value) => write!(f, "={value}"),
            }
        })
    }
}

impl CacheControlField {
    /// Sets the field, in place of what is there. Without a directive, it is removed.
    pub fn set_in(&self, headers: &mut HeaderMap) {
        self.control.set_field(self.name.clone(), headers);
    }
}

impl From<&CacheControl> for HeaderValue {
    fn from(control: &CacheControl) -> Self {
        control.to_value()
    }
}

/// A value as both forms of the field have it: digits, or a quoted string.
fn written(value: &str) -> String {
    if !value.is_empty() && value.len() < 16 && value.bytes().all(|byte| byte.is_ascii_digit()) {
        return value.to_owned();
    }
    let mut quoted = String::with_capacity(value.len() + 2);
    quoted.push('"');
    for character in value.chars() {
        if matches!(character, '"' | '\\') {
            quoted.push('\\');
        }
        quoted.push(character);
    }
    quoted.push('"');
    quoted
}

/// RFC 9111 1.2.2: 2^31 stands for all that is more.
fn seconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_secs().min(1 << 31)).unwrap_or(1 << 31)
}

/// Directives as parts of a response of axum.
#[cfg(feature = "axum")]
macro_rules! part_of_a_response {
    ($($part:ty),+) => { $(
        #[cfg_attr(docsrs, doc(cfg(feature = "axum")))]
        impl axum::response::IntoResponseParts for $part {
            type Error = std::convert::Infallible;

            fn into_response_parts(
                self,
                mut response: axum::response::ResponseParts,
            ) -> Result<axum::response::ResponseParts, Self::Error> {
                self.set_in(response.headers_mut());
                Ok(response)
            }
        }
    )+ };
}

#[cfg(feature = "axum")]
part_of_a_response!(CacheControl, CacheControlField);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::semantics::targeted;
    use proptest::prelude::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn directives_are_written_in_a_fixed_order() {
        let control = CacheControl::new;
        for (control, expected) in [
            (control(), ""),
            (control().public().max_age(MINUTE).s_maxage(2 * MINUTE), "public, max-age=60, s-maxage=120"),
            (control().no_store().no_cache(), "no-store, no-cache"),
            (control().max_age(MINUTE).max_age(Duration::ZERO), "max-age=0"),
            (control().max_age(Duration::MAX), "max-age=2147483648"),
            (control().max_age(Duration::from_millis(1_999)), "max-age=1"),
            (control().private_fields([header::SET_COOKIE, header::AGE]), "private=\"set-cookie, age\""),
            (control().private_fields([header::SET_COOKIE]).private(), "private"),
            (control().no_cache_fields([]), ""),
            (
                control().immutable().must_revalidate().proxy_revalidate().must_understand().no_transform(),
                "must-revalidate, proxy-revalidate, must-understand, no-transform, immutable",
            ),
            (
                control().stale_if_error(MINUTE).stale_while_revalidate(Duration::from_secs(5)),
                "stale-while-revalidate=5, stale-if-error=60",
            ),
        ] {
            assert_eq!(control.to_string(), expected);
            assert_eq!(control.to_value(), expected);
        }
    }

    #[test]
    fn an_extension_is_a_token_and_its_value_is_quoted() {
        let with =
            |name: &str, value| CacheControl::new().extension(name, value).map(|control| control.to_string());
        assert_eq!(with("X-Own", None), Ok("x-own".to_owned()));
        assert_eq!(with("x", Some("7")), Ok("x=7".to_owned()));
        assert_eq!(with("x", Some("a \"b\\")), Ok("x=\"a \\\"b\\\\\"".to_owned()));
        assert_eq!(with("x", Some("")), Ok("x=\"\"".to_owned()));
        for (name, value) in [("", None), ("a b", None), ("a=b", None), ("x", Some("\n")), ("x", Some("ü"))]
        {
            assert_eq!(with(name, value), Err(InvalidDirective), "{name:?} {value:?}");
        }
        let twice = CacheControl::new().extension("x", Some("1")).and_then(|one| one.extension("X", None));
        assert_eq!(twice.map(|control| control.to_string()), Ok("x".to_owned()));
    }

    #[test]
    fn an_empty_field_is_removed() {
        let mut headers = HeaderMap::new();
        headers.append(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.append(header::CACHE_CONTROL, HeaderValue::from_static("private"));
        CacheControl::new().public().set_in(&mut headers);
        assert_eq!(headers.get_all(header::CACHE_CONTROL).iter().collect::<Vec<_>>(), ["public"]);
        CacheControl::new().set_in(&mut headers);
        assert!(headers.is_empty());
    }

    prop_compose! {
        fn any_control()(
            flags: [bool; 9],
            numbers in prop::array::uniform4(prop::option::of(0..=1_u32 << 31)),
            names in prop::collection::vec(prop::sample::select(vec![header::SET_COOKIE, header::AGE, header::ETAG]), 0..3),
            extension in prop::option::of(("[a-z]{1,4}-own", prop::option::of("[ -~]{0,8}"))),
        ) -> CacheControl {
            let mut control = CacheControl::new();
            let [immutable, must_revalidate, must_understand, no_cache, no_store, no_transform, private, proxy, public] =
                flags;
            let [max_age, s_maxage, stale_if_error, stale_while_revalidate] = numbers;
            let mut names = names;
            names.sort_by(|a, b| a.as_str().cmp(b.as_str()));
            names.dedup();
            control.directives = ResponseDirectives {
                immutable, max_age, must_revalidate, must_understand, no_cache, no_store, no_transform, private, public,
                s_maxage, stale_if_error, stale_while_revalidate, proxy_revalidate: proxy,
                no_cache_fields: if no_cache { Vec::new() } else { names.clone() },
                private_fields: if private { Vec::new() } else { names },
                ..ResponseDirectives::default()
            };
            match extension {
                Some((name, value)) => control.extension(&name, value.as_deref()).expect("a directive"),
                None => control,
            }
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back_in_either_form(control in any_control()) {
            let mut headers = HeaderMap::new();
            control.set_in(&mut headers);
            prop_assert_eq!(&ResponseDirectives::of(&headers), &control.directives);
            control.clone().for_cdns().set_in(&mut headers);
            let is_empty = control.to_value().is_empty();
            let read = targeted::directives(&headers, &[CDN_CACHE_CONTROL]);
            let expected = ResponseDirectives { targeted: !is_empty, ..control.directives.clone() };
            prop_assert_eq!(read, expected);
        }

        #[test]
        fn a_directive_is_said_if_it_is_written(control in any_control()) {
            let text = control.to_string();
            for name in ["public", "private", "max-age", "s-maxage", "no-store", "immutable"] {
                let is_written = text.split(", ").any(|member| member.split('=').next() == Some(name));
                prop_assert_eq!(control.says(name), is_written, "{} {}", name, text);
            }
        }
    }
}
