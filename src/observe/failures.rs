//! What errors of the inner service mean, which the cache can't know by itself.

use std::any::Any;
use std::sync::Arc;

/// The word for an error of which nothing else is known.
const SERVICE_FAILED: &str = "service-failed";

/// On whose side a call of the inner service has failed: [`CacheBuilder::errors`](crate::CacheBuilder::errors).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FailedBy {
    /// The client's: it has left, or its content broke off. Such a request counts as that of a client who has left
    /// ([`Event::Dropped`](crate::Event::Dropped)).
    Client,
    /// The service's, in a word for operators, such as `origin-timeout`. It is counted, so there should be few of them.
    Service(&'static str),
}

/// Reads errors of one type.
#[derive(Clone)]
pub(crate) struct Failures(Arc<Read>);

type Read = dyn Fn(&dyn Any) -> FailedBy + Send + Sync;

impl Failures {
    pub(crate) fn of<E: 'static>(read: impl Fn(&E) -> FailedBy + Send + Sync + 'static) -> Self {
        let unknown = FailedBy::Service(SERVICE_FAILED);
        Self(Arc::new(move |error| error.downcast_ref().map_or(unknown, &read)))
    }

    pub(super) fn read(failures: Option<&Self>, error: &dyn Any) -> FailedBy {
        failures.map_or(FailedBy::Service(SERVICE_FAILED), |Self(read)| read(error))
    }
}
