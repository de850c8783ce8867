//! How long responses are fresh: by default, by status, by path, and a share of it by chance.

use std::hash::{BuildHasher, DefaultHasher, Hash, Hasher, RandomState};
use std::sync::LazyLock;
use std::time::Duration;

use crate::entry::key::{CacheKey, asked_path};
use crate::policy::{Pattern, PolicyExchange, StatusRange, Terms};
use crate::semantics::cache_control::ResponseDirectives;
use crate::semantics::freshness::LifetimeSource;
use crate::semantics::status::{is_drawn_by_request, is_error, is_heuristically_cacheable};
use crate::semantics::storing::NotStored;

/// A freshness lifetime that a policy gives, and what it does to the one that the response states.
///
/// It counts from the arrival of the response, however old it was then. A [`Duration`] is [`Lifetime::unless_stated`].
///
/// What forbids storing still does, whatever the lifetime: `no-store`, `private`, credentials. `no-cache` is still validated each
/// time, and what is `must-revalidate` is never served stale.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetime {
    length: Duration,
    over: Over,
}

/// What a lifetime does to the one that a response states.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Over {
    /// The longer one counts.
    AtLeast,
    /// The shorter one counts.
    AtMost,
    /// It replaces the stated one.
    Exactly,
    /// The stated one counts.
    UnlessStated,
}

impl Lifetime {
    /// The longer one of this lifetime and of the stated one; this one if none is stated.
    pub const fn at_least(length: Duration) -> Self {
        Self { length, over: Over::AtLeast }
    }

    /// The shorter one of this lifetime and of the stated one. A response that states no lifetime gets none.
    pub const fn at_most(length: Duration) -> Self {
        Self { length, over: Over::AtMost }
    }

    /// This lifetime, whatever the response states.
    pub const fn exactly(length: Duration) -> Self {
        Self { length, over: Over::Exactly }
    }

    /// The lifetime that the response states, by `Cache-Control`, a targeted field, `Expires` or a
    /// [`CacheHint`](crate::CacheHint); this one if it states none. What the cache would assume
    /// ([`Heuristic`](crate::semantics::freshness::Heuristic)) does not count.
    pub const fn unless_stated(length: Duration) -> Self {
        Self { length, over: Over::UnlessStated }
    }

    /// Sets the lifetime, if this one is to count. Whether it is zero then, which means that nothing is stored.
    fn apply(self, terms: &mut Terms) -> bool {
        let left = terms.lifetime.saturating_sub(terms.age_on_arrival());
        let is_assumed = matches!(terms.source, LifetimeSource::Heuristic | LifetimeSource::None);
        let counts = match self.over {
            Over::AtLeast => is_assumed || left < self.length,
            Over::AtMost => left > self.length,
            Over::Exactly => true,
            Over::UnlessStated => is_assumed,
        };
        if counts {
            terms.fresh_for(self.length);
        }
        counts && self.length.is_zero()
    }
}

impl From<Duration> for Lifetime {
    fn from(length: Duration) -> Self {
        Self::unless_stated(length)
    }
}

/// Lifetimes by default, by status and by path, and jitter. [`StandardPolicy`](crate::StandardPolicy) has switches of the same
/// names; any other policy gets them by [`CachePolicyExt::lifetimes`](crate::CachePolicyExt::lifetimes).
///
/// ```
/// use std::time::Duration;
/// use larder::policy::{Lifetime, Lifetimes, StatusRange};
///
/// const MINUTE: Duration = Duration::from_secs(60);
/// let lifetimes = Lifetimes::new()
///     .default_lifetime(MINUTE)                                // where the response says nothing
///     .lifetime_for("/img/*", Lifetime::exactly(60 * MINUTE))  // whatever it says
///     .status_lifetime(404, MINUTE / 6)
///     .status_lifetime(StatusRange::SERVER_ERROR, Duration::from_secs(1))
///     .jitter(10);
/// # let _ = lifetimes;
/// ```
///
/// One of these lifetimes decides about a response. If it is an error (4xx, 5xx), or has a status that is stored only
/// with a lifetime of its own and has none, that is the one by status. For all others, the one by path comes first, then the one
/// by status, then the default. A lifetime of zero by status or path means that the response is not stored
/// (`detail="zero-lifetime"`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lifetimes {
    browser: Option<Duration>,
    browser_as_stated: bool,
    default: Option<Duration>,
    jitter: Option<Jitter>,
    paths: Vec<(Pattern, Lifetime)>,
    statuses: Vec<(StatusRange, Lifetime)>,
}

