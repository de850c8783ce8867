//! What is cached, under which key, for how long: the decisions that are yours.

mod bypass;
pub mod cloudfront;
mod combine;
mod data;
pub mod fastly;
mod hooks;
mod judge;
mod key;
mod pattern;
mod peer;
mod response;
mod snapshot;
mod standard;
mod terms;
pub(crate) mod words;

use std::sync::{Arc, LazyLock};

use http::request;

pub use self::bypass::Bypass;
pub use self::combine::{
    Admit, BeforeRequest, CachePolicyExt, FromFn, MapRequest, MapTerms, OnDeliver, OnForward, Policies,
    Report, ReportCounts, ReportOnly, RequestFn, When, WithPeers, WithResponseRules, WithVaryRules, from_fn,
    request_fn,
};
pub use self::data::PolicyData;
pub use self::fastly::Fastly;
pub use self::hooks::{Delivery, ForwardReason, PolicyExchange, Reason, RequestAction};
pub(crate) use self::judge::{Judged, JudgedRequest};
pub use self::key::{KeyRules, QueryRules, TRACKERS};
pub use self::pattern::{Pattern, Selection};
pub use self::peer::{Peers, TrustedPeer};
pub use self::response::{
    Admission, ContentLimits, InvalidStatusRange, Lifetime, Lifetimes, NormalForm, ResponseEdits,
    ResponseRules, StatusRange, TagField, VaryField, VaryRules,
};
pub(crate) use self::snapshot::{CurrentPolicy, RequestPolicy};
pub use self::standard::StandardPolicy;
pub(crate) use self::terms::OfOrigin;
pub use self::terms::{Terms, VaryRule};
use crate::semantics::Rules;
use crate::store::PurgeTarget;

