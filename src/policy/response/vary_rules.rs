//! Which request fields select responses, field by field.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use http::header::{self, HeaderMap, HeaderName};
use http::{HeaderValue, Method, request};

use crate::policy::{PolicyExchange, Terms};
use crate::semantics::fields::list;
use crate::semantics::storing::NotStored;

/// Gives the normal form of a field's value.
pub type NormalForm = dyn Fn(&str) -> Cow<'static, str> + Send + Sync;

/// What becomes of a request field that the `Vary` of a response names.
///
/// Codings and languages have switches of their own:
/// [`StandardPolicy::codings`](crate::StandardPolicy::codings) and [`StandardPolicy::languages`](crate::StandardPolicy::languages).
#[derive(Clone, Default)]
#[non_exhaustive]
pub enum VaryField {
    /// It selects by its value, as it was sent (RFC 9111 4.1).
    #[default]
    AsSent,
    /// A response that names it is not stored (`detail="vary-bypass"`).
    Bypass,
    /// It selects nothing. What the service looks at and nothing selects by, one client chooses for all: see to it that the
    /// service does not look at it, or remove it by [`CachePolicyExt::on_forward`](crate::CachePolicyExt::on_forward).
    Ignored,
    /// A GET, HEAD or QUERY has it in another form, for the service as for the cache. An empty form is that of a request without
    /// the field, and what cannot be read as text counts as empty.
    Normalised(Arc<NormalForm>),
}

impl VaryField {
    /// [`VaryField::Normalised`] to one of few classes, such as kinds of devices.
    ///
    /// ```
    /// use http::header;
    /// use larder::StandardPolicy;
    /// use larder::policy::VaryField;
    ///
    /// let device = VaryField::class(|agent| if agent.contains("Mobile") { "Mobile" } else { "Desktop" });
    /// let policy = StandardPolicy::default().vary(header::USER_AGENT, device);
    /// # let _ = policy;
    /// ```
    pub fn class<F>(class: F) -> Self
    where
        F: Fn(&str) -> &'static str + Send + Sync + 'static,
    {
        Self::Normalised(Arc::new(move |value| Cow::Borrowed(class(value))))
    }

    /// [`VaryField::Normalised`] to lower case, without white space around the value.
    pub fn lower_case() -> Self {
        Self::Normalised(Arc::new(|value| value.trim().to_ascii_lowercase().into()))
    }
}

impl fmt::Debug for VaryField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AsSent => "AsSent",
            Self::Bypass => "Bypass",
            Self::Ignored => "Ignored",
            Self::Normalised(_) => "Normalised(..)",
        })
    }
}

/// What becomes of the fields that `Vary` names, and of how many variants a key has. [`StandardPolicy`](crate::StandardPolicy) has
/// switches of the same names; any other policy gets them by [`CachePolicyExt::vary_rules`](crate::CachePolicyExt::vary_rules).
///
/// ```
/// use http::header;
/// use larder::policy::{VaryField, VaryRules};
///
/// let rules = VaryRules::new()
///     .vary(header::REFERER, VaryField::Ignored)
///     .vary(header::COOKIE, VaryField::Bypass)
///     .max_variants(16);
/// # let _ = rules;
/// ```
#[derive(Clone, Debug, Default)]
pub struct VaryRules {
    fields: Vec<(HeaderName, VaryField)>,
    max_variants: Option<usize>,
}

impl VaryRules {
    /// All fields as they were sent, and as many variants as the store has room for.
    pub fn new() -> Self {
        Self::default()
    }

    /// The most variants of a key that are stored while they are fresh. A response that would be one more is not
    /// ([`Terms::max_variants`], `detail="too-many-variants"`).
    #[must_use]
    pub fn max_variants(mut self, count: usize) -> Self {
        self.max_variants = Some(count);
        self
    }

    /// What becomes of a field, in place of what was said of it before.
    #[must_use]
    pub fn vary(mut self, name: HeaderName, field: VaryField) -> Self {
        self.fields.retain(|(own, _)| *own != name);
        self.fields.push((name, field));
        self
    }

    /// Whether the inner service and clients would see a difference.
    pub(in crate::policy) fn edits_requests(&self) -> bool {
        self.fields.iter().any(|(_, field)| matches!(field, VaryField::Normalised(_)))
    }

    /// Normalises fields of a request, in [`CachePolicy::request`](crate::CachePolicy::request).
    #[inline]
    pub fn normalise(&self, request: &mut request::Parts) {
        if !self.fields.is_empty() && [Method::GET, Method::HEAD, Method::QUERY].contains(&request.method) {
            self.normalise_fields(request);
        }
    }

