//! A recorder of metrics that tests can read: each series by its name and labels, as Prometheus writes them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use metrics::{
    Counter, CounterFn, Gauge, GaugeFn, Histogram, HistogramFn, Key, KeyName, Metadata, SharedString, Unit,
};

#[derive(Clone, Default)]
pub struct Recorder(Arc<Mutex<BTreeMap<String, Arc<Series>>>>);

/// What was recorded of one series: a count, a level, or the values of a histogram.
#[derive(Default)]
pub struct Series(Mutex<Vec<f64>>);

impl Series {
    fn add(&self, value: f64) {
        let mut values = self.0.lock().unwrap();
        match values.first_mut() {
            Some(sum) => *sum += value,
            None => values.push(value),
        }
    }

    fn set(&self, value: f64) {
        *self.0.lock().unwrap() = vec![value];
    }
}

impl CounterFn for Series {
    fn increment(&self, value: u64) {
        self.add(value as f64);
    }

    fn absolute(&self, value: u64) {
        self.set(value as f64);
    }
}

impl GaugeFn for Series {
    fn increment(&self, value: f64) {
        self.add(value);
    }

    fn decrement(&self, value: f64) {
        self.add(-value);
    }

    fn set(&self, value: f64) {
        Series::set(self, value);
    }
}

impl HistogramFn for Series {
    fn record(&self, value: f64) {
        self.0.lock().unwrap().push(value);
    }
}

impl Recorder {
    /// Each series that is registered.
    pub fn series(&self) -> Vec<String> {
        self.0.lock().unwrap().keys().cloned().collect()
    }

    /// What was recorded since the last time, without series of which nothing was.
    pub fn take(&self) -> BTreeMap<String, Vec<f64>> {
        let series = self.0.lock().unwrap();
        let taken = series
            .iter()
            .map(|(name, series)| (name.clone(), std::mem::take(&mut *series.0.lock().unwrap())));
        taken.filter(|(_, values)| !values.is_empty()).collect()
    }

    fn register(&self, key: &Key) -> Arc<Series> {
        let labels: Vec<_> =
            key.labels().map(|label| format!("{}={:?}", label.key(), label.value())).collect();
        let name = match labels.is_empty() {
            true => key.name().to_owned(),
            false => format!("{}{{{}}}", key.name(), labels.join(",")),
        };
        Arc::clone(self.0.lock().unwrap().entry(name).or_default())
    }
}

impl metrics::Recorder for Recorder {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.register(key))
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(self.register(key))
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::from_arc(self.register(key))
    }
}
