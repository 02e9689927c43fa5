//! What the workers have in common: which metrics and series there are, and everybody's cells.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::names::{Misuse, check, share_a_name};
use super::{Key, Kind, MAX_METRICS, MAX_SERIES, OTHER, Value};
use crate::metrics::{Histogram, OwnMetric, OwnValue};

/// One worker's share of a series, or all of a gauge.
#[derive(Debug)]
pub(super) enum Cell {
    Counter(AtomicU64),
    /// The bits of a number. Whichever worker writes it last has said what it is.
    Gauge(AtomicU64),
    Histogram {
        bounds: &'static [f64],
        counts: Box<[AtomicU64]>,
        /// The bits of a number.
        sum: AtomicU64,
    },
}

impl Cell {
    fn new(kind: Kind) -> Self {
        match kind {
            Kind::Counter => Self::Counter(AtomicU64::new(0)),
            // It is set at once; until then nobody sees it.
            Kind::Gauge => Self::Gauge(AtomicU64::new(f64::NAN.to_bits())),
            Kind::Histogram(bounds) => Self::Histogram {
                bounds,
                counts: (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect(),
                sum: AtomicU64::new(0.0f64.to_bits()),
            },
        }
    }

    /// Counters and histograms have one writer, so no read-modify-write is needed.
    pub(super) fn record(&self, value: Value) {
        let add = |count: &AtomicU64, more: u64| {
            let sum = count.load(Ordering::Relaxed).wrapping_add(more);
            count.store(sum, Ordering::Relaxed);
        };
        match (self, value) {
            (Self::Counter(count), Value::Add(more)) => add(count, more),
            (Self::Gauge(bits), Value::Set(value)) => {
                bits.store(value.to_bits(), Ordering::Relaxed);
            }
            (
                Self::Histogram {
                    bounds,
                    counts,
                    sum,
                },
                Value::Observe(value, _),
            ) => {
                let bucket = bounds.partition_point(|bound| *bound < value);
                if let Some(count) = counts.get(bucket) {
                    add(count, 1);
                }
                let total = f64::from_bits(sum.load(Ordering::Relaxed)) + value;
                sum.store(total.clamp(f64::MIN, f64::MAX).to_bits(), Ordering::Relaxed);
            }
            // Kinds were compared when it was measured.
            _ => {}
        }
    }
}

#[derive(Debug)]
struct Series {
    key: Key,
    /// One for each worker that has used it; one for all of a gauge.
    cells: Vec<Arc<Cell>>,
}

impl Series {
    fn join(&mut self, kind: Kind) -> Arc<Cell> {
        if let (Kind::Gauge, Some(cell)) = (kind, self.cells.first()) {
            return cell.clone();
        }
        let cell = Arc::new(Cell::new(kind));
        self.cells.push(cell.clone());
        cell
    }