impl Lifetimes {
    /// None at all.
    pub fn new() -> Self {
        Self::default()
    }

    /// How long clients may keep a response, counted from each answer, whatever its lifetime here:
    /// [`Terms::browser_lifetime`], which says what they get. A [`CacheHint`](crate::CacheHint) that has one comes first.
    #[must_use]
    pub fn browser_lifetime(mut self, lifetime: Duration) -> Self {
        self.browser = Some(lifetime);
        self
    }

    /// Where a response states one lifetime for clients, by `max-age`, and this cache has another one for it, by `s-maxage`, a
    /// targeted field, a hint or a policy, the clients' counts from each answer, as [`Lifetimes::browser_lifetime`] would.
    #[must_use]
    pub fn browser_lifetime_as_stated(mut self) -> Self {
        self.browser_as_stated = true;
        self
    }

    /// How long a response is fresh that states no lifetime, in place of what the cache would assume by `Last-Modified`. It is
    /// for the statuses that may be stored without one and are no errors: 200, 203, 204, 206, 300, 301 and 308.
    #[must_use]
    pub fn default_lifetime(mut self, lifetime: Duration) -> Self {
        self.default = Some(lifetime);
        self
    }

    /// Shortens each lifetime, whoever gave it, by a share of at most so many percent, so that what was stored at one time does
    /// not end at one time. The share depends on the key, and is another one in each process.
    #[must_use]
    pub fn jitter(self, percent: u8) -> Self {
        static SEED: LazyLock<u64> = LazyLock::new(|| RandomState::new().hash_one("jitter"));
        self.jitter_seeded(percent, *SEED)
    }

    /// [`Lifetimes::jitter`] that is the same in each process with the same seed.
    #[must_use]
    pub fn jitter_seeded(mut self, percent: u8, seed: u64) -> Self {
        self.jitter = (percent > 0).then_some(Jitter { percent: percent.min(100), seed });
        self
    }

    /// A lifetime for the paths that a [`Pattern`] matches, such as `/img/*`: those that clients ask for, also in a nested
    /// router, without the query. The pattern that was given first counts; given again, it gets the new lifetime in its
    /// place. Errors do not get it.
    #[must_use]
    pub fn lifetime_for(mut self, path: impl Into<Pattern>, lifetime: impl Into<Lifetime>) -> Self {
        put(&mut self.paths, path.into(), lifetime.into());
        self
    }

    /// A lifetime for a status, or for a range of them. The smallest range that has the status counts, in whatever order they
    /// were given; of two as small as that, the later one.
    ///
    /// Statuses that are stored only with a lifetime of their own, such as 302 and 500, are stored by this. Of the errors that a
    /// request can draw ([`Rules::drawn_errors`](crate::semantics::Rules::drawn_errors)), such as 403, that holds only for one
    /// that is given by itself, not in a range.
    #[must_use]
    pub fn status_lifetime(
        mut self,
        statuses: impl Into<StatusRange>,
        lifetime: impl Into<Lifetime>,
    ) -> Self {
        put(&mut self.statuses, statuses.into(), lifetime.into());
        self
    }

    /// Whether clients get fields of the policy's own.
    pub(in crate::policy) fn edits_fields(&self) -> bool {
        self.browser.is_some() || self.browser_as_stated
    }

    /// Gives a response its lifetime.
    pub fn apply(&self, exchange: &PolicyExchange<'_>, terms: &mut Terms) {
        if let Some((lifetime, given)) = self.deciding(exchange, terms) {
            match (lifetime.apply(terms), given) {
                (true, GivenBy::Path | GivenBy::Status(_)) => {
                    terms.store = terms.store.and(Err(NotStored::ZeroLifetime));
                }
                (false, GivenBy::Status(range)) => admit(exchange, range, terms),
                (_, GivenBy::Default) | (false, GivenBy::Path) => {}
            }
        }
        let for_browsers = terms.browser_lifetime.or_else(|| self.stated_for_browsers(exchange, terms));
        terms.browser_lifetime = for_browsers.or(self.browser);
        if let Some(jitter) = &self.jitter {
            jitter.apply(exchange.key, terms);
        }
    }

