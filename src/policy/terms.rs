//! The terms under which a response is stored and reused.

use std::time::{Duration, SystemTime};

use http::header::{self, HeaderMap};
use http::{HeaderName, HeaderValue, StatusCode};

use super::response::edits::Edits;
use super::{Admission, Reason};
use crate::entry::Levels;
use crate::semantics::browser;
use crate::semantics::freshness::LifetimeSource;
use crate::semantics::groups;
use crate::semantics::status::is_error;
use crate::semantics::storing::NotStored;
use crate::semantics::terms::{FinalTerms, StandardTerms};
use crate::semantics::vary::{NeverMatches, Selecting};
use crate::semantics::{CredentialKinds, Rules};

/// The terms under which a response is stored and reused.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Terms {
    /// How often the key has to be asked for before the response is stored; `None` for once.
    pub admission: Option<Admission>,
    /// How old it was on its arrival (RFC 9111 4.2.3).
    pub(crate) initial_age: Duration,
    /// How old it counts as when it comes in; `None` for what RFC 9111 4.2.3 says.
    pub age: Option<Duration>,
    /// How long clients may keep it, counted from each answer, whatever its lifetime here; `None` for what its fields say. They
    /// get it as `max-age`, in place of `max-age`, `s-maxage`, `Expires`, the stale windows and the targeted fields that count
    /// here; other directives stay. Answers have a `Date` of their own and no `Age` then, as long as the stored
    /// response is fresh. Errors keep their fields, and a response that is not stored gets no longer lifetime than it states.
    /// A `Cache-Control` among [`Terms::replace`] outweighs it, and is counted in the same way.
    pub browser_lifetime: Option<Duration>,
    /// What credentials forbid, whatever `store` says.
    pub(crate) credentials: Result<(), NotStored>,
    /// What no policy that lifts a refusal lifts.
    pub(crate) firm: Result<(), NotStored>,
    /// Groups (tags) by which it can be purged. Those of `Cache-Groups` are there already, in the scope of their
    /// origin: see [`groups::scoped`]. A response with more than
    /// [`Terms::MAX_GROUPS`] groups, or more than [`Terms::MAX_GROUP_BYTES`] bytes of names, is not stored.
    pub groups: Vec<Box<str>>,
    /// What the policy has changed of it before it was judged.
    pub(crate) edits: Option<Box<Edits>>,
    /// Which levels of a tier ([`TieredStore`](crate::store::TieredStore)) keep it; both where nothing else is said. A store
    /// without levels does not look at it.
    pub levels: Levels,
    /// How long it is fresh, counted from its origin (RFC 9111 4.2.1).
    pub lifetime: Duration,
    /// The most bytes of content that are stored.
    pub max_body: u64,
    /// The most variants of its key that are stored while they are fresh; `None` for as many as the store has room for. The
    /// response is not stored where it would be one more: what is there already is not driven out.
    pub max_variants: Option<usize>,
    /// The fewest bytes of content that are stored.
    pub min_body: u64,
    /// Never served stale.
    pub must_revalidate: bool,
    /// Never served without validation.
    pub no_cache: bool,
    /// Where the answer cannot be shared: how long requests for its key do not wait for each other
    /// ([`Rules::pass_for`](crate::semantics::Rules::pass_for)).
    pub pass_for: Duration,
    /// Why the policy refuses it; see [`Terms::refuse`].
    pub(crate) reason: Option<Reason>,
    /// Fields that every client gets with these values, in the place of the origin's. The origin's still count when the
    /// response is validated.
    pub replace: Vec<(HeaderName, HeaderValue)>,
    /// Kinds of credentials that do not prevent this response from being shared.
    pub shared: CredentialKinds,
    /// Where `lifetime` came from.
    pub source: LifetimeSource,
    /// How long past its lifetime it stands in for an error; `None` leaves it to the request, and to
    /// [`Rules::stale_if_error`](crate::semantics::Rules::stale_if_error).
    pub stale_if_error: Option<Duration>,
    /// How long past its lifetime it is served while it is validated in the background; `None` leaves it to
    /// [`Rules::stale_while_revalidate`](crate::semantics::Rules::stale_while_revalidate).
    pub stale_while_revalidate: Option<Duration>,
    /// Whether it is stored, or why not.
    pub store: Result<(), NotStored>,
    /// Fields that no client gets. They still count when the response is validated. Answers to bypassed and to unsafe
    /// requests keep theirs, except for a POST that may be stored; see
    /// [`CachePolicy::deliver`](crate::CachePolicy::deliver) for all answers.
    pub strip: Vec<HeaderName>,
    /// Fields that the first client gets and that are not stored, not even those among them that
    /// [`strip`](Terms::strip) and [`replace`](Terms::replace) take from clients. Those that `private` and `no-cache` name are there
    /// already (RFC 9111 5.2.2.4, 5.2.2.7).
    pub unstored: Vec<HeaderName>,
    /// Which request fields select the response.
    pub vary: VaryRule,
}

