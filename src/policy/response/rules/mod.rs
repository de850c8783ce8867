//! Rules for responses, before they are judged.

mod tags;

use std::fmt;
use std::sync::Arc;

use http::HeaderValue;
use http::header::{self, HeaderMap, HeaderName};

use self::tags::TagSource;
use crate::policy::{Pattern, PolicyExchange, ResponseEdits, TagField};
use crate::semantics::cache_control::{CacheControl, edited};
use crate::semantics::fields::list;

/// What is done to a response before it is judged: its `Cache-Control` is edited, `Set-Cookie` or members of `Vary` are
/// stripped, tags are derived.
///
/// Rules are applied in their order, and values of this type combine by [`ResponseRules::and`]. Any policy gets them by
/// [`CachePolicyExt::response_rules`](crate::CachePolicyExt::response_rules), and parts of a site by
/// [`Policies`](crate::policy::Policies).
///
/// ```
/// use std::time::Duration;
/// use http::HeaderName;
/// use larder::policy::{ResponseRules, TagField};
/// use larder::{CacheBuilder, CacheControl, CachePolicyExt, StandardPolicy};
///
/// // A shop system that forbids caching everywhere, and gives every visitor a cookie.
/// let rules = ResponseRules::new()
///     .remove_directives(["private", "no-store", "no-cache"])
///     .set_directives(CacheControl::new().public().max_age(Duration::from_secs(60)))
///     .strip_set_cookie()
///     .tags_from(TagField::listed(HeaderName::from_static("x-cache-tags")))
///     .tag_paths("/products/*", "products");
/// let policy = StandardPolicy::default().response_rules(rules);
/// # let _ = CacheBuilder::default().policy(policy).build();
/// ```
///
/// Answers that bypass the cache, and answers to unsafe requests, stay as they are.
#[derive(Clone, Debug, Default)]
pub struct ResponseRules {
    rules: Vec<Rule>,
}

#[derive(Clone)]
enum Rule {
    CacheControl { edit: ControlEdit, is_for_clients: bool },
    Custom(Arc<Custom>),
    RemoveField(HeaderName),
    SetCookieForFirst,
    SetField(HeaderName, HeaderValue),
    StripVary(Vec<HeaderName>),
    Tags(TagSource),
}

type Custom = dyn Fn(&PolicyExchange<'_>, &mut ResponseEdits<'_>) + Send + Sync;

#[derive(Clone)]
enum ControlEdit {
    Remove(Vec<String>),
    Replace(CacheControl),
    Set(CacheControl),
}

impl ResponseRules {
    /// None.
    pub fn new() -> Self {
        Self::default()
    }

    fn with(mut self, rule: Rule) -> Self {
        self.rules.push(rule);
        self
    }

    fn with_control(self, edit: ControlEdit) -> Self {
        self.with(Rule::CacheControl { edit, is_for_clients: true })
    }

    /// Replaces `Cache-Control`, whatever it says. `Expires` and targeted fields stay, as long as
    /// [`ResponseRules::remove_field`] does not remove them.
    #[must_use]
    pub fn cache_control(self, control: CacheControl) -> Self {
        self.with_control(ControlEdit::Replace(control))
    }

    /// Sets these directives of `Cache-Control` and keeps the others. Nothing outweighs a directive that restricts: to make public
    /// what is `private`, remove that. A field outside the grammar stays as it is, and is not stored.
    #[must_use]
    pub fn set_directives(self, control: CacheControl) -> Self {
        self.with_control(ControlEdit::Set(control))
    }

