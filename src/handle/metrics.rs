//! What a scrape wants to know of a layer, beyond its events.

use super::CacheHandle;
use crate::observe::metrics::MetricsObserver;
use crate::store::Store;

impl<S: Store> CacheHandle<S> {
    /// Sets the metrics that are no events: how much is stored, and what is being fetched. Call it before each scrape, or now
    /// and then.
    #[cfg_attr(docsrs, doc(cfg(feature = "metrics")))]
    pub fn record(&self, metrics: &MetricsObserver) {
        metrics.record(self.statistics(), self.shared.store.limits().capacity, self.fills());
    }
}