impl Terms {
    /// The most groups that a stored response is in.
    pub const MAX_GROUPS: usize = groups::MOST_STORED;
    /// The most bytes that the names of these groups have together.
    pub const MAX_GROUP_BYTES: usize = groups::MOST_STORED_BYTES;

    /// What the standards say, before the policy edits it.
    pub(crate) fn from_standard<'a>(
        standard: StandardTerms,
        initial_age: Duration,
        max_body: u64,
        unstored: impl Iterator<Item = &'a HeaderName>,
    ) -> Self {
        Self {
            admission: None,
            age: None,
            browser_lifetime: None,
            credentials: standard.credentials,
            firm: standard.firm,
            groups: standard.groups,
            initial_age,
            edits: None,
            levels: Levels::default(),
            lifetime: standard.lifetime,
            max_body,
            max_variants: None,
            min_body: 0,
            must_revalidate: standard.must_revalidate,
            no_cache: standard.no_cache,
            pass_for: standard.pass_for,
            reason: None,
            replace: Vec::new(),
            shared: standard.shared,
            source: standard.source,
            stale_if_error: standard.stale_if_error,
            stale_while_revalidate: standard.stale_while_revalidate,
            store: standard.store,
            strip: Vec::new(),
            unstored: unstored.cloned().collect(),
            vary: VaryRule::AsSent,
        }
    }

    /// As far as reuse depends on them.
    pub(crate) fn of_reuse(&self) -> FinalTerms {
        let Self { lifetime, must_revalidate, no_cache, shared, stale_if_error, .. } = *self;
        let stale_while_revalidate = self.stale_while_revalidate.unwrap_or_default();
        FinalTerms { lifetime, must_revalidate, no_cache, shared, stale_if_error, stale_while_revalidate }
    }

    /// Makes the fields of a response, which was received at `received_at`, those that clients get, except for what is not
    /// stored. What the origin has said goes to `of_origin`. Returns whether its answers count from themselves: they have a
    /// `Date` of their own and no `Age`. `targets` are the targeted fields that count here.
    pub(crate) fn for_client(
        &self,
        status: StatusCode,
        headers: &mut HeaderMap,
        received_at: SystemTime,
        targets: &[HeaderName],
        of_origin: &mut OfOrigin,
    ) -> bool {
        for (name, value) in self.edits.iter().flat_map(|edits| &edits.for_clients) {
            match value {
                None => _ = of_origin.take(headers, name),
                Some(value) => of_origin.replace(headers, name, value.clone()),
            }
        }
        for name in &self.strip {
            of_origin.take(headers, name);
        }
        for (name, value) in &self.replace {
            of_origin.replace(headers, name, value.clone());
        }
        let Some(lifetime) = self.browser_lifetime.filter(|_| !is_error(status)) else {
            return false;
        };
        let is_replaced = self.replace.iter().any(|(name, _)| *name == header::CACHE_CONTROL);
        if self.store.is_err() {
            if !is_replaced && let Some(value) = browser::shortened(status, headers, lifetime, received_at) {
                headers.insert(header::CACHE_CONTROL, value);
            }
            return false;
        }
        if !is_replaced {
            let value = browser::cache_control(headers, lifetime);
            of_origin.replace(headers, &header::CACHE_CONTROL, value);
        }
        // Both count from the origin's time, and a targeted field would be about this cache's lifetime.
        for name in targets.iter().chain([&header::EXPIRES]) {
            of_origin.take(headers, name);
        }
        true
    }

    /// Whether no client gets a field.
    pub(crate) fn takes(&self, name: &HeaderName) -> bool {
        self.strip.contains(name) || self.edits.as_ref().is_some_and(|edits| edits.removes(name))
    }

    /// How old the response was on its arrival (RFC 9111 4.2.3), or counts as ([`Terms::age`]).
    pub fn age_on_arrival(&self) -> Duration {
        self.age.unwrap_or(self.initial_age)
    }

    /// Makes the response fresh for this long from its arrival on, however old it was then. The
    /// [`lifetime`](Terms::lifetime) counts from its origin, so it is longer by the age.
    pub fn fresh_for(&mut self, lifetime: Duration) {
        self.lifetime = self.age_on_arrival().saturating_add(lifetime);
        self.source = LifetimeSource::Policy;
    }

    /// Fills in what neither the response nor the policy has said.
    pub(crate) fn settle(&mut self, rules: &Rules) {
        if self.stale_while_revalidate.is_none() && !self.lifetime.is_zero() {
            self.stale_while_revalidate = Some(rules.stale_while_revalidate);
        }
    }

    /// Says that the response is not stored. `Cache-Status` reports the reason.
    pub fn refuse(&mut self, reason: impl Into<Reason>) {
        self.reason = Some(reason.into());
        self.store = Err(NotStored::Policy);
    }
}