    /// Removes directives of `Cache-Control` by their names, in any case, with and without arguments. A field outside the grammar
    /// stays as it is, and is not stored.
    #[must_use]
    pub fn remove_directives<'a>(self, names: impl IntoIterator<Item = &'a str>) -> Self {
        let names = names.into_iter().map(str::to_ascii_lowercase).collect();
        self.with_control(ControlEdit::Remove(names))
    }

    /// What the rules so far do to `Cache-Control` is for this cache only: clients get the field as it came.
    #[must_use]
    pub fn for_this_cache_only(mut self) -> Self {
        for rule in &mut self.rules {
            if let Rule::CacheControl { is_for_clients, .. } = rule {
                *is_for_clients = false;
            }
        }
        self
    }

    /// Removes `Set-Cookie`. Nobody gets it, it is never stored, and it is no reason not to store the response. So a response
    /// that logs somebody in logs nobody in any more: keep these rules from such paths. What else in the response is for one
    /// visitor alone is then for everybody; that is the service's to know.
    #[must_use]
    pub fn strip_set_cookie(self) -> Self {
        self.remove_field(header::SET_COOKIE)
    }

    /// Gives `Set-Cookie` to the client whose request has brought the response, and to nobody else: it is not stored, and it is
    /// no reason not to store the response. What else in the response is for that visitor alone is then for everybody.
    #[must_use]
    pub fn set_cookie_for_first_client(self) -> Self {
        self.with(Rule::SetCookieForFirst)
    }

    /// Removes a field: nobody gets it, and it does not count.
    #[must_use]
    pub fn remove_field(self, name: HeaderName) -> Self {
        self.with(Rule::RemoveField(name))
    }

    /// Sets a field, for this cache and for all clients.
    #[must_use]
    pub fn set_field(self, name: HeaderName, value: HeaderValue) -> Self {
        self.with(Rule::SetField(name, value))
    }

    /// Removes members of `Vary`: what they name selects nothing, here and downstream. What the service looks at and nothing
    /// selects by, one client chooses for all.
    #[must_use]
    pub fn strip_vary(self, names: impl IntoIterator<Item = HeaderName>) -> Self {
        self.with(Rule::StripVary(names.into_iter().collect()))
    }

    /// Derives tags from a field of the response, such as `Cache-Tag` or `Surrogate-Key`.
    #[must_use]
    pub fn tags_from(self, field: impl Into<TagField>) -> Self {
        self.with(Rule::Tags(TagSource::Field(field.into())))
    }

    /// Gives a tag to responses for the paths that a [`Pattern`] matches.
    #[must_use]
    pub fn tag_paths(self, paths: impl Into<Pattern>, tag: impl Into<Box<str>>) -> Self {
        self.with(Rule::Tags(TagSource::Path(paths.into(), tag.into())))
    }

    /// Gives a tag to responses whose `Content-Type`, in lower case and without parameters, a [`Pattern`] matches, such as
    /// `image/*`.
    #[must_use]
    pub fn tag_types(self, types: impl Into<Pattern>, tag: impl Into<Box<str>>) -> Self {
        let types = Pattern::new(types.into().as_str().to_ascii_lowercase());
        self.with(Rule::Tags(TagSource::Type(types, tag.into())))
    }

    /// Does something else.
    ///
    /// ```
    /// use larder::policy::ResponseRules;
    /// // `/products/42` gets the tag `product:42`.
    /// let rules = ResponseRules::new().edit(|exchange, edits| {
    ///     if let Some(id) = exchange.request.uri.path().strip_prefix("/products/") {
    ///         edits.tag(format!("product:{id}"));
    ///     }
    /// });
    /// # let _ = rules;
    /// ```
    #[must_use]
    pub fn edit<F>(self, edit: F) -> Self
    where
        F: Fn(&PolicyExchange<'_>, &mut ResponseEdits<'_>) + Send + Sync + 'static,
    {
        self.with(Rule::Custom(Arc::new(edit)))
    }

    /// These rules, then others.
    #[must_use]
    pub fn and(mut self, then: Self) -> Self {
        self.rules.extend(then.rules);
        self
    }

    /// Applies the rules, in [`CachePolicy::receive`](crate::CachePolicy::receive).
    pub fn apply(&self, exchange: &PolicyExchange<'_>, edits: &mut ResponseEdits<'_>) {
        for rule in &self.rules {
            match rule {
                Rule::CacheControl { edit, is_for_clients } => edit.apply(edits, *is_for_clients),
                Rule::Custom(edit) => edit(exchange, edits),
                Rule::RemoveField(name) => edits.remove(name),
                Rule::SetCookieForFirst => edits.keep_for_first_client(&header::SET_COOKIE),
                Rule::SetField(name, value) => edits.set(name.clone(), value.clone()),
                Rule::StripVary(names) => strip_vary(names, edits),
                Rule::Tags(source) => source.apply(exchange, edits),
            }
        }
    }
}

impl ControlEdit {
    fn apply(&self, edits: &mut ResponseEdits<'_>, is_for_clients: bool) {
        let headers = edits.headers();
        let value = match self {
            Self::Remove(names) => edited(headers, |name| !names.iter().any(|own| own == name), ""),
            Self::Replace(control) => Some(control.to_value()),
            Self::Set(control) => edited(headers, |name| !control.says(name), &control.to_string()),
        };
        let Some(value) = value else {
            return; // outside the grammar
        };
        let name = header::CACHE_CONTROL;
        match (value.is_empty(), is_for_clients) {
            _ if is_as_it_was(edits, &value, is_for_clients) => {}
            (true, true) => edits.remove(&name),
            (true, false) => edits.remove_here(&name),
            (false, true) => edits.set(name, value),
            (false, false) => edits.set_here(name, value),
        }
    }
}

