//! The counters, gauges and histograms of an application's own code.
//!
//! Each worker has cells of its own, which it alone writes; whoever looks adds them up. A lock is taken when a worker first
//! uses a series, and by whoever looks.

mod names;
mod shared;

use std::collections::HashMap;
use std::sync::Arc;

use compact_str::CompactString;

use crate::id::TypeName;

pub(crate) use names::Misuse;
pub(crate) use shared::OwnMetrics;
use shared::{Cell, Joined};

/// The metrics that an application may have; values of further ones are left out, which is said once in the log.
pub const MAX_METRICS: usize = 100;

/// The series that a metric may have: each function and each combination of label values is one. Values of further ones go to
/// the series whose label values are all `other`, which is said once in the log.
pub const MAX_SERIES: usize = 100;

/// Longer label values are cut, in bytes.
pub const MAX_LABEL_BYTES: usize = 200;

/// The bounds of a histogram that is given none: 1, 2 and 5 of each power of ten from a thousandth to a million.
#[rustfmt::skip]
pub const DEFAULT_BOUNDS: &[f64] = &[
    0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1e3, 2e3, 5e3,
    1e4, 2e4, 5e4, 1e5, 2e5, 5e5, 1e6,
];

/// The label values of what does not fit any more.
const OTHER: &str = "other";

/// What a metric is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Kind {
    Counter,
    Gauge,
    Histogram(&'static [f64]),
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram(_) => "histogram",
        }
    }
}

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Value {
    Add(u64),
    Set(f64),
    Observe(f64, &'static [f64]),
}

impl Value {
    fn kind(self) -> Kind {
        match self {
            Self::Add(_) => Kind::Counter,
            Self::Set(_) => Kind::Gauge,
            Self::Observe(_, bounds) => Kind::Histogram(bounds),
        }
    }

    fn is_finite(self) -> bool {
        match self {
            Self::Add(_) => true,
            Self::Set(value) | Self::Observe(value, _) => value.is_finite(),
        }
    }
}

/// Labels, sorted by their names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Labels(Vec<(&'static str, CompactString)>);

impl Labels {
    pub(crate) fn add(&mut self, name: &'static str, value: &str) {
        let mut end = value.len().min(MAX_LABEL_BYTES);
        while !value.is_char_boundary(end) {
            end -= 1;
        }
        let at = self.0.partition_point(|(known, _)| *known <= name);
        self.0.insert(at, (name, value[..end].into()));
    }

    fn names(&self) -> impl ExactSizeIterator<Item = &'static str> {
        self.0.iter().map(|(name, _)| *name)
    }
}

/// A function's type and label values.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    function: TypeName,
    values: Vec<CompactString>,
}

impl Key {
    /// The series for what does not fit.
    fn other(&self) -> Self {
        Self {
            function: self.function,
            values: vec![OTHER.into(); self.values.len()],
        }
    }

    /// Whether it always fits: there are no more of these than functions.
    fn always_fits(&self) -> bool {
        self.values.iter().all(|value| value == OTHER)
    }
}

/// Something measured by an invocation that has not succeeded yet.
#[derive(Debug)]
struct Pending {
    metric: usize,
    key: Key,
    value: Value,
}

/// A metric as one worker knows it.
#[derive(Debug)]
struct Known {
    name: &'static str,
    kind: Kind,
    labels: Box<[&'static str]>,
    series: HashMap<Key, Arc<Cell>>,
    /// It has as many series as it may have, and this worker knows all of them.
    full: bool,
    /// A value that is no number has been reported.
    told: bool,
}

/// A worker's side: what the current invocation measures, and the worker's own cells.
#[derive(Debug, Default)]
pub(crate) struct Recorder {
    shared: Arc<OwnMetrics>,
    /// The place in `metrics`; none for those beyond the limit.
    by_name: HashMap<&'static str, Option<usize>>,
    metrics: Vec<Known>,
    pending: Vec<Pending>,
}

impl Recorder {
    /// For a worker among several.
    pub(crate) fn sharing(shared: Arc<OwnMetrics>) -> Self {
        Self {
            shared,
            ..Self::default()
        }
    }