/// What the origin has said, where clients get something else.
#[derive(Clone, Debug, Default)]
pub(crate) struct OfOrigin {
    /// Fields that it has not sent.
    pub(crate) absent: Vec<HeaderName>,
    /// Fields that it has sent, and clients get otherwise or not at all.
    pub(crate) fields: HeaderMap,
}

impl OfOrigin {
    fn take(&mut self, headers: &mut HeaderMap, name: &HeaderName) -> bool {
        let header::Entry::Occupied(field) = headers.entry(name) else {
            return false;
        };
        let (name, values) = field.remove_entry_mult();
        for value in values {
            self.fields.append(&name, value);
        }
        true
    }

    /// Forgets what may not be stored: `unstored`, and `Set-Cookie`, which says nothing of the response that would count later.
    /// `headers` are the fields that clients get.
    pub(crate) fn forget(&mut self, unstored: &[HeaderName], headers: &HeaderMap) {
        for name in unstored.iter().chain([&header::SET_COOKIE]) {
            if self.fields.remove(name).is_some() && headers.contains_key(name) {
                self.absent.push(name.clone()); // what clients get in its place is not the origin's
            }
        }
    }

    fn replace(&mut self, headers: &mut HeaderMap, name: &HeaderName, value: HeaderValue) {
        if !self.take(headers, name) && !self.fields.contains_key(name) {
            self.absent.push(name.clone());
        }
        headers.insert(name, value);
    }
}

/// Which request fields select a response.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum VaryRule {
    /// Those that its `Vary` names (RFC 9111 4.1).
    #[default]
    AsSent,
    /// Those that its `Vary` names, except these.
    Except(Vec<HeaderName>),
    /// None: every request with the same key gets it.
    Ignore,
    /// Those that its `Vary` names, as far as they are listed.
    Only(Vec<HeaderName>),
}

impl VaryRule {
    /// What selects a response with these fields, as far as the rule lets it.
    pub(crate) fn selecting(
        &self,
        response: &HeaderMap,
        request: &HeaderMap,
        rules: &Rules,
    ) -> Result<Selecting, NeverMatches> {
        match self {
            Self::AsSent => Selecting::of(response, request, rules),
            Self::Except(names) => Selecting::of_all_but(names, response, request, rules),
            Self::Ignore => Selecting::of_listed(&[], response, request, rules),
            Self::Only(names) => Selecting::of_listed(names, response, request, rules),
        }
    }

    /// The same without a field.
    #[must_use]
    pub(super) fn without(self, name: &HeaderName) -> Self {
        match self {
            Self::AsSent => Self::Except(vec![name.clone()]),
            Self::Except(mut names) => {
                if !names.contains(name) {
                    names.push(name.clone());
                }
                Self::Except(names)
            }
            Self::Ignore => Self::Ignore,
            Self::Only(mut names) => {
                names.retain(|own| own != name);
                Self::Only(names)
            }
        }
    }
}
