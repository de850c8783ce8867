//! What other caches of the same owner get, whatever the policy.

use http::request;

use crate::policy::peer::Caller;
use crate::policy::{
    CachePolicy, Delivery, Peers, PolicyData, PolicyExchange, RequestAction, ResponseEdits, Terms,
};
use crate::store::PurgeTarget;

/// The part of a key that keeps what peers get apart.
const PART: &str = "larder-peer";

/// A policy with [`Peers`].
#[derive(Clone, Debug)]
pub struct WithPeers<P> {
    peers: Peers,
    policy: P,
}

impl<P> WithPeers<P> {
    pub(super) fn new(policy: P, peers: Peers) -> Self {
        Self { peers, policy }
    }
}

fn caller(data: &PolicyData) -> Caller {
    data.get().copied().unwrap_or_default()
}

impl<P: CachePolicy> CachePolicy for WithPeers<P> {
    fn request(&self, request: &mut request::Parts, data: &mut PolicyData) -> RequestAction {
        let is_peer = self.peers.recognise(request);
        let action = self.policy.request(request, data);
        if !is_peer {
            return action;
        }
        data.insert(Caller { is_peer, ..caller(data) });
        match action {
            RequestAction::Cache(key) => RequestAction::Cache(key.with(PART, b"")),
            bypass @ RequestAction::Bypass(_) => bypass,
        }
    }

    fn receive(&self, exchange: &PolicyExchange<'_>, edits: &mut ResponseEdits<'_>) {
        self.policy.receive(exchange, edits);
        if caller(exchange.data).is_peer {
            edits.show(&self.peers.fields);
        }
    }

    fn response(&self, exchange: &PolicyExchange<'_>, terms: &mut Terms) {
        self.policy.response(exchange, terms);
        if caller(exchange.data).is_peer {
            terms.browser_lifetime = None;
            terms.replace.clear();
            terms.strip.retain(|name| !self.peers.fields.contains(name));
        }
    }

    fn deliver(&self, delivery: &mut Delivery<'_>) {
        self.policy.deliver(delivery);
        if caller(delivery.data) == Caller::default() {
            for name in &self.peers.fields {
                delivery.headers.remove(name);
            }
        }
    }

    fn spellings(&self, target: &PurgeTarget) -> Vec<PurgeTarget> {
        let mut spellings = self.policy.spellings(target);
        if let PurgeTarget::Key(key) = target {
            spellings.push(PurgeTarget::Key(key.clone().with_in_whole(PART, b"")));
        }
        spellings
    }

    pass_on!(rules, forward, needs_sent_fields);
}
