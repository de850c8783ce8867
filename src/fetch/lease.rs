//! One call for all nodes: the request that leads on this one asks whether it leads among all of them.

use std::time::Duration;

use http::StatusCode;

use crate::collapse::{CallResult, Leader, NotShareable};
use crate::fetch::collapsed::CollapsedFetch;
use crate::fetch::waited::Led;
use crate::observe::Answer;
use crate::respond::no_content;
use crate::runtime::Deadline;
use crate::semantics::cache_status::{Detail, Forwarding};
use crate::store::{LeaseAnswer, LeaseEnd, LeaseName, Leases, Store};

/// How many calls of other nodes a request waits for before it makes its own in any case.
const MOST_CALLS: usize = 2;

impl<S: Store> CollapsedFetch<S> {
    /// Gets the right to make the call for all nodes, or what another node's call has brought. Where nobody knows who has that
    /// right, or the other node takes too long, this node makes a call, too.
    pub(super) async fn lead(&mut self, mut leader: Leader, leases: &dyn Leases) -> Led {
        if self.is_late {
            return Led::Leader(leader);
        }
        for _ in 0..MOST_CALLS {
            let held = match self.ask(&leader, leases).await {
                None => break,
                Some(LeaseAnswer::Granted(lease)) => {
                    leader = leader.with_lease(lease);
                    // Another node's call may have ended since this request looked.
                    return match self.look_again(Some(&leader), true).await {
                        Some(answer) => Led::Answer(Box::new(answer)),
                        None => Led::Leader(leader),
                    };
                }
                Some(LeaseAnswer::Resting(rest)) => {
                    let answer = self.rest(&leader, rest).await;
                    return answer.map_or(Led::Leader(leader), |answer| Led::Answer(Box::new(answer)));
                }
                Some(LeaseAnswer::Held(held)) => held,
            };
            self.exchange.collapsed = Some(false);
            let limit = self.budget().unwrap_or(self.core().gauges.limits.wait);
            let deadline = self.deadline.get_or_insert_with(|| Deadline::new(limit));
            let answer = match deadline.in_time(held).await {
                None => break,
                Some(LeaseEnd::NotShareable(pass_for)) => {
                    let why = match pass_for {
                        Duration::ZERO => NotShareable::Admission,
                        _ if leader.has_credentials() => NotShareable::Request,
                        _ => NotShareable::Response,
                    };
                    leader.not_shareable(why, self.core().clock.now(), pass_for);
                    return Led::Alone;
                }
                Some(LeaseEnd::Failed(rest)) => self.rest(&leader, rest).await,
                Some(LeaseEnd::Over) => self.look_again(Some(&leader), true).await,
            };
            if let Some(answer) = answer {
                return Led::Answer(Box::new(answer));
            }
        }
        Led::Leader(leader)
    }

    async fn ask(&self, leader: &Leader, leases: &dyn Leases) -> Option<LeaseAnswer> {
        let ticket = leader.ticket();
        let name = LeaseName {
            has_credentials: leader.has_credentials(),
            key: &ticket.key,
            variant: ticket.variant.as_deref(),
        };
        self.exchange.shared.lease(leases, name).await
    }

    /// Another node's call has failed. Answers with what is stored, if that may stand in; in the background, with nothing.
    async fn rest(&mut self, leader: &Leader, rest: Duration) -> Option<Answer> {
        let (core, key) = (self.core(), &self.exchange.request.key);
        core.resting.remember_for(key, core.clock.now(), rest);
        if let Some(answer) = self.look_again(Some(leader), true).await {
            return Some(answer);
        }
        if self.exchange.background.is_some() {
            leader.publish(CallResult::Failed(None));
            let forwarding = Forwarding { detail: Some(Detail::ServiceFailed), ..self.exchange.forwarding() };
            return Some(no_content(StatusCode::GATEWAY_TIMEOUT, forwarding));
        }
        let answer = self.stand_in(Detail::StaleIfError, None).await?;
        leader.publish(CallResult::Failed(None));
        Some(*answer)
    }
}
