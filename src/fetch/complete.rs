//! A 206 that brings what is missing of a stored part (RFC 9111 3.4).

use std::time::Duration;

use http::{Response, StatusCode};

use super::Fetch;
use crate::body::incoming::Incoming;
use crate::collapse::NotShareable;
use crate::entry::partial::Completion;
use crate::entry::pieces::Run;
use crate::observe::Answer;
use crate::respond::no_content;
use crate::semantics::cache_status::{Detail, Forwarding};
use crate::store::Store;

impl<S: Store> Fetch<S> {
    /// Answers with what was stored and what was missing, together.
    pub(super) async fn complete(mut self, response: Response<Incoming>) -> Answer {
        let status = response.status();
        let Some((before, after)) = self.around(&response) else {
            return self.misfit(response).await;
        };
        let (Some(completion), Some(stored)) = (&self.sent.completion, self.exchange.selected()) else {
            return self.misfit(response).await;
        };
        let (mut parts, body) = response.into_parts();
        completion.complete(&stored.response, &mut parts);
        self.sent.answered = (parts.status != status).then_some(status);
        self.sent.is_completed = true;
        let body = body.between(&self.core().gauges.held, before, completion.missing().len(), after);
        self.receive(Response::from_parts(parts, body)).await
    }

    /// The stored bytes before and after those that a 206 brings; `None` where it brings anything but what is missing.
    fn around(&self, response: &Response<Incoming>) -> Option<(Run, Run)> {
        let (completion, stored) = (self.sent.completion.as_ref()?, self.exchange.selected()?);
        let is_part = response.status() == StatusCode::PARTIAL_CONTENT;
        completion.fits(&stored.response, response.headers()).filter(|_| is_part)
    }

    /// Answers where the stored part could not be completed.
    async fn misfit(mut self, response: Response<Incoming>) -> Answer {
        let (now, status) = (self.core().clock.now(), response.status());
        self.keep_apart(NotShareable::Chance { says_so: false }, now, Duration::ZERO);
        self.core().unreliable.parts.remember(&self.exchange.request.key, now);
        let is_range = self.sent.completion.as_ref().is_some_and(Completion::is_range);
        if is_range && matches!(status, StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE) {
            // Not what was asked for, but enough for a client that asked for a range.
            return self.receive(response).await;
        }
        // Nothing for a client that wants the whole. The next one gets it: nothing is completed under this key.
        let outcome = Forwarding {
            detail: Some(Detail::UnfitPart),
            status: Some(status),
            ..Forwarding::new(self.exchange.plan.forward)
        };
        no_content(StatusCode::BAD_GATEWAY, outcome)
    }
}