    /// What all workers have recorded.
    pub(crate) fn shared(&self) -> &OwnMetrics {
        &self.shared
    }

    /// Whether the invocation has measured nothing.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    /// Forgets what the invocation has measured.
    pub(crate) fn forget(&mut self) {
        self.pending.clear();
    }

    /// Notes a value, which counts when the invocation has succeeded.
    ///
    /// # Errors
    /// When the metric is not used as it may be.
    pub(crate) fn measure(
        &mut self,
        function: TypeName,
        name: &'static str,
        labels: Labels,
        value: Value,
    ) -> Result<(), Misuse> {
        let place = match self.by_name.get(name) {
            Some(place) => *place,
            None => self.learn(name, value.kind(), &labels)?,
        };
        let Some(metric) = place else { return Ok(()) };
        let Some(known) = self.metrics.get_mut(metric) else {
            return Ok(());
        };
        if known.kind != value.kind() {
            return Err(Misuse::kind(name, known.kind, value.kind()));
        }
        if !labels.names().eq(known.labels.iter().copied()) {
            return Err(Misuse::labels(name, &known.labels, labels.names()));
        }
        if !value.is_finite() {
            if !std::mem::replace(&mut known.told, true) {
                tracing::warn!(metric = name, %function, "a value is left out: it is no finite number");
            }
            return Ok(());
        }
        let values = labels.0.into_iter().map(|(_, value)| value).collect();
        self.pending.push(Pending {
            metric,
            key: Key { function, values },
            value,
        });
        Ok(())
    }

    #[cold]
    fn learn(
        &mut self,
        name: &'static str,
        kind: Kind,
        labels: &Labels,
    ) -> Result<Option<usize>, Misuse> {
        let defined = self.shared.define(name, kind, labels.names())?;
        let place = defined.map(|(kind, labels)| {
            self.metrics.push(Known {
                name,
                kind,
                labels,
                series: HashMap::new(),
                full: false,
                told: false,
            });
            self.metrics.len() - 1
        });
        self.by_name.insert(name, place);
        Ok(place)
    }

