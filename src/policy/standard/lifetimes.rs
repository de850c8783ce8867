//! Switches for what is stored and for how long.

use std::time::Duration;

use http::HeaderName;

use super::StandardPolicy;
use crate::policy::{Lifetime, Pattern, StatusRange, VaryField};
use crate::semantics::FailureRest;
use crate::semantics::freshness::Heuristic;

impl StandardPolicy {
    /// How long clients may keep what they get, counted from each answer, whatever the lifetime here; default as the response
    /// says. They get `Cache-Control: max-age`, with what restricts the response and without `Age`; see
    /// [`Terms::browser_lifetime`](crate::Terms::browser_lifetime).
    ///
    /// ```
    /// use std::time::Duration;
    /// use larder::StandardPolicy;
    ///
    /// // An hour here, where it can be purged, and a minute in browsers.
    /// let policy = StandardPolicy::default()
    ///     .default_lifetime(Duration::from_secs(3600))
    ///     .browser_lifetime(Duration::from_secs(60));
    /// # let _ = policy;
    /// ```
    #[must_use]
    pub fn browser_lifetime(mut self, lifetime: Duration) -> Self {
        self.lifetimes = self.lifetimes.browser_lifetime(lifetime);
        self
    }

    /// Where a response states one lifetime for clients and this cache has another one for it, by `s-maxage` or a targeted field
    /// for example, the clients' counts from each answer; default off: it counts from the origin's time, as `Age` says. See
    /// [`Lifetimes::browser_lifetime_as_stated`](crate::policy::Lifetimes::browser_lifetime_as_stated).
    #[must_use]
    pub fn browser_lifetime_as_stated(mut self) -> Self {
        self.lifetimes = self.lifetimes.browser_lifetime_as_stated();
        self
    }

    /// How long a response is fresh that states no lifetime; default none, and [`StandardPolicy::heuristic`] counts, which this
    /// replaces. It is for statuses that may be stored without a lifetime and are no errors; see
    /// [`Lifetimes::default_lifetime`](crate::policy::Lifetimes::default_lifetime).
    ///
    /// ```
    /// use std::time::Duration;
    /// use larder::StandardPolicy;
    /// use larder::policy::{Lifetime, StatusRange};
    ///
    /// let policy = StandardPolicy::default()
    ///     .default_lifetime(Duration::from_secs(60))
    ///     .lifetime_for("/img/*", Duration::from_secs(86_400))
    ///     .status_lifetime(404, Duration::from_secs(10))
    ///     .status_lifetime(StatusRange::SERVER_ERROR, Lifetime::exactly(Duration::from_secs(1)))
    ///     .jitter(10);
    /// # let _ = policy;
    /// ```
    #[must_use]
    pub fn default_lifetime(mut self, lifetime: Duration) -> Self {
        self.lifetimes = self.lifetimes.default_lifetime(lifetime);
        self
    }

    /// Freshness where the origin gives none, or `None` for never.
    #[must_use]
    pub fn heuristic(mut self, heuristic: Option<Heuristic>) -> Self {
        self.rules.heuristic = heuristic;
        self
    }

    /// Shortens each lifetime by a share of at most so many percent, so that what was stored at one time does not end at one
    /// time; default 0. See [`Lifetimes::jitter`](crate::policy::Lifetimes::jitter).
    #[must_use]
    pub fn jitter(mut self, percent: u8) -> Self {
        self.lifetimes = self.lifetimes.jitter(percent);
        self
    }

    /// [`StandardPolicy::jitter`] that is the same in each process with the same seed.
    #[must_use]
    pub fn jitter_seeded(mut self, percent: u8, seed: u64) -> Self {
        self.lifetimes = self.lifetimes.jitter_seeded(percent, seed);
        self
    }

    /// How long a client waits for a validation if the stale response may stand in for an error. If the origin takes
    /// longer, the stale response is served and the validation continues in the background. Default none: as long as it
    /// takes.
    #[must_use]
    pub fn latency_budget(mut self, budget: Option<Duration>) -> Self {
        self.rules.latency_budget = budget;
        self
    }

    /// A lifetime for the paths that a [`Pattern`] matches, such as `/img/*`; default none. The response's own lifetime counts
    /// first, unless this is [`Lifetime::exactly`](crate::policy::Lifetime::exactly); errors do not get it. See [`Lifetimes::lifetime_for`](crate::policy::Lifetimes::lifetime_for).
    #[must_use]
    pub fn lifetime_for(mut self, path: impl Into<Pattern>, lifetime: impl Into<Lifetime>) -> Self {
        self.lifetimes = self.lifetimes.lifetime_for(path, lifetime);
        self
    }