fn is_as_it_was(edits: &ResponseEdits<'_>, value: &HeaderValue, is_for_clients: bool) -> bool {
    let is_so = |headers: &HeaderMap| {
        let mut lines = headers.get_all(header::CACHE_CONTROL).iter();
        lines.next().is_none_or(|line| line == value)
            && lines.next().is_none()
            && headers.contains_key(header::CACHE_CONTROL) != value.is_empty()
    };
    is_so(edits.headers()) && (!is_for_clients || is_so(edits.received()))
}

fn strip_vary(names: &[HeaderName], edits: &mut ResponseEdits<'_>) {
    let is_stripped =
        |member: &&[u8]| names.iter().any(|name| name.as_str().as_bytes().eq_ignore_ascii_case(member));
    if !list(edits.headers(), &header::VARY).any(|member| is_stripped(&member)) {
        return;
    }
    let kept: Vec<_> = list(edits.headers(), &header::VARY).filter(|member| !is_stripped(member)).collect();
    match HeaderValue::from_bytes(&kept.join(&b", "[..])) {
        Ok(value) if !value.is_empty() => edits.set(header::VARY, value),
        _ => edits.remove(&header::VARY),
    }
}

impl fmt::Debug for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CacheControl { edit, .. } => edit.fmt(f),
            Self::Custom(_) => f.write_str("edit(..)"),
            Self::RemoveField(name) => write!(f, "remove {name}"),
            Self::SetCookieForFirst => f.write_str("set-cookie for the first client"),
            Self::SetField(name, value) => write!(f, "set {name}: {value:?}"),
            Self::StripVary(names) => write!(f, "strip {names:?} of vary"),
            Self::Tags(source) => source.fmt(f),
        }
    }
}

impl fmt::Debug for ControlEdit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Remove(names) => write!(f, "remove {names:?} of cache-control"),
            Self::Replace(control) => write!(f, "set cache-control: {control}"),
            Self::Set(control) => write!(f, "set {control} in cache-control"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[track_caller]
    fn check(rule: &ResponseRules, lines: &[(&'static str, &'static str)], expected: &[(&str, &str)]) {
        let line = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        let headers: HeaderMap = lines.iter().map(line).collect();
        let mut edits = ResponseEdits::new(&headers);
        for rule in &rule.rules {
            match rule {
                Rule::CacheControl { edit, is_for_clients } => edit.apply(&mut edits, *is_for_clients),
                Rule::StripVary(names) => strip_vary(names, &mut edits),
                _ => unreachable!("not in this table"),
            }
        }
        let found: Vec<_> = edits
            .headers()
            .iter()
            .map(|(name, value)| (name.as_str(), value.to_str().expect("text")))
            .collect();
        assert_eq!(found, expected, "{rule:?}");
    }

    #[test]
    fn kx2_directives_are_set_removed_and_replaced() {
        let rules = ResponseRules::new;
        let minute = || CacheControl::new().max_age(std::time::Duration::from_secs(60));
        let control = "cache-control";
        for (rules, lines, expected) in [
            (rules().set_directives(minute()), &["public, max-age=5"][..], Some("public, max-age=60")),
            (rules().set_directives(minute()), &[], Some("max-age=60")),
            (
                rules().set_directives(minute().no_cache()),
                &["no-cache=\"x\", public"],
                Some("public, no-cache, max-age=60"),
            ),
            (rules().set_directives(minute()), &["public, \""], Some("public, \"")),
            (
                rules().remove_directives(["Private", "no-store"]),
                &["private, No-Store", "max-age=5"],
                Some("max-age=5"),
            ),
            (rules().remove_directives(["private"]), &["private=\"x\""], None),
            (rules().remove_directives(["private"]), &["max-age=5"], Some("max-age=5")),
            (
                rules().remove_directives(["a-directive-of-more-than-24-bytes"]),
                &["a-directive-of-more-than-24-bytes=5"],
                None,
            ),
            (rules().cache_control(minute()), &["no-store", "private, \""], Some("max-age=60")),
            (rules().cache_control(CacheControl::new()), &["no-store"], None),
            (
                rules().remove_directives(["private"]).set_directives(minute()),
                &["private"],
                Some("max-age=60"),
            ),
        ] {
            let lines: Vec<_> = lines.iter().map(|line| (control, *line)).collect();
            check(&rules, &lines, expected.map(|value| (control, value)).as_slice());
        }
    }

    #[test]
    fn kx2_members_of_vary_are_stripped() {
        let rule = ResponseRules::new().strip_vary([header::USER_AGENT, header::COOKIE]);
        check(&rule, &[("vary", "Accept, user-agent"), ("vary", "COOKIE")], &[("vary", "Accept")]);
        check(&rule, &[("vary", "User-Agent")], &[]);
        check(&rule, &[("vary", "accept,accept-language")], &[("vary", "accept,accept-language")]);
        check(&rule, &[("vary", "*, cookie")], &[("vary", "*")]);
    }
}
