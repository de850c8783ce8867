//! Policies made of others, so that to change one thing is not to lose all others.

#[macro_use]
mod delegate;

mod closures;
mod policies;
mod report_only;
mod with_peers;

use http::request;

pub use self::closures::{FromFn, RequestFn, from_fn, request_fn};
pub use self::policies::Policies;
pub use self::report_only::{Report, ReportCounts, ReportOnly};
pub use self::with_peers::WithPeers;

use crate::policy::data::Chooser;
use crate::policy::{
    Admission, CachePolicy, ContentLimits, Delivery, ForwardReason, Lifetimes, Peers, PolicyData,
    PolicyExchange, RequestAction, ResponseEdits, ResponseRules, Terms, VaryRules,
};
use crate::store::PurgeTarget;

/// Changes one thing about a policy, and keeps everything else.
///
/// ```
/// use std::time::Duration;
/// use larder::{CacheBuilder, CachePolicyExt, StandardPolicy};
///
/// let policy = StandardPolicy::default()
///     .stale_if_error(Duration::from_secs(600))
///     .map_terms(|exchange, terms| {
///         if exchange.request.uri.path().ends_with(".png") {
///             terms.lifetime = terms.lifetime.max(Duration::from_secs(86_400));
///         }
///     })
///     .when(|request| request.uri.path().starts_with("/news/"), StandardPolicy::rfc9111());
/// let layer = CacheBuilder::default().policy(policy).build();
/// # let _ = layer;
/// ```
pub trait CachePolicyExt: CachePolicy + Sized {
    /// Stores a response only when its key has been asked for often enough; see [`Admission`].
    ///
    /// ```
    /// use std::time::Duration;
    /// use larder::policy::Admission;
    /// use larder::{CacheBuilder, CachePolicyExt, StandardPolicy};
    ///
    /// // At the second request within ten minutes.
    /// let policy = StandardPolicy::default().admit(Admission::after(2).within(Duration::from_secs(600)));
    /// let layer = CacheBuilder::default().policy(policy).build();
    /// # let _ = layer;
    /// ```
    fn admit(self, admission: Admission) -> Admit<Self> {
        Admit { admission, policy: self }
    }

    /// Edits a request before this policy sees it, for example to normalise it: the key is made of it, `Vary` selects by it,
    /// and the inner service gets it like that. What is put into the data is there for the later hooks.
    ///
    /// ```
    /// use http::header;
    /// use larder::{CacheBuilder, CachePolicyExt, StandardPolicy};
    ///
    /// // Pages that are the same for everybody.
    /// let policy = StandardPolicy::default().before_request(|request, _| {
    ///     if request.method.is_safe() && request.uri.path().starts_with("/blog/") {
    ///         request.headers.remove(header::COOKIE);
    ///     }
    /// });
    /// let layer = CacheBuilder::default().policy(policy).build();
    /// # let _ = layer;
    /// ```
    fn before_request<F>(self, edit: F) -> BeforeRequest<Self, F>
    where
        F: Fn(&mut request::Parts, &mut PolicyData) + Send + Sync + 'static,
    {
        BeforeRequest { edit, policy: self }
    }

    /// Stores only content of some sizes and types, after this policy has set the terms.
    fn content_limits(
        self,
        limits: ContentLimits,
    ) -> MapTerms<Self, impl Fn(&PolicyExchange<'_>, &mut Terms)> {
        self.map_terms(move |exchange, terms| limits.apply(exchange, terms))
    }

    /// Gives responses their lifetimes, after this policy has set the terms.
    fn lifetimes(self, lifetimes: Lifetimes) -> MapTerms<Self, impl Fn(&PolicyExchange<'_>, &mut Terms)> {
        self.map_terms(move |exchange, terms| lifetimes.apply(exchange, terms))
    }

    /// Changes what is done with a request, after this policy has decided.
    fn map_request<F>(self, map: F) -> MapRequest<Self, F>
    where
        F: Fn(&request::Parts, RequestAction) -> RequestAction + Send + Sync + 'static,
    {
        MapRequest { map, policy: self }
    }