/// Decides what the cache does with requests and responses. Every method has a default, which together are
/// [`StandardPolicy::default`]: RFC 9111 with a careful reading where credentials are concerned.
///
/// A request meets the hooks in this order: [`request`](CachePolicy::request) for its key; then, unless storage answers it,
/// [`forward`](CachePolicy::forward) for what the inner service gets to see,
/// [`receive`](CachePolicy::receive) for what the answer says, and [`response`](CachePolicy::response) for how
/// long the answer is stored; and in any case [`deliver`](CachePolicy::deliver) for what the client gets. One policy decides
/// about a request from beginning to end, also where [`CacheHandle::set_policy`](crate::CacheHandle::set_policy) replaces it
/// meanwhile. What `request` puts into `data` is there for the later hooks.
///
/// To change one thing about another policy, see [`CachePolicyExt`].
///
/// ```
/// use http::request;
/// use larder::{CachePolicy, PolicyData, PolicyExchange, RequestAction, Terms};
/// use std::time::Duration;
///
/// /// Keeps pictures for a day at least, and never caches the admin pages.
/// struct Pictures;
///
/// impl CachePolicy for Pictures {
///     fn request(&self, request: &mut request::Parts, _: &mut PolicyData) -> RequestAction {
///         if request.uri.path().starts_with("/admin") {
///             return RequestAction::bypass("admin");
///         }
///         RequestAction::of(request)
///     }
///
///     fn response(&self, exchange: &PolicyExchange<'_>, terms: &mut Terms) {
///         if exchange.request.uri.path().ends_with(".png") {
///             terms.lifetime = terms.lifetime.max(Duration::from_secs(86_400));
///         }
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a policy",
    label = "no `CachePolicy`",
    note = "`larder::policy::from_fn` and `request_fn` make a policy of a closure, and `larder::policy::Bypass::new` one that \
            keeps requests from the cache"
)]
pub trait CachePolicy: Send + Sync + 'static {
    /// Whether a request is the cache's business, and under which key. It may edit the request, for example to normalise
    /// it: the inner service gets it like that, and `Vary` selects by it.
    ///
    /// Asked for every method. The service forwards by itself what is neither GET nor HEAD (nor QUERY behind a
    /// [`QueryLayer`](crate::QueryLayer)), what has content otherwise, and what asks for an upgrade; the key of an unsafe
    /// request says which URI it invalidates. Also asked for the GET of a URI that is to be purged.
    fn request(&self, request: &mut request::Parts, data: &mut PolicyData) -> RequestAction {
        let _ = data;
        RequestAction::of(request)
    }

    /// The readings of RFC 9111 that apply to a request. Asked several times for each, with the request and the data as
    /// `request` has left them.
    fn rules(&self, request: &request::Parts, data: &PolicyData) -> &Rules {
        static RULES: LazyLock<Rules> = LazyLock::new(Rules::default);
        let _ = (request, data);
        &RULES
    }

    /// Edits a response before it is judged, for example its `Cache-Control`; [`ResponseRules`] does that by rules. What `response`
    /// sees is the edited one. Asked where `response` is.
    fn receive(&self, exchange: &PolicyExchange<'_>, edits: &mut ResponseEdits<'_>) {
        let _ = (exchange, edits);
    }

    /// Edits the terms under which a response is stored and reused. They come filled in by the rules.
    fn response(&self, exchange: &PolicyExchange<'_>, terms: &mut Terms) {
        let _ = (exchange, terms);
    }

    /// Edits what the inner service gets to see of a request that is forwarded.
    fn forward(&self, request: &mut request::Parts, reason: &ForwardReason<'_>) {
        let _ = (request, reason);
    }

    /// Edits the fields of every answer to a client: hits, forwarded responses, and those that bypass the cache.
    fn deliver(&self, delivery: &mut Delivery<'_>) {
        let _ = delivery;
    }

    /// Whether all that it does, except for `forward`, is for what is stored: `request` makes the key and edits nothing,
    /// `receive` and `response` strip and replace no field, and `deliver` edits nothing. Then a layer that stores nothing
    /// ([`CacheBuilder::tag_only`](crate::CacheBuilder::tag_only)) saves making the key and the terms. It does not ask
    /// `response`, asks `request` only where somebody else wants the key, and may ask `forward` twice where it is inside
    /// itself. Default false, which is right for every policy.
    fn is_for_storing_only(&self) -> bool {
        false
    }

    /// Whether [`PolicyExchange::sent`] is to be filled in, which costs a copy of the fields for each call.
    fn needs_sent_fields(&self) -> bool {
        false
    }

    /// Other targets under which this policy stores what clients ask for by `target`: where keys have other URIs than requests.
    /// Everything that is invalidated by a URI, a prefix, a host or a group is invalidated by these as well. Too many cost a
    /// fetch; one that lacks leaves something that was to go.
    ///
    /// Default none. That is enough for a policy that changes nothing of the URI, and for one that changes it by the URI alone:
    /// `request` is asked for the GET of a URI, or of a prefix, that is invalidated. [`KeyRules::spellings`] gives those of its
    /// rules.
    fn spellings(&self, target: &PurgeTarget) -> Vec<PurgeTarget> {
        let _ = target;
        Vec::new()
    }
}

/// A pointer to a policy is that policy.
macro_rules! pointer {
    ($($pointer:ident),+) => { $(
        impl<P: CachePolicy + ?Sized> CachePolicy for $pointer<P> {
            fn request(&self, request: &mut request::Parts, data: &mut PolicyData) -> RequestAction {
                (**self).request(request, data)
            }

            fn rules(&self, request: &request::Parts, data: &PolicyData) -> &Rules {
                (**self).rules(request, data)
            }

            fn receive(&self, exchange: &PolicyExchange<'_>, edits: &mut ResponseEdits<'_>) {
                (**self).receive(exchange, edits);
            }

            fn response(&self, exchange: &PolicyExchange<'_>, terms: &mut Terms) {
                (**self).response(exchange, terms);
            }

            fn forward(&self, request: &mut request::Parts, reason: &ForwardReason<'_>) {
                (**self).forward(request, reason);
            }

            fn deliver(&self, delivery: &mut Delivery<'_>) {
                (**self).deliver(delivery);
            }

            fn is_for_storing_only(&self) -> bool {
                (**self).is_for_storing_only()
            }

            fn needs_sent_fields(&self) -> bool {
                (**self).needs_sent_fields()
            }

            fn spellings(&self, target: &PurgeTarget) -> Vec<PurgeTarget> {
                (**self).spellings(target)
            }
        }
    )+ };
}

pointer!(Arc, Box);