    fn value(&self, kind: Kind) -> Option<OwnValue> {
        match kind {
            Kind::Counter => Some(OwnValue::Counter(self.cells.iter().fold(0, |sum, cell| {
                let Cell::Counter(count) = &**cell else {
                    return sum;
                };
                sum.wrapping_add(count.load(Ordering::Relaxed))
            }))),
            Kind::Gauge => self.cells.iter().find_map(|cell| {
                let Cell::Gauge(bits) = &**cell else {
                    return None;
                };
                let value = f64::from_bits(bits.load(Ordering::Relaxed));
                (!value.is_nan()).then_some(OwnValue::Gauge(value))
            }),
            Kind::Histogram(bounds) => {
                let mut all = Histogram {
                    bounds: bounds.to_vec(),
                    counts: vec![0; bounds.len() + 1],
                    sum: 0.0,
                };
                for cell in &self.cells {
                    let Cell::Histogram { counts, sum, .. } = &**cell else {
                        continue;
                    };
                    for (count, own) in all.counts.iter_mut().zip(counts) {
                        *count += own.load(Ordering::Relaxed);
                    }
                    all.sum += f64::from_bits(sum.load(Ordering::Relaxed));
                }
                all.sum = all.sum.clamp(f64::MIN, f64::MAX);
                Some(OwnValue::Histogram(all))
            }
        }
    }
}

#[derive(Debug)]
struct Metric {
    name: &'static str,
    kind: Kind,
    labels: Box<[&'static str]>,
    series: Vec<Series>,
    /// How many of them are not those of others, which always fit.
    counted: usize,
    told: bool,
}

#[derive(Debug, Default)]
struct Defined {
    metrics: Vec<Metric>,
    told: bool,
}

/// All metrics of an application's own code.
#[derive(Debug, Default)]
pub(crate) struct OwnMetrics(Mutex<Defined>);

/// A worker asks for its share of a series.
pub(super) enum Joined {
    Cell(Arc<Cell>),
    /// There are as many as there may be: a share of each of them.
    Full(Vec<(Key, Arc<Cell>)>),
}

impl OwnMetrics {
    fn lock(&self) -> MutexGuard<'_, Defined> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A metric as it is known, or as it is used here first; none when there are too many.
    pub(super) fn define(
        &self,
        name: &'static str,
        kind: Kind,
        labels: impl Iterator<Item = &'static str>,
    ) -> Result<Option<(Kind, Box<[&'static str]>)>, Misuse> {
        let mut defined = self.lock();
        if let Some(metric) = defined.metrics.iter().find(|known| known.name == name) {
            return Ok(Some((metric.kind, metric.labels.clone())));
        }
        let labels: Box<[&'static str]> = labels.collect();
        check(name, kind, &labels)?;
        let other = |known: &&Metric| share_a_name((known.name, known.kind), (name, kind));
        if let Some(known) = defined.metrics.iter().find(other) {
            return Err(Misuse::Shared {
                metric: name,
                known: known.name,
            });
        }
        if defined.metrics.len() >= MAX_METRICS {
            let told = std::mem::replace(&mut defined.told, true);
            drop(defined);
            if !told {
                tracing::warn!(
                    metric = name,
                    "an application has {MAX_METRICS} metrics at most: this one and further ones are left out"
                );
            }
            return Ok(None);
        }
        defined.metrics.push(Metric {
            name,
            kind,
            labels: labels.clone(),
            series: Vec::new(),
            counted: 0,
            told: false,
        });
        Ok(Some((kind, labels)))
    }

    /// A cell for one worker's share of a series; the metric was defined.
    pub(super) fn join(&self, name: &str, key: &Key) -> Joined {
        let mut defined = self.lock();
        let Some(metric) = defined.metrics.iter_mut().find(|known| known.name == name) else {
            return Joined::Full(Vec::new());
        };
        let kind = metric.kind;
        if let Some(series) = metric.series.iter_mut().find(|series| series.key == *key) {
            return Joined::Cell(series.join(kind));
        }
        let always = key.always_fits();
        if always || metric.counted < MAX_SERIES {
            let mut series = Series {
                key: key.clone(),
                cells: Vec::new(),
            };
            let cell = series.join(kind);
            metric.counted += usize::from(!always);
            metric.series.push(series);
            return Joined::Cell(cell);
        }
        let all = metric.series.iter_mut();
        let all = all
            .map(|series| (series.key.clone(), series.join(kind)))
            .collect();
        let told = std::mem::replace(&mut metric.told, true);
        drop(defined);
        if !told {
            tracing::warn!(
                metric = name,
                "a metric has {MAX_SERIES} series at most: further combinations of label values count as `{OTHER}`"
            );
        }
        Joined::Full(all)
    }

    /// What was recorded since the process began, by name, function and labels.
    pub(crate) fn snapshot(&self) -> Vec<OwnMetric> {
        let defined = self.lock();
        let mut all = Vec::new();
        for metric in &defined.metrics {
            for series in &metric.series {
                let Some(value) = series.value(metric.kind) else {
                    continue;
                };
                let labels = metric.labels.iter().zip(&series.key.values);
                all.push(OwnMetric {
                    function: series.key.function.to_string(),
                    name: metric.name.to_owned(),
                    labels: labels
                        .map(|(name, value)| ((*name).to_owned(), value.to_string()))
                        .collect(),
                    value,
                });
            }
        }
        drop(defined);
        all.sort_by(|a, b| {
            (&a.name, &a.function, &a.labels).cmp(&(&b.name, &b.function, &b.labels))
        });
        all
    }
}
