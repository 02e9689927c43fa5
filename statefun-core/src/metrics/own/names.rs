//! What metrics and labels may be called, and how a metric may be used: by Prometheus' rules, and the same way everywhere.

use thiserror::Error;

use super::Kind;

/// Bounds that a histogram may have.
const MAX_BOUNDS: usize = 100;

/// How a metric is not used as it may be.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum Misuse {
    #[error(
        "`{0}` is no name of a metric: it consists of letters, digits and `_`, and does not begin with a digit"
    )]
    Name(&'static str),
    #[error("`{0}` is no name of a metric: it begins with `statefun_`, as those of the engine do")]
    Engine(&'static str),
    #[error(
        "`{label}` is no name of a label (of `{metric}`): it consists of letters, digits and `_`, does not begin with a digit \
         or `__`, and is neither `function` nor `le`"
    )]
    Label {
        metric: &'static str,
        label: &'static str,
    },
    #[error("`{metric}` has the label `{label}` twice")]
    Twice {
        metric: &'static str,
        label: &'static str,
    },
    #[error("`{metric}` is a {is}, and is used as a {used}: give the two different names")]
    Kind {
        metric: &'static str,
        is: &'static str,
        used: &'static str,
    },
    #[error("`{0}` is a histogram with other bounds: give it the same everywhere, or another name")]
    OtherBounds(&'static str),
    #[error(
        "`{metric}` has the labels ({has}), and is used with ({used}): give it the same everywhere, with empty values if need be"
    )]
    Labels {
        metric: &'static str,
        has: String,
        used: String,
    },
    #[error("`{metric}` and `{known}` would share a name in Prometheus: rename one of them")]
    Shared {
        metric: &'static str,
        known: &'static str,
    },
    #[error(
        "the bounds of `{0}` are to be between 1 and {MAX_BOUNDS} finite numbers, each larger than the one before"
    )]
    Bounds(&'static str),
}

impl Misuse {
    #[cold]
    pub(super) fn kind(metric: &'static str, is: Kind, used: Kind) -> Self {
        match (is, used) {
            (Kind::Histogram(_), Kind::Histogram(_)) => Self::OtherBounds(metric),
            _ => Self::Kind {
                metric,
                is: is.name(),
                used: used.name(),
            },
        }
    }

    #[cold]
    pub(super) fn labels(
        metric: &'static str,
        has: &[&'static str],
        used: impl Iterator<Item = &'static str>,
    ) -> Self {
        Self::Labels {
            metric,
            has: has.join(", "),
            used: used.collect::<Vec<_>>().join(", "),
        }
    }
}

fn is_name(name: &str) -> bool {
    !name.starts_with(|first: char| first.is_ascii_digit())
        && !name.is_empty()
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// Whether a metric may be called that, have these labels (sorted), and these bounds.
pub(super) fn check(
    metric: &'static str,
    kind: Kind,
    labels: &[&'static str],
) -> Result<(), Misuse> {
    if !is_name(metric) {
        return Err(Misuse::Name(metric));
    }
    if metric.starts_with("statefun_") {
        return Err(Misuse::Engine(metric));
    }
    for label in labels.iter().copied() {
        if !is_name(label) || label.starts_with("__") || label == "function" || label == "le" {
            return Err(Misuse::Label { metric, label });
        }
    }
    if let Some([label, _]) = labels.array_windows().find(|[a, b]| a == b) {
        return Err(Misuse::Twice { metric, label });
    }
    if let Kind::Histogram(bounds) = kind {
        let rising = bounds.array_windows().all(|[a, b]| a < b);
        let finite = bounds.iter().all(|bound| bound.is_finite());
        if !rising || !finite || bounds.is_empty() || bounds.len() > MAX_BOUNDS {
            return Err(Misuse::Bounds(metric));
        }
    }
    Ok(())
}

/// Whether two metrics of different names would have a name in common where Prometheus reads them: a counter's ends with
/// `_total`, and a histogram has several.
pub(super) fn share_a_name(a: (&str, Kind), b: (&str, Kind)) -> bool {
    let names = |(name, kind): (&str, Kind)| {
        let suffixes: &[&str] = match kind {
            Kind::Counter => &["", "_total"],
            Kind::Gauge => &[""],
            Kind::Histogram(_) => &["", "_bucket", "_count", "_sum"],
        };
        suffixes
            .iter()
            .map(|suffix| format!("{name}{suffix}"))
            .collect::<Vec<_>>()
    };
    let of_b = names(b);
    names(a).iter().any(|name| of_b.contains(name))
}
