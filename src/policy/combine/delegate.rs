//! Hooks that a policy made of others leaves to one of them.

/// Passes on the hooks that a combinator leaves alone to its field `policy`.
macro_rules! pass_on {
    (request) => {
        fn request(
            &self,
            request: &mut http::request::Parts,
            data: &mut $crate::policy::PolicyData,
        ) -> $crate::policy::RequestAction {
            self.policy.request(request, data)
        }
    };
    (rules) => {
        delegate!(rules to |this, _data| &this.policy);
    };
    (receive) => {
        delegate!(receive to |this, _data| &this.policy);
    };
    (response) => {
        delegate!(response to |this, _data| &this.policy);
    };
    (forward) => {
        delegate!(forward to |this, _data| &this.policy);
    };
    (deliver) => {
        delegate!(deliver to |this, _data| &this.policy);
    };
    (needs_sent_fields) => {
        fn needs_sent_fields(&self) -> bool {
            self.policy.needs_sent_fields()
        }
    };
    (spellings) => {
        fn spellings(&self, target: &$crate::store::PurgeTarget) -> Vec<$crate::store::PurgeTarget> {
            self.policy.spellings(target)
        }
    };
    ($($hook:ident),+) => { $(pass_on!($hook);)+ };
}

/// Leaves the hooks that come after `request` to the policy that it has chosen: to what `self.of(data)` gives.
macro_rules! leave_to_chosen {
    () => {
        delegate!(rules to |this, data| this.of(data));
        delegate!(receive to |this, data| this.of(data));
        delegate!(response to |this, data| this.of(data));
        delegate!(forward to |this, data| this.of(data));
        delegate!(deliver to |this, data| this.of(data));
    };
}

/// One hook that comes after `request`, and which policy has it.
macro_rules! delegate {
    (rules to |$this:ident, $data:ident| $policy:expr) => {
        fn rules(
            &self,
            request: &http::request::Parts,
            data: &$crate::policy::PolicyData,
        ) -> &$crate::semantics::Rules {
            let ($this, $data) = (self, data);
            $policy.rules(request, data)
        }
    };
    (receive to |$this:ident, $data:ident| $policy:expr) => {
        fn receive(
            &self,
            exchange: &$crate::policy::PolicyExchange<'_>,
            edits: &mut $crate::policy::ResponseEdits<'_>,
        ) {
            let ($this, $data) = (self, exchange.data);
            $policy.receive(exchange, edits);
        }
    };
    (response to |$this:ident, $data:ident| $policy:expr) => {
        fn response(&self, exchange: &$crate::policy::PolicyExchange<'_>, terms: &mut $crate::policy::Terms) {
            let ($this, $data) = (self, exchange.data);
            $policy.response(exchange, terms);
        }
    };
    (forward to |$this:ident, $data:ident| $policy:expr) => {
        fn forward(&self, request: &mut http::request::Parts, reason: &$crate::policy::ForwardReason<'_>) {
            let ($this, $data) = (self, reason.data);
            $policy.forward(request, reason);
        }
    };
    (deliver to |$this:ident, $data:ident| $policy:expr) => {
        fn deliver(&self, delivery: &mut $crate::policy::Delivery<'_>) {
            let ($this, $data) = (self, delivery.data);
            $policy.deliver(delivery);
        }
    };
}