    /// The most bytes of content that are stored; default as many as the store takes. See [`ContentLimits::max_body`](crate::policy::ContentLimits::max_body).
    #[must_use]
    pub fn max_body(mut self, bytes: u64) -> Self {
        self.content_limits = self.content_limits.max_body(bytes);
        self
    }

    /// The longest freshness lifetime of a 4xx or 5xx, whatever it says itself: an error that one client has brought
    /// about is everybody's for that long. Default five minutes; `None` for no bound.
    #[must_use]
    pub fn max_error_lifetime(mut self, most: Option<Duration>) -> Self {
        self.rules.max_error_lifetime = most;
        self
    }

    /// The most variants of a key that are stored while they are fresh; default as many as the store has room for. See
    /// [`VaryRules::max_variants`](crate::policy::VaryRules::max_variants).
    #[must_use]
    pub fn max_variants(mut self, count: usize) -> Self {
        self.vary = self.vary.max_variants(count);
        self
    }

    /// The fewest bytes of content that are stored; default 0. See [`ContentLimits::min_body`](crate::policy::ContentLimits::min_body).
    #[must_use]
    pub fn min_body(mut self, bytes: u64) -> Self {
        self.content_limits = self.content_limits.min_body(bytes);
        self
    }

    /// Stores only content of these types, such as `text/*`; default all. See [`ContentLimits::only_types`](crate::policy::ContentLimits::only_types).
    #[must_use]
    pub fn only_types<'a>(mut self, types: impl IntoIterator<Item = &'a str>) -> Self {
        self.content_limits = self.content_limits.only_types(types);
        self
    }

    /// How long before it becomes stale, at most half its lifetime, a response that is requested is validated in the
    /// background, so that nobody waits for what is requested often; default not at all.
    #[must_use]
    pub fn refresh_ahead(mut self, window: Option<Duration>) -> Self {
        self.rules.refresh_ahead = window;
        self
    }

    /// How long the inner service is left alone after it has failed while a stored response stands in: during that time the
    /// requests for the same key get that response at once; default not at all.
    ///
    /// ```
    /// use std::time::Duration;
    /// use larder::StandardPolicy;
    /// let policy = StandardPolicy::default()
    ///     .stale_if_error(Duration::from_secs(3_600))
    ///     .rest_after_failure(Duration::from_secs(10));
    /// # let _ = policy;
    /// ```
    #[must_use]
    pub fn rest_after_failure(mut self, rest: impl Into<FailureRest>) -> Self {
        self.rules.rest_after_failure = rest.into();
        self
    }

    /// How long past its lifetime a response stands in for an error where neither it nor the request says;
    /// default zero. What is `no-cache`, or may not be served stale, never does.
    #[must_use]
    pub fn stale_if_error(mut self, window: Duration) -> Self {
        self.rules.stale_if_error = window;
        self
    }

    /// How long past its lifetime a response that does not say is served while it is validated in the background; default
    /// zero. What is `no-cache`, or may not be served stale, never is, nor is what has no lifetime at all.
    #[must_use]
    pub fn stale_while_revalidate(mut self, window: Duration) -> Self {
        self.rules.stale_while_revalidate = window;
        self
    }

    /// A lifetime for a status, or for a range of them, errors included; default none. Zero: not stored. The response's own
    /// lifetime counts first, unless this is [`Lifetime::exactly`](crate::policy::Lifetime::exactly). See [`Lifetimes::status_lifetime`](crate::policy::Lifetimes::status_lifetime).
    #[must_use]
    pub fn status_lifetime(
        mut self,
        statuses: impl Into<StatusRange>,
        lifetime: impl Into<Lifetime>,
    ) -> Self {
        self.lifetimes = self.lifetimes.status_lifetime(statuses, lifetime);
        self
    }

    /// What becomes of a request field that the `Vary` of a response names; default [`VaryField::AsSent`]. See
    /// [`VaryRules::vary`](crate::policy::VaryRules::vary).
    #[must_use]
    pub fn vary(mut self, name: HeaderName, field: VaryField) -> Self {
        self.vary = self.vary.vary(name, field);
        self
    }

    /// Stores no content of these types, such as `video/*`; default none of them. See [`ContentLimits::without_types`](crate::policy::ContentLimits::without_types).
    #[must_use]
    pub fn without_types<'a>(mut self, types: impl IntoIterator<Item = &'a str>) -> Self {
        self.content_limits = self.content_limits.without_types(types);
        self
    }
}