    /// The lifetime that decides about a response.
    fn deciding(&self, exchange: &PolicyExchange<'_>, terms: &Terms) -> Option<(Lifetime, GivenBy)> {
        let status = exchange.response.status;
        let (is_good, needs_none) = (!is_error(status), is_heuristically_cacheable(status));
        let by_path = || self.by_path(exchange).map(|lifetime| (lifetime, GivenBy::Path));
        let by_status = || {
            let has_status = |(range, _): &&(StatusRange, Lifetime)| range.contains(status);
            let all = self.statuses.iter().rev().filter(has_status);
            let smallest = all.min_by_key(|(range, _)| range.len());
            smallest.map(|(range, lifetime)| (*lifetime, GivenBy::Status(*range)))
        };
        let by_default = || self.default.map(|lifetime| (lifetime.into(), GivenBy::Default));
        let by_path = if is_good && (needs_none || terms.source.is_explicit()) { by_path() } else { None };
        by_path.or_else(by_status).or_else(|| if is_good && needs_none { by_default() } else { None })
    }

    /// What the response states for clients, where this cache has another lifetime for it.
    fn stated_for_browsers(&self, exchange: &PolicyExchange<'_>, terms: &Terms) -> Option<Duration> {
        let is_apart = !matches!(terms.source, LifetimeSource::MaxAge | LifetimeSource::Expires);
        let stated = || ResponseDirectives::of(&exchange.response.headers).max_age;
        let seconds = if self.browser_as_stated && is_apart { stated() } else { None };
        seconds.map(|seconds| Duration::from_secs(seconds.into()))
    }

    fn by_path(&self, exchange: &PolicyExchange<'_>) -> Option<Lifetime> {
        if self.paths.is_empty() {
            return None;
        }
        let path = asked_path(exchange.request);
        self.paths.iter().find(|(pattern, _)| pattern.matches(&*path)).map(|(_, lifetime)| *lifetime)
    }
}

/// Who gave a lifetime.
#[derive(Clone, Copy)]
enum GivenBy {
    Default,
    Path,
    Status(StatusRange),
}

/// Adds a row, or gives one that is there a new lifetime.
fn put<T: PartialEq>(rows: &mut Vec<(T, Lifetime)>, key: T, lifetime: Lifetime) {
    match rows.iter_mut().find(|(own, _)| *own == key) {
        Some((_, own)) => *own = lifetime,
        None => rows.push((key, lifetime)),
    }
}

/// Lets a response with a status of this range be stored, if it was refused for want of a lifetime.
fn admit(exchange: &PolicyExchange<'_>, range: StatusRange, terms: &mut Terms) {
    let is_drawn = is_drawn_by_request(exchange.response.status);
    let may_be_drawn = range.is_one() || exchange.rules.drawn_errors;
    match terms.store {
        Err(NotStored::Status) if terms.lifetime.is_zero() => {}
        Err(NotStored::Status) if is_drawn && !may_be_drawn => terms.store = Err(NotStored::DrawnError),
        Err(NotStored::Status) => terms.store = terms.firm,
        Err(NotStored::DrawnError) if range.is_one() => terms.store = terms.firm,
        _ => {}
    }
}

/// How much lifetimes are shortened at most, and by which chance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Jitter {
    percent: u8,
    seed: u64,
}

impl Jitter {
    fn apply(self, key: &CacheKey, terms: &mut Terms) {
        let mut hasher = DefaultHasher::new();
        (self.seed, key).hash(&mut hasher);
        let share = f64::from(self.percent) / 100.0 * (hasher.finish() >> 32) as f64 / f64::from(u32::MAX);
        let left = terms.lifetime.saturating_sub(terms.age_on_arrival());
        // Whole seconds of what is left: a lifetime that has been given is never longer than it was.
        let less = Duration::from_secs((left.as_secs() as f64 * share) as u64);
        terms.lifetime = terms.lifetime.saturating_sub(less);
    }
}
