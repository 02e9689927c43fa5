//! Prometheus' text format, version 0.0.4
//! (<https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format>).

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::catalog::{Kind, METRICS, Write};
use super::snapshot::{Histogram, OwnMetric, OwnValue, Snapshot};

/// The type of what [`expose`] returns.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What the names of the application's own metrics begin with.
pub const OWN_PREFIX: &str = "app_";

/// A snapshot in Prometheus' text format.
pub fn expose(snapshot: &Snapshot) -> String {
    let mut text = String::with_capacity(32 << 10);
    for metric in METRICS {
        head(&mut text, metric.name, metric.kind, metric.help);
        let mut series = Text {
            text: &mut text,
            name: metric.name,
            labels: metric.labels,
        };
        (metric.values)(snapshot, &mut series);
    }
    expose_own(&mut text, &snapshot.own);
    text
}

/// The application's own: those of one name stand together, whichever functions have them.
fn expose_own(text: &mut String, own: &[OwnMetric]) {
    let mut by_name: BTreeMap<String, Vec<&OwnMetric>> = BTreeMap::new();
    for metric in own {
        by_name.entry(own_name(metric)).or_default().push(metric);
    }
    for (name, metrics) in by_name {
        let kind = metrics
            .first()
            .map_or(Kind::Gauge, |first| kind_of(&first.value));
        let help = "Measured by the application's own code";
        head(text, &name, kind, help);
        // Two functions may mean different things by one name; it is what the first one says.
        for metric in metrics
            .iter()
            .filter(|metric| kind_of(&metric.value) == kind)
        {
            let mut labels = vec!["function"];
            let mut values = vec![metric.function.as_str()];
            for (label, value) in &metric.labels {
                labels.push(label);
                values.push(value);
            }
            let mut series = Text {
                text,
                name: &name,
                labels: &labels,
            };
            match &metric.value {
                OwnValue::Counter(count) => series.value(&values, *count as f64),
                OwnValue::Gauge(value) => series.value(&values, *value),
                OwnValue::Histogram(histogram) => series.histogram(&values, histogram),
            }
        }
    }
}

fn kind_of(value: &OwnValue) -> Kind {
    match value {
        OwnValue::Counter(_) => Kind::Counter,
        OwnValue::Gauge(_) => Kind::Gauge,
        OwnValue::Histogram(_) => Kind::Histogram,
    }
}

/// Prometheus wants counters to end in `_total`.
fn own_name(metric: &OwnMetric) -> String {
    let is_counter = matches!(metric.value, OwnValue::Counter(_));
    let end = if is_counter && !metric.name.ends_with("_total") {
        "_total"
    } else {
        ""
    };
    format!("{OWN_PREFIX}{}{end}", metric.name)
}

fn head(text: &mut String, name: &str, kind: Kind, help: &str) {
    let help = help.replace('\\', "\\\\").replace('\n', "\\n");
    let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {}", kind.name());
}

struct Text<'a> {
    text: &'a mut String,
    name: &'a str,
    labels: &'a [&'a str],
}

impl Text<'_> {
    fn line(&mut self, suffix: &str, labels: &[&str], bound: Option<&str>, value: f64) {
        self.text.push_str(self.name);
        self.text.push_str(suffix);
        let own = self.labels.iter().copied().zip(labels.iter().copied());
        let mut between = '{';
        for (label, value) in own.chain(bound.map(|bound| ("le", bound))) {
            let _ = write!(self.text, "{between}{label}=\"{}\"", escaped(value));
            between = ',';
        }
        if between == ',' {
            self.text.push('}');
        }
        let _ = writeln!(self.text, " {}", number(value));
    }
}

impl Write for Text<'_> {
    fn value(&mut self, labels: &[&str], value: f64) {
        self.line("", labels, None, value);
    }

    fn histogram(&mut self, labels: &[&str], histogram: &Histogram) {
        let mut below = 0;
        for (bound, count) in histogram.bounds.iter().zip(&histogram.counts) {
            below += count;
            self.line("_bucket", labels, Some(&number(*bound)), below as f64);
        }
        let count = histogram.count() as f64;
        self.line("_bucket", labels, Some("+Inf"), count);
        self.line("_sum", labels, None, histogram.sum);
        self.line("_count", labels, None, count);
    }
}

fn number(value: f64) -> String {
    if value.is_nan() {
        "NaN".to_owned()
    } else if value.is_infinite() {
        if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned()
    } else {
        value.to_string()
    }
}

fn escaped(value: &str) -> String {
    let mut escaped = String::with_capacity(value.len());
    for character in value.chars() {
        match character {
            '\\' => escaped.push_str("\\\\"),
            '"' => escaped.push_str("\\\""),
            '\n' => escaped.push_str("\\n"),
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::metrics::{FunctionMetrics, IngressMetrics, Lag};

    #[test]
    fn values_stand_below_what_they_mean() {
        let snapshot = Snapshot {
            uptime_ms: 1500,
            functions: vec![FunctionMetrics {
                function: "shop/\"cart\"\\".to_owned(),
                invocations: 7,
                handler_seconds: Histogram {
                    bounds: vec![0.001, 0.01],
                    counts: vec![4, 2, 1],
                    sum: 0.5,
                },
                ..FunctionMetrics::default()
            }],
            ingresses: vec![IngressMetrics {
                ingress: "shop/orders".to_owned(),
                lag: Some(Lag::Bytes(12)),
                ..IngressMetrics::default()
            }],
            own: vec![OwnMetric {
                function: "shop/cart".to_owned(),
                name: "orders".to_owned(),
                labels: vec![("kind".to_owned(), "tea\n".to_owned())],
                value: OwnValue::Counter(3),
            }],
            ..Snapshot::default()
        };
        let text = expose(&snapshot);
        for expected in [
            "# TYPE statefun_uptime_seconds gauge\nstatefun_uptime_seconds 1.5\n",
            "statefun_function_in_total{function=\"shop/\\\"cart\\\"\\\\\"} 7\n",
            "_seconds_bucket{function=\"shop/\\\"cart\\\"\\\\\",le=\"0.001\"} 4\n",
            "_seconds_bucket{function=\"shop/\\\"cart\\\"\\\\\",le=\"0.01\"} 6\n",
            "_seconds_bucket{function=\"shop/\\\"cart\\\"\\\\\",le=\"+Inf\"} 7\n",
            "statefun_function_handler_seconds_count{function=\"shop/\\\"cart\\\"\\\\\"} 7\n",
            "statefun_ingress_lag_bytes{ingress=\"shop/orders\"} 12\n",
            "# TYPE app_orders_total counter\napp_orders_total{function=\"shop/cart\",kind=\"tea\\n\"} 3\n",
        ] {
            assert!(text.contains(expected), "{expected} is not in\n{text}");
        }
        assert!(!text.contains("statefun_ingress_lag_records{"));
    }

    #[test]
    fn names_are_unique_and_say_what_prometheus_expects() {
        let mut names = BTreeSet::new();
        for metric in METRICS {
            assert!(names.insert(metric.name), "{} stands twice", metric.name);
            let is_counter = metric.name.ends_with("_total");
            assert_eq!(is_counter, metric.kind == Kind::Counter, "{}", metric.name);
            assert!(!metric.help.is_empty() && !metric.help.ends_with('.'));
        }
    }
}