    /// Changes the terms of a response, after this policy has set them.
    fn map_terms<F>(self, map: F) -> MapTerms<Self, F>
    where
        F: Fn(&PolicyExchange<'_>, &mut Terms) + Send + Sync + 'static,
    {
        MapTerms { map, policy: self }
    }

    /// Changes every answer, after this policy has.
    fn on_deliver<F>(self, deliver: F) -> OnDeliver<Self, F>
    where
        F: Fn(&mut Delivery<'_>) + Send + Sync + 'static,
    {
        OnDeliver { deliver, policy: self }
    }

    /// Edits what the inner service gets to see of a request that is forwarded, after this policy has.
    fn on_forward<F>(self, forward: F) -> OnForward<Self, F>
    where
        F: Fn(&mut request::Parts, &ForwardReason<'_>) + Send + Sync + 'static,
    {
        OnForward { forward, policy: self }
    }

    /// Gives other caches of the same owner, which ask this one in place of the origin, what they need; see [`Peers`] for how they
    /// are recognised.
    ///
    /// | | a peer gets | a client gets |
    /// |---|---|---|
    /// | fields for caches ([`Peers::fields`]): tags, targeted fields | as the origin has sent them | none |
    /// | what is made for browsers: [`Terms::browser_lifetime`], [`Terms::replace`] | what the origin has sent, since the peer makes it itself | as this policy has it |
    /// | a stale response while it is validated (`stale-while-revalidate`) | never | within the window |
    /// | a stale response in place of an error (`stale-if-error`) | within the window | within the window |
    ///
    /// What peers get is stored apart from what clients get. A URI, a tag or whatever else that is purged goes for both, and
    /// [`CacheHandle::inspect`](crate::CacheHandle::inspect) and [`explain`](crate::CacheHandle::explain) look at both.
    ///
    /// ```
    /// use http::HeaderName;
    /// use larder::policy::Peers;
    /// use larder::{CacheBuilder, CachePolicyExt, StandardPolicy};
    /// # let secret = "from the configuration";
    ///
    /// let peers = Peers::new().token(HeaderName::from_static("x-peer"), secret);
    /// let shield = CacheBuilder::default().policy(StandardPolicy::default().with_peers(peers)).build();
    /// # let _ = shield;
    /// ```
    fn with_peers(self, peers: Peers) -> WithPeers<Self> {
        WithPeers::new(self, peers)
    }

    /// Asks another policy, too, and counts what it would do; see [`ReportOnly`].
    fn report_only<C: CachePolicy>(self, candidate: C) -> ReportOnly<Self, C> {
        ReportOnly::new(self, candidate)
    }

    /// Edits responses by rules before this policy sees them: their `Cache-Control`, `Set-Cookie`, `Vary`, and their tags.
    fn response_rules(self, rules: ResponseRules) -> WithResponseRules<Self> {
        WithResponseRules { policy: self, rules }
    }

    /// Says which request fields select responses, and how many variants a key has, after this policy has set the terms.
    fn vary_rules(self, rules: VaryRules) -> WithVaryRules<Self> {
        WithVaryRules { policy: self, rules }
    }

    /// Leaves requests that match to another policy, with all its hooks and rules. It is asked once for a request, with the
    /// request as it came.
    fn when<F, P>(self, matches: F, other: P) -> When<Self, F, P>
    where
        F: Fn(&request::Parts) -> bool + Send + Sync + 'static,
        P: CachePolicy,
    {
        When { chooser: Chooser::new(), matches, other, policy: self }
    }
}

impl<P: CachePolicy> CachePolicyExt for P {}

/// A policy that stores what is asked for often enough.
#[derive(Clone, Debug)]
pub struct Admit<P> {
    admission: Admission,
    policy: P,
}

/// A policy that gets its requests edited.
#[derive(Clone, Debug)]
pub struct BeforeRequest<P, F> {
    edit: F,
    policy: P,
}

/// A policy with another [`CachePolicy::request`].
#[derive(Clone, Debug)]
pub struct MapRequest<P, F> {
    map: F,
    policy: P,
}

/// A policy with another [`CachePolicy::response`].
#[derive(Clone, Debug)]
pub struct MapTerms<P, F> {
    map: F,
    policy: P,
}

/// A policy with another [`CachePolicy::deliver`].
#[derive(Clone, Debug)]
pub struct OnDeliver<P, F> {
    deliver: F,
    policy: P,
}

/// A policy with another [`CachePolicy::forward`].
#[derive(Clone, Debug)]
pub struct OnForward<P, F> {
    forward: F,
    policy: P,
}

/// One of two policies for each request.
#[derive(Clone, Debug)]
pub struct When<P, F, O> {
    chooser: Chooser,
    matches: F,
    other: O,
    policy: P,
}

/// A policy with [`ResponseRules`].
#[derive(Clone, Debug)]
pub struct WithResponseRules<P> {
    policy: P,
    rules: ResponseRules,
}

/// A policy with [`VaryRules`].
#[derive(Clone, Debug)]
pub struct WithVaryRules<P> {
    policy: P,
    rules: VaryRules,
}

impl<P: CachePolicy> CachePolicy for Admit<P> {
    fn response(&self, exchange: &PolicyExchange<'_>, terms: &mut Terms) {
        self.policy.response(exchange, terms);
        terms.admission = Some(self.admission.clone());
    }

    fn is_for_storing_only(&self) -> bool {
        self.policy.is_for_storing_only()
    }

    pass_on!(request, rules, receive, forward, deliver, needs_sent_fields, spellings);
}

impl<P, F> CachePolicy for BeforeRequest<P, F>
where
    P: CachePolicy,
    F: Fn(&mut request::Parts, &mut PolicyData) + Send + Sync + 'static,
{
    fn request(&self, request: &mut request::Parts, data: &mut PolicyData) -> RequestAction {
        (self.edit)(request, data);
        self.policy.request(request, data)
    }

    pass_on!(rules, receive, response, forward, deliver, needs_sent_fields, spellings);
}

impl<P, F> CachePolicy for OnForward<P, F>
where
    P: CachePolicy,
    F: Fn(&mut request::Parts, &ForwardReason<'_>) + Send + Sync + 'static,
{
    fn forward(&self, request: &mut request::Parts, reason: &ForwardReason<'_>) {
        self.policy.forward(request, reason);
        (self.forward)(request, reason);
    }

    pass_on!(request, rules, receive, response, deliver, needs_sent_fields, spellings);
}

impl<P, F> CachePolicy for MapRequest<P, F>
where
    P: CachePolicy,
    F: Fn(&request::Parts, RequestAction) -> RequestAction + Send + Sync + 'static,
{
    fn request(&self, request: &mut request::Parts, data: &mut PolicyData) -> RequestAction {
        let action = self.policy.request(request, data);
        (self.map)(request, action)
    }

    pass_on!(rules, receive, response, forward, deliver, needs_sent_fields, spellings);
}

impl<P, F> CachePolicy for MapTerms<P, F>
where
    P: CachePolicy,
    F: Fn(&PolicyExchange<'_>, &mut Terms) + Send + Sync + 'static,
{
    fn response(&self, exchange: &PolicyExchange<'_>, terms: &mut Terms) {
        self.policy.response(exchange, terms);
        (self.map)(exchange, terms);
    }

    pass_on!(request, rules, receive, forward, deliver, needs_sent_fields, spellings);
}

impl<P: CachePolicy> CachePolicy for WithResponseRules<P> {
    fn receive(&self, exchange: &PolicyExchange<'_>, edits: &mut ResponseEdits<'_>) {
        self.rules.apply(exchange, edits);
        self.policy.receive(exchange, edits);
    }

    pass_on!(request, rules, response, forward, deliver, needs_sent_fields, spellings);
}

impl<P: CachePolicy> CachePolicy for WithVaryRules<P> {
    fn request(&self, request: &mut request::Parts, data: &mut PolicyData) -> RequestAction {
        self.rules.normalise(request);
        self.policy.request(request, data)
    }

    fn response(&self, exchange: &PolicyExchange<'_>, terms: &mut Terms) {
        self.policy.response(exchange, terms);
        self.rules.apply(exchange, terms);
    }

    pass_on!(rules, receive, forward, deliver, needs_sent_fields, spellings);
}

impl<P, F> CachePolicy for OnDeliver<P, F>
where
    P: CachePolicy,
    F: Fn(&mut Delivery<'_>) + Send + Sync + 'static,
{
    fn deliver(&self, delivery: &mut Delivery<'_>) {
        self.policy.deliver(delivery);
        (self.deliver)(delivery);
    }

    pass_on!(request, rules, receive, response, forward, needs_sent_fields, spellings);
}

impl<P, F, O> When<P, F, O>
where
    P: CachePolicy,
    F: 'static,
    O: CachePolicy,
{
    fn of(&self, data: &PolicyData) -> &dyn CachePolicy {
        if data.choice(self.chooser).is_some() { &self.other } else { &self.policy }
    }
}

impl<P, F, O> CachePolicy for When<P, F, O>
where
    P: CachePolicy,
    F: Fn(&request::Parts) -> bool + Send + Sync + 'static,
    O: CachePolicy,
{
    fn request(&self, request: &mut request::Parts, data: &mut PolicyData) -> RequestAction {
        if (self.matches)(request) {
            data.choose(self.chooser, 0);
            return self.other.request(request, data);
        }
        self.policy.request(request, data)
    }

    leave_to_chosen!();

    fn needs_sent_fields(&self) -> bool {
        self.policy.needs_sent_fields() || self.other.needs_sent_fields()
    }

    fn spellings(&self, target: &PurgeTarget) -> Vec<PurgeTarget> {
        let mut spellings = self.policy.spellings(target);
        spellings.extend(self.other.spellings(target));
        spellings
    }
}