    /// The invocation has succeeded: what it has measured counts.
    pub(crate) fn record(&mut self) {
        for Pending { metric, key, value } in self.pending.drain(..) {
            if let Some(known) = self.metrics.get_mut(metric) {
                known.record(key, value, &self.shared);
            }
        }
    }
}

impl Known {
    fn record(&mut self, mut key: Key, value: Value, shared: &OwnMetrics) {
        if let Some(cell) = self.series.get(&key) {
            return cell.record(value);
        }
        if !self.full {
            match shared.join(self.name, &key) {
                Joined::Cell(cell) => {
                    cell.record(value);
                    self.series.insert(key, cell);
                    return;
                }
                Joined::Full(all) => {
                    self.full = true;
                    for (key, cell) in all {
                        self.series.entry(key).or_insert(cell);
                    }
                }
            }
        }
        key = key.other();
        if let Some(cell) = self.series.get(&key) {
            return cell.record(value);
        }
        if let Joined::Cell(cell) = shared.join(self.name, &key) {
            cell.record(value);
            self.series.insert(key, cell);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::{OwnMetric, OwnValue};

    fn function() -> TypeName {
        TypeName::parse("tests/own").unwrap()
    }

    fn labels(all: &[(&'static str, &str)]) -> Labels {
        let mut labels = Labels::default();
        for (name, value) in all {
            labels.add(name, value);
        }
        labels
    }

    fn record(
        recorder: &mut Recorder,
        name: &'static str,
        all: &[(&'static str, &str)],
        value: Value,
    ) {
        recorder
            .measure(function(), name, labels(all), value)
            .unwrap();
        recorder.record();
    }

    fn value(all: &[OwnMetric], name: &str) -> OwnValue {
        let mut found = all.iter().filter(|metric| metric.name == name);
        let value = found.next().unwrap().value.clone();
        assert!(found.next().is_none());
        value
    }

    #[test]
    fn workers_are_added_up_and_the_last_gauge_counts() {
        let shared = Arc::new(OwnMetrics::default());
        let mut workers = [(); 2].map(|()| Recorder::sharing(shared.clone()));
        for (worker, add) in [(0, 1), (1, 20), (0, 300)] {
            record(&mut workers[worker], "orders", &[], Value::Add(add));
            record(
                &mut workers[worker],
                "size",
                &[],
                Value::Set(f64::from(add as u32)),
            );
            record(
                &mut workers[worker],
                "price",
                &[],
                Value::Observe(f64::from(add as u32), &[1.0, 100.0]),
            );
        }
        let all = shared.snapshot();
        assert_eq!(value(&all, "orders"), OwnValue::Counter(321));
        assert_eq!(value(&all, "size"), OwnValue::Gauge(300.0));
        let OwnValue::Histogram(price) = value(&all, "price") else {
            panic!("a histogram");
        };
        // A bound itself belongs to its bucket.
        assert_eq!(
            (price.bounds, price.counts, price.sum),
            (vec![1.0, 100.0], vec![1, 1, 1], 321.0)
        );
        assert_eq!(all[0].function, "tests/own");
    }

    #[test]
    fn what_is_forgotten_does_not_count() {
        let mut recorder = Recorder::default();
        recorder
            .measure(
                function(),
                "orders",
                labels(&[("kind", "tea")]),
                Value::Add(1),
            )
            .unwrap();
        assert!(!recorder.is_empty());
        recorder.forget();
        recorder.record();
        assert_eq!(recorder.shared().snapshot(), []);
    }

    #[test]
    fn labels_are_told_apart_in_whatever_order_they_are_given() {
        let mut recorder = Recorder::default();
        for (all, add) in [
            ([("kind", "tea"), ("shop", "zh")], 1),
            ([("shop", "zh"), ("kind", "tea")], 10),
            ([("kind", "zh"), ("shop", "tea")], 100),
        ] {
            record(&mut recorder, "orders", &all, Value::Add(add));
        }
        let all = recorder.shared().snapshot();
        let told: Vec<_> = all
            .iter()
            .map(|metric| (metric.labels.clone(), metric.value.clone()))
            .collect();
        let label = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(
            told,
            [
                (
                    vec![label("kind", "tea"), label("shop", "zh")],
                    OwnValue::Counter(11)
                ),
                (
                    vec![label("kind", "zh"), label("shop", "tea")],
                    OwnValue::Counter(100)
                ),
            ]
        );
    }

    #[test]
    fn what_does_not_fit_any_more_goes_to_the_others() {
        let shared = Arc::new(OwnMetrics::default());
        let mut workers = [(); 2].map(|()| Recorder::sharing(shared.clone()));
        // Two workers meet most of them at once; the second one meets those of the first again, after there are too many.
        for number in 0..250 {
            for worker in &mut workers {
                record(
                    worker,
                    "orders",
                    &[("kind", &number.to_string())],
                    Value::Add(1),
                );
            }
        }
        record(
            &mut workers[1],
            "orders",
            &[("kind", "0")],
            Value::Add(1000),
        );
        let all = shared.snapshot();
        assert_eq!(all.len(), MAX_SERIES + 1);
        let sum_of = |kind: &str| {
            let found = all.iter().find(|metric| metric.labels[0].1 == kind);
            found.map(|metric| metric.value.clone())
        };
        assert_eq!(sum_of("0"), Some(OwnValue::Counter(1002)));
        assert_eq!(sum_of("other"), Some(OwnValue::Counter(2 * 150)));
        assert_eq!(sum_of("249"), None);
        // Of what has no labels there is one for each function, and it fits.
        record(&mut workers[0], "plain", &[], Value::Add(1));
        assert_eq!(value(&shared.snapshot(), "plain"), OwnValue::Counter(1));
    }

    #[test]
    fn metrics_beyond_the_limit_are_left_out() {
        let mut recorder = Recorder::default();
        for number in 0..=MAX_METRICS {
            let name: &'static str = format!("metric_{number}").leak();
            record(&mut recorder, name, &[], Value::Add(1));
        }
        assert_eq!(recorder.shared().snapshot().len(), MAX_METRICS);
        record(&mut recorder, "metric_0", &[], Value::Add(1));
        assert_eq!(
            value(&recorder.shared().snapshot(), "metric_0"),
            OwnValue::Counter(2)
        );
    }

    #[test]
    fn what_is_no_number_is_left_out_and_long_labels_are_cut() {
        let mut recorder = Recorder::default();
        for odd in [f64::NAN, f64::INFINITY] {
            record(&mut recorder, "size", &[], Value::Set(odd));
            record(
                &mut recorder,
                "price",
                &[],
                Value::Observe(odd, DEFAULT_BOUNDS),
            );
        }
        assert_eq!(recorder.shared().snapshot(), []);
        for _ in 0..2 {
            record(
                &mut recorder,
                "price",
                &[],
                Value::Observe(f64::MAX, DEFAULT_BOUNDS),
            );
        }
        let OwnValue::Histogram(price) = value(&recorder.shared().snapshot(), "price") else {
            panic!("a histogram");
        };
        // JSON has no infinity.
        assert_eq!((price.count(), price.sum), (2, f64::MAX));
        let mut long = Labels::default();
        long.add("kind", &"é".repeat(150));
        assert_eq!(long.0[0].1, "é".repeat(100));
    }

    #[test]
    fn misuse_is_an_error_that_says_what_is_wrong() {
        const RISING: &[f64] = &[1.0, 2.0];
        let mut recorder = Recorder::default();
        record(&mut recorder, "orders", &[("kind", "tea")], Value::Add(1));
        record(&mut recorder, "price", &[], Value::Observe(1.0, RISING));
        for (name, all, value, problem) in [
            ("2nd", vec![], Value::Add(1), "`2nd` is no name of a metric"),
            ("", vec![], Value::Add(1), "`` is no name of a metric"),
            (
                "größe",
                vec![],
                Value::Add(1),
                "`größe` is no name of a metric",
            ),
            (
                "statefun_x",
                vec![],
                Value::Add(1),
                "begins with `statefun_`",
            ),
            (
                "a",
                vec![("b-c", "")],
                Value::Add(1),
                "`b-c` is no name of a label",
            ),
            (
                "a",
                vec![("__b", "")],
                Value::Add(1),
                "`__b` is no name of a label",
            ),
            (
                "a",
                vec![("function", "")],
                Value::Add(1),
                "`function` is no name of a label",
            ),
            (
                "a",
                vec![("b", "1"), ("b", "2")],
                Value::Add(1),
                "the label `b` twice",
            ),
            (
                "orders",
                vec![("kind", "tea")],
                Value::Set(1.0),
                "`orders` is a counter, and is used as a gauge",
            ),
            (
                "orders",
                vec![],
                Value::Add(1),
                "has the labels (kind), and is used with ()",
            ),
            (
                "orders",
                vec![("kind", ""), ("kind", "")],
                Value::Add(1),
                "is used with (kind, kind)",
            ),
            (
                "orders_total",
                vec![],
                Value::Set(1.0),
                "`orders_total` and `orders`",
            ),
            (
                "price_sum",
                vec![],
                Value::Set(1.0),
                "`price_sum` and `price`",
            ),
            (
                "price",
                vec![],
                Value::Observe(1.0, DEFAULT_BOUNDS),
                "other bounds",
            ),
            ("a", vec![], Value::Observe(1.0, &[]), "the bounds of `a`"),
            (
                "a",
                vec![],
                Value::Observe(1.0, &[2.0, 1.0]),
                "the bounds of `a`",
            ),
            (
                "a",
                vec![],
                Value::Observe(1.0, &[1.0, f64::INFINITY]),
                "the bounds of `a`",
            ),
        ] {
            let refused = recorder
                .measure(function(), name, labels(&all), value)
                .unwrap_err();
            assert!(refused.to_string().contains(problem), "{refused}");
            assert!(recorder.is_empty(), "{refused}");
        }
        assert_eq!(recorder.shared().snapshot().len(), 2);
    }
}
