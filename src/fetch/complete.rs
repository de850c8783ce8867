//! A 206 that brings what is missing of a stored part (RFC 9111 3.4).

use std::sync::Arc;

use http::{Response, StatusCode};
use http_body::Body;

use super::Fetch;
use crate::body::CacheBody;
use crate::body::splice::Splice;
use crate::entry::StoredResponse;
use crate::entry::partial::Completion;
use crate::error::BoxError;
use crate::fetch::receive;
use crate::limits::held::Held;
use crate::semantics::cache_status::{Forwarding, Outcome};
use crate::semantics::collapse::NotShareable;
use crate::store::Store;

impl<S: Store> Fetch<S> {
    /// Answers with what was stored and what was missing, together (RFC 9111 3.4).
    pub(super) async fn complete<B>(mut self, response: Response<B>) -> Response<CacheBody<B>>
    where
        B: Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<BoxError>,
    {
        let status = response.status();
        let spliced = match (&self.completion, self.selected()) {
            (Some(completion), Some(stored)) if status == StatusCode::PARTIAL_CONTENT => {
                splice(completion, &self.core.gauges.held, &stored.response, response)
            }
            _ => Err(response),
        };
        match spliced {
            Ok(spliced) => {
                let is_other = spliced.status() != StatusCode::PARTIAL_CONTENT;
                self.ask.answered = is_other.then_some(StatusCode::PARTIAL_CONTENT);
                self.ask.is_completed = true;
                let answer = receive::receive(self.core, self.store, self.ask, spliced).await;
                answer.map(CacheBody::flatten)
            }
            Err(misfit) => {
                let now = self.core.clock.now();
                if let Some(leader) = self.ask.leader.take() {
                    leader.not_shareable(NotShareable::Chance { says_so: false }, now);
                }
                self.core.unreliable.parts.remember(&self.ask.query.key, now);
                let is_range = self.completion.as_ref().is_some_and(Completion::is_range);
                let tells_itself =
                    matches!(status, StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE);
                if is_range && tells_itself {
                    // Not what was asked for, but enough for who asked for a range.
                    return receive::receive(self.core, self.store, self.ask, misfit).await;
                }
                // Nothing for who wants the whole. The next one gets it: nothing is completed under this key.
                let outcome = Outcome::Forwarded(Forwarding {
                    status: Some(status),
                    ..Forwarding::new(self.ask.forward)
                });
                self.core.no_content(StatusCode::BAD_GATEWAY, &outcome)
            }
        }
    }
}

/// Puts a 206 with what was missing between the bytes that are stored.
///
/// # Errors
///
/// The 206, where it brings anything else.
fn splice<B>(
    completion: &Completion,
    held: &Arc<Held>,
    stored: &StoredResponse,
    response: Response<B>,
) -> Result<Response<Splice<B>>, Response<B>> {
    let Some((before, after)) = completion.fits(stored, response.headers()) else {
        return Err(response);
    };
    let (mut parts, body) = response.into_parts();
    completion.complete(stored, &mut parts);
    Ok(Response::from_parts(parts, Splice::new(held, before, body, completion.missing(), after)))
}
