//! Handles are registered once. What a label may say is known then, so that no request can add to it.

use std::fmt;

use metrics::{Counter, Gauge, Histogram, Key, Label, Level, Metadata, Recorder};

use super::names::{self, Kind, Metric};

/// A label's value where none of those that are registered fits.
const OTHER: &str = "other";

static METADATA: Metadata<'static> = Metadata::new("larder", Level::INFO, None);

/// Where handles are registered, and the name of the cache that they all have as a label.
pub(super) struct Register<'a> {
    pub(super) cache: Option<&'a str>,
    pub(super) recorder: &'a dyn Recorder,
}

impl Register<'_> {
    pub(super) fn describe_all(&self) {
        for Metric { about, kind, name, unit } in names::ALL {
            let (name, unit, about) = ((*name).into(), Some(*unit), (*about).into());
            match kind {
                Kind::Counter => self.recorder.describe_counter(name, unit, about),
                Kind::Gauge => self.recorder.describe_gauge(name, unit, about),
                Kind::Histogram => self.recorder.describe_histogram(name, unit, about),
            }
        }
    }

    pub(super) fn counter(&self, metric: &Metric, labels: &[(&'static str, &str)]) -> Counter {
        self.recorder.register_counter(&self.key(metric, labels), &METADATA)
    }

    pub(super) fn gauge(&self, metric: &Metric) -> Gauge {
        self.recorder.register_gauge(&self.key(metric, &[]), &METADATA)
    }

    pub(super) fn histogram(&self, metric: &Metric, labels: &[(&'static str, &str)]) -> Histogram {
        self.recorder.register_histogram(&self.key(metric, labels), &METADATA)
    }

    /// One counter for each word, and one for all others.
    pub(super) fn words<'w>(
        &self,
        metric: &Metric,
        label: &'static str,
        words: impl IntoIterator<Item = &'w str>,
    ) -> Words {
        let counter = |word: &str| self.counter(metric, &[(label, word)]);
        let mut known: Vec<(Box<str>, Counter)> =
            words.into_iter().map(|word| (word.into(), counter(word))).collect();
        known.sort_by(|(one, _), (other, _)| one.cmp(other));
        known.dedup_by(|(one, _), (other, _)| one == other);
        Words { known, other: counter(OTHER) }
    }

    fn key(&self, metric: &Metric, labels: &[(&'static str, &str)]) -> Key {
        let cache = self.cache.map(|name| ("cache", name));
        let label = |(name, value): (&'static str, &str)| Label::new(name, value.to_owned());
        Key::from_parts(
            metric.name,
            cache.into_iter().chain(labels.iter().copied()).map(label).collect::<Vec<_>>(),
        )
    }
}

/// Counters by a word of which only some are known.
pub(super) struct Words {
    /// In order.
    known: Vec<(Box<str>, Counter)>,
    other: Counter,
}

impl Words {
    pub(super) fn count(&self, word: &str) {
        let place = self.known.binary_search_by(|(known, _)| (**known).cmp(word));
        place.map_or(&self.other, |place| &self.known[place].1).increment(1);
    }
}

impl fmt::Debug for Words {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.known.iter().map(|(word, _)| word)).finish()
    }
}