    fn normalise_fields(&self, request: &mut request::Parts) {
        for (name, field) in &self.fields {
            if let VaryField::Normalised(normalise) = field {
                let value = normalise(&text(&request.headers, name));
                set(&mut request.headers, name, value);
            }
        }
    }

    /// Sets what selects a response, in [`CachePolicy::response`](crate::CachePolicy::response).
    pub fn apply(&self, exchange: &PolicyExchange<'_>, terms: &mut Terms) {
        if let Some(most) = self.max_variants {
            terms.max_variants = Some(terms.max_variants.map_or(most, |own| own.min(most)));
        }
        for (name, field) in &self.fields {
            match field {
                VaryField::AsSent | VaryField::Normalised(_) => {}
                VaryField::Bypass => {
                    let mut members = list(&exchange.response.headers, &header::VARY);
                    if members.any(|member| member.eq_ignore_ascii_case(name.as_str().as_bytes())) {
                        terms.store = terms.store.and(Err(NotStored::VaryBypass));
                    }
                }
                VaryField::Ignored => terms.vary = std::mem::take(&mut terms.vary).without(name),
            }
        }
    }
}

/// The lines of a field, joined.
fn text(headers: &HeaderMap, name: &HeaderName) -> String {
    let lines = headers.get_all(name).iter().map(|line| std::str::from_utf8(line.as_bytes()));
    lines.collect::<Result<Vec<_>, _>>().map(|lines| lines.join(", ")).unwrap_or_default()
}

/// Sets a field, or removes it where it is empty, or cannot be the value of one.
fn set(headers: &mut HeaderMap, name: &HeaderName, value: Cow<'static, str>) {
    let value = match value {
        Cow::Borrowed(value) => HeaderValue::from_str(value),
        Cow::Owned(value) => HeaderValue::try_from(value),
    };
    match value {
        Ok(value) if !value.is_empty() => _ = headers.insert(name, value),
        _ => _ = headers.remove(name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::VaryRule;
    use http::Request;

    #[test]
    fn kx3_a_field_is_normalised_in_requests_that_may_be_answered_from_storage() {
        let rules = VaryRules::new()
            .vary(
                header::USER_AGENT,
                VaryField::class(|agent| match agent {
                    "" => "",
                    agent if agent.contains("Mobile") => "Mobile",
                    _ => "Desktop",
                }),
            )
            .vary(header::ORIGIN, VaryField::lower_case());
        let normalised = |method: Method, lines: &[(HeaderName, &[u8])]| {
            let (mut request, ()) =
                Request::builder().method(method).body(()).expect("a request").into_parts();
            for (name, value) in lines {
                request.headers.append(name, HeaderValue::from_bytes(value).expect("a value"));
            }
            rules.normalise(&mut request);
            let value = |name| request.headers.get(name).map(|value| value.as_bytes().to_vec());
            (value(header::USER_AGENT), value(header::ORIGIN))
        };
        let agent = |value: &'static [u8]| (header::USER_AGENT, value);
        let some = |value: &str| Some(value.as_bytes().to_vec());
        assert_eq!(normalised(Method::GET, &[]), (None, None));
        assert_eq!(normalised(Method::GET, &[agent(b"x Mobile/1")]), (some("Mobile"), None));
        assert_eq!(normalised(Method::QUERY, &[agent(b"x"), agent(b"Mobile")]), (some("Mobile"), None));
        assert_eq!(
            normalised(Method::HEAD, &[agent(b"x"), (header::ORIGIN, b" HTTPS://A ")]),
            (some("Desktop"), some("https://a"))
        );
        assert_eq!(normalised(Method::GET, &[agent(b"\xff Mobile")]), (None, None));
        assert_eq!(normalised(Method::POST, &[agent(b"x Mobile/1")]), (some("x Mobile/1"), None));
    }

    #[test]
    fn kx3_a_field_that_is_ignored_is_taken_out_of_what_selects() {
        let (agent, cookie, accept) = (header::USER_AGENT, header::COOKIE, header::ACCEPT);
        let except =
            |names: &[&HeaderName]| VaryRule::Except(names.iter().map(|name| (*name).clone()).collect());
        for (rule, expected) in [
            (VaryRule::AsSent, except(&[&agent])),
            (except(&[&cookie]), except(&[&cookie, &agent])),
            (except(&[&agent]), except(&[&agent])),
            (VaryRule::Ignore, VaryRule::Ignore),
            (VaryRule::Only(vec![agent.clone(), accept.clone()]), VaryRule::Only(vec![accept.clone()])),
        ] {
            assert_eq!(rule.without(&agent), expected);
        }
    }
}
